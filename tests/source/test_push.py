"""The push, to real repositories."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from fabbuild.errors import PushError, SourceError
from fabbuild.source.git import Remote
from fabbuild.source.repository import Source
from tests.support.census import ENDLESS, HANG_LIMIT, alive, wait_until
from tests.support.repositories import bare, commit, git, refs


def test_a_push_leaves_one_ref(repo, tmp_path):
    far, source = bare(tmp_path), Source.open(repo)
    for tip in (
        source.top(1)[1][0].hash,
        source.current().hash,
        source.range("main")[0].hash,
        source.top(2)[1][0].hash,
    ):
        report = source.push(Remote(str(far), name="m"), tip, 30)
        assert refs(far) == {"refs/fabbuild/current": tip}
        assert report.seconds > 0
    git(far, "fsck", "--strict")


def test_stale_refs_of_ours_go_and_others_stay(repo, tmp_path):
    far, source = bare(tmp_path), Source.open(repo)
    tip = source.top(1)[1][0].hash
    source.push(Remote(str(far)), tip, 30)
    for name in ("refs/fabbuild/old", "refs/fabbuild/deep/er", "refs/heads/theirs", "refs/fabbuilder"):
        git(far, "update-ref", name, tip)
    assert source.push(Remote(str(far)), tip, 30).pruned == 2
    assert set(refs(far)) == {"refs/fabbuild/current", "refs/heads/theirs", "refs/fabbuilder"}


def test_a_push_of_what_is_there_sends_nothing(repo, tmp_path):
    far, source = bare(tmp_path), Source.open(repo)
    tip = source.current().hash
    assert source.push(Remote(str(far)), tip, 30).objects > 0
    again = source.push(Remote(str(far)), tip, 30)
    assert (again.objects, again.bytes, again.pruned) == (0, 0, 0)


def test_only_the_delta_of_a_snapshot_travels(repo, tmp_path):
    """A snapshot has no parent, and git looks for what the far side has at parents only."""
    for number in range(200):
        (repo / "configs" / f"b{number}_defconfig").write_bytes(os.urandom(500))
    far, source = bare(tmp_path), Source.open(repo)
    first = source.push(Remote(str(far)), source.current().hash, 30)
    assert first.objects > 200
    assert first.bytes > 100_000
    (repo / "one").write_text("edited\n")
    tip = source.current().hash
    report = source.push(Remote(str(far)), tip, 30)
    assert 0 < report.objects <= 5
    assert 0 < report.bytes < 10_000
    assert refs(far) == {"refs/fabbuild/current": tip}
    assert git(far, "show", f"{tip}:one") == "edited"
    git(far, "fsck", "--strict", "--connectivity-only", tip)
    commit(repo, "all of it", two="2")
    assert source.push(Remote(str(far)), source.top(1)[1][0].hash, 30).objects < 25


def test_a_far_side_with_commits_that_are_not_here(repo, tmp_path):
    far, source = bare(tmp_path), Source.open(repo)
    git(tmp_path, "clone", "-q", str(repo), "colleague")
    commit(tmp_path / "colleague", "theirs", two="theirs")
    Source.open(tmp_path / "colleague").push(Remote(str(far)), git(tmp_path / "colleague", "rev-parse", "HEAD"), 30)
    tip = source.current().hash
    source.push(Remote(str(far)), tip, 30)
    assert refs(far) == {"refs/fabbuild/current": tip}


def test_a_push_that_fails_quotes_git(repo, tmp_path):
    source = Source.open(repo)
    tip = source.current().hash
    with pytest.raises(PushError, match=r"does not appear to be a git repository") as caught:
        source.push(Remote(str(tmp_path / "nowhere.git"), name="heron"), tip, 30)
    assert caught.value.machine == "heron"
    assert "\n" not in str(caught.value)
    far = bare(tmp_path)
    (far / "hooks" / "pre-receive").write_text("#!/bin/sh\necho no more room here >&2\nexit 1\n")
    (far / "hooks" / "pre-receive").chmod(0o755)
    with pytest.raises(PushError, match=r"remote rejected.*pre-receive hook declined.*remote: no more room here"):
        source.push(Remote(str(far), name="heron"), tip, 30)
    with pytest.raises(PushError, match="0123456789"):
        source.push(Remote(str(bare(tmp_path, "other.git")), name="heron"), "0123456789" * 4, 30)
    with pytest.raises(PushError):
        source.push(Remote("--receive-pack=touch /tmp/x", name="heron"), tip, 30)


def test_a_push_over_ssh_that_fails_quotes_ssh(repo, tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host h port 22: Connection refused' >&2\nexit 255\n")
    ssh.chmod(0o755)
    env = {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "ssh"}
    source = Source.open(repo)
    with pytest.raises(PushError, match=r"Could not read from remote repository|Connection refused"):
        source.push(Remote("ssh://h/x", env, name="h"), source.top(1)[1][0].hash, 30)


def test_a_push_that_hangs_is_ended_with_all_its_processes(repo, tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep {ENDLESS}\n")
    ssh.chmod(0o755)
    source = Source.open(repo)
    with pytest.raises(PushError, match=r"took more than .* s and was ended"):
        source.push(Remote("ssh://h/x", {"GIT_SSH_COMMAND": str(ssh)}, name="h"), source.top(1)[1][0].hash, 1.5)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not alive(pid))


def test_a_push_in_another_thread_can_be_interrupted(repo, tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nsleep {ENDLESS}\n")
    ssh.chmod(0o755)
    source = Source.open(repo)
    tip = source.top(1)[1][0].hash
    with ThreadPoolExecutor() as pool:
        going = pool.submit(source.push, Remote("ssh://h/x", {"GIT_SSH_COMMAND": str(ssh)}, "h"), tip, ENDLESS)
        wait_until((tmp_path / "begun").exists)
        source.interrupt()
        with pytest.raises(PushError, match="git ls-remote was interrupted"):
            going.result(HANG_LIMIT)
    with pytest.raises(SourceError, match="interrupted"):
        source.top(1)
