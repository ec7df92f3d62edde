"""The dispatcher carries out the scheduler's actions on the machines, and passes their messages to the scheduler.

One thread, the caller's, owns the scheduler, the result tree and the listener. Machines are brought up, checked and
closed in other threads, and workers' messages are read in further threads; all these threads put messages into one
queue (`fabbuild.build.inbox`), which are handled one by one in `Dispatcher._handle`.

How a machine is lost: in every case `Dispatcher._lose` is called, whether the wire to the worker ended, the worker
reported its end or broke the protocol (all in `_worker_message`), or the machine did not come up (`BringUpFailed`).
`_lose` closes the session, so that no more of its messages are handled, and passes `Lost` to the scheduler. The
scheduler's actions say what becomes of the machine's boards (`Requeue`, or `EndUnbuilt` for those that end with it)
and when the machine is tried again (`Away`; then `BringUp`, which makes a new session). If the scheduler itself
gives a machine up, its action is to close the session (`CloseSession`), followed by the same actions.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET

from fabbuild.build.inbox import (
    BringUpFailed,
    BroughtUp,
    Inbox,
    Interrupt,
    Message,
    SelfChecked,
    Tell,
    WorkerMessage,
)
from fabbuild.build.recorder import Recorder
from fabbuild.errors import OutputError, WireClosed, WireError, WireSilent, describe_error
from fabbuild.event_types import (
    BoardAssigned,
    BoardFinished,
    BoardRequeued,
    BoardStarted,
    CommitsTrimmed,
    Event,
    FaultFound,
    MachineChecked,
    MachineFailed,
    MessageDropped,
    Note,
    PartFinished,
    Payload,
    PhaseEntered,
    ResultGivenUp,
    RunInterrupted,
    RunStoppedEarly,
    RunWaiting,
    SlotsReduced,
    WorktreeMade,
)
from fabbuild.events.progress import Listener
from fabbuild.machines.messages import (
    Alive,
    BuildDone,
    BuildFile,
    BuildResult,
    Error,
    Heartbeat,
    Response,
    Trimmed,
    WorktreeCreated,
    WorktreeFailed,
)
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import leave_all
from fabbuild.model import Commit, LossKind, Verdict
from fabbuild.results.incoming import BadFileError
from fabbuild.scheduler import events_actions
from fabbuild.scheduler.events_actions import (
    Action,
    Assign,
    Away,
    BatchEnded,
    BoardDone,
    BringUp,
    Check,
    CheckDone,
    CloseSession,
    CommitsLeftOff,
    Discard,
    Drop,
    EndUnbuilt,
    Faulted,
    FileIn,
    Hold,
    Joined,
    Lost,
    LowerSlots,
    PartDone,
    Record,
    Requeue,
    ResultIn,
    RunStopped,
    SlotLost,
    Started,
    StopAtReached,
    TimePassed,
    Trim,
)
from fabbuild.scheduler.fault_patterns import fault_of
from fabbuild.scheduler.scheduler import Scheduler
from fabbuild.text import count, cut, visible

#: Seconds between two looks at the clock when no message comes.
TICK = 0.5

#: Seconds for a worker to end after `quit`, when all is done.
QUIT_TIMEOUT = 15.0

#: Messages without use that a worker may send before it is given up: more would fill the journal.
USELESS = 1000

#: Seconds between two signs of life, by messages, of a worker that announces no protocol; any others are useless.
SIGN = 1.0


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run. ``counts`` has a key per `Verdict`; their sum is ``asked``, the requested results."""

    counts: Mapping[Verdict, int]
    asked: int
    interrupted: str = ""


