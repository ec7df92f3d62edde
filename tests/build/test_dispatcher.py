"""The dispatcher: alone, with sessions that only note what is asked of them, and with workers that build nothing."""

import base64
import itertools
import threading
import time
import zlib
from types import SimpleNamespace

import pytest

from fabbuild.build import dispatcher as dispatchers
from fabbuild.build.bring_up import RunMachines
from fabbuild.build.dispatcher import USELESS, Clock, Dispatcher
from fabbuild.build.inbox import BringUpFailed, BroughtUp
from fabbuild.build.recorder import Recorder
from fabbuild.config.machines import Fit, Machine, ToolchainSearch
from fabbuild.config.settings import BuildSettings
from fabbuild.errors import OutputError
from fabbuild.machines.messages import BuildResult
from fabbuild.machines.session import Session, SessionOptions
from fabbuild.model import Board, Commit, Job, LossKind, Verdict
from fabbuild.protocol.wire import FEATURES, encode_response
from fabbuild.results.tree import ResultTree
from fabbuild.scheduler.events_actions import Policy
from fabbuild.scheduler.scheduler import Scheduler
from fabbuild.testing import ANSWERS, FakeSource, FakeTransport, FakeWorker, busy, die, ignore, later, refuse
from tests.support.census import ENDLESS, HANG_LIMIT

COMMIT = Commit("a" * 40, "b" * 40, "one", 1)
COMMITS = [COMMIT, Commit("c" * 40, "d" * 40, "two", 2), Commit("e" * 40, "f" * 40, "three", 3)]


class Machines:
    """Machines that are ready at once."""

    def __init__(self, *sessions):
        self.sessions = {session.name: session for session in sessions}
        self.machines = tuple(self.sessions)

    def bring_up(self, machine, inbox):
        inbox.put(BroughtUp(self.sessions[machine], frozenset(), 1.0))

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
        self.outputs = None
        self.machine = SimpleNamespace(env={}, threads=None)
        self.answer = answer

    def feed(self, sink):
        self.sink = sink

    def build_board(self, job, *_limits):
        self.sink(self.answer(job.board.target), lambda: None)

    def last_words(self):
        return ""

    def nothing(self, *_arguments):
        return True

    build_done = ask_to_quit = wait_ended = close = nothing


def dispatcher_of(jobs, tree, *sessions, listener=lambda _event: None):
    scheduler = Scheduler(jobs, 1, [session.name for session in sessions])
    recorder = Recorder(
        tree, {(job.board.target, upto): job.board for job in jobs for upto in job.commits}, [COMMIT], {}
    )
    return Dispatcher(scheduler, Machines(*sessions), recorder, [COMMIT], listener)


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
    dispatcher = dispatcher_of(jobs, tree, *machines, listener=events.append)
    outcome = dispatcher.run()
    assert outcome.counts == {Verdict.BUILT: 2, Verdict.NOT_BUILT: 1}
    (ended,) = [event for event in events if event.what == "not-built"]
    assert "nobody thought of this" in ended.text
    assert len([event.machine for event in events if event.what == "machine-failed"]) == 1


def test_an_interrupt_ends_what_is_open_and_the_sum_holds(tree):
    boards = [Board(name, "sandbox") for name in ("one", "two", "three")]

    def answer(board):
        dispatcher.inbox.interrupt("enough")
        return BuildResult(board=board, commit_upto=0, return_code=2, stderr="a.c:1:1: error: no")

    jobs = [Job(board, (0,)) for board in boards]
    dispatcher = dispatcher_of(jobs, tree, Quiet("m1", answer))
    outcome = dispatcher.run()
    assert outcome.interrupted == "enough"
    assert sum(outcome.counts.values()) == outcome.asked == 3


def test_an_interrupt_while_the_workers_are_let_go_is_heeded(tree, monkeypatch):
    """The last result is in, and a worker does not end."""
    monkeypatch.setattr("fabbuild.build.dispatcher.QUIT_TIMEOUT", ENDLESS)
    asked = threading.Event()

    class Stuck(Quiet):
        def wait_ended(self, timeout):
            asked.set()
            time.sleep(timeout)
            return False

    jobs = [Job(Board("one", "sandbox"), (0,))]
    machines = [Stuck(name, lambda board: BuildResult(board=board, commit_upto=0, return_code=0)) for name in "ab"]
    dispatcher = dispatcher_of(jobs, tree, *machines)
    threading.Thread(
        target=lambda: asked.wait(HANG_LIMIT) and dispatcher.inbox.interrupt("enough"), daemon=True
    ).start()
    outcome = dispatcher.run()
    assert outcome.interrupted == "enough"
    assert outcome.counts == {Verdict.BUILT: 1}


# --- with workers on a fake transport ---------------------------------------------------------------------------


class Time:
    """A clock that goes on only when a lost machine is waited for: until it is tried again, or with the patience."""

    def __init__(self):
        self.now = 1000.0
        self.patient = True

    def __call__(self):
        return self.now

    def listener(self, event):
        if event.what == "machine-failed" and event.data["again_in"]:
            self.now += event.data["again_in"]
        elif event.what == "waiting" and not self.patient:
            self.now = event.data["until"]


