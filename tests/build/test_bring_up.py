"""The machines of one run, brought up on fake transports: what is told, and what becomes of each."""

import json
import threading
from concurrent.futures import Future

import pytest

from fabbuild.build.bring_up import PUSHES, RunMachines, loss_by
from fabbuild.build.inbox import BringUpFailed, BroughtUp, Inbox, Tell
from fabbuild.config.machines import Fit, Machine, ToolchainSearch
from fabbuild.config.settings import BuildSettings
from fabbuild.errors import (
    BusyError,
    ConnectError,
    HostKeyError,
    MachineError,
    ProtocolViolationError,
    PushError,
    RefusedError,
    SetupError,
)
from fabbuild.machines.session import Session
from fabbuild.model import Commit, LossKind
from fabbuild.testing import ANSWERS, FakeSource, FakeTransport, FakeWorker, busy, die, refuse, write
from tests.support.census import HANG_LIMIT

COMMITS = (Commit("a" * 40, "1" * 40, "one", 1), Commit("b" * 40, "2" * 40, "two", 2))


TOOLS = ANSWERS["facts"][1]["toolchains"]


class Report(Inbox):
    """What a dispatcher is told, by kind."""

    def __init__(self):
        super().__init__()
        self.joined, self.lost, self.idle, self.events = [], [], [], []
        self.came = threading.Event()

    def put(self, message):
        match message:
            case BroughtUp(session, archs, capacity):
                self.joined.append((session.name, set(archs), capacity))
            case BringUpFailed(machine, _, LossKind.UNNEEDED):
                self.idle.append(machine)
            case BringUpFailed(machine, reason, how):
                self.lost.append((machine, reason, how))
            case Tell(event):
                self.events.append((event.what, event.machine, event.text, event.data))
                self.came.set()

    @property
    def phases(self):
        return [data["phase"] for what, _, _, data in self.events if what == "phase"]

    @property
    def notes(self):
        return [text for what, _, text, _ in self.events if what == "note"]


class Run:
    """The machines of a run."""

    def __init__(self, *workers, answers=None, names=("m1",), source=None, wanted=("arm",), fit=None, **settings):
        self.transports = {name: FakeTransport(name, *workers, answers=answers) for name in names}
        machine = settings.pop("machine", {})
        self.sessions = {
            name: Session(Machine(name, **machine), way, ToolchainSearch()) for name, way in self.transports.items()
        }
        self.source = source or FakeSource()
        self.settings = BuildSettings(**settings)
        self.machines = RunMachines(list(self.sessions.values()), self.source, COMMITS, self.settings, fit or Fit())
        self.wanted = wanted
        self.report = Report()

    def look(self, *names):
        """Probe these machines and count them among those that the run begins with, as `fabbuild.build.run_plan` does."""
        for name in names or self.sessions:
            self.sessions[name].probe()
            self.machines.use(self.sessions[name])
        return self

    def up(self, name="m1"):
        self.machines.need(self.wanted)
        self.machines.bring_up(name, self.report)
        return self.report

    def commands(self, name="m1", connection=-1):
        return self.transports[name].workers[connection].commands

    def sent(self, cmd, name="m1"):
        return [command for command in self.commands(name) if command["cmd"] == cmd]


@pytest.fixture
def run():
    made = []

    def make(*workers, **how):
        made.append(Run(*workers, **how))
        return made[-1]

    yield make
    for one in made:
        one.machines.leave(0.0)


# --- the way up -------------------------------------------------------------------------------------------------


def test_a_machine_goes_from_its_lock_to_its_worktrees_and_joins(run):
    one = run(FakeWorker(features=["attempt"]), wanted=("arm", "arm", "sandbox")).look()
    report = one.up()
    assert report.phases == ["init", "push", "start", "configure", "prepare"]
    assert report.joined == [("m1", {"arm", "sandbox"}, 2000.0)]
    assert (report.lost, report.idle, report.notes) == ([], [], [])
    made = [data for what, _, _, data in report.events if what == "worktree"]
    assert made == [{"done": 1, "slots": 2}, {"done": 2, "slots": 2}]
    assert one.source.pushed == [("m1", "b" * 40)]  # the tip, which has all
    assert one.sent("configure")[0]["toolchains"] == {arch: tool["gcc"] for arch, tool in TOOLS.items()}
    assert one.sent("build_prepare")[0]["commits"] == ["a" * 40, "b" * 40]


