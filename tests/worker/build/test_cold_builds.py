"""Of like boards that begin at once one is built from nothing, and the others take its objects."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from fabbuild.protocol import dotconfig
from fabbuild.protocol.environment import base_environment
from fabbuild.worker.base.processes import Processes
from fabbuild.worker.build.builder import BoardBuild, Builder
from fabbuild.worker.build.carry_forward import CarryForward
from fabbuild.worker.build.cold_builds import ColdBuilds
from fabbuild.worker.build.kept_outputs import KeptOutputs
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.build.shared_by_slots import SharedBySlots
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.source.git import Repository, find_git_dir
from fabbuild.worker.source.worktrees import SlotWorktrees
from fabbuild.worker.tools.jobserver import JobServer
from fabbuild.worker.tools.toolchains import from_path
from tests.worker.build.test_as_if_clean import series
from tests.worker.build.test_kept_outputs import compiled_by
from tests.worker.build.test_neighbour_objects import FILES, KBUILD, Sharing
from tests.worker.driver import wait_for

COMMON = "CONFIG_GEN=1\n" + "".join(f"CONFIG_S{number}=y\n" for number in range(30))


@pytest.mark.parametrize(
    ("ours", "waits"),
    [
        (COMMON + "CONFIG_TWO=y\n", True),
        (COMMON.replace("GEN=1", "GEN=2"), True),
        ("CONFIG_GEN=1\n" + "".join(f"CONFIG_T{number}=y\n" for number in range(30)), False),
    ],
    ids=["another symbol", "another value", "most symbols differ"],
)
def test_a_board_waits_for_one_that_is_like_it(ours, waits):
    cold = ColdBuilds()
    assert cold.enter("one", dotconfig.read(COMMON.splitlines())) == ""
    assert cold.enter("two", dotconfig.read(ours.splitlines())) == ("one" if waits else "")


def test_boards_never_wait_in_a_circle():
    cold, configuration = ColdBuilds(), dotconfig.read(COMMON.splitlines())
    assert [cold.enter(board, configuration) for board in ("one", "two", "three", "one")] == ["", "one", "one", ""]


class Slots:
    """Two slots that work at the same time."""

    def __init__(self, work, commits, stack, **settings):
        environment = base_environment(os.environ)
        self.commits = commits
        processes = stack.enter_context(Processes())
        trees = SlotWorktrees(Repository(processes, str(find_git_dir(str(work))), environment), str(work))
        trees.prepare()
        known = Identities(str(work), environment, "code")
        self.shared = SharedBySlots(KeptOutputs(trees.directory), known)
        self._compiler = from_path("sandbox", shutil.which("gcc"))
        self._tokens = JobServer(2, 2)
        stack.callback(self._tokens.close)
        chosen = Settings({"reproducible_builds": True, **settings})
        self._builders = []
        for slot in range(2):
            tree = trees.worktree(slot, commits[0])
            carrier = CarryForward(tree, chosen, known)
            one = Builder(processes, tree, chosen, environment, {"details"}, self.shared, carrier)
            stack.callback(one.close)
            self._builders.append(one)
        self._threads = stack.enter_context(ThreadPoolExecutor(2))

    def build(self, slot, board, commits):
        return self._threads.submit(self._build, self._builders[slot], board, commits)

    def _build(self, builder, board, commits):
        results = []
        try:
            builder.begin(BoardBuild(board, self._compiler, lambda: 1, tokens=self._tokens))
            for commit in commits:
                results.append(builder.build(commit))
                builder.share_objects(board)
        finally:
            builder.end(board)
        return results


@pytest.fixture
def machine(work):
    return Sharing(work)


@pytest.fixture
def gate(tmp_path):
    """A pipe; while it is there, board one is not linked before something is written to it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def commits(machine, source, gate):
    source.commit(
        {
            **FILES,
            "Makefile": KBUILD.replace("\t@ld", f"\t$(if $(CONFIG_ONE),@! test -p {gate} || cat {gate})\n\t@ld"),
            "configs/one_defconfig": COMMON + "CONFIG_ONE=y\n",
            "configs/two_defconfig": COMMON + "CONFIG_TWO=y\n",
        }
    )
    return series(source, machine.work, {"README": "x\n"}, {"src/b.c": "int d;\n"})


def let_through(gate):
    gate.write_bytes(b"x")
    gate.unlink()


def test_like_boards_compile_once_what_is_alike(machine, commits, gate):
    with ExitStack() as stack:
        slots = Slots(machine.work, commits, stack)
        first = slots.build(0, "one", commits[:1])
        wait_for(lambda: slots.shared.cold._building)
        second = slots.build(1, "two", commits[:1])
        wait_for(lambda: slots.shared.cold.awaited("one"))
        assert not second.done()
        let_through(gate)
        results = first.result() + second.result()
    assert [sorted(compiled_by(result)) for result in results] == [["a", "b", "c"], []]
    assert float(results[1].details["seconds"]) >= 0
    machine.hold(results[1], commits[0], "two")


def test_the_one_that_was_waited_for_goes_on_with_its_next_commit(machine, commits, gate):
    with ExitStack() as stack:
        slots = Slots(machine.work, commits, stack)
        first = slots.build(0, "one", commits)
        wait_for(lambda: slots.shared.cold._building)
        second = slots.build(1, "two", commits[:1])
        wait_for(lambda: slots.shared.cold.awaited("one"))
        let_through(gate)
        results = first.result() + second.result()
        assert not slots.shared.cold.awaited("one")
    compiled = [sorted(compiled_by(result)) for result in results]
    assert (compiled[0], compiled[len(commits) - 1], compiled[-1]) == (["a", "b", "c"], ["b"], [])
    machine.hold(results[len(commits) - 1], commits[-1])


def test_a_board_whose_like_one_is_not_built_any_more_compiles_itself(machine, commits, gate, monkeypatch):
    with ExitStack() as stack:
        slots = Slots(machine.work, commits, stack)
        monkeypatch.setattr(Builder, "share_objects", lambda _builder, _board: None)
        first = slots.build(0, "one", commits[:1])
        wait_for(lambda: slots.shared.cold._building)
        second = slots.build(1, "two", commits[:1])
        wait_for(lambda: slots.shared.cold.awaited("one"))
        let_through(gate)
        first.result()
        (result,) = second.result()
    assert sorted(compiled_by(result)) == ["a", "b", "c"]


def test_without_shared_objects_nobody_waits(machine, commits, gate):
    with ExitStack() as stack:
        slots = Slots(machine.work, commits, stack, share_objects=False)
        first = slots.build(0, "one", commits[:1])
        (result,) = slots.build(1, "two", commits[:1]).result()
        let_through(gate)
        first.result()
    assert sorted(compiled_by(result)) == ["a", "b", "c"]