class Build:
    """A run of the real dispatcher with fake machines: a worker each, or several, one for each connection."""

    def __init__(self, path, boards, *, commits=COMMITS, batch=False, declined=("carry",), policy=None, **workers):
        self.settings = BuildSettings(batch=batch)
        self.workers = {name: given if isinstance(given, list) else [given] for name, given in workers.items()}
        self.ways = {name: FakeTransport(name, *given) for name, given in self.workers.items()}
        self.sessions = [Session(Machine(name), way, ToolchainSearch()) for name, way in self.ways.items()]
        self.options = dict.fromkeys(self.ways, SessionOptions(silence=0.0, declined=frozenset(declined)))
        self.commits = commits
        self.machines = RunMachines(self.sessions, FakeSource(), commits, self.settings, Fit())
        self.tree = ResultTree(path, "t", commits)
        self.jobs = [Job(Board(name, "arm"), tuple(range(len(commits)))) for name in boards.split()]
        self.events = []
        self.clock = Time()
        self.lost, self.all_in = threading.Event(), threading.Event()
        self.policy = policy
        self.dispatcher = None

    def wait_for_a_loss(self, name):
        """Have a machine build nothing before another was lost, so that this one has boards, too."""
        self.workers[name][0].build = lambda _asked: self.lost.wait(HANG_LIMIT) and {}

    def tick(self):
        pass

    def listen(self, event):
        self.events.append(event)
        self.clock.listener(event)
        if event.what == "machine-failed":
            self.lost.set()
        if sum(e.data["phase"] == "ready" for e in self.told("phase")) == len(self.ways):
            self.all_in.set()

    def run(self, lost=(), **settings):
        self.machines.need(job.board.arch for job in self.jobs)
        self.machines.open_with(self.options)
        self.tree.lock()
        try:
            scheduler = Scheduler(
                self.jobs, len(self.commits), self.machines.machines,
                batch=self.settings.batch, policy=self.policy or Policy(backup=False),
            )  # fmt: skip
            boards = {(job.board.target, upto): job.board for job in self.jobs for upto in job.commits}
            recorder = Recorder(self.tree, boards, self.commits, {**self.settings.wire_settings(), **settings})
            self.dispatcher = Dispatcher(
                scheduler,
                self.machines,
                recorder,
                self.commits,
                self.listen,
                self.tick,
                Clock(self.clock, self.clock),
            )
            return self.dispatcher.run(lost)
        finally:
            self.machines.leave(0.0)
            self.tree.close()

    def told(self, what, **fields):
        found = [event for event in self.events if event.what == what]
        return [e for e in found if all(getattr(e, name) == value for name, value in fields.items())]

    def texts(self, what, machine=""):
        return [event.text for event in self.told(what) if machine in ("", event.machine)]

    @property
    def makers(self):
        """Who built what."""
        return {(event.board, event.commit[0]): event.machine for event in self.told("result")}

    def whole(self, outcome, **counts):
        """Each result that was asked for ended, once, and is in the tree where it is one."""
        asked = sum(len(job.commits) for job in self.jobs)
        assert {verdict.name.lower(): number for verdict, number in outcome.counts.items()} == counts
        assert sum(counts.values()) == outcome.asked == asked
        ended = [(event.board, event.commit) for event in self.events if event.what in ("result", "not-built")]
        assert len(ended) == len(set(ended)) == asked
        done = sorted((path.parent.name, path.parent.parent.name) for path in self.tree.root.glob("*/*/done"))
        assert len(done) == len(self.told("result"))


def one(**options):
    """A machine that builds one board at a time."""
    build = options.pop("build", lambda _asked: {})
    return FakeWorker(build, threads=1, **options)


def after(event, build=lambda _asked: {}):
    """A machine that builds nothing before this event."""

    def wait(asked):
        event.wait(HANG_LIMIT)
        return build(asked)

    return one(build=wait)


FAILS = {"return_code": 2, "stderr": "a.c:1:1: error: no"}


def test_every_board_ends_once_at_each_commit_with_what_came_of_it(tmp_path):
    def build(asked):
        assert asked.commit == COMMITS[asked.upto].hash
        if asked.board == "wren":
            return FAILS if asked.upto == 1 else {"stderr": "a.c:1:1: warning: hm"}
        return {}

    run = Build(tmp_path, "wren robin heron tern", m1=FakeWorker(build), m2=one(build=build))
    run.whole(run.run(), built=9, warned=2, failed=1)
    (failed,) = [event for event in run.told("result", board="wren") if event.data["verdict"] == "failed"]
    assert (failed.commit, failed.data["error"], failed.data["return_code"]) == ("c" * 40, "a.c:1:1: error: no", 2)
    assert (run.tree.place("wren", 1) / "err").read_text() == "a.c:1:1: error: no"
    assert not run.told("machine-failed")