@pytest.mark.parametrize("wanted", [("arm", "sandbox"), ("sandbox",), ("arm",)])
def test_a_compiler_that_died_since_the_probe_costs_its_architecture_and_not_the_machine(run, wanted):
    def refuse_arm(worker, command):
        worker.agreed = frozenset(command["features"])
        worker.say("configure_done", refused={"arm": "/gcc: it\x07 broke", "made up": "x"})

    report = run(FakeWorker(on={"configure": refuse_arm}), wanted=wanted).look().up()
    words = "builds no board of arm: its compiler does not work: /gcc: it\\x07 broke"
    assert report.notes == ([words] if "arm" in wanted else [])
    if wanted == ("arm",):
        reason = "none of the compilers that are needed works here"
        assert report.lost == [("m1", reason, LossKind.REFUSED)]
    else:
        assert report.joined == [("m1", {"sandbox"}, 2000.0)]


@pytest.mark.parametrize(
    ("machine", "wanted", "slots"),
    [
        ({}, ("arm",) * 9, 2),
        ({}, ("arm",), 1),
        ({}, ("arm", "riscv64", "riscv64"), 1),
        ({"threads": 8}, ("arm",) * 9, 8),
        ({"threads": 8, "max_boards": 3}, ("arm",) * 9, 3),
    ],
    ids=[
        "as many as threads",
        "no more than boards",
        "than boards it can build",
        "threads by name",
        "slots by name",
    ],
)
def test_a_machine_gets_so_many_slots(run, machine, wanted, slots):
    one = run(machine=machine, wanted=wanted).look()
    one.up()
    assert one.sessions["m1"].slots == slots
    assert one.sent("build_prepare")[0]["max_boards"] == slots


@pytest.mark.parametrize(
    ("machine", "option", "sent"),
    [
        ("", "", {}),
        ("", "20G", {"outputs": "20G"}),
        ("1T", "20G", {"outputs": "1T"}),
        ("0", "20G", {"outputs": "0"}),
    ],
    ids=["the worker decides", "as the build says", "its own wins", "also where it keeps none"],
)
def test_a_machine_is_told_what_outputs_may_take_on_its_disk(run, machine, option, sent):
    one = run(FakeWorker(features=["outputs"]), machine={"outputs": machine}, outputs=option).look()
    one.up()
    told = one.sent("configure")[0]["settings"]
    assert {name: value for name, value in told.items() if name == "outputs"} == sent


def test_a_worker_that_keeps_no_outputs_is_used_without_a_word_of_them(run):
    one = run(FakeWorker(features=["attempt"]), machine={"outputs": "1T"}).look()
    assert one.up().joined
    assert "outputs" not in one.sent("configure")[0]["settings"]


def test_its_capacity_is_that_of_the_threads_it_may_use(run):
    one = run(machine={"threads": 1}, answers={"facts": {"threads": 4, "bogomips": 500.0}}).look()
    assert one.up().joined[0][2] == 500.0


def test_in_a_batch_no_worktree_is_made_beforehand(run):
    one = run(batch=True, machine={"max_boards": 3}).look()
    report = one.up()
    assert report.phases == ["init", "push", "start", "configure"]
    assert one.sessions["m1"].slots == 3
    assert one.sent("build_prepare") == []


def test_in_a_batch_another_programs_worker_has_slots_of_its_own_and_that_is_said(run):
    one = run(FakeWorker(protocol=0), batch=True, machine={"max_boards": 3}).look()
    report = one.up()
    assert one.sessions["m1"].slots == 2
    assert report.notes == ["max_boards has no effect here with --batch: its worker is another program"]


def test_a_slot_that_cannot_be_made_is_told(run):
    def prepare(worker, _command):
        worker.say("build_started", num_threads=2)
        worker.say("worktree_failed", thread=0, msg="no\x1broom")
        worker.say("worktree_created", thread=1)
        worker.say("build_prepare_done")

    one = run(FakeWorker(on={"build_prepare": prepare}), wanted=("arm", "arm")).look()
    report = one.up()
    assert report.notes == ["a slot less: a worktree cannot be made: no\\x1broom"]
    assert len(report.joined) == 1


# --- machines that are not needed or not fit ----------------------------------------------------------------------


