"""One machine's session, step by step, on a fake transport: what it sends, and every way in which a step can fail."""

import threading

import pytest

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import (
    BusyError,
    ConnectError,
    MachineError,
    ProtocolViolationError,
    PushError,
    RefusedError,
    SetupError,
    WireClosed,
)
from fabbuild.machines.messages import BuildResult, QuitAck
from fabbuild.machines.session import Session, SessionOptions, StartOptions
from fabbuild.machines.transport.base import Completed
from fabbuild.machines.worker_link import WorkerLink
from fabbuild.machines.worker_zip import worker_program
from fabbuild.model import Board, Job
from fabbuild.protocol.wire import FEATURES
from fabbuild.testing import FakeSource, FakeTransport, FakeWorker, busy, die, ignore, later, refuse, write
from tests.support.census import HANG_LIMIT

TIP = "a" * 40
COMMITS = ["b" * 40, TIP]
JOB = Job(Board("wren", "arm"), (0, 1))


@pytest.fixture
def session():
    """Make a session with a worker that behaves like this; all are closed after the test."""
    made = []

    def make(worker=None, answers=None, **machine):
        transport = FakeTransport("m1", worker or FakeWorker(), answers=answers)
        made.append(Session(Machine("m1", **machine), transport, ToolchainSearch()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def up(session, slots=1):
    """Take it through all its steps."""
    session.init()
    session.push(FakeSource(), TIP)
    session.start(StartOptions())
    session.configure({}, {})
    session.prepare(COMMITS, slots, lambda _made, _slots: None)
    return session


#: Each step that asks the worker something: the command, its words, how to take it, and what comes before it.
STEPS = {
    "supervise": ("taking the lock", lambda s: s.init()),
    "start": ("the start of the worker", lambda s: s.start(StartOptions())),
    "configure": ("configure", lambda s: s.configure({}, {})),
    "build_prepare": ("build_prepare", lambda s: s.prepare(COMMITS, 1, lambda _made, _slots: None)),
}


def take_until(session, command):
    """Take all steps before this one."""
    for name, (_, step) in STEPS.items():
        if name == command:
            return
        step(session)


def commands(session):
    return session.transport.workers[-1].commands


def sent(session, name):
    """The one command of this name that the worker got, without its name."""
    (command,) = [command for command in commands(session) if command["cmd"] == name]
    return {field: value for field, value in command.items() if field != "cmd"}


# --- the way through --------------------------------------------------------------------------------------------


def test_all_steps_from_the_lock_to_a_result(session):
    one = session()
    up(one, slots=2)
    assert (one.slots, one.brought) == (2, TIP)
    heard = []
    done = threading.Event()

    def hear(what, handled):
        handled()
        if isinstance(what, BuildResult):
            heard.append((what.board, what.commit_upto, what.attempt))
            if what.commit_upto == 1:
                done.set()

    one.feed(hear)
    one.build_board(JOB, 3)
    assert done.wait(HANG_LIMIT)
    assert heard == [("wren", 0, 3), ("wren", 1, 3)]
    assert [command["cmd"] for command in commands(one)] == [*STEPS, "build_board"]
    sent_bytes, received = one.traffic
    assert sent_bytes > len(worker_program().data)
    assert received > 100


def test_a_later_step_does_those_that_lack_before_it_and_none_twice(session):
    one = session()
    one.start(StartOptions())
    first = one.held
    one.start(StartOptions())
    assert one.init() is first
    assert [command["cmd"] for command in commands(one)] == ["supervise", "start"]
    assert [words[:1] for words in one.transport.asked] == [[], ["supervise"]]


def test_what_a_worker_is_started_and_configured_with(session):
    one = session(env={"A": "b"}, worker_command='nice "$@"')
    one.init(SessionOptions(silence=0.0, declined=frozenset({"carry", "early"})))
    one.start(StartOptions(debug=True, threads=8, slots=3))
    assert sent(one, "start") == {
        "argv": None, "command": 'nice "$@"', "args": ["-D", "--threads", "8", "--max-boards", "3"], "env": {"A": "b"},
    }  # fmt: skip
    assert (one.ready.nthreads, one.ready.slots) == (8, 3)
    one.configure({"no_lto": True, "quick": False, "target": "u-boot"}, {"arm": "/gcc"})
    assert sent(one, "configure") == {
        "settings": {"no_lto": True, "target": "u-boot"},  # of our own only what is not the default
        "toolchains": {"arm": "/gcc"},
        "features": sorted(set(FEATURES) - {"carry", "early"}),
    }
    assert "--silence" not in sent(one, "supervise")["arguments"]


def test_a_command_that_does_not_place_its_arguments_has_those_of_buildman_behind_it(session):
    one = session(worker_command="python3 -m buildman --worker -g ${HOME}/$0")
    one.start(StartOptions(debug=True, threads=8, slots=3))
    started = sent(one, "start")
    assert started["command"] == 'python3 -m buildman --worker -g ${HOME}/$0 "$@"'
    assert started["args"] == ["-D", "--threads", "8"]


def test_an_order_has_as_much_as_the_worker_understands(session):
    plain = up(session(FakeWorker(protocol=0)))
    plain.build_board(JOB, 2, timeout=60.0, most_jobs=4)
    ours = session()
    ours.init(SessionOptions(declined=frozenset(), audit={"wren": [1, 7]}))
    up(ours).build_board(JOB, 2, timeout=60.0, most_jobs=4)
    for one in (plain, ours):
        one.build_done()
        one.leave(HANG_LIMIT)
    assert "features" not in sent(plain, "configure")
    assert sent(plain, "build_board") == {"board": "wren", "arch": "arm"}
    assert sent(ours, "build_board") == {
        "board": "wren", "arch": "arm", "commits": [0, 1], "timeout": 60.0, "audit": [1], "attempt": 2, "jobs": 4,
    }  # fmt: skip


def test_a_batch_and_a_trim_go_out_as_they_are_asked_for(session):
    one = session()
    one.start(StartOptions())
    one.configure({}, {})
    one.build_boards([JOB], COMMITS, timeout=5.0)
    one.trim_board("wren", 1, [1])
    one.leave(HANG_LIMIT)
    order = {"board": "wren", "arch": "arm", "commits": [0, 1], "timeout": 5.0}
    assert sent(one, "build_boards") == {"boards": [order], "commits": COMMITS}
    assert sent(one, "trim_board") == {"board": "wren", "attempt": 1, "commits": [1]}


# --- each step can fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (die(1, "it broke\n"), "its worker ended during {doing} (exit status 1); its last words: it broke"),
        (die(127), "its worker ended during {doing} (exit status 127): a program was not found there"),
        (die(), "its worker ended during {doing} (it was killed, perhaps by `inv kill`)"),
        (die(137), "its worker ended during {doing} (it was killed, perhaps by `inv kill`)"),
    ],
    ids=["with last words", "with a status that has a hint", "without a status", "killed"],
)
def test_one_that_dies_in_a_step_is_not_set_up_and_it_is_said_how(session, command, reaction, words):
    doing, step = STEPS[command]
    one = session(FakeWorker(on={command: reaction}))
    take_until(one, command)
    with pytest.raises(SetupError) as caught:
        step(one)
    assert str(caught.value) == words.format(doing=doing)
    assert caught.value.machine == "m1"