def test_a_listener_sees_what_happens_to_a_board_in_order(tmp_path):
    run = Build(tmp_path, "wren", m1=one())
    run.run()
    assert [(e.what, e.data.get("phase") or e.commit[:1]) for e in run.events if e.what != "worktree"] == [
        *(("phase", name) for name in ("probe", "init", "push", "start", "configure", "prepare", "ready")),
        ("assigned", ""), ("started", ""), ("result", "a"), ("result", "c"), ("result", "e"), ("board-done", ""),
        ("phase", "done"),
    ]  # fmt: skip
    (assigned,), (started,) = run.told("assigned"), run.told("started")
    assert (assigned.machine, assigned.attempt, assigned.data) == ("m1", 1, {"commits": 3})
    assert (started.slot, started.attempt) == (0, 1)
    assert {event.slot for event in run.told("result")} == {0}
    assert [c["cmd"] for c in run.ways["m1"].workers[0].commands][-3:] == ["build_board", "build_done", "quit"]


def test_a_machine_gets_a_board_more_each_time_one_is_through(tmp_path):
    run = Build(tmp_path, "a b c d e", m1=FakeWorker(threads=2))
    run.whole(run.run(), built=15)
    open_, most = 0, 0
    for event in run.events:
        open_ += {"assigned": 1, "board-done": -1}.get(event.what, 0)
        most = max(most, open_)
    assert most == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "its worker ended with exit status 3; its last words: oops"),
        (137, "its worker was killed by signal 9; its last words: oops"),
        (-1, "the connection ended; its last words: oops"),
    ],
)
def test_when_a_machine_dies_its_boards_are_built_elsewhere(tmp_path, status, words):
    died = threading.Event()

    def build(asked):
        if asked.upto == 1:
            die(status, "oops\n")(asked.worker, {})
            died.set()
            return None
        return {}

    run = Build(tmp_path, "wren robin heron", m1=[one(build=build), one(on={"supervise": busy})], m2=after(died))
    run.whole(run.run(), built=9)
    first, *_ = run.texts("machine-failed", "m1")
    assert first == words
    (lost,) = run.told("requeued")
    assert run.makers[lost.board, "a"] == "m1"  # what came of it stays
    assert {run.makers[lost.board, commit] for commit in "ce"} == {"m2"}
    (again,) = [event for event in run.told("assigned", board=lost.board) if event.machine == "m2"]
    assert (again.attempt, again.data) == (2, {"commits": 2})


def test_the_only_machine_that_dies_is_brought_up_again_and_goes_on(tmp_path):
    run = Build(tmp_path, "wren robin", m1=[one(build=lambda asked: asked.worker.die(1)), one()])
    run.whole(run.run(), built=6)
    (failed,) = run.told("machine-failed")
    assert failed.data == {"again_in": 2.0, "aside": False, "awaited": True}
    assert [e.data["phase"] for e in run.told("phase")].count("ready") == 2
    assert len(run.ways["m1"].workers) == 2


def test_a_machine_that_does_not_come_back_is_waited_for_only_so_long(tmp_path):
    def build(asked):
        return {} if asked.upto == 0 else asked.worker.die()

    run = Build(tmp_path, "wren robin", m1=[one(build=build), one(on={"supervise": busy})])
    run.clock.patient = False
    run.whole(run.run(), built=1, not_built=5)
    assert run.told("waiting")[0].data["machines"] == ["m1"]
    assert all("no machine left: m1" in text for text in run.texts("not-built"))


def test_a_machine_that_is_lost_too_often_is_set_aside_and_the_run_goes_on(tmp_path):
    def dies(board):
        return one(build=lambda a: a.worker.die(3) if (a.board, a.upto) == (board, 1) else {})

    workers = [dies("a"), dies("b"), one()]
    run = Build(tmp_path, "a b c", policy=Policy(restarts=1, backup=False), m1=workers)
    run.whole(run.run(), built=9)
    assert [(e.data["aside"], e.data["again_in"]) for e in run.told("machine-failed")] == [
        (False, 2.0),
        (True, 300.0),
    ]


def test_a_machine_that_falls_silent_is_given_up_and_its_boards_are_built_elsewhere(tmp_path):
    def build(asked):
        asked.worker.silent = True

    run = Build(tmp_path, "wren robin", m1=[one(build=build), one(on={"supervise": busy})], m2=one())
    run.options["m1"] = SessionOptions(silence=1.0)
    run.wait_for_a_loss("m2")
    run.whole(run.run(), built=6)
    assert run.texts("machine-failed", "m1")[0].startswith("no sign of life for 1 s")
    assert {event.machine for event in run.told("requeued")} == {"m1"}


def test_a_board_that_workers_die_of_twice_is_not_built_and_said_so(tmp_path):
    def build(asked):
        return asked.worker.die(1) if asked.board == "killer" else {}

    run = Build(tmp_path, "killer robin", m1=one(build=build), m2=one(build=build))
    run.whole(run.run(), built=3, not_built=3)
    assert {event.board for event in run.told("not-built")} == {"killer"}
    assert "kills workers (on m" in run.texts("not-built")[0]