def test_one_that_was_looked_at_and_has_no_toolchain_is_let_go_without_a_word(run):
    one = run(wanted=("riscv64",)).look()
    assert one.machines.need(["riscv64"]) == ["m1"]  # it is said for all of them at once
    report = one.up()
    assert (report.idle, report.joined, report.lost, report.events) == (["m1"], [], [], [])
    assert one.sessions["m1"].closed
    assert one.source.pushed == []


def test_one_that_comes_late_and_has_no_toolchain_says_so(run):
    one = run(wanted=("riscv64", "m68k"))
    report = one.up()
    assert report.phases == ["probe"]
    assert report.notes == ["not needed: it has no toolchain for m68k, riscv64"]
    assert report.idle == ["m1"]


def test_every_machine_builds_sandbox(run):
    one = run(wanted=("sandbox",), answers={"facts": {"toolchains": {"arm": TOOLS["arm"]}}}).look()
    assert one.up().joined[0][1] == {"arm", "sandbox"}


def test_one_that_comes_late_must_be_fit(run):
    report = run(answers={"facts": {"disk_mb": 5, "make": ""}}).up()
    ((name, reason, how),) = report.lost
    assert (name, how) == ("m1", LossKind.FAILED)
    assert reason.startswith("not fit: make was not found there; 5 MB of disk free at ")
    assert "fit.min_disk_mb is 1000" in reason


def test_a_machine_may_have_a_fitness_of_its_own(run):
    assert run(answers={"facts": {"disk_mb": 5}}, machine={"fit": Fit(min_disk_mb=4)}).up().joined


def test_a_probe_that_is_under_way_is_waited_for_and_not_begun_anew(run):
    one = run()
    late: Future = Future()
    one.machines.await_probes({"m1": late})
    thread = threading.Thread(target=one.up)
    thread.start()
    assert one.report.came.wait(HANG_LIMIT)
    assert one.report.joined == []
    late.set_result(one.sessions["m1"].probe())
    thread.join(HANG_LIMIT)
    assert one.report.phases[:2] == ["probe", "init"]
    assert len(one.report.joined) == 1
    assert [words[:1] for words in one.transports["m1"].asked].count(["facts"]) == 1


def test_a_probe_that_fails_late_is_that_machines_alone(run):
    one = run()
    late: Future = Future()
    late.set_exception(ConnectError("m1", "timed out"))
    one.machines.await_probes({"m1": late})
    assert one.up().lost == [("m1", "timed out", LossKind.FAILED)]


# --- what differs -------------------------------------------------------------------------------------------------


OTHER = {"facts": {"toolchains": {"arm": {**TOOLS["arm"], "version": "gcc 13"}}}}


def test_one_that_comes_late_with_other_tools_is_told_of(run):
    one = run(names=("m1", "m2"))
    one.transports["m2"].answers = OTHER
    one.look("m1")
    assert one.machines.compare(["arm"]) == []
    report = one.up("m2")
    (note,) = [event for event in report.events if event[0] == "note"]
    assert note[3]["differs"]
    assert sorted(map(list, note[3]["versions"].values())) == [["m1"], ["m2"]]
    assert len(report.joined) == 1


def test_with_strict_toolchains_it_is_refused(run):
    one = run(names=("m1", "m2"), strict_toolchains=True)
    one.transports["m2"].answers = OTHER
    one.look("m1")
    one.machines.compare(["arm"])
    ((name, reason, how),) = one.up("m2").lost
    assert (name, how) == ("m2", LossKind.REFUSED)
    assert reason.startswith("its tools are not those of the others (--strict-toolchains): ")
    assert one.sessions["m2"].closed


def test_a_difference_that_was_told_before_is_not_told_again(run):
    one = run(names=("m1", "m2"))
    one.transports["m2"].answers = OTHER
    one.look("m1", "m2")
    assert len(one.machines.compare(["arm"])) == 1
    one.sessions["m2"].close()
    assert one.up("m2").notes == []


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reaction", "words", "how"),
    [
        ("supervise", busy, "BUSY: held by ada from desk", LossKind.FAILED),
        ("supervise", refuse("killed", final=True), "killed", LossKind.REFUSED),
        ("supervise", die(), "its worker ended during taking the lock", LossKind.FAILED),
        (
            "start",
            refuse("no such program"),
            "the start of the worker was refused: no such program",
            LossKind.FAILED,
        ),
        ("start", write(b"BM> ?\n"), "not a message of the protocol", LossKind.UNTRUSTED),
        ("configure", refuse("no"), "configure was refused: no", LossKind.REFUSED),
        (
            "build_prepare",
            write(b'BM> {"resp": "ready", "nthreads": 1, "slots": 1}\n'),
            "unexpected",
            LossKind.UNTRUSTED,
        ),
    ],
)
def test_a_machine_that_fails_in_a_step_is_lost_in_this_way_and_closed(run, command, reaction, words, how):
    one = run(FakeWorker(on={command: reaction})).look()
    report = one.up()
    ((name, reason, lost),) = report.lost
    assert (name, lost) == ("m1", how)
    assert words in reason
    assert report.joined == []
    assert one.sessions["m1"].closed
    assert len(one.transports["m1"].workers) == 1