@pytest.mark.parametrize(
    ("command", "final", "kind", "words"),
    [
        ("supervise", False, SetupError, "no room"),
        ("supervise", True, RefusedError, "no room"),
        ("start", False, SetupError, "the start of the worker was refused: no room"),
        ("configure", False, RefusedError, "configure was refused: no room"),
        ("build_prepare", False, SetupError, "build_prepare was refused: no room"),
    ],
)
def test_one_that_refuses_a_step_is_quoted(session, command, final, kind, words):
    one = session(FakeWorker(on={command: refuse("no room", final=final)}))
    take_until(one, command)
    with pytest.raises(MachineError) as caught:
        STEPS[command][1](one)
    assert (type(caught.value), str(caught.value)) == (kind, words)


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'BM> {"resp": "trimmed", "board": "x"}\n', "unexpected answer to {doing}: Trimmed"),
        (b"BM> what?\n", "not a message of the protocol"),
    ],
    ids=["another answer", "no message"],
)
def test_one_that_says_what_no_worker_says_has_lied(session, command, said, words):
    doing, step = STEPS[command]
    one = session(FakeWorker(on={command: write(said)}))
    take_until(one, command)
    with pytest.raises(ProtocolViolationError) as caught:
        step(one)
    assert words.format(doing=doing) in str(caught.value)