def test_when_no_machine_comes_up_nothing_is_built_and_it_is_said_why(tmp_path):
    run = Build(tmp_path, "wren", m1=one(on={"configure": refuse("no")}), m2=one())
    outcome = run.run([BringUpFailed("m2", "not fit: no room", LossKind.REFUSED)])
    run.whole(outcome, not_built=3)
    assert sorted(run.texts("machine-failed")) == ["configure was refused: no", "not fit: no room"]
    assert "m2: not fit: no room" in run.texts("not-built")[0]
    assert "m1: configure was refused: no" in run.texts("not-built")[0]
    assert run.ways["m2"].workers == []


def test_a_machine_without_the_toolchain_is_not_needed(tmp_path):
    run = Build(tmp_path, "wren", m1=one(), m2=one())
    sandbox = ANSWERS["facts"][1]["toolchains"]["sandbox"]
    run.ways["m2"].answers["facts"] = {"toolchains": {"sandbox": sandbox}}
    run.whole(run.run(), built=3)
    assert run.texts("note", "m2") == ["not needed: it has no toolchain for arm"]
    assert not run.told("machine-failed")


# --- workers that lie -------------------------------------------------------------------------------------------


def result(asked, **fields):
    """Say a result in place of the real one."""
    given = {"board": asked.board, "commit_upto": asked.upto, "return_code": 0, "attempt": asked.attempt}
    asked.worker.say("build_result", **{**given, **fields})


def piece(asked, content=b"x", **fields):
    data = base64.b64encode(zlib.compress(content)).decode()
    given = {"board": asked.board, "commit_upto": asked.upto, "attempt": asked.attempt, "name": ".config"}
    asked.worker.say("build_file", **{**given, "last": True, "data": data, **fields})


def flood(asked, resp, **fields):
    for _ in range(USELESS + 2):
        asked.worker.say(resp, **fields)


LIES = {
    "a path": lambda a: result(a, board="../../evil"),
    "an absolute path": lambda a: result(a, board="/tmp/evil"),
    "a board that another builds": lambda a: result(a, board="robin" if a.board == "wren" else "wren"),
    "another commit": lambda a: result(a, commit_upto=7),
    "a commit below the first": lambda a: result(a, commit_upto=-1),
    "a commit that is no number": lambda a: result(a, commit_upto="0"),
    "a huge number": lambda a: result(a, return_code=10**400),
    "a load that is no number": lambda a: result(a, load_avg=float("nan")),
    "deep json": lambda a: a.worker.write(b"BM> " + b"[" * 100_000 + b"\n"),
    "many keys": lambda a: result(a, config={str(n): "" for n in range(30_000)}),
    "a file that is a path": lambda a: piece(a, name="../../evil"),
    "a file of the boss's own": lambda a: piece(a, name="done"),
    "a file nobody asked for": lambda a: piece(a, name="u-boot.bin"),
    "a file of another's board": lambda a: piece(a, board="robin" if a.board == "wren" else "wren"),
    "a file of another commit": lambda a: piece(a, commit_upto=7),
    "a file that inflates too far": lambda a: piece(a, bytes(2 * 2**20)),
    "no file": lambda a: piece(a, data="AAAA"),
    "no text of a file": lambda a: piece(a, data="!"),
    "the same file twice": lambda a: (piece(a), piece(a)),
    "no json": lambda a: a.worker.write(b"BM> what?\n"),
    "an array": lambda a: a.worker.write(b"BM> []\n"),
    "a flood of beats": lambda a: flood(a, "heartbeat", board=a.board, thread=0),
    "a flood of messages from before": lambda a: flood(a, "build_prepare_done"),
    "more worktrees than it has": lambda a: a.worker.say("worktree_created", thread=1),
    "a flood of ends": lambda a: flood(a, "build_done", exceptions=0),
    "a flood of trims": lambda a: flood(a, "trimmed", board="what", attempt=1, commits=[]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_machine_that_lies_is_set_aside_and_the_others_build_all(tmp_path, lie):
    run = Build(tmp_path / "out", "wren robin", liar=one(build=LIES[lie]), m2=one())
    run.wait_for_a_loss("m2")
    run.whole(run.run(), built=6)
    (failed,) = run.told("machine-failed")
    assert (failed.machine, failed.data["again_in"]) == ("liar", None)
    assert set(run.makers.values()) == {"m2"}
    assert not list(tmp_path.rglob("*evil*"))
    assert sorted(path.name for path in run.tree.own.iterdir()) == ["lock"]


@pytest.mark.parametrize(("resp", "fields"), [("heartbeat", {"thread": 0}), ("alive", {"more": 1})])
def test_signs_of_life_of_another_program_are_useless_only_where_many_come_at_once(
    tmp_path, monkeypatch, resp, fields
):
    for often in (True, False):
        monkeypatch.setattr(dispatchers, "SIGN", 1.0 if often else 0.0)
        other = one(build=lambda a: flood(a, resp, board=a.board, **fields) or {}, protocol=0)
        run = Build(tmp_path / str(often), "wren", other=[other, one()])
        run.policy = Policy(backup=False)
        outcome = run.run()
        assert run.texts("machine-failed") == ([f"it sent more than {USELESS} useless messages"] if often else [])
        if not often:
            run.whole(outcome, built=3)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (lambda w: w.say("build_started", num_threads=5), "5 slots where 1 were asked for"),
        (
            lambda w: [w.say("build_started", num_threads=1), *(w.say("worktree_created", thread=0) for _ in "12")],
            "more worktrees than the 1 it said",
        ),
        (lambda w: w.say("configure_done"), "unexpected answer to build_prepare: ConfigureDone"),
        (lambda w: w.write(b"BM> what?\n"), "not a message of the protocol"),
    ],
    ids=["more slots than asked for", "worktrees without end", "another message", "no message"],
)
def test_one_that_lies_before_it_is_ready_is_not_tried_again(tmp_path, said, words):
    run = Build(tmp_path, "wren", liar=one(on={"build_prepare": lambda worker, _command: said(worker)}), m2=one())
    run.wait_for_a_loss("m2")
    run.whole(run.run(), built=3)
    (failed,) = run.told("machine-failed")
    assert failed.data["again_in"] is None
    assert words in failed.text