def test_a_push_that_fails_is_that_machines_alone(run):
    def fail(machine, _tip):
        raise PushError(machine, "remote: no space left")

    one = run(source=FakeSource(on_push=fail)).look()
    assert one.up().lost == [("m1", "remote: no space left", LossKind.FAILED)]


def test_what_nobody_thought_of_is_that_machines_alone_and_named(run):
    def fail(_machine, _tip):
        raise ZeroDivisionError("oh")

    assert run(source=FakeSource(on_push=fail)).look().up().lost == [
        ("m1", "ZeroDivisionError: oh", LossKind.FAILED)
    ]


def test_a_worker_that_cannot_prepare_is_begun_anew_once(run):
    one = run(FakeWorker(on={"build_prepare": refuse("none of the commits is here")}), FakeWorker()).look()
    report = one.up()
    assert report.notes == ["begun anew: build_prepare was refused: none of the commits is here"]
    assert len(report.joined) == 1
    assert report.phases == ["init", "push", "start", "configure", "prepare"] * 2
    assert one.source.pushed == [("m1", "b" * 40)] * 2
    arguments = one.commands()[0]["arguments"]
    assert arguments[arguments.index("--wait") + 1] == "20.0"  # the session before may be ending still
    assert "--wait" not in one.commands(connection=0)[0]["arguments"]


def test_one_that_cannot_prepare_again_is_told_what_to_do(run):
    report = run(FakeWorker(on={"build_prepare": refuse("no")})).look().up()
    ((_, reason, how),) = report.lost
    assert reason == "build_prepare was refused: no; `inv clean --machines m1` removes what is there"
    assert how is LossKind.FAILED
    assert len(report.notes) == 1