@pytest.mark.parametrize("command", STEPS)
def test_one_that_says_nothing_for_too_long_is_given_up(session, monkeypatch, command):
    doing, step = STEPS[command]
    one = session(FakeWorker(on={command: ignore}))
    take_until(one, command)
    waited = []

    def receive(link, timeout, real=WorkerLink.receive):
        waited.append(timeout)
        return real(link, 0.001)

    monkeypatch.setattr(WorkerLink, "receive", receive)
    with pytest.raises(MachineError, match=f"no answer to {doing} within its time"):
        step(one)
    assert 50 < waited[-1] <= 60


def test_one_that_gave_signs_of_life_and_stops_is_given_up_and_not_asked_how_it_ended(session):
    one = session()
    one.init(SessionOptions(silence=1.0))
    one.start(StartOptions())
    one.transport.workers[0].silent = True
    waited = []
    one._link._channel.exit_status = waited.append
    with pytest.raises(SetupError, match=r"^no sign of life for 1 s"):
        one.configure({}, {})
    assert waited == [0.0]


def test_a_banner_before_and_between_the_answers_is_skipped(session):
    def banner(worker, command):
        worker.write(b"Welcome!\nBM>no\n")
        worker.answer(command)

    assert up(session(FakeWorker(on=dict.fromkeys(STEPS, banner)))).slots == 1


def another(*said):
    """A worker that announces no protocol, and says this before each answer."""

    def react(worker, command):
        for line in said:
            worker.write(line)
        if command["cmd"] == "start":
            worker.started = True
            worker.write(b'BM> {"resp": "ready"}\n')
        else:
            worker.answer(command)

    return FakeWorker(on=dict.fromkeys(("start", "configure", "build_prepare"), react), protocol=0)


def test_another_program_may_say_more_and_less_than_this_boss_knows(session):
    progress, beat = b'BM> {"resp":"progress","percent":10}\n', b'BM> {"resp": "heartbeat", "board": "x"}\n'
    one = session(another(progress, b'BM> {"resp":"alive"}\n'))
    one.init()
    with pytest.raises(ProtocolViolationError):  # from the supervisor, which is ours
        session(FakeWorker(on={"supervise": write(progress)})).init()
    ready = one.start(StartOptions(threads=3))
    assert (ready.nthreads, ready.slots, ready.protocol) == (3, 3, 0)
    one.transport.workers[0].on["build_prepare"] = lambda worker, _command: worker.write(
        beat + progress + b'BM> {"resp": "build_started"}\n' + beat
        + b'BM> {"resp": "worktree_created"}\n' * 2 + beat + b'BM> {"resp": "build_prepare_done"}\n'
    )  # fmt: skip
    one.configure({}, {})
    assert one.prepare(COMMITS, 2, lambda _made, _slots: None) == 2


def test_what_the_worker_writes_to_stderr_is_told(session):
    one = session()
    told = []
    came = threading.Event()
    one.init(SessionOptions(stderr=lambda line: (told.append(line), came.set())))
    one.transport.workers[0].write(b"W: hello\n", stderr=True)
    assert came.wait(HANG_LIMIT)
    assert told == ["W: hello"]
    assert one.last_words() == "W: hello"


# --- the lock ---------------------------------------------------------------------------------------------------


def test_one_that_another_boss_holds_is_busy_and_it_is_said_who_and_what_helps(session):
    with pytest.raises(BusyError) as caught:
        session(FakeWorker(on={"supervise": busy})).init()
    assert str(caught.value) == (
        "BUSY: held by ada from desk, pid 4711, since ?; --wait SECONDS waits for it, "
        "`inv kill --machines NAME` ends it"
    )
    assert caught.value.holder["who"] == "ada"