def test_an_error_in_the_middle_of_a_build_gives_the_worker_up_and_it_may_come_back(tmp_path):
    run = Build(tmp_path, "wren", m1=[one(build=lambda a: a.worker.say("error", msg="no\x07")), one()])
    run.whole(run.run(), built=3)
    (failed,) = run.told("machine-failed")
    assert failed.text.startswith("its worker reported: no")
    assert failed.data["again_in"] == 2.0


def test_a_flood_of_results_that_came_already_is_a_lie(tmp_path):
    def build(asked):
        for _ in range(USELESS + 3):
            result(asked)

    run = Build(tmp_path, "wren robin", commits=COMMITS[:2], liar=one(build=build), m2=one())
    run.wait_for_a_loss("m2")
    run.whole(run.run(), built=4)
    (failed,) = run.told("machine-failed")
    assert failed.text == f"it sent more than {USELESS} useless messages"


def test_a_result_that_comes_twice_counts_once_and_nobody_is_to_blame(tmp_path):
    def build(asked):
        result(asked)
        return FAILS

    run = Build(tmp_path, "wren robin", m1=one(build=build))
    run.whole(run.run(), built=6)
    assert len(run.told("dropped")) >= 5  # of the last one nobody may hear any more
    assert not run.told("machine-failed")


def test_a_result_of_an_attempt_that_was_given_up_is_dropped(tmp_path):
    run = Build(tmp_path, "wren", m1=one(build=lambda asked: result(asked, attempt=7, return_code=1) or {}))
    run.whole(run.run(), built=3)
    assert {event.board for event in run.told("dropped")} == {"wren"}
    assert not run.told("machine-failed")


def test_what_a_machine_says_once_it_was_given_up_is_dropped(tmp_path):
    def build(asked):
        asked.worker.write(encode_response("error", msg="no") + encode_response(
            "build_result", board=asked.board, commit_upto=0, return_code=2, attempt=asked.attempt
        ))  # fmt: skip

    run = Build(tmp_path, "wren", commits=COMMITS[:1], m1=[one(build=build), one()])
    run.whole(run.run(), built=1)
    assert run.texts("dropped") == ["it came after its machine was given up"]


def test_a_board_that_is_done_may_be_named_a_few_times_more(tmp_path):
    def build(asked):
        asked.worker.say("heartbeat", board=asked.board, thread=0)
        asked.worker.say("trimmed", board="what", attempt=1, commits=[0])
        return {}

    run = Build(tmp_path, "wren", m1=one(build=build))
    run.whole(run.run(), built=3)
    assert len(run.told("started")) == 1
    assert not run.told("machine-failed")
    assert not run.told("trimmed")


# --- what belongs to a result -----------------------------------------------------------------------------------


def test_files_come_with_their_results_and_those_that_did_not_are_told(tmp_path):
    def build(asked):
        if asked.upto == 2:
            result(asked, files=[".config", "u-boot.cfg"], left_out={"u-boot.map": "no\x1broom"})
            return None
        return {"files": {".config": b"CONFIG_A=y\n", "u-boot.cfg": b"%d" % asked.upto}}

    run = Build(tmp_path, "wren", m1=one(build=build))
    run.whole(run.run(), built=3)
    places = [run.tree.place("wren", upto) for upto in range(3)]
    assert [(place / ".config").read_bytes() for place in places[:2]] == [b"CONFIG_A=y\n"] * 2
    assert (places[1] / "u-boot.cfg").read_bytes() == b"1"
    assert not (places[2] / ".config").exists()
    (note,) = run.texts("note")
    assert note.startswith("wren: 3 files left out: ")
    assert "u-boot.map: no\\x1broom" in note
    assert ".config: it did not come" in note
    assert list(run.tree.own.iterdir()) == [run.tree.own / "lock"]  # nothing is left of what came in


def test_a_file_from_a_worker_that_was_not_asked_for_files_is_a_lie(tmp_path):
    plain = [name for name in FEATURES if name != "files"]
    liar = FakeWorker(piece, threads=1, features=plain)
    run = Build(tmp_path, "wren robin", liar=liar, m2=one())
    run.wait_for_a_loss("m2")
    run.whole(run.run(), built=6)
    assert run.texts("machine-failed") == ["it sent a file that was not asked for"]


