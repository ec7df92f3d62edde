"""`kill` ends what shares the machine's lock, with its relatives, and nobody else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fabbuild.worker.base import lock, process_table
from tests.support.census import HANG_LIMIT, wait_until
from tests.support.supervised import free, gone, kill, started, worker_of


@pytest.fixture
def bystander(census):
    """Start a process that must survive."""
    made = []

    def start(*argv, **keywords):
        made.append(subprocess.Popen(argv, start_new_session=True, **keywords))
        return made[-1]

    yield start
    for process in made:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_ends_supervisor_guardian_worker_and_all_their_relatives(supervisor, work, run):
    one = supervisor()
    one.read()
    pids = started(one)
    status, (said,) = run("kill", "--work-dir", work)
    assert status == 0
    assert said["resp"] == "killed"
    assert set(said["pids"]) >= {*pids, one.pid}
    assert said["left"] == []
    assert said["holder"]["who"] == "me"
    assert gone(pids)
    assert free(work)
    one.wait()


def test_a_boss_whose_work_was_ended_by_another_is_refused_here_and_others_are_not(supervisor, work, run):
    for mine, by, refused in (("r1", "r2", True), ("r3", "r3", False)):
        one = supervisor("--run", mine)
        assert one.read()["resp"] == "held"
        run("kill", "--work-dir", work, "--who", "me", "--from", "desk", "--run", by)
        one.wait()
        again = supervisor("--run", mine)
        said = again.read()
        if refused:
            assert (said["resp"], said["final"]) == ("error", True)
            assert "ended by `inv kill` (me from desk)" in said["msg"]
            again.wait()
            assert free(work)
            again = supervisor("--run", "another")
            assert again.read()["resp"] == "held"
        else:
            assert said["resp"] == "held"
        again.hang_up()
        again.wait()


def test_where_nothing_runs_it_says_so_and_writes_nothing(run, work):
    assert run("kill", "--work-dir", work) == (
        0,
        [{"resp": "killed", "pids": [], "left": [], "holder": None}],
    )
    assert not work.exists()


def test_a_stale_lock_file_names_no_holder(supervisor, work, run):
    one = supervisor()
    one.read()
    kill(one.pid)
    one.wait()
    assert json.loads((work / "lock").read_text())["who"] == "me"
    assert run("kill", "--work-dir", work)[1] == [{"resp": "killed", "pids": [], "left": [], "holder": None}]


def test_leaves_alone_who_reads_the_file_and_who_looks_alike(supervisor, work, pyz, run, bystander, tmp_path):
    one = supervisor()
    one.read()
    reader = bystander("sleep", "1004", stdin=(work / "lock").open())
    writer = bystander("sleep", "1005", stdin=(work / "lock").open("r+"))
    alike = bystander("sh", "-c", "sleep 1006 & wait", f"{sys.executable} {pyz} supervise --work-dir {work}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/lock").touch()
    other = bystander("sleep", "1007", stdin=(tmp_path / "other/lock").open())
    fcntl.flock(reader_of_another := (tmp_path / "other/lock").open(), fcntl.LOCK_EX)
    in_dir = bystander("sleep", "1008", cwd=work)
    _, (said,) = run("kill", "--work-dir", work)
    assert said["pids"] == [one.pid]
    assert all(process.poll() is None for process in (reader, writer, alike, other, in_dir))
    reader_of_another.close()


def test_leaves_alone_the_neighbours_in_a_group_that_no_holder_leads(work, run, bystander):
    """A script without job control holds its helpers in one group; it stays, though one of them shares the lock."""
    work.mkdir()
    held = lock.take(str(work))
    code = (
        "import os, subprocess, sys\n"
        "fd = int(sys.argv[1])\n"
        "print(subprocess.Popen(['sleep', '1001'], pass_fds=[fd]).pid, flush=True)\n"
        "os.close(fd)\n"
        "print(subprocess.Popen(['sleep', '1002']).wait(), flush=True)\n"
    )
    script = bystander(
        sys.executable, "-c", code, str(held.fd), pass_fds=[held.fd], stdout=subprocess.PIPE, text=True
    )
    holder = int(script.stdout.readline())
    held.close()
    wait_until(lambda: lock.holders(str(work / "lock"), process_table.table()) == {holder})
    assert run("kill", "--work-dir", work)[1][0]["pids"] == [holder]
    assert script.poll() is None
    script.stdout.close()


def test_finds_what_closed_the_lock_but_has_a_holder_as_parent_or_leader(supervisor, work, run, tmp_path):
    one = supervisor()
    one.read()
    # Each closes all it inherited. The first keeps its parent; the second loses it and keeps its session.
    first = f"import subprocess; subprocess.Popen(['sh', '-c', 'echo $$ >\"{tmp_path}/first\"; exec sleep 1001']).wait()"
    second = f"import subprocess; subprocess.Popen(['sh', '-c', 'echo $$ >\"{tmp_path}/second\"; exec sleep 1002'])"
    one.start(command='"$1" -c "$2" & "$1" -c "$3"; exec sleep 1003', args=[sys.executable, first, second])
    pids = [int(wait_until(lambda name=name: text(tmp_path / name))) for name in ("first", "second")]
    worker = worker_of(one, "sleep 1003")
    assert not lock.holders(str(work / "lock"), process_table.table()) & set(pids)
    _, (said,) = run("kill", "--work-dir", work)
    assert set(said["pids"]) >= {*pids, worker, one.pid}
    assert gone(pids)


def test_what_forks_without_end_is_ended_too(supervisor, work, run):
    one = supervisor()
    one.read()
    one.start(command="while :; do (setsid sh -c 'sleep 5 & sleep 5' &) ; sleep 0.02; done")
    wait_until(lambda: len(one.others()) > 20)
    status, (said,) = run("kill", "--work-dir", work)
    assert (status, said["left"]) == (0, [])
    assert free(work)


def test_ends_holders_of_a_lock_file_that_was_removed(supervisor, work, run):
    """Who tidies up ~/.cache while a build runs must still be able to end it."""
    one = supervisor()
    one.read()
    pids = started(one)
    (work / "lock").unlink()
    _, (said,) = run("kill", "--work-dir", work)
    assert set(said["pids"]) >= {*pids, one.pid}
    assert gone(pids)


def test_never_ends_itself_its_own_group_or_its_parents(work, pyz, census):
    """Run from inside of what it is to end, it ends the rest and names whom it spared."""
    work.mkdir()
    held = lock.take(str(work))
    command = (
        'setsid sleep 1001 & sleep 1002 >/dev/null & echo $!; "$1" "$2" kill --work-dir "$3"; echo here; kill $!'
    )
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, pyz, work],
        pass_fds=[held.fd],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=HANG_LIMIT,
        check=False,
    )
    held.close()
    neighbour, said, here = done.stdout.splitlines()
    left = {item["pid"] for item in json.loads(said[4:])["left"]}
    assert here == "here"
    assert left >= {os.getpid(), int(neighbour)}  # this test holds the lock too, and is a parent
    assert len(json.loads(said[4:])["pids"]) == 1


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/usr/bin/python3"),
    reason="needs root, to be two users, and a python3",
)
def test_names_what_it_may_not_end(tmp_path, pyz, census):
    """Another user's holder cannot be looked into, but the system's list of locks tells of it."""
    work = tmp_path / "work"
    work.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:3]):  # one more where the tests run side by side
        folder.chmod(0o755)
    held = lock.take(str(work))
    (work / "lock").chmod(0o644)
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-c", _AS_NOBODY, pyz, "kill", "--work-dir", work],
            capture_output=True,
            check=False,
        )
    finally:
        held.close()
    said = json.loads(done.stdout[4:])
    assert done.returncode == 1
    assert said["pids"] == []
    assert said["left"] == [{"pid": os.getpid(), "why": "holds the lock, and it belongs to another user"}]


#: Runs the zipapp as another user, who may see neither the test's Python nor its files.
_AS_NOBODY = """
import os, runpy, sys
with open(sys.argv[1], "rb") as file:
    data = file.read()
fd = os.memfd_create("worker")
os.write(fd, data)
os.setgid(65534)
os.setuid(65534)
sys.argv[:2] = ["/proc/self/fd/%d" % fd]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
