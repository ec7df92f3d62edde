"""The driver alone, with sessions that only note what is asked of them."""

import threading
import time
from types import SimpleNamespace

import pytest

from fabbuild.dispatcher import Dispatcher
from fabbuild.messages import BuildResult
from fabbuild.model import Board, Commit, Job, Verdict
from fabbuild.results import ResultTree
from tests.support.census import ENDLESS, HANG_LIMIT

COMMIT = Commit("a" * 40, "b" * 40, "one", 1)


class Crew:
    """Machines that are ready at once."""

    def __init__(self, *sessions):
        self.sessions = {session.name: session for session in sessions}
        self.machines = tuple(self.sessions)

    def bring_up(self, machine, report):
        report.join(self.sessions[machine], frozenset(), 1.0)

    def check(self, _session, _archs):
        return True, ""


class Quiet:
    """A session of a machine that builds everything at once; what it says is up to the test."""

    def __init__(self, name, answer):
        self.name = name
        self.slots = 1
        self.ready = None
        self.features = frozenset({"commits"})
        self.facts = None
        self.lacking = {}
        self.machine = SimpleNamespace(env={}, threads=None)
        self.answer = answer

    def feed(self, sink):
        self.sink = sink

    def build_board(self, job, *_limits):
        self.sink(self, self.answer(job.board.target), lambda: None)

    def last_words(self):
        return ""

    def nothing(self, *_arguments):
        return True

    build_done = ask_to_quit = wait_ended = close = nothing


@pytest.fixture
def tree(tmp_path):
    made = ResultTree(tmp_path, "t", [COMMIT])
    made.lock()
    yield made
    made.close()


def test_a_result_that_cannot_be_recorded_ends_as_not_built_and_holds_up_nobody(tree, monkeypatch):
    record = tree.record

    def fail_for_one(result, *arguments, **options):
        if result.board == "odd":
            raise RuntimeError("nobody thought of this")
        return record(result, *arguments, **options)

    monkeypatch.setattr(tree, "record", fail_for_one)
    boards = [Board(name, "sandbox") for name in ("odd", "one", "two")]
    events = []
    machines = [
        Quiet(name, lambda board: BuildResult(board=board, commit_upto=0, return_code=0)) for name in ("m1", "m2")
    ]
    jobs = [Job(board, (0,)) for board in boards]
    dispatcher = Dispatcher(jobs, [COMMIT], tree, {}, Crew(*machines), listener=events.append)
    outcome = dispatcher.run()
    assert outcome.counts == {Verdict.BUILT: 2, Verdict.NOT_BUILT: 1}
    (ended,) = [event for event in events if event.what == "not-built"]
    assert "nobody thought of this" in ended.text
    assert len([event.machine for event in events if event.what == "machine-failed"]) == 1


def test_an_interrupt_ends_what_is_open_and_the_sum_holds(tree):
    boards = [Board(name, "sandbox") for name in ("one", "two", "three")]

    def answer(board):
        dispatcher.interrupt("enough")
        return BuildResult(board=board, commit_upto=0, return_code=2, stderr="a.c:1:1: error: no")

    jobs = [Job(board, (0,)) for board in boards]
    dispatcher = Dispatcher(jobs, [COMMIT], tree, {}, Crew(Quiet("m1", answer)), listener=lambda _event: None)
    outcome = dispatcher.run()
    assert outcome.interrupted == "enough"
    assert sum(outcome.counts.values()) == outcome.asked == 3


def test_an_interrupt_while_the_workers_are_let_go_is_heeded(tree, monkeypatch):
    """The last result is in, and a worker does not end."""
    monkeypatch.setattr("fabbuild.dispatcher.QUIT_TIMEOUT", ENDLESS)
    asked = threading.Event()

    class Stuck(Quiet):
        def wait_ended(self, timeout):
            asked.set()
            time.sleep(timeout)
            return False

    jobs = [Job(Board("one", "sandbox"), (0,))]
    machines = [Stuck(name, lambda board: BuildResult(board=board, commit_upto=0, return_code=0)) for name in "ab"]
    dispatcher = Dispatcher(jobs, [COMMIT], tree, {}, Crew(*machines), listener=lambda _event: None)
    threading.Thread(target=lambda: asked.wait(HANG_LIMIT) and dispatcher.interrupt("enough"), daemon=True).start()
    outcome = dispatcher.run()
    assert outcome.interrupted == "enough"
    assert outcome.counts == {Verdict.BUILT: 1}