def test_a_result_may_be_that_of_the_commit_before(tmp_path):
    def build(asked):
        return result(asked, carried=asked.upto - 1) if asked.upto else {}

    run = Build(tmp_path, "wren", m1=one(build=build), declined=())
    run.whole(run.run(), built=3)
    assert [event.data["carried"] for event in run.told("result")] == ["", "a" * 40, "c" * 40]


def test_one_that_carries_without_being_asked_has_lied_and_its_result_is_not_built(tmp_path):
    run = Build(tmp_path, "wren", commits=COMMITS[:1], liar=one(build=lambda asked: result(asked, carried=0)))
    run.whole(run.run(), not_built=1)
    assert run.texts("not-built") == ["its result cannot be recorded: ValueError: a result carried forward from 0"]
    assert run.told("machine-failed") == []  # nothing is left to be done; nobody would try it again


def test_results_that_cannot_be_written_end_the_run(tmp_path):
    run = Build(tmp_path / "out", "wren robin", m1=one())

    def fail(*_arguments, **_options):
        raise OutputError("cannot write the results: no space")

    run.tree.record = fail
    with pytest.raises(OutputError, match="no space"):
        run.run()


# --- a machine's fault ------------------------------------------------------------------------------------------


def test_a_failure_without_a_word_has_the_machine_checked_and_the_board_built_elsewhere(tmp_path):
    run = Build(tmp_path, "wren robin", m1=one(build=lambda _asked: {"return_code": 2}), m2=one())
    run.ways["m1"].answers["check"] = {"well": False, "problems": ["no room", "gcc crashes"]}
    run.wait_for_a_loss("m2")
    run.ways["m1"]._next.append(one(on={"supervise": busy}))
    run.whole(run.run(), built=6)
    assert [(e.machine, e.text, e.data) for e in run.told("check")] == [
        ("m1", "no room; gcc crashes", {"well": False})
    ]
    assert run.texts("fault")[0] == "exit status 2 and not a word"
    assert "no room; gcc crashes" in run.texts("machine-failed", "m1")[0]
    assert set(run.makers.values()) == {"m2"}


def test_a_machine_that_cannot_be_asked_whether_it_is_well_is_not(tmp_path):
    run = Build(tmp_path, "wren", m1=[one(build=lambda _asked: {"return_code": 2}), one()])
    run.ways["m1"].answers["check"] = lambda _arguments: checks.pop()
    checks = [{}, OSError("gone")]
    run.whole(run.run(), built=3)
    assert run.texts("check") == ["its check failed: OSError: gone"]


def test_a_failure_that_comes_again_from_a_machine_that_is_well_is_the_boards(tmp_path):
    run = Build(tmp_path, "wren", commits=COMMITS[:1], m1=one(build=lambda _asked: {"return_code": 2}))
    run.whole(run.run(), failed=1)
    assert [event.data["well"] for event in run.told("check")] == [True, True]
    (failed,) = run.told("result")
    assert failed.data["after"] == ["m1: exit status 2 and not a word"]


def test_a_board_that_takes_too_long_is_built_elsewhere(tmp_path):
    hung = {"return_code": 124, "stderr": "make was ended: it took more than 5 s\n", "fault": "timeout"}
    first = threading.Event()

    def build(asked):
        first.set()
        return run.all_in.wait(HANG_LIMIT) and (hung if asked.board == "slow" else {})

    run = Build(tmp_path, "slow robin", m1=one(build=build), m2=one(on={"configure": later(first)}))
    run.whole(run.run(), built=6)
    (fault,) = run.told("fault")
    assert (fault.board, fault.data["kind"], fault.machine) == ("slow", "timeout", "m1")
    assert {run.makers["slow", commit] for commit in "ace"} == {"m2"}
    assert run.told("result", board="slow")[0].data["after"] == [f"m1: {fault.text}"]


def test_a_board_that_takes_too_long_everywhere_has_that_as_its_result(tmp_path):
    hung = {"return_code": 124, "stderr": "make was ended: it took more than 5 s\n", "fault": "timeout"}
    worker = one(build=lambda asked: hung if asked.board == "slow" else {})
    run = Build(tmp_path, "slow robin", commits=COMMITS[:1], m1=worker, m2=worker.again())
    run.whole(run.run(), built=1, failed=1)
    assert [(event.board, event.data["kind"]) for event in run.told("fault")] == [("slow", "timeout")]
    assert (run.tree.place("slow", 0) / "done").read_text() == "124\n"
    assert "it took more than 5 s" in (run.tree.place("slow", 0) / "err").read_text()


CRASH = {"return_code": 1, "stderr": "led.c: internal compiler error: Segmentation fault"}
SKEW = "make: Warning: File 'a.o' has modification time 9 s in the future\nmake: warning:  Clock skew detected.  "
SKEWED = {"stderr": SKEW + "Your build may be incomplete.\n"}
HEADER = "tools/x.c:3:10: fatal error: openssl/evp.h: No such file or directory"