def test_one_that_dies_in_its_worktrees_is_begun_anew_too(run):
    report = run(FakeWorker(on={"build_prepare": die(1, "oops\n")}), FakeWorker()).look().up()
    assert report.notes == [
        "begun anew: its worker ended during build_prepare (exit status 1); its last words: oops"
    ]
    assert len(report.joined) == 1


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (ConnectError("m", ""), LossKind.FAILED),
        (HostKeyError("m", ""), LossKind.REFUSED),
        (SetupError("m", ""), LossKind.FAILED),
        (BusyError("m", ""), LossKind.FAILED),
        (PushError("m", ""), LossKind.FAILED),
        (RefusedError("m", ""), LossKind.REFUSED),
        (ProtocolViolationError("m", ""), LossKind.UNTRUSTED),
        (MachineError("m", ""), LossKind.FAILED),
        (OSError(), LossKind.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_went_wrong_says_whether_it_may_come_back(error, how):
    assert loss_by(error) is how


# --- coming back --------------------------------------------------------------------------------------------------


def test_one_that_comes_back_gets_a_new_session_shows_that_it_is_well_and_waits_for_its_own_lock(run):
    one = run().look()
    one.up()
    one.sessions["m1"].close()
    report = one.up()
    assert report.phases[5:] == ["probe", "init", "push", "start", "configure", "prepare"]
    assert len(report.joined) == 2
    asked = [words[0] for words in one.transports["m1"].asked if words]
    assert asked == ["facts", "supervise", "facts", "check", "supervise"]
    assert "20.0" in one.commands()[0]["arguments"]


def test_one_that_comes_back_and_is_not_well_stays_out(run):
    one = run().look()
    one.up()
    one.sessions["m1"].close()
    one.transports["m1"].answers["check"] = {"well": False, "problems": ["no room", "gcc crashes"]}
    assert one.up().lost == [("m1", "not fit: no room; gcc crashes", LossKind.FAILED)]


def test_the_load_of_one_that_comes_back_may_be_its_own(run):
    one = run().look()
    one.up()
    one.sessions["m1"].close()
    one.transports["m1"].answers["facts"] = {"load_avg": 99.0}
    assert one.up().lost == []


def test_a_check_asks_for_what_is_wanted_of_the_machine(run):
    one = run(fit=Fit(min_disk_mb=7, min_mem_mb=8)).look()
    one.up()
    one.transports["m1"].answers["check"] = {"well": False, "problems": ["a", "b"]}
    assert one.machines.check(one.sessions["m1"], ["arm", "riscv64"]) == (False, "a; b")
    request = json.loads(one.transports["m1"].asked[-1][2])
    assert request["toolchains"] == {"arm": TOOLS["arm"]["gcc"]}
    assert (request["commit"], request["min_disk_mb"], request["min_mem_mb"]) == ("b" * 40, 7, 8)


# --- the end of the run -------------------------------------------------------------------------------------------


def test_a_machine_that_is_not_up_when_the_run_ends_does_not_join(run):
    one = run().look()
    one.machines.leave(0.0)
    assert one.up().lost == [("m1", "the run ended before it was ready", LossKind.FAILED)]
    assert one.transports["m1"].workers == []


def test_a_run_that_ends_in_the_middle_of_a_step_ends_it(run):
    pushing, go = threading.Event(), threading.Event()

    def push(_machine, _tip):
        pushing.set()
        go.wait(HANG_LIMIT)

    one = run(source=FakeSource(on_push=push)).look()
    thread = threading.Thread(target=one.up)
    thread.start()
    assert pushing.wait(HANG_LIMIT)
    one.machines.leave(0.0)
    go.set()
    thread.join(HANG_LIMIT)
    ((_, reason, _),) = one.report.lost
    assert reason == "the run ended before it was ready"
    assert one.report.phases == ["init", "push"]


def test_a_step_that_waits_for_an_answer_is_freed_by_the_end(run):
    came = threading.Event()

    def hang(_worker, _command):
        came.set()

    one = run(FakeWorker(on={"configure": hang})).look()
    thread = threading.Thread(target=one.up)
    thread.start()
    assert came.wait(HANG_LIMIT)
    one.machines.leave(0.0)
    thread.join(HANG_LIMIT)
    assert not thread.is_alive()
    assert one.report.joined == []


def test_a_lock_that_is_waited_for_is_told(run):
    def wait(worker, command):
        worker.say("waiting", holder={"who": "ada", "host": "desk", "pid": 3})
        worker.answer(command)

    one = run(FakeWorker(on={"supervise": wait}), wait=9.0).look()
    report = one.up()
    assert report.notes == ["waits: held by ada from desk, pid 3, since ?"]
    assert "9.0" in one.commands()[0]["arguments"]


def test_the_traffic_of_all_is_counted(run):
    one = run(names=("m1", "m2")).look("m1")
    traffic = one.machines.traffic
    assert traffic["m2"] == (0, 0)
    assert min(traffic["m1"]) > 100


def test_all_workers_are_asked_to_quit_at_the_end(run):
    one = run(names=("m1", "m2"), wanted=("arm", "arm")).look()
    for name in ("m1", "m2"):
        one.up(name)
    one.machines.leave(HANG_LIMIT)
    assert [one.commands(name)[-1]["cmd"] for name in ("m1", "m2")] == ["quit", "quit"]


def test_pushes_are_only_so_many_at_a_time(run):
    go = threading.Event()
    at_once, most = [], []

    class Gate(threading.BoundedSemaphore):
        asked = 0

        def __enter__(self):
            Gate.asked += 1
            if Gate.asked == 2:
                go.set()  # the other push may end, now that this one waits for it
            return super().__enter__()

    def push(machine, _tip):
        at_once.append(machine)
        most.append(len(at_once))
        if len(at_once) == 2:
            go.set()
        go.wait(HANG_LIMIT)
        at_once.remove(machine)

    one = run(names=("m1", "m2"), source=FakeSource(on_push=push), wanted=("arm", "arm")).look()
    assert one.machines._pushes._value == PUSHES
    one.machines._pushes = Gate(1)
    threads = [threading.Thread(target=one.up, args=(name,)) for name in ("m1", "m2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_LIMIT)
    assert most == [1, 1]
    assert len(one.report.joined) == 2
