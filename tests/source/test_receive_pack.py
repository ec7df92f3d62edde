"""Machines that lack the same objects are given one pack, made once; whatever fails, they get a push of their own."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabbuild.errors import PushError
from fabbuild.source import pack_cache, receive_pack
from fabbuild.source.git import Remote
from fabbuild.source.repository import Source
from tests.support.census import ENDLESS, HANG_LIMIT, alive, wait_until
from tests.support.trouble import tool
from tests.worker.driver import toy

GIT = shutil.which("git")


@pytest.fixture
def repo(tmp_path):
    return toy(tmp_path / "source")


@pytest.fixture
def bare(tmp_path):
    def make(name="far.git", *options):
        far = tmp_path / name
        subprocess.run(["git", "init", "-q", "--bare", *options, str(far)], check=True)
        git(far, "config", "receive.shallowUpdate", "true")
        return far

    return make


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Have each pack that is made leave its number; ``packed.before`` is a script that runs first."""

    class Packed:
        """Counts packs."""

        log = tmp_path / "packed"

        def __call__(self):
            return len(self.log.read_text().splitlines()) if self.log.exists() else 0

        def before(self, script):
            mine = f'case "$*" in *" pack-objects "*) echo $$ >> {self.log}; {script or ":"};; esac'
            tool(tmp_path / "tools", "git", f'{mine}\nexec {GIT} "$@"')

    counter = Packed()
    counter.before("")
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    return counter