@pytest.mark.parametrize(
    ("gives", "kind", "words"),
    [
        ({"return_code": 2, "stderr": HEADER}, "host", HEADER),
        (SKEWED, "clock", "Clock skew detected"),
        ({"return_code": 2, "stderr": "ld: a.o: No space left on device"}, "disk", "No space left on device"),
    ],
    ids=["a library that the host lacks", "a wrong clock", "a full disk"],
)
def test_what_is_one_machines_fault_is_built_on_another(tmp_path, gives, kind, words):
    first = threading.Event()

    def build(_asked):
        first.set()
        return run.all_in.wait(HANG_LIMIT) and gives

    run = Build(tmp_path, "wren robin", m1=one(build=build), m2=one(on={"configure": later(first)}))
    run.whole(run.run(), built=6)
    assert {(event.machine, event.data["kind"]) for event in run.told("fault")} == {("m1", kind)}
    assert all(words in text for text in run.texts("fault"))
    assert set(run.makers.values()) == {"m2"}
    assert any(words in event.data["after"][0] for event in run.told("result") if event.data["after"])
    assert not run.told("machine-failed")


def test_a_machine_whose_worker_says_time_and_again_that_it_could_not_is_given_up(tmp_path):
    first = threading.Event()

    def build(_asked):
        first.set()
        run.all_in.wait(HANG_LIMIT)
        return {"return_code": 1, "stderr": "cannot check out it", "fault": "checkout"}

    workers = [one(build=build), one(on={"supervise": busy})]
    run = Build(tmp_path, "wren robin", m1=workers, m2=one(on={"configure": later(first)}))
    run.whole(run.run(), built=6)
    assert {event.data["kind"] for event in run.told("fault")} == {"checkout"}
    assert run.texts("machine-failed", "m1")[0] == "its worker failed 3 times in a row: cannot check out it"
    assert set(run.makers.values()) == {"m2"}


def test_what_both_machines_say_of_a_board_is_the_boards(tmp_path):
    def build(asked):
        return run.all_in.wait(HANG_LIMIT) and (CRASH if asked.board == "crash" else {})

    run = Build(tmp_path, "crash robin", commits=COMMITS[:1], m1=one(build=build), m2=one(build=build))
    run.whole(run.run(), built=1, failed=1)
    (fault,), (failed,) = run.told("fault"), run.told("result", board="crash")
    assert fault.board == "crash"
    assert failed.machine != fault.machine
    assert not run.told("machine-failed")


def test_where_there_is_no_other_machine_a_wrong_clock_is_no_warning_of_the_boards(tmp_path):
    run = Build(tmp_path, "wren", commits=COMMITS[:1], m1=one(build=lambda _asked: SKEWED))
    run.whole(run.run(), built=1)
    assert len(run.told("fault")) == 1
    assert "Clock skew" in run.told("result")[0].data["after"][0]


def test_a_machine_that_runs_out_of_memory_gets_fewer_boards(tmp_path):
    """Two builds at once are too much for it; one is not."""
    two, at_once = threading.Barrier(2, timeout=HANG_LIMIT), []

    def build(asked):
        if len(at_once) < 2:
            at_once.append(asked.board)
            two.wait()
            return {"return_code": 2, "stderr": "cc1: out of memory allocating 65536 bytes"}
        return {}

    run = Build(tmp_path, "wren robin heron", commits=COMMITS[:1], m1=FakeWorker(build))
    run.whole(run.run(), built=3)
    assert [event.data["slots"] for event in run.told("slots")] == [1]
    assert {event.data["kind"] for event in run.told("fault")} == {"memory"}
    assert not run.told("machine-failed")


def test_a_worker_that_does_not_end_what_takes_too_long_is_given_up(tmp_path):
    run = Build(
        tmp_path, "wren", m1=[one(build=lambda _asked: None), one()],
        policy=Policy(timeout=50.0, slack=10.0, backup=False),
    )  # fmt: skip

    def tick():
        if run.told("started") and run.clock.now == 1000.0:
            run.clock.now += 61.0

    run.tick = tick
    run.whole(run.run(), built=3)
    assert len(run.told("machine-failed")) == 1
    (order,) = [command for command in run.ways["m1"].workers[0].commands if command["cmd"] == "build_board"]
    assert order["timeout"] == 50.0


def test_a_slot_that_is_lost_while_others_build_is_told(tmp_path):
    def prepare(worker, command):
        worker.answer({**command, "max_boards": 1})
        worker.say("worktree_failed", thread=1, msg="no room")

    worker = FakeWorker(on={"build_prepare": prepare})
    worker.say = lambda resp, say=worker.say, **fields: say(
        resp, **({"num_threads": 2} if resp == "build_started" else fields)
    )
    run = Build(tmp_path, "wren robin", m1=worker)
    run.whole(run.run(), built=6)
    assert [(e.text, e.data) for e in run.told("slots")] == [("a worktree cannot be made: no room", {"slots": 1})]


# --- other programs' workers, batches ---------------------------------------------------------------------------