def test_a_lock_can_be_waited_for(session):
    def wait(worker, command):
        worker.say("waiting", holder={})
        worker.answer(command)

    one = session(FakeWorker(on={"supervise": wait}))
    waited = []
    assert one.init(wait=7.0, on_wait=waited.append).supervisor == 1
    assert waited == ["held by a process that did not say who it is"]
    arguments = sent(one, "supervise")["arguments"]
    assert arguments[arguments.index("--wait") + 1] == "7.0"


def test_a_machine_that_is_not_reached_is_not_asked_for_anything(session):
    one = session()
    one.transport.refusal = ConnectError("m1", "refused")
    for step in (one.probe, one.init, one.kill, one.usage, one.clean):
        with pytest.raises(ConnectError):
            step()
    assert one.transport.asked == []


def test_a_program_that_cannot_be_put_there_is_said_with_the_machines_words(session):
    one = session(answers={"place": Completed(96, b"", b"mkdir: no space left on device\n")})
    with pytest.raises(SetupError, match=r"sending the worker failed there \(exit status 96\): mkdir: no space"):
        one.init()
    one.transport.answers["place"] = Completed(97, b"", b"")
    with pytest.raises(SetupError, match=r"python3 was not found there; install python3"):
        one.init()


# --- the push ---------------------------------------------------------------------------------------------------


def test_a_push_takes_the_lock_and_counts_what_was_sent(session):
    one = session()
    source = FakeSource()
    one.push(source, TIP)
    assert source.pushed == [("m1", TIP)]
    assert one.brought == TIP


def test_a_push_that_fails_brings_nothing(session):
    def fail(machine, _tip):
        raise PushError(machine, "no space")

    one = session()
    with pytest.raises(PushError, match="no space"):
        one.push(FakeSource(on_push=fail), TIP)
    assert one.brought == ""


# --- settings and worktrees -------------------------------------------------------------------------------------


def test_a_worker_that_does_not_know_a_setting_that_matters_is_not_used(session):
    one = session(FakeWorker(features=["attempt"]))
    one.start(StartOptions())
    with pytest.raises(RefusedError, match="does not know fragments, keep-outputs, and would build without"):
        one.configure({"keep_outputs": True, "fragments": ["a.config"], "ccache": True}, {})
    one.configure({"ccache": True}, {})  # changes no result, and is left off
    assert sent(one, "configure") == {"settings": {}, "toolchains": {}, "features": ["attempt"]}


def test_a_setting_that_the_worker_refuses_is_said_in_its_words(session):
    one = session()
    one.start(StartOptions())
    with pytest.raises(RefusedError, match="configure was refused: unknown setting: nonsense; known are "):
        one.configure({"nonsense": True}, {})


def test_worktrees_are_told_one_by_one_and_later_ones_are_counted(session):
    one = session()
    told = []
    one.start(StartOptions())
    one.configure({}, {})
    assert one.prepare(COMMITS, 3, lambda *made: told.append(made)) == 3
    assert told == [(1, 3)]  # early: the others come while boards are fed
    assert [one.opened(), one.opened()] == [2, 3]
    with pytest.raises(ProtocolViolationError, match="more worktrees than the 3 it said"):
        one.opened()


def test_a_worktree_that_cannot_be_made_is_a_slot_less(session):
    def prepare(worker, _command):
        worker.say("build_started", num_threads=3)
        worker.say("worktree_failed", thread=0, msg="no room")
        worker.say("worktree_created", thread=1)
        worker.say("build_prepare_done")

    one = session(FakeWorker(on={"build_prepare": prepare}))
    one.start(StartOptions())
    one.configure({}, {})
    told, lacks = [], []
    assert one.prepare(COMMITS, 3, lambda *made: told.append(made), lacks.append) == 2
    assert (told, lacks) == ([(1, 3)], ["no room"])