def git(far, *arguments):
    done = subprocess.run(["git", "-C", str(far), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def check_has(far, tip):
    """It has the commit, whole, under the one ref, and nothing is left of how it came."""
    assert git(far, "for-each-ref", "--format=%(refname) %(objectname)") == f"refs/fabbuild/current {tip}"
    git(far, "fsck", "--full", "--strict")
    assert not [path for path in far.rglob("*") if "tmp_" in path.name or "incoming" in path.name]


def open_packs():
    """Files without a name that hold packs here."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in found if link.startswith(f"{tempfile.gettempdir()}/")]


def test_all_that_lack_the_same_get_the_pack_that_is_made_once(repo, bare, packed, tmp_path):
    """They come while it is not made yet, and one comes when it is."""
    packed.before(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done")
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    fars = [bare(f"far{number}.git") for number in range(4)]
    with ThreadPoolExecutor() as pool:
        pushes = [pool.submit(source.push, Remote(str(far)), tip, 30) for far in fars[:3]]
        wait_until(lambda: sum(pack.users for pack in source._packs._packs.values()) == 3)
        (tmp_path / "go").touch()
        reports = [one.result() for one in pushes]
    reports.append(source.push(Remote(str(fars[3])), tip, 30))
    assert packed() == 1
    assert len({(report.objects, report.bytes) for report in reports}) == 1
    assert reports[0].objects == int(git(fars[0], "rev-list", "--objects", "--all", "--count"))
    for far in fars:
        check_has(far, tip)


def test_each_gets_only_what_it_lacks(repo, bare, packed):
    source, first = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    noise = os.urandom(50_000)
    last = repo.commit({"noise": noise})
    old, old_too, new = bare("old.git"), bare("old-too.git"), bare("new.git")
    for far in (old, old_too):
        source.push(Remote(str(far)), first, 30)
    assert packed() == 1
    tip = repo.commit({"noise": noise + b"!"})
    source.push(Remote(str(new)), last, 30)
    reports = [source.push(Remote(str(far)), tip, 30) for far in (old, old_too, new)]
    assert packed() == 4  # the first, `last` whole, and one for each of two states
    assert [report.objects for report in reports] == [6, 6, 3]
    assert reports[2].bytes < 1000 < 50_000 < reports[0].bytes  # of the file only how it differs
    for far in (old, old_too, new):
        check_has(far, tip)


def test_a_snapshot_is_told_from_the_one_before_and_old_refs_go_in_one_connection(repo, bare, packed, tmp_path):
    source, far = Source.open(repo.path), bare()
    (repo.path / "noise").write_bytes(os.urandom(50_000))
    source.push(Remote(str(far)), source.current().hash, 30)
    git(far, "update-ref", "refs/fabbuild/carrier", "refs/fabbuild/current")
    (repo.path / "main.c").write_text("int edited;\n")
    tip = source.current().hash

    def there(pack):
        return f"echo {pack} >> {tmp_path}/asked; git {pack}"

    report = source.push(Remote(str(far), command=there), tip, 30)
    assert report.bytes < 2000
    assert report.pruned == 1
    check_has(far, tip)
    assert source.push(Remote(str(far), command=there), tip, 30).objects == 0
    assert (tmp_path / "asked").read_text().split() == ["receive-pack"] * 2
    assert packed() == 2


@pytest.mark.parametrize(
    "trouble",
    [
        "echo 'fatal: no memory' >&2; exit 128",
        '{git} "$@" | head -c 100; kill -9 $$',
        "{git} \"$@\" | tr '[:lower:]' '[:upper:]'; exit 0",
    ],
    ids=["not made", "killed in the middle", "damaged"],
)
def test_when_the_pack_is_no_good_each_gets_a_push_of_its_own(repo, bare, packed, trouble):
    packed.before(trouble.replace("{git}", GIT))
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    fars = [bare(f"far{number}.git") for number in range(3)]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda far: source.push(Remote(str(far)), tip, 30).objects, fars))
    assert packed()
    for far in fars:
        check_has(far, tip)


def test_a_full_disk_here_leaves_it_to_a_push(repo, bare, packed, monkeypatch):
    class Full:
        """A file for which there is no room."""

        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    real = pack_cache.tempfile.TemporaryFile
    monkeypatch.setattr(
        pack_cache.tempfile, "TemporaryFile", lambda *a, **k: Full() if "prefix" in k else real(*a, **k)
    )
    source, tip, far = Source.open(repo.path), repo.git("rev-parse", "HEAD"), bare()
    assert source.push(Remote(str(far)), tip, 30).objects
    check_has(far, tip)


@pytest.mark.parametrize("kind", ["shallow", "partial"])
def test_what_is_out_of_the_ordinary_arrives_too(repo, bare, packed, tmp_path, kind):
    clone = tmp_path / "clone"
    repo.git("config", "uploadpack.allowFilter", "true")
    how = {"shallow": "--depth=1", "partial": "--filter=blob:none"}[kind]
    subprocess.run(["git", "clone", "-q", how, f"file://{repo.path}", str(clone)], check=True)
    far, tip = bare("far.git"), git(clone, "rev-parse", "HEAD")
    assert Source.open(clone).push(Remote(str(far)), tip, 30).objects
    check_has(far, tip)
    assert packed() == (kind == "partial")


def says(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def line(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


NONE = b"0" * 40 + b" capabilities^{}\0report-status side-band-64k ofs-delta delete-refs"
REF = b"0123456789" * 4 + b" refs/heads/master"

#: What is said, and a script for what goes on after it.
LIES = {
    "it ends": (b"", ""),
    "no packets": (b"Welcome to the lab\n", ""),
    "an odd length": (b"0002", ""),
    "too little": (b"0032cut off", ""),
    "another hash": (line(NONE + b" object-format=sha256") + b"0000", ""),
    "a control character": (line(NONE) + line(REF + b"\033") + b"0000", ""),
    "endless refs": (
        line(NONE) + line(REF),
        f"while :; do printf {shlex.quote(line(REF).decode())}; done",
    ),
    "no answer": (line(NONE) + b"0000", "head -c 200"),
    "an endless answer": (line(NONE) + b"0000", "head -c 200; while :; do printf '0009\\001aaaa'; done"),
    "a refusal": (line(NONE) + b"0000" + line(b"\3no way"), "head -c 200"),
    "another unpacked": (
        line(NONE) + b"0000" + line(b"\1" + line(b"unpack ok\n") + b"0000") + b"0000",
        "head -c 200",
    ),
    "many words": (line(NONE) + b"0000", "head -c 9000000 /dev/zero >&2"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_machine_that_talks_nonsense_is_asked_by_git_itself(repo, bare, packed, tmp_path, lie, monkeypatch):
    """It does so once; a far side that goes on is git's to judge, in git's words."""
    monkeypatch.setattr(receive_pack, "_GRACE", 0.1)  # some never end by themselves
    said, more = LIES[lie]
    (tmp_path / "said").write_bytes(said)
    talk = says(tmp_path / "talk", f"cat {tmp_path}/said\n{more}".replace("head -c 200", "head -c 200 >/dev/null"))
    calls = []

    def there(pack):
        calls.append(pack)
        return f"exec {talk}" if len(calls) == 1 else f"git {pack}"

    far, tip = bare(), repo.git("rev-parse", "HEAD")
    assert Source.open(repo.path).push(Remote(str(far), command=there), tip, 30).objects
    assert calls == ["receive-pack", "upload-pack", "receive-pack"]
    check_has(far, tip)


def test_a_far_side_that_lost_objects_is_told_of_in_gits_words(repo, bare, packed):
    source, far = Source.open(repo.path), bare()
    noise = os.urandom(5000)
    source.push(Remote(str(far)), repo.commit({"noise": noise}), 30)
    blob = repo.git("rev-parse", "HEAD:noise")
    loose = far / "objects" / blob[:2] / blob[2:]
    assert loose.exists()
    loose.unlink()
    with pytest.raises(PushError, match=r"git push: .*unpack"):
        source.push(Remote(str(far)), repo.commit({"noise": noise + b"!"}), 30)


def test_an_interrupt_ends_the_making_and_all_pushes_that_wait_for_it(repo, bare, packed, tmp_path):
    packed.before(f"exec sleep {ENDLESS}")
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    with ThreadPoolExecutor() as pool:
        pushes = [pool.submit(source.push, Remote(str(bare(f"far{n}.git"))), tip, ENDLESS) for n in range(3)]
        wait_until(lambda: packed() == 1)
        (maker,) = packed.log.read_text().split()
        source.interrupt()
        for one in pushes:
            with pytest.raises(PushError, match="interrupted"):
                one.result(HANG_LIMIT)
    wait_until(lambda: not alive(int(maker)))
    wait_until(lambda: not open_packs())


def test_a_pack_that_nobody_waits_for_any_more_is_not_made_on(repo, bare, packed):
    packed.before(f"exec sleep {ENDLESS}")
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    with pytest.raises(PushError, match=r"more than 3 s"):
        source.push(Remote(str(bare())), tip, 3)
    (maker,) = packed.log.read_text().split()
    wait_until(lambda: not alive(int(maker)))
    wait_until(lambda: not open_packs())


def test_a_pack_goes_when_it_was_not_read_for_a_while(repo, bare, packed, monkeypatch):
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    source.push(Remote(str(bare("one.git"))), tip, 30)
    assert open_packs()
    monkeypatch.setattr(pack_cache, "LINGER", 0.0)
    source.push(Remote(str(bare("two.git"))), tip, 30)
    assert packed() == 1
    wait_until(lambda: not open_packs())
    source.push(Remote(str(bare("three.git"))), tip, 30)
    assert packed() == 2


def test_one_that_reads_slowly_keeps_nobody(repo, bare, packed, tmp_path):
    """Its receiver takes nothing until the others have all."""
    repo.commit({"noise": os.urandom(3_000_000)})
    source, tip = Source.open(repo.path), repo.git("rev-parse", "HEAD")
    slow, fast = bare("slow.git"), bare("fast.git")

    def there(pack):
        return f'f() {{ until [ -e {tmp_path}/go ]; do sleep 0.02; done | cat; git {pack} "$1"; }}; f'

    with ThreadPoolExecutor() as pool:
        late = pool.submit(source.push, Remote(str(slow), command=there), tip, 60)
        assert source.push(Remote(str(fast)), tip, 30).objects
        assert not late.done()
        (tmp_path / "go").touch()
        assert late.result().objects
    for far in (slow, fast):
        check_has(far, tip)


def test_without_the_option_git_packs_for_each(repo, bare, packed):
    source, tip, far = Source.open(repo.path), repo.git("rev-parse", "HEAD"), bare()
    assert source.push(Remote(str(far)), tip, 30, one_pack=False).objects
    assert packed() == 0  # git starts its own by another way
    check_has(far, tip)


@pytest.mark.parametrize("url", ["ssh://-oProxyCommand=touch%20x/x", "host:path", "relative", "ssh://h/x"])
def test_what_is_no_way_to_a_machine_starts_nothing(repo, url):
    with pytest.raises(receive_pack.NotThisWayError, match="no way to"):
        receive_pack._command(Remote(url, {"GIT_SSH_COMMAND": "ssh"} if url != "ssh://h/x" else {}))


def test_three_machines_over_ssh_get_one_pack_and_keep_one_ref(ssh_farm, packed):
    first = ssh_farm.run("push", "--source", str(ssh_farm.source), PATH=os.environ["PATH"])
    assert first.status == 0, first
    assert packed() == 1
    (ssh_farm.source / "README").write_text("edited\n")
    second = ssh_farm.run("push", "--source", str(ssh_farm.source), PATH=os.environ["PATH"])
    assert second.status == 0, second
    assert packed() == 2
    for server in ssh_farm.servers:
        far = server.work_dir / "repo.git"
        check_has(far, git(far, "rev-parse", "refs/fabbuild/current"))
        assert git(far, "show", "refs/fabbuild/current:README") == "edited"