@dataclass(frozen=True)
class Clock:
    """The time: ``wall`` gives seconds since the epoch, ``steady`` seconds on a clock that never goes back."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class MachineProvider(Protocol):
    """Brings machines up and has them check themselves; both are called in threads of their own."""

    @property
    def machines(self) -> Sequence[str]:
        """The names of all machines that are to be used."""

    def bring_up(self, machine: str, inbox: Inbox) -> None:
        """Bring a machine up from any state; put exactly one `BroughtUp` or `BringUpFailed` into the inbox."""

    def check(self, session: Session, archs: Iterable[str]) -> tuple[bool, str]:
        """Have a machine check itself, with these toolchains; return whether it is well, and its problems."""


class Dispatcher:
    """Builds the boards of one run on its machines."""

    def __init__(
        self,
        scheduler: Scheduler,
        machines: MachineProvider,
        recorder: Recorder,
        commits: Sequence[Commit],
        listener: Listener,
        tick: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare a run; nothing happens before `run`.

        Args:
            scheduler: decides what is built where, of the boards that are wanted.
            machines: brings up the machines that the scheduler knows.
            recorder: writes the results.
            commits: the commits that were sent to the workers, in order.
            listener: is called with every event, in the caller's thread.
            tick: is called about every half second, in the caller's thread.
            clock: the time.
        """
        self._scheduler = scheduler
        self._machines = machines
        self._recorder = recorder
        self._incoming = recorder.incoming
        self._commits = tuple(commits)
        self._listener = listener
        self._tick = tick
        self._clock = clock or Clock()
        #: The queue into which all other threads put their messages.
        self.inbox = Inbox(self._clock.wall)
        #: The sessions of the machines that are in, by name.
        self._sessions: dict[str, Session] = {}
        #: The slot that builds a board, by machine and board, once its worker reported it.
        self._slot_of: dict[tuple[str, str], int | None] = {}
        #: Results on hold, and the one that is decided on now, by machine, board and index of the commit.
        self._held: dict[tuple[str, str, int], tuple[Session, BuildResult]] = {}
        self._useless: Counter[str] = Counter()
        #: When each machine gave its last sign of life by a message, by machine.
        self._signs: dict[str, float] = {}
        #: The last report about each machine that is out of use.
        self._told_away: dict[str, tuple[str, bool]] = {}
        self._counts: Counter[Verdict] = Counter()
        self._interrupted = ""
        self._stopped = False
        self._waiting = False

    # --- the run ---

    def run(self, lost: Collection[BringUpFailed] = ()) -> RunOutcome:
        """Run until every requested result has ended; then let the workers end.

        `Inbox.interrupt` ends what is open as not built and is part of the outcome. After it, and after an early
        end (`fabbuild.scheduler.events_actions.StopAtReached`), workers still build: the caller ends them.

        Args:
            lost: machines that are known not to be usable now.

        Raises:
            OutputError: the results cannot be written.
        """
        known = {one.machine: one for one in lost}
        actions: list[Action] = []
        self._schedule(TimePassed())  # what is known before may end the run, and then no machine is needed
        for name in () if self._scheduler.finished else self._machines.machines:
            if name in known:
                actions += self._scheduler.handle(_lost(known[name]), self._clock.steady())
            else:
                self._bring_up(name)
        self._do(actions)
        while not self._scheduler.finished:
            self._handle(self._next())
            self._tell_waiting()
            self._tick()
        self._check_sum()
        if not (self._interrupted or self._stopped):
            self._dismiss()
        if self.inbox.interrupted and not self._interrupted:
            self._interrupted = self.inbox.interrupted
            self._emit(RunInterrupted(), text=self._interrupted)
        return RunOutcome(dict(self._counts), self._scheduler.asked, self._interrupted)

    def _next(self) -> Message | None:
        """Return the next message; None if there is none and the scheduler is due to handle the time.

        What was said before is heard before: a boss that was stopped for a while must not find everybody late.
        """
        return self.inbox.get() or self._wait()

    def _wait(self) -> Message | None:
        due = self._scheduler.next_due()
        left = TICK if due is None else min(TICK, max(due - self._clock.steady(), 0.0))
        return self.inbox.get(left)

    def _handle(self, message: Message | None) -> None:
        match message:
            case None:
                self._schedule(TimePassed())
            case BroughtUp():
                self._brought_up(message)
            case BringUpFailed():
                self._lose(_lost(message))
            case SelfChecked():
                self._self_checked(message)
            case WorkerMessage():
                self._worker_message(message)
            case Tell(event):
                self._listener(event)
            case Interrupt(reason):
                self._interrupted = reason
                self._emit(RunInterrupted(), text=reason)
                self._schedule(RunStopped(reason))

    def _schedule(self, event: events_actions.Event) -> None:
        """Pass an event to the scheduler, and carry out the resulting actions."""
        self._do(self._scheduler.handle(event, self._clock.steady()))

    def _dismiss(self) -> None:
        """Let every worker end by itself; cut the connections of workers that do not end in time."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.build_done()
        slow = leave_all(sessions, QUIT_TIMEOUT, lambda: bool(self.inbox.interrupted))
        for session in sessions:
            if session.name in slow:
                self._emit(Note(), session.name, text="its worker did not end in time; its connection is cut")
            self._emit(PhaseEntered("done"), session.name)

    def _check_sum(self) -> None:
        ended = sum(self._counts.values())
        if ended != self._scheduler.asked:
            raise AssertionError(f"{self._scheduler.asked} results were asked for and {ended} ended")

    def _tell_waiting(self) -> None:
        """Report once that no machine is in and the run waits for one to come back."""
        awaited = self._scheduler.awaited()
        if awaited is not None and not self._waiting:
            until, machines = awaited
            left = max(until - self._clock.steady(), 0.0)
            self._emit(RunWaiting(self._clock.wall() + left, tuple(machines)))
        self._waiting = awaited is not None

    @staticmethod
    def _in_background(name: str, work: Callable[..., object], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name=name, daemon=True).start()

    # --- machines come and go ---

    def _bring_up(self, machine: str) -> None:
        self._in_background(f"bring up {machine}", self._machines.bring_up, machine, self.inbox)

    def _brought_up(self, message: BroughtUp) -> None:
        session = message.session
        self._sessions[session.name] = session
        self._told_away.pop(session.name, None)
        # Of the whole machine, for that is what its load is a load of.
        threads = session.facts.threads if session.facts else session.slots
        self._emit(PhaseEntered("ready", session.slots, threads), session.name)
        # Called in the thread that reads from the worker.
        session.feed(lambda *said: self.inbox.put(WorkerMessage(session, *said)))
        share = max((session.machine.threads or threads) // max(session.slots, 1), 1)
        trims = session.features >= {"trim", "commits", "attempt"}
        self._schedule(
            Joined(
                session.name,
                message.archs,
                session.slots,
                message.capacity,
                share,
                trims,
                session.lacking,
                session.outputs,
            )
        )

    def _lose(self, lost: Lost) -> None:
        """Give a machine up, at least for now; see the module's text."""
        self._close_session(lost.machine)
        self._schedule(lost)

    def _distrust(self, machine: str, reason: str) -> None:
        self._lose(Lost(machine, reason, LossKind.UNTRUSTED))

    def _close_session(self, machine: str) -> None:
        """Ignore a machine's session from now on, and close it in a thread, because closing may take long."""
        self._useless.pop(machine, None)
        session = self._sessions.pop(machine, None)
        if session is not None:
            self._in_background(f"close {machine}", session.close)

    def _check(self, machine: str, archs: Iterable[str]) -> None:
        session = self._sessions.get(machine)
        if session is None:
            return

        def ask() -> None:
            try:
                well, problems = self._machines.check(session, archs)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the machine is not known to be well
                well, problems = False, f"its check failed: {describe_error(exc)}"
            self.inbox.put(SelfChecked(session, well, problems))

        self._in_background(f"check {machine}", ask)

    def _self_checked(self, message: SelfChecked) -> None:
        name = message.session.name
        if self._sessions.get(name) is message.session:
            self._emit(MachineChecked(message.well), name, text=message.problems)
            self._schedule(CheckDone(name, message.well, message.problems))

    # --- what workers say ---

    def _worker_message(self, message: WorkerMessage) -> None:
        """Handle a worker's message; any error in this is blamed on its machine alone."""
        session, what = message.session, message.what
        try:
            self._take(session, what)
        except OutputError:
            raise
        except Exception as exc:  # noqa: BLE001 - a worker may say anything
            self._distrust(session.name, f"its message cannot be used: {type(exc).__name__}: {exc}")
        finally:
            message.handled()

    def _take(self, session: Session, what: Response | WireError) -> None:
        name = session.name
        if self._sessions.get(name) is not session:
            if isinstance(what, BuildResult):
                self._emit(
                    MessageDropped(), name, board=what.board[:200], text="it came after its machine was given up"
                )
            return
        match what:
            case BuildResult():
                self._result(session, what)
            case BuildFile():
                self._file(session, what)
            case Heartbeat():
                self._heartbeat(session, what)
            case Trimmed():
                self._trimmed(session, what)
            case BuildDone():
                self._build_done(session, what)
            case WorktreeCreated() if self._scheduler.batch:
                self._emit(WorktreeMade(what.thread + 1, session.slots), name)
                self._count_useless(session, what)
            case WorktreeCreated() | WorktreeFailed() if "early" in session.features and not self._scheduler.batch:
                self._slot(session, what)
            case Error():
                self._lose(Lost(name, f"its worker reported: {what.msg}", LossKind.DIED))
            case WireError():
                words = session.last_words()
                reason = f"{what}" + (f"; its last words: {words}" if words else "")
                self._lose(Lost(name, reason, _how_lost(what)))
            case _:
                self._count_useless(session, what)

    def _slot(self, session: Session, what: WorktreeCreated | WorktreeFailed) -> None:
        """Count a slot that is ready, or failed, on a machine that builds in its other slots already."""
        done = session.opened()
        if isinstance(what, WorktreeCreated):
            self._emit(WorktreeMade(done, session.slots), session.name)
        else:
            self._schedule(SlotLost(session.name, f"a worktree cannot be made: {visible(what.msg)}"))

    def _count_useless(self, session: Session, what: Response | None) -> None:
        """Count a message without effect, and give up a machine whose worker sends too many of them."""
        if isinstance(what, (Heartbeat, Alive)) and session.plain:
            # Other programs give signs of life so; more than one a second would be too many.
            before = self._signs.get(session.name)
            self._signs[session.name] = now = self._clock.steady()
            if before is None or now - before >= SIGN:
                return
        self._useless[session.name] += 1
        if self._useless[session.name] > USELESS:
            self._distrust(session.name, f"it sent more than {USELESS} useless messages")

    def _heartbeat(self, session: Session, beat: Heartbeat) -> None:
        key = session.name, beat.board
        if beat.board not in self._scheduler.holds(session.name) or key in self._slot_of:
            self._count_useless(session, beat)
            return
        self._slot_of[key] = beat.thread
        self._emit(BoardStarted(), session.name, slot=beat.thread, board=beat.board, attempt=beat.attempt)
        self._schedule(Started(session.name, beat.board, beat.attempt))

    def _trimmed(self, session: Session, what: Trimmed) -> None:
        if what.board not in self._scheduler.holds(session.name):
            self._count_useless(session, what)  # it was through a moment ago
            return
        if what.commits:
            self._emit(CommitsTrimmed(len(what.commits)), session.name, board=what.board)
        self._schedule(CommitsLeftOff(session.name, what.board, what.attempt, what.commits))

    def _build_done(self, session: Session, done: BuildDone) -> None:
        if done.exceptions:
            self._emit(Note(), session.name, text=f"its worker reports {done.exceptions} exceptions")
        self._schedule(BatchEnded(session.name))
        self._count_useless(session, done)

    def _result(self, session: Session, message: BuildResult) -> None:
        fault = fault_of(message.return_code, message.stderr, message.stdout, message.fault)
        event = ResultIn(
            session.name,
            message.board,
            message.commit_upto,
            message.attempt,
            fault,
            carried=message.carried is not None,
            failed=message.return_code != 0,
        )
        key = session.name, message.board, message.commit_upto
        actions = self._scheduler.handle(event, self._clock.steady())
        # Kept while it is decided on; only what is asked for is kept longer.
        if any(isinstance(action, (Record, Hold)) and _key(action) == key for action in actions):
            self._held[key] = session, message
        self._do(actions)

    def _file(self, session: Session, piece: BuildFile) -> None:
        """Store a piece of a file, if the file belongs to a result that is awaited."""
        if "files" not in session.features:
            self._distrust(session.name, "it sent a file that was not asked for")
            return
        event = FileIn(session.name, piece.board, piece.commit_upto, piece.attempt)
        if drops := self._scheduler.handle(event, self._clock.steady()):
            self._do(drops)
            return
        try:
            self._incoming.take(session.name, piece)
        except BadFileError as exc:
            self._distrust(session.name, f"of {piece.board} it sent {exc}")

    # --- what the scheduler says ---

    def _do(self, actions: Sequence[Action]) -> None:
        trouble: tuple[str, str] | None = None
        for action in actions:
            if not isinstance(action, Record):
                self._do_one(action)  # also after trouble: what is assigned to others must reach them
                continue
            try:
                self._record(action)
            except OutputError:
                raise
            except Exception as exc:  # noqa: BLE001 - told below
                # The scheduler took it for ended, and so it is: without a result, and said so.
                words = f"{type(exc).__name__}: {exc}"
                trouble = action.machine, words
                self._not_built(EndUnbuilt(action.board, action.upto, f"its result cannot be recorded: {words}"))
        if trouble is not None:
            machine, why = trouble
            self._distrust(machine, f"its message cannot be used: {why}")

    def _do_one(self, action: Action) -> None:
        match action:
            case Assign():
                self._assign(action)
            case BoardDone():
                slot = self._order_ended(action)
                self._emit(BoardFinished(), action.machine, slot=slot, board=action.board)
            case PartDone():
                slot = self._order_ended(action)
                self._emit(PartFinished(), action.machine, slot=slot, board=action.board)
            case Requeue():
                self._order_ended(action)
                self._emit(BoardRequeued(), action.machine, board=action.board, text=action.why)
            case Trim(machine, board, attempt, commits):
                if session := self._sessions.get(machine):
                    session.trim_board(board, attempt, commits)
            case EndUnbuilt():
                self._not_built(action)
            case Drop():
                self._drop(action)
            case Discard():
                self._held.pop(_key(action), None)
            case Faulted():
                self._faulted(action)
            case Check(machine, archs):
                self._check(machine, archs)
            case CloseSession(machine):
                self._close_session(machine)
            case BringUp(machine):
                self._bring_up(machine)
            case Away():
                self._away(action)
            case LowerSlots(machine, slots, why):
                self._emit(SlotsReduced(slots), machine, text=why)
            case StopAtReached(failed, reason):
                self._stopped = True
                self._emit(RunStoppedEarly(failed), text=reason)

    def _assign(self, action: Assign) -> None:
        session = self._sessions.get(action.machine)
        if session is None:
            return
        for job in action.jobs:
            self._slot_of.pop((action.machine, job.board.target), None)
            self._emit(
                BoardAssigned(len(job.commits), backup=True if action.backup else UNSET),
                action.machine,
                board=job.board.target,
                attempt=action.attempt,
            )
        if "commits" not in session.features:
            # The worker builds all commits, and also sends results that exist already.
            self._useless[action.machine] -= len(self._commits) * len(action.jobs)
        if self._scheduler.batch:
            session.build_boards(action.jobs, [commit.hash for commit in self._commits], action.timeout)
        else:
            for job in action.jobs:
                session.build_board(job, action.attempt, action.timeout, action.jobs_limit)

    def _order_ended(self, action: BoardDone | PartDone | Requeue) -> int | None:
        """Forget the files and slot of an order; return the slot, if it was reported."""
        self._incoming.forget(action.machine, action.board)
        return self._slot_of.pop((action.machine, action.board), None)

    def _record(self, action: Record) -> None:
        session, message = self._held.pop(_key(action))
        files = self._incoming.of(action.machine, message)
        verdict, told = self._recorder.record(session, message, action.attempt, action.after, files)
        self._counts[verdict] += 1
        self._emit(
            told,
            action.machine,
            slot=self._slot_of.get((action.machine, action.board)),
            board=action.board,
            commit=self._commits[action.upto].hash,
            attempt=action.attempt,
        )
        if files.missing:
            shown = "; ".join(f"{visible(name)}: {visible(why)}" for name, why in files.missing.items())
            text = cut(f"{action.board}: {count(len(files.missing), 'file')} left out: {shown}", 400)
            self._emit(Note(), action.machine, board=action.board, text=text)

    def _not_built(self, action: EndUnbuilt) -> None:
        self._counts[Verdict.NOT_BUILT] += 1
        commit = self._commits[action.upto]
        self._emit(ResultGivenUp(commit.number), board=action.board, commit=commit.hash, text=action.reason)

    def _faulted(self, action: Faulted) -> None:
        commit, fault = self._commits[action.upto], action.fault
        self._emit(
            FaultFound(fault.kind.value, commit.number),
            action.machine,
            board=action.board,
            commit=commit.hash,
            text=fault.words,
        )

    def _drop(self, action: Drop) -> None:
        self._emit(MessageDropped(), action.machine, board=action.board[:200], text=action.why)
        session = self._sessions.get(action.machine)
        if action.suspect:
            self._distrust(action.machine, f"it sent a result that was not asked for ({action.board[:80]!r})")
        elif session is not None and not action.asked:
            self._count_useless(session, None)

    def _away(self, action: Away) -> None:
        # Where nothing is left to be done, nobody tries it again.
        again_in = None if self._scheduler.finished else action.again_in
        told = action.reason, action.aside or again_in is None
        if self._told_away.get(action.machine) == told:
            return  # it does not answer still; once is enough for a whole night
        self._told_away[action.machine] = told
        self._emit(
            MachineFailed(again_in, action.aside, action.awaited),
            action.machine,
            text=action.reason,
        )

    def _emit(
        self,
        payload: Payload,
        machine: str = "",
        *,
        slot: int | None = None,
        board: str = "",
        commit: str = "",
        attempt: int = 0,
        text: str = "",
    ) -> None:
        self._listener(Event(self._clock.wall(), payload, machine, slot, board, commit, attempt, text))


def _key(action: Record | Hold | Discard) -> tuple[str, str, int]:
    return action.machine, action.board, action.upto


def _lost(message: BringUpFailed) -> Lost:
    return Lost(message.machine, message.reason, message.how, message.lacking)


def _how_lost(end: WireError) -> LossKind:
    if isinstance(end, WireClosed):
        return LossKind.VANISHED if end.status is None else LossKind.DIED
    return LossKind.VANISHED if isinstance(end, WireSilent) else LossKind.UNTRUSTED
