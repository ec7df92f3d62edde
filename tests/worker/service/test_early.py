"""The first worktree builds while the others are still made, and one that cannot be made is missing, no more."""

import os
import shutil

import pytest

from tests.worker.driver import Worker

#: A git in front of the real one that waits, or fails, when it is to write the files of a slot.
GIT = """\
#!/bin/sh
case "$* $PWD" in
*" reset "*/slots/%(slot)s) %(does)s ;;
esac
exec %(git)s "$@"
"""


@pytest.fixture
def with_git(tmp_path):
    """Give an environment whose git does something of its own for some slots."""

    def make(slot, does):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "git").write_text(GIT % {"slot": slot, "does": does, "git": shutil.which("git")})
        (folder / "git").chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    return make


def begin(worker, slots=2, features=("early",)):
    worker.expect("ready")
    worker.ask("configure", settings={}, features=list(features))
    worker.send("build_prepare", commits=None, max_boards=slots)


def test_a_board_is_built_while_the_other_worktrees_are_made(work, with_git, tmp_path):
    go = tmp_path / "go"
    environment = with_git("01", f"while [ ! -e {go} ]; do sleep 0.05; done")
    with Worker(work, "--threads", "2", env=environment) as worker:
        begin(worker)
        assert worker.until("build_prepare_done") == [
            {"resp": "build_started", "num_threads": 2},
            {"resp": "worktree_created", "thread": 0},
            {"resp": "build_prepare_done"},
        ]
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox")
        for board in ("one", "two"):
            worker.expect("heartbeat", board=board, thread=0)
            worker.expect("build_result", board=board, return_code=0)
        go.touch()
        worker.expect("worktree_created", thread=1)
        assert worker.ask("build_done") == {"resp": "build_done", "exceptions": 0}


def test_boards_that_wait_go_to_the_slot_that_comes_late(work, with_git, tmp_path):
    """Also when no more boards come: the first slot has its hands full until it does."""
    go = tmp_path / "go"
    environment = with_git("01", f"while [ ! -e {go} ]; do sleep 0.05; done")
    make = tmp_path / "bin" / "make"
    with Worker(work, "--threads", "2", env=environment) as worker:
        make.write_text(f"#!/bin/sh\ncase $PWD in */00) touch {go}; while [ ! -e {tmp_path}/late ]; do sleep 0.05; done;; "
                        f"*) touch {tmp_path}/late;; esac\nexec {shutil.which('make')} \"$@\"\n")  # fmt: skip
        make.chmod(0o755)
        begin(worker)
        worker.until("build_prepare_done")
        results = worker.build("one", "two")
    assert [result["return_code"] for result in results.values()] == [0, 0]


@pytest.mark.parametrize("slot", ["00", "01"])
def test_a_worktree_that_cannot_be_made_is_told_and_no_board_suffers(work, with_git, slot):
    environment = with_git(slot, "echo fatal: No space left on device >&2; exit 128")
    with Worker(work, "--threads", "2", env=environment) as worker:
        begin(worker)
        taken = worker.until("build_prepare_done")
        results = worker.build("one", "two")
        said = [line for line in worker.lines if b"worktree" in line]
    assert [result["return_code"] for result in results.values()] == [0, 0]
    assert not (work / "slots" / slot).exists(), "its half fills the disk"
    told = [message for message in taken if message["resp"] == "worktree_created"]
    assert told == [{"resp": "worktree_created", "thread": 1 - int(slot)}]
    assert len(said) == 2
    assert any(b'"worktree_failed"' in line and b"No space left" in line for line in said), said


def test_no_worktree_at_all_is_an_error(work, with_git):
    environment = with_git("*", "echo fatal: No space left on device >&2; exit 128")
    with Worker(work, "--threads", "2", env=environment) as worker:
        begin(worker, 3)
        worker.expect("build_started")
        assert "No space left on device" in worker.expect("error")["msg"]
        assert worker.ask("configure", settings={}) == {"resp": "configure_done"}


def test_a_boss_that_did_not_ask_for_it_waits_for_all(work, with_git):
    environment = with_git("01", "echo fatal: No space left on device >&2; exit 128")
    with Worker(work, "--threads", "2", env=environment) as worker:
        begin(worker, features=())
        assert "No space left on device" in worker.until("error")[-1]["msg"]
        assert all(b"build_prepare_done" not in line and b"failed" not in line for line in worker.lines)


def test_many_slots_are_made_side_by_side_in_one_repository(work):
    with Worker(work, "--threads", "8") as worker:
        begin(worker, 16)
        worker.until("build_prepare_done")
        results = worker.build(*["one", "two"] * 3)
        assert {result["return_code"] for result in results.values()} == {0}
        created = [line for line in worker.lines if b'"worktree_created"' in line]
    assert 1 <= len(created) <= 16
    assert b"worktree_failed" not in b"".join(worker.lines)