@pytest.mark.parametrize("told", [None, [], ["rpi_4", "sandbox"]])
def test_the_output_directories_of_a_machine_are_those_that_its_worker_names(session, told):
    def prepare(worker, _command):
        worker.say("build_started", num_threads=1)
        worker.say("worktree_created", thread=0)
        worker.say("build_prepare_done", **({} if told is None else {"outputs": told}))

    one = session(FakeWorker(on={"build_prepare": prepare}))
    one.start(StartOptions())
    one.configure({}, {})
    one.prepare(COMMITS, 1, lambda _made, _slots: None)
    assert one.outputs == (None if told is None else frozenset(told))


@pytest.mark.parametrize(
    ("protocol", "threads", "ok"), [(1, 4, False), (0, 4, True), (0, 5, False)], ids=["ours", "another", "more"]
)
def test_more_slots_than_were_asked_for_are_a_lie_but_for_a_worker_that_takes_its_threads(
    session, protocol, threads, ok
):
    def prepare(worker, _command):
        worker.say("build_started", num_threads=threads)
        for thread in range(threads):
            worker.say("worktree_created", thread=thread)
        worker.say("build_prepare_done")

    one = session(FakeWorker(on={"build_prepare": prepare}, protocol=protocol, threads=4))
    one.start(StartOptions())
    one.configure({}, {})
    if ok:
        assert one.prepare(COMMITS, 2, lambda _made, _slots: None) == 2
        return
    with pytest.raises(ProtocolViolationError, match=f"{threads} slots where 2 were asked for"):
        one.prepare(COMMITS, 2, lambda _made, _slots: None)


def test_worktrees_without_end_are_a_lie(session):
    def prepare(worker, _command):
        worker.say("build_started", num_threads=1)
        for _ in range(3):
            worker.say("worktree_created", thread=0)

    one = session(FakeWorker(on={"build_prepare": prepare}))
    one.start(StartOptions())
    one.configure({}, {})
    with pytest.raises(ProtocolViolationError, match="more worktrees than the 1 it said"):
        one.prepare(COMMITS, 1, lambda _made, _slots: None)


class Stuck(FakeWorker):
    """A worker that does not notice the end of its stdin."""

    def hung_up(self):
        pass


# --- the end ----------------------------------------------------------------------------------------------------


def test_a_worker_is_asked_to_quit_and_waited_for(session):
    one = up(session())
    assert one.leave(HANG_LIMIT) is True
    assert commands(one)[-1]["cmd"] == "quit"
    assert one.closed


def test_a_lock_without_a_worker_is_given_back_without_a_word(session):
    one = session()
    one.init()
    assert one.leave(HANG_LIMIT) is True
    assert [command["cmd"] for command in commands(one)] == ["supervise"]


def test_one_that_was_never_begun_has_nothing_to_leave(session):
    one = session()
    assert one.leave(0.0) is True
    assert one.transport.asked == []


def test_a_worker_that_does_not_end_is_cut_off(session):
    one = up(session(Stuck(on={"quit": ignore})))
    assert one.leave(0.01) is False
    assert one.closed


def test_what_comes_after_it_was_asked_to_quit_goes_to_nobody(session):
    go = threading.Event()
    one = up(session(Stuck(on={"quit": later(go)})))
    heard = []
    one.feed(lambda what, handled: (heard.append(what), handled()))
    one.ask_to_quit()
    one.transport.workers[0].say("heartbeat", board="wren", thread=0)
    go.set()
    assert one.wait_ended(HANG_LIMIT)
    assert not [what for what in heard if not isinstance(what, (QuitAck, WireClosed))]


def test_a_closed_session_takes_no_further_step_and_a_renewed_one_begins_anew(session):
    one = session()
    facts = one.probe(identify=True)
    up(one)
    again = one.renewed()
    assert one.closed
    one.held, one.ready = None, None
    for _, step in STEPS.values():
        with pytest.raises(MachineError, match="its session is closed already"):
            step(one)
    assert (again.held, again.facts, again.identified) == (None, None, False)
    spared = one.renewed(facts)
    assert (spared.held, spared.facts, spared.identified) == (None, facts, True)
    up(again)
    assert len(one.transport.workers) == 2
    again.close()
