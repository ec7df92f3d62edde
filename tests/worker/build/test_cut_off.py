"""Builds upon kept directories that are cut off at any step, and what the next run makes of what they left.

Each time another run builds the same boards, in other slots and another order, and is held against clean builds:
what is half must not be taken for whole.
"""

import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable

import pytest

from tests.support.examples import at_most
from tests.support.supervised import small_disk
from tests.support.trouble import tool
from tests.worker.build.test_as_if_clean import series
from tests.worker.build.test_neighbour_objects import Sharing, kbuild
from tests.worker.driver import Worker, work_dir

__all__ = ["kbuild", "small_disk"]

pytestmark = pytest.mark.deep

#: What the run changes that is cut off: a file that both boards compile, one that only a stored command knows of, and
#: a board that begins with objects of another.
CHANGES = (
    {"README": "x\n", "configs/three_defconfig": "CONFIG_N=y\nCONFIG_GEN=2\n"},
    {"src/b.c": "int d;\n", "first/x.h": "#define X 1\n"},
    {"src/c.c": "int e;\n"},
)

#: At how many of all steps of the worker, and of all programs of its builds, it is cut off: each takes some four CPU
#: seconds.
STEPS_TRIED, PROGRAMS_TRIED = 5, 2


@pytest.fixture
def commits(kbuild, work):
    return series(kbuild, work, *CHANGES)


def before(machine, commits):
    """Leave directories of two boards, of an older commit, and nothing else."""
    shutil.rmtree(machine.work / "slots", ignore_errors=True)
    machine.run((0, "two", commits[:1]), (0, "one", commits[:1]), (1, "two", commits[:1]))


def cut(machine, commits):
    """Run what is to be cut off: boards in the slot of another, of new commits, one that has no directory yet."""
    machine.run(
        (1, "two", commits[1:2]), (1, "one", commits[1:2]), (1, "three", commits[1:2]), (1, "one", commits[2:])
    )


def after(machine, commits):
    """Hold what a next run makes against clean builds: first of the commit that was there before, where it was."""
    old, new = commits[:1], commits[:0:-1]
    for slot, board, some in (
        (0, "one", old),
        (0, "two", old),
        (1, "three", new),
        (0, "two", new),
        (0, "one", new),
    ):
        for result, commit in zip(machine.run((slot, board, some)), some, strict=True):
            machine.hold(result, commit, board)


def spread(total: int, tried: int) -> Iterable[int]:
    """Return some of the numbers from 1 to ``total``, the first and others at equal distances."""
    tried = at_most(tried)
    return sorted({1 + number * total // tried for number in range(tried)})


# --- the worker's own steps ---------------------------------------------------------------------------------------

#: What Python tells of before it is done (audit events), and what of it needs room on the disk.
NEEDS_ROOM = {"os.mkdir", "os.symlink", "os.link", "os.rename", "shutil.copyfile"}
STEPS = NEEDS_ROOM | {"os.remove", "os.rmdir", "os.utime", "os.chmod", "os.truncate"}


def in_a_fork(place: str, act: Callable[[int, bool], None], run: Callable[[], None]) -> int:
    """Run in a process of its own; before each change below ``place`` call ``act``; return how many there were.

    ``act`` gets the number of the change, and whether it needs room.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        count = 0

        def hook(event: str, args: tuple) -> None:
            nonlocal count
            written = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if (written or event in STEPS) and str(args[0]).startswith(place):
                count += 1
                act(count, written or event in NEEDS_ROOM)

        sys.addaudithook(hook)
        with contextlib.suppress(OSError):
            run()
        os.write(tell, str(count).encode())
        os._exit(0)
    os.close(tell)
    os.waitpid(pid, 0)
    with open(told) as file:
        return int(file.read() or 0)


def kill(number: int, at: int, _room: bool) -> None:
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)


def fill(number: int, at: int, room: bool) -> None:
    if number >= at and room:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("act", [kill, fill])
def test_a_worker_that_is_cut_off_at_any_step_leaves_nothing_that_is_half(work, commits, act):
    machine = Sharing(work)
    place = str(work / "slots")
    before(machine, commits)
    total = in_a_fork(place, lambda *_: None, lambda: cut(machine, commits))
    assert total > 50
    for at in spread(total, STEPS_TRIED):
        before(machine, commits)
        in_a_fork(place, lambda number, room, at=at: act(number, at, room), lambda: cut(machine, commits))
        after(machine, commits)


# --- the programs of the build ------------------------------------------------------------------------------------


def watched(place, programs=("make", "gcc", "git", "ld")):
    """Make programs that count their calls, and at one of them do what a file says."""
    made = {}
    for name in programs:
        script = (
            f'p={place}; [ -e $p/do ] || exec {{real}} "$@"\n'
            "echo x >>$p/count; n=$(wc -l <$p/count)\n"
            'if [ "$n" = "$(cat $p/at)" ]; then '
            'out=; for word; do [ "$prev" = -o ] && out=$word; prev=$word; done; . $p/do; fi\n'
            'exec {real} "$@"'
        )
        made = tool(place, name, script)
    return made


#: What is done then.
DEEDS = {
    "the worker and all of its build are killed": "kill -9 $(cat $p/worker); kill -9 0",
    "the make is killed, a product is half": '[ -n "$out" ] && echo half >$out; kill -9 $PPID',
    "the program is killed, its product is half": '[ -n "$out" ] && echo half >$out; kill -9 $$',
    "the same, as a shell tells it": '[ -n "$out" ] && echo half >$out; echo Killed >&2; exit 137',
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_build_that_is_killed_at_any_program_leaves_nothing_that_is_half(work, commits, tmp_path, deed):
    place = tmp_path / "watched"
    environment = watched(place)
    machine = Sharing(work, **environment)
    settings = {"reproducible_builds": True}

    def run(at: int) -> int:
        (place / "at").write_text(str(at))
        (place / "count").write_text("")
        with Worker(work, "--threads", "1", env=environment) as worker:
            (place / "worker").write_text(str(worker.process.pid))
            worker.expect("ready")
            worker.ask("configure", settings=settings, features=["details", "carry", "files"])
            (place / "do").write_text(DEEDS[deed])
            worker.send("build_prepare", commits=commits[1:], max_boards=2)
            for board in ("three", "one"):
                worker.send("build_board", board=board, arch="sandbox")
            worker.send("build_done")
            while (said := worker.get()) and said["resp"] != "build_done":
                pass
        (place / "do").unlink()
        return len((place / "count").read_text().split())

    before(machine, commits)
    total = run(0)
    assert total > 20
    for at in spread(total, PROGRAMS_TRIED):
        before(machine, commits)
        run(at)
        after(machine, commits)


def test_a_disk_that_is_full_from_any_program_on_leaves_nothing_that_is_half(kbuild, small_disk, tmp_path):
    commits = [kbuild.commit(change) for change in CHANGES]
    work = work_dir(small_disk / "work", kbuild.path)
    place = tmp_path / "watched"
    machine = Sharing(work, **watched(place))
    filler = small_disk / "filler"

    def run(at: int) -> int:
        (place / "count").write_text("")
        (place / "at").write_text(str(at))
        (place / "do").write_text(f"dd if=/dev/zero of={filler} bs=4k 2>/dev/null")
        with contextlib.suppress(OSError):
            cut(machine, commits)
        (place / "do").unlink()
        filler.unlink(missing_ok=True)
        return len((place / "count").read_text().split())

    before(machine, commits)
    total = run(0)
    assert total > 20
    for at in spread(total, PROGRAMS_TRIED):
        before(machine, commits)
        run(at)
        after(machine, commits)
