"""A machine's fault is not a board's: full disks, broken compilers, no memory, lost objects."""

import contextlib
import os
import shutil
import subprocess
import threading

import pytest

from tests.support.census import wait_until
from tests.support.trouble import building, slow_make, tool
from tests.whole.test_lost_machines import QUICK, begin, events, finish, whole

pytestmark = pytest.mark.deep


def two(farm, first, second=None):
    """Make machines m1, with this ``env``, and m2."""
    m1, m2, _ = farm.servers
    entries = {
        "m1": {"host": "m1", "work_dir": str(m1.work_dir), "max_boards": 1, "env": first},
        "m2": {"host": "m2", "work_dir": str(m2.work_dir), "max_boards": 1, "env": second or {}},
    }
    farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000, "min_disk_mb": 4}})


def verdicts(farm, name="series"):
    return {key: (path / "done").read_text() for key, path in farm.results(name).items()}


@pytest.fixture
def small_disk(ssh_farm):
    """The work directory of m1 on a disk of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = ssh_farm.servers[0].work_dir
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def kept_full(place):
    """Fill a disk, and fill it again for as long as this holds: what a worker clears away is room for small boards."""
    over = threading.Event()

    def keep():
        while not over.wait(0.05):
            fill(place)

    fill(place)
    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fill(place):
    # Without a buffer, or what is left in it fails once more when the file is closed.
    with (place / "fill").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


def test_a_full_disk_is_the_machines_fault_and_it_comes_back_when_there_is_room(ssh_farm, small_disk, tmp_path):
    two(ssh_farm, slow_make(tmp_path / "slow", 0.2), slow_make(tmp_path / "slow", 0.4))
    process = begin(ssh_farm, "--only", "sandbox_spl,wren,robin,heron,tern")
    wait_until(lambda: building(ssh_farm.servers[0]), 40)
    fill(small_disk)
    wait_until(lambda: any(e["machine"] == "m1" for e in events(ssh_farm, "machine-failed")), 40)
    (small_disk / "fill").unlink()
    status, said = finish(process)
    assert status == 100, said
    whole(ssh_farm, 5)
    failed = {board for (_, board), done in verdicts(ssh_farm).items() if done != "0\n"}
    assert failed == {"sandbox_spl"}  # the one that the series breaks
    (first, *_) = events(ssh_farm, "fault")
    assert first["machine"] == "m1"
    assert "No space left on device" in first["text"]
    reason = next(e for e in events(ssh_farm, "machine-failed") if e["machine"] == "m1")["text"]
    assert "free" in reason or "space" in reason
    ready = [e["machine"] for e in events(ssh_farm, "phase") if e["data"]["phase"] == "ready"]
    assert ready.count("m1") == 2


def test_a_disk_that_stays_full_on_the_only_machine_ends_with_that_reason(ssh_farm, small_disk, tmp_path):
    m1 = ssh_farm.servers[0]
    ssh_farm.write_machines(
        {
            "machines": {
                "m1": {
                    "host": "m1", "work_dir": str(m1.work_dir), "max_boards": 1, "env": slow_make(tmp_path / "slow", 0.2)
                }
            },
            "fit": {"max_load_per_cpu": 1000, "min_disk_mb": 4},
        }
    )  # fmt: skip
    process = begin(ssh_farm, "--only", "sandbox,wren", patience="6")
    wait_until(lambda: len(ssh_farm.results("series")) >= 2, 40)
    with kept_full(small_disk):
        status, said = finish(process)
    assert status == 102, said
    assert "no machine left: m1" in said
    assert set(verdicts(ssh_farm).values()) <= {"0\n", "2\n"}
    assert not [b for (_, b), done in verdicts(ssh_farm).items() if done != "0\n" and b != "sandbox_spl"]


@pytest.mark.parametrize(
    "breaks",
    ["exit 1", 'echo "cc1: internal compiler error: Segmentation fault" >&2; exit 4', "kill -SEGV $$"],
    ids=["without a word", "with the compiler's words", "by a signal"],
)
def test_a_broken_compiler_is_the_machines_fault(ssh_farm, tmp_path, breaks):
    flag = tmp_path / "broken"
    env = tool(tmp_path / "tools", "riscv64-linux-gnu-gcc", f'[ -e {flag} ] && {{ {breaks}; }}\nexec {{real}} "$@"')
    tool(tmp_path / "tools", "make", f'[ -e {flag} ] || sleep 0.3\nexec {{real}} "$@"')
    two(ssh_farm, env, slow_make(tmp_path / "slow", 0.5))
    process = begin(ssh_farm, "--boards", "riscv64")
    wait_until(lambda: building(ssh_farm.servers[0]), 40)
    flag.touch()
    status, said = finish(process)
    assert status == 0 or status == 101, said
    whole(ssh_farm, 2)
    assert set(verdicts(ssh_farm).values()) == {"0\n"}
    lost = [e for e in events(ssh_farm, "machine-failed") if e["machine"] == "m1"]
    assert "riscv64" in lost[0]["text"]
    after = [e for e in events(ssh_farm, "result") if e["data"]["after"]]
    assert after
    assert all("m1" in e["data"]["after"][0] for e in after)


def test_a_source_that_crashes_the_compiler_is_the_boards_failure_once_a_second_machine_says_so(ssh_farm, tmp_path):
    crash = tool(
        tmp_path / "tools", "riscv64-linux-gnu-gcc",
        'case "$*" in *-c*led*.c*) echo "led.c: internal compiler error: Segmentation fault" >&2; exit 1;; esac\n'
        'exec {real} "$@"',
    )  # fmt: skip
    two(ssh_farm, crash, crash)
    ended = ssh_farm.build("--boards", "riscv64,sandbox", *QUICK)
    assert ended.status == 100, ended
    assert not events(ssh_farm, "machine-failed", "current")
    faults = {e["board"]: e["machine"] for e in events(ssh_farm, "fault", "current")}
    results = {e["board"]: e for e in events(ssh_farm, "result", "current")}
    assert set(faults) == {board for board, e in results.items() if e["data"]["return_code"]}
    assert "robin" in faults
    for board, machine in faults.items():
        assert results[board]["machine"] != machine


def test_a_machine_without_memory_gets_fewer_boards(ssh_farm, tmp_path):
    """Two compilers at once are too much for it; one is not."""
    gate = tmp_path / "gate"
    starved = tool(
        tmp_path / "tools", "make",
        # A real limit of memory, for the second make that runs at a time.
        f'if mkdir {gate} 2>/dev/null; then {{real}} "$@"; s=$?; rmdir {gate}; exit $s; fi\n'
        'case "$*" in *_defconfig*) ;; *) ulimit -v 40000;; esac\nexec {real} "$@"',
    )  # fmt: skip
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=2, threads=2, env=starved)
    ended = ssh_farm.build("--boards", "riscv64,sandbox,aarch64", *QUICK)
    assert ended.status in (0, 101), ended
    (slots, *_) = events(ssh_farm, "slots", "current")
    assert slots["data"]["slots"] == 1
    assert not events(ssh_farm, "machine-failed", "current")


def test_lost_objects_are_the_machines_fault(ssh_farm, tmp_path):
    m1 = ssh_farm.servers[0]
    two(ssh_farm, slow_make(tmp_path / "slow", 0.3), slow_make(tmp_path / "slow", 0.3))
    process = begin(ssh_farm, "--only", "wren,robin,heron,tern")
    wait_until(lambda: building(m1), 40)
    git_dir = next(path.parent for path in m1.work_dir.rglob("HEAD") if (path.parent / "objects").is_dir())
    for pack in (git_dir / "objects").iterdir():
        shutil.rmtree(pack, ignore_errors=True)
    (git_dir / "objects").mkdir(exist_ok=True)
    status, said = finish(process)
    assert status in (0, 101), said
    whole(ssh_farm, 4)
    assert set(verdicts(ssh_farm).values()) == {"0\n"}
    assert any(e["data"]["kind"] == "checkout" for e in events(ssh_farm, "fault"))
    assert any(e["machine"] == "m1" for e in events(ssh_farm, "machine-failed"))


@pytest.mark.parametrize("goes", ["repo.git", "all"])
def test_a_work_directory_that_loses_its_source_costs_no_board(ssh_farm, tmp_path, goes):
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    process = begin(ssh_farm, "--only", "wren,robin,tern")
    wait_until(lambda: len(ssh_farm.results("series")) >= 3, 40)
    for path in [m1.work_dir / goes] if goes != "all" else list(m1.work_dir.iterdir()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    status, said = finish(process)
    assert status in (0, 101), said
    whole(ssh_farm, 3)
    assert set(verdicts(ssh_farm).values()) == {"0\n"}
    assert any(e["machine"] == "m1" for e in events(ssh_farm, "machine-failed"))


def test_a_commit_that_no_machine_can_check_out_is_not_built_and_git_says_why(ssh_farm, tmp_path):
    source = ssh_farm.source
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]

    def told(*arguments, stdin=None):
        return subprocess.run(
            [*git, *arguments], check=True, capture_output=True, text=True, input=stdin
        ).stdout.strip()

    # git takes a name that no file system does.
    blob = told("hash-object", "-w", "--stdin", stdin="x")
    tip = told("rev-parse", "series")
    listing = told("ls-tree", "series") + f"\n100644 blob {blob}\t{'x' * 300}\n"
    bad = told("commit-tree", told("mktree", stdin=listing), "-p", tip, "-m", "a long name")
    good = told("commit-tree", f"{tip}^{{tree}}", "-p", bad, "-m", "as before")
    told("branch", "long", good)
    two(ssh_farm, {}, {})
    ended = ssh_farm.build("--branch", "long", "--count", "3", "--only", "wren,robin", *QUICK)
    assert ended.status == 102, ended
    lost = events(ssh_farm, "not-built", "long")
    assert sorted((e["board"], e["commit"]) for e in lost) == [("robin", bad), ("wren", bad)]
    assert all("unable to create file xxx" in e["text"] for e in lost)
    assert len(ssh_farm.results("long")) == 2 * 2  # the commits before and after it


@pytest.mark.parametrize("how", ["gone", "empty packs", "one blob is garbage"])
def test_a_machine_whose_repository_was_damaged_between_two_runs_gets_the_source_again(ssh_farm, how):
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=1)
    assert ssh_farm.build("--only", "wren", *QUICK).status == 0
    git_dir = m1.work_dir / "repo.git"
    if how == "one blob is garbage":
        git = ["git", "--git-dir", str(git_dir)]
        for pack in list((git_dir / "objects/pack").glob("*.pack")):
            moved = git_dir / pack.name
            shutil.move(pack, moved)
            pack.with_suffix(".idx").unlink()
            with moved.open("rb") as file:
                subprocess.run([*git, "unpack-objects", "-q"], stdin=file, check=True)
        name = subprocess.run(
            [*git, "rev-parse", "refs/fabbuild/current:Makefile"], check=True, capture_output=True, text=True
        ).stdout.strip()
        blob = git_dir / "objects" / name[:2] / name[2:]
        blob.chmod(0o600)
        blob.write_bytes(b"garbage")
        # The index of a worktree would spare git to read it.
        shutil.rmtree(m1.work_dir / "slots")
    else:
        for path in [path for path in (git_dir / "objects").rglob("*") if path.is_file()]:
            path.chmod(0o600)
            path.unlink() if how == "gone" else path.write_bytes(b"")
    ended = ssh_farm.build("--only", "wren", "--force", "--no-reuse", *QUICK)
    assert ended.status == 0, ended
    assert not events(ssh_farm, "machine-failed", "current")


def test_a_machine_that_cannot_be_prepared_again_and_again_is_told_what_to_do(ssh_farm, tmp_path):
    m1 = ssh_farm.servers[0]
    broken = tool(tmp_path / "tools", "git", 'case "$*" in *"worktree add"*) exit 1;; esac\nexec {real} "$@"')
    ssh_farm.machines(m1, max_boards=1, env=broken)
    ended = ssh_farm.build("--only", "wren", *QUICK)
    assert ended.status == 102, ended
    assert "`inv clean --machines m1` removes what is there" in ended.out


#: What make says with `{said}` put before its build; what it is asked besides is its own to answer.
BUILDS = 'case "$*" in *--version*|*_defconfig*) ;; *) {said};; esac\nexec {{real}} "$@"'


def test_a_board_whose_tools_lack_a_library_on_one_machine_is_built_on_the_other(ssh_farm, tmp_path):
    header = "tools/x.c:3:10: fatal error: openssl/evp.h: No such file or directory"
    lacking = tool(tmp_path / "tools", "make", BUILDS.format(said=f"echo '{header}' >&2; exit 2"))
    two(ssh_farm, lacking)
    ended = ssh_farm.build("--only", "wren,robin,heron,tern", *QUICK)
    assert ended.status in (0, 101), ended
    faults = events(ssh_farm, "fault", "current")
    assert {e["machine"] for e in faults} == {"m1"}
    assert {e["data"]["kind"] for e in faults} == {"host"}
    assert all(header in e["text"] for e in faults)
    assert {e["machine"] for e in events(ssh_farm, "result", "current")} == {"m2"}
    assert not events(ssh_farm, "machine-failed", "current")


def test_what_make_built_with_a_clock_that_is_wrong_is_built_elsewhere(ssh_farm, tmp_path):
    two(ssh_farm, skewed(tmp_path))
    # So many that the machine is given one however late it joins.
    ended = ssh_farm.build("--only", "wren,robin,heron,tern", *QUICK)
    assert ended.status in (0, 101), ended
    faults = events(ssh_farm, "fault", "current")
    assert {(e["machine"], e["data"]["kind"]) for e in faults} == {("m1", "clock")}
    assert {e["machine"] for e in events(ssh_farm, "result", "current")} == {"m2"}


def test_where_there_is_no_other_machine_its_wrong_clock_is_no_warning_of_the_boards(ssh_farm, tmp_path):
    ssh_farm.machines(ssh_farm.servers[0], env=skewed(tmp_path))
    ended = ssh_farm.build("--only", "robin", *QUICK)
    assert ended.status == 0, ended
    assert len(events(ssh_farm, "fault", "current")) == 1
    (result,) = events(ssh_farm, "result", "current")
    assert "Clock skew" in result["data"]["after"][0]


def skewed(tmp_path):
    return tool(tmp_path / "tools", "make", BUILDS.format(said='touch -d "+1000 seconds" common/main.c'))