def test_a_worker_without_extensions_builds_all_and_what_is_there_is_passed_over(tmp_path):
    run = Build(tmp_path, "wren robin", m1=FakeWorker(protocol=0, threads=1))
    run.jobs = [Job(Board("wren", "arm"), (1,)), Job(Board("robin", "arm"), (0, 1, 2))]
    run.whole(run.run(), built=4)
    assert not run.told("machine-failed")


def test_a_batch_is_split_beforehand_and_ends_once(tmp_path):
    run = Build(tmp_path, "a b c d", batch=True, m1=FakeWorker(), m2=FakeWorker())
    run.whole(run.run(), built=12)
    orders = [
        [board["board"] for board in command["boards"]]
        for way in run.ways.values() for command in way.workers[0].commands if command["cmd"] == "build_boards"
    ]  # fmt: skip
    assert sorted(itertools.chain(*orders)) == ["a", "b", "c", "d"]
    assert [len(order) for order in orders] == [2, 2]


def test_what_a_machine_of_a_batch_leaves_undone_goes_to_another(tmp_path):
    died = threading.Event()

    def build(asked):
        asked.worker.die(1)
        died.set()

    run = Build(tmp_path, "a b c d", batch=True, m1=[one(build=build), one(on={"supervise": busy})], m2=after(died))
    run.whole(run.run(), built=12)
    assert set(run.makers.values()) == {"m2"}


# --- the end ----------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_what_is_open_as_not_built(tmp_path):
    stopped = threading.Event()
    run = Build(
        tmp_path,
        "wren robin",
        m1=one(build=lambda asked: {} if asked.upto == 0 else stopped.wait(HANG_LIMIT) and {}),
    )
    listen = run.listen

    def interrupt(event):
        listen(event)
        if event.what == "result":
            run.dispatcher.inbox.interrupt("enough")
        elif event.what == "interrupted":
            stopped.set()

    run.listen = interrupt
    outcome = run.run()
    assert outcome.interrupted == "enough"
    run.whole(outcome, built=1, not_built=5)
    assert run.texts("interrupted") == ["enough"]
    assert "build_done" not in [command["cmd"] for command in run.ways["m1"].workers[0].commands]


def test_enough_failed_boards_end_what_is_open_as_not_built_and_no_worker_is_let_finish(tmp_path):
    stopped = threading.Event()

    def build(asked):
        if asked.upto == 0:
            return {"return_code": 2, "stderr": "a.c:1:1: error: no"}
        stopped.wait(HANG_LIMIT)
        return {}

    policy = Policy(backup=False, stop_at=1)
    run = Build(tmp_path, "wren robin", m1=one(build=build), policy=policy)
    listen = run.listen

    def release(event):
        listen(event)
        if event.what == "stopped":
            stopped.set()

    run.listen = release
    outcome = run.run()
    assert outcome.interrupted == ""
    run.whole(outcome, failed=1, not_built=5)
    assert run.texts("stopped") == ["1 board failed, as --stop-at 1 asks"]
    assert set(run.texts("not-built")) == {"1 board failed, as --stop-at 1 asks"}
    assert "build_done" not in [command["cmd"] for command in run.ways["m1"].workers[0].commands]


def test_where_boards_that_failed_before_are_enough_no_machine_is_brought_up(tree):
    class Untouched(Machines):
        def bring_up(self, machine, inbox):
            raise AssertionError(f"{machine} is not needed")

    job = Job(Board("one", "sandbox"), (0,))
    events = []
    scheduler = Scheduler([job], 1, ["m1"], policy=Policy(stop_at=1), failed=["other"])
    recorder = Recorder(tree, {("one", 0): job.board}, [COMMIT], {})
    machines = Untouched(Quiet("m1", None))
    outcome = Dispatcher(scheduler, machines, recorder, [COMMIT], events.append).run()
    assert outcome.counts == {Verdict.NOT_BUILT: 1}
    assert [event.what for event in events] == ["stopped", "not-built"]


class Stuck(FakeWorker):
    """A worker that does not notice the end of its stdin."""

    def hung_up(self):
        pass


def test_a_worker_that_does_not_end_when_all_is_done_is_cut_off_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatchers, "QUIT_TIMEOUT", 0.01)
    run = Build(tmp_path, "wren robin", slow=Stuck(threads=1, on={"quit": ignore}))
    run.whole(run.run(), built=6)
    assert run.texts("note") == ["its worker did not end in time; its connection is cut"]
    assert [event.machine for event in run.told("phase") if event.data["phase"] == "done"] == ["slow"]


def test_exceptions_of_a_worker_are_told(tmp_path):
    def prepare(worker, command):
        worker.answer(command)
        worker.say("build_done", exceptions=2)

    run = Build(tmp_path, "wren", m1=one(on={"build_prepare": prepare}))
    run.whole(run.run(), built=3)
    assert run.texts("note") == ["its worker reports 2 exceptions"]


def test_a_run_does_not_wait_for_a_machine_that_is_still_on_its_way(tmp_path):
    begun = threading.Event()

    def hang(_worker, _command):
        begun.set()

    run = Build(tmp_path, "wren", m1=after(begun), slow=one(on={"supervise": hang}))
    run.whole(run.run(), built=3)
    assert not run.told("machine-failed")
