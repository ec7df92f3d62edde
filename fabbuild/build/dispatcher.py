"""The driver: moves events from sessions to the schedule and carries its actions out.

One thread, the caller's, owns the schedule, the result tree and the listeners. Machines are brought up, checked and
let go in other threads, and each joins as soon as it is ready; what they have to say comes through one queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fabbuild.build.recorder import Recorder
from fabbuild.errors import OutputError, WireClosed, WireError, WireSilent, words_of
from fabbuild.machines.messages import (
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
from fabbuild.machines.session_pool import leave_all
from fabbuild.model import Commit, Event, Job, Loss, Takes, Verdict
from fabbuild.results.incoming import BadFileError, Incoming, names_for
from fabbuild.results.reuse.manager import Reuse
from fabbuild.results.tree import ResultTree
from fabbuild.scheduler import events_actions, scheduler
from fabbuild.scheduler.fault_patterns import fault_of
from fabbuild.text import count, cut, visible

Listener = Callable[[Event], None]

#: Seconds between two looks at the clock when nothing comes.
TICK = 0.5

#: Seconds for a worker to end after `quit`, when all is done.
QUIT_TIMEOUT = 15.0

#: Messages without use that a worker may send before it counts as one that floods us.
USELESS = 1000


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``counts`` has a key per `Verdict`; their sum is what was asked for."""

    counts: Mapping[Verdict, int]
    asked: int
    interrupted: str = ""


class Crew(Protocol):
    """Who does with machines what may take long; called in threads of its own."""

    @property
    def machines(self) -> Sequence[str]:
        """The names of all machines that are to be used."""

    def bring_up(self, machine: str, report: Dispatcher) -> None:
        """Take a machine from wherever it is to its worktrees; ends in `Dispatcher.join` or `Dispatcher.failed`."""

    def check(self, session: Session, archs: Iterable[str]) -> tuple[bool, str]:
        """Have a machine check itself, with these toolchains; give whether it is well, and what it found."""


class Dispatcher:
    """Feeds the boards of one run to its machines."""

    def __init__(
        self,
        jobs: Sequence[Job],
        commits: Sequence[Commit],
        tree: ResultTree,
        settings: Mapping[str, object],
        crew: Crew,
        *,
        policy: events_actions.Policy | None = None,
        batch: bool = False,
        takes: Mapping[str, Takes] | None = None,
        reuse: Reuse | None = None,
        listener: Listener,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a run; nothing happens before `run`.

        Args:
            jobs: one per board, with the indices of the commits that are wanted.
            commits: what was sent, in order.
            tree: where results go; locked by the caller.
            settings: the wire's settings, which name a result together with its tree and toolchain.
            crew: the machines, and what can be done with them.
            policy: how long, how often, how many.
            batch: split the boards beforehand.
            takes: how long each board is likely to take, by name; without it they go in the given order.
            reuse: is given each result, for other runs.
            listener: is told of every event, in the caller's thread.
            tick: is called about every half second, in the caller's thread.
            clock: seconds since the epoch.
            timer: seconds on a clock that never goes back, by which the rules go.
        """
        self._commits = tuple(commits)
        self._batch = batch
        self._listener = listener
        self._tick = tick
        self._clock = clock
        self._timer = timer
        self._crew = crew
        boards = {job.board.target: job.board for job in jobs}
        self._recorder = Recorder(tree, boards, self._commits, settings, reuse)
        self._schedule = scheduler.Schedule(
            jobs, len(self._commits), crew.machines, batch=batch, policy=policy, takes=takes
        )
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._sessions: dict[str, Session] = {}
        self._slot_of: dict[tuple[str, str], int] = {}
        self._held: dict[tuple[str, str, int], tuple[Session, BuildResult]] = {}
        self._incoming = Incoming(tree.own, names_for(settings))
        self._useless: Counter[str] = Counter()
        self._said: dict[str, tuple[str, bool]] = {}
        self._counts: Counter[Verdict] = Counter()
        self._interrupted = ""
        self._in_a_hurry = ""
        self._waiting = False

    # --- from any thread ---

    def join(self, session: Session, archs: frozenset[str], capacity: float) -> None:
        """Say that a machine is ready; from any thread."""
        self._inbox.put(lambda: self._joined(session, archs, capacity))

    def failed(self, machine: str, reason: str, how: Loss = Loss.FAILED) -> None:
        """Say that a machine could not be brought up; from any thread."""
        self._inbox.put(lambda: self._lose(machine, reason, how))

    def unneeded(self, session: Session) -> None:
        """Say that a machine has nothing that is needed; from any thread."""
        lost = events_actions.Lost(session.name, "not needed", Loss.UNNEEDED, session.lacking)
        self._inbox.put(lambda: self._handle(lost))

    def interrupt(self, reason: str) -> None:
        """End the run before its time, once what is being done is done; from any thread or a signal handler."""
        self._in_a_hurry = reason
        self._inbox.put(lambda: self._stop(reason))

    def tell(self, what: str, machine: str = "", text: str = "", **data: object) -> None:
        """Pass an event on to the listener; from any thread."""
        event = Event(self._clock(), what, machine=machine, text=text, data=data)
        self._inbox.put(lambda: self._listener(event))

    # --- the run ---

    def run(self, already: Mapping[str, tuple[str, Loss]] | None = None) -> Outcome:
        """Work until everything that was asked for has ended; then let the workers go.

        `interrupt` ends what is open as not built and is part of the outcome.

        Args:
            already: machines that are known not to be usable now, why, and whether they may come back.

        Raises:
            OutputError: the results cannot be written.
        """
        already = already or {}
        actions: list[events_actions.Action] = []
        for name in self._crew.machines:
            if name in already:
                actions += self._schedule.handle(events_actions.Lost(name, *already[name]), self._timer())
            else:
                self._in_background(f"bring up {name}", self._crew.bring_up, name, self)
        self._do(actions)
        while not self._schedule.finished:
            self._step()
        self._check_sum()
        if not self._interrupted:
            self._dismiss()
        return Outcome(dict(self._counts), self._schedule.asked, self._interrupted)

    def _step(self) -> None:
        """Take what there is, and look at the clock only when that is nothing.

        What was said before is heard before: a boss that was stopped for a while must not find everybody late.
        """
        try:
            work = self._inbox.get_nowait()
        except queue.Empty:
            work = self._wait()
        work()
        self._tell_waiting()
        self._tick()

    def _wait(self) -> Callable[[], None]:
        due = self._schedule.next_due()
        left = TICK if due is None else min(TICK, max(due - self._timer(), 0.0))
        try:
            return self._inbox.get(timeout=left)
        except queue.Empty:
            return lambda: self._handle(events_actions.Tick())

    def _handle(self, event: events_actions.Event) -> None:
        self._do(self._schedule.handle(event, self._timer()))

    def _stop(self, reason: str) -> None:
        self._interrupted = reason
        self._emit("interrupted", text=reason)
        self._handle(events_actions.Stopped(reason))

    def _dismiss(self) -> None:
        """Let every worker end in its own time; one that does not is cut off."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.build_done()
        slow = leave_all(sessions, QUIT_TIMEOUT, lambda: bool(self._in_a_hurry))
        for session in sessions:
            if session.name in slow:
                self._emit("note", session.name, text="its worker did not end in time; its connection is cut")
            self._emit("phase", session.name, data={"phase": "done"})
        if self._in_a_hurry:
            self._interrupted = self._in_a_hurry
            self._emit("interrupted", text=self._interrupted)

    def _check_sum(self) -> None:
        ended = sum(self._counts.values())
        if ended != self._schedule.asked:
            raise AssertionError(f"{self._schedule.asked} results were asked for and {ended} ended")

    def _tell_waiting(self) -> None:
        """Say once that nobody is there and we wait for somebody to come back."""
        awaited = self._schedule.awaited()
        if awaited is not None and not self._waiting:
            until, machines = awaited
            left = max(until - self._timer(), 0.0)
            self._emit("waiting", data={"until": self._clock() + left, "machines": machines})
        self._waiting = awaited is not None

    @staticmethod
    def _in_background(name: str, work: Callable[..., object], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name=name, daemon=True).start()

    # --- machines ---

    def _joined(self, session: Session, archs: frozenset[str], capacity: float) -> None:
        self._sessions[session.name] = session
        self._said.pop(session.name, None)
        # Of the whole machine, for that is what its load is a load of.
        threads = session.facts.threads if session.facts else session.slots
        self._emit("phase", session.name, data={"phase": "ready", "slots": session.slots, "threads": threads})
        # From here on the sink is called in the reading thread; everything else happens in ours.
        session.feed(
            lambda who, what, handled: self._inbox.put(lambda: self._heard_and_handled(who, what, handled))
        )
        share = max((session.machine.threads or threads) // max(session.slots, 1), 1)
        trims = session.features >= {"trim", "commits", "attempt"}
        self._handle(
            events_actions.Joined(session.name, archs, session.slots, capacity, share, trims, session.lacking)
        )

    def _lose(self, machine: str, reason: str, how: Loss) -> None:
        """Give a machine up, at least for now: what it held goes elsewhere."""
        self._let_go(machine)
        self._handle(events_actions.Lost(machine, reason, how))

    def _let_go(self, machine: str) -> None:
        session = self._sessions.pop(machine, None)
        if session is not None:
            self._useless.pop(machine, None)
            self._incoming.forget(machine)
            # Closing may wait for the other end; the other machines must not.
            self._in_background(f"close {machine}", session.close)

    def _check(self, machine: str, archs: Iterable[str]) -> None:
        session = self._sessions.get(machine)
        if session is None:
            return

        def ask() -> None:
            try:
                well, found = self._crew.check(session, archs)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the machine is not known to be well
                well, found = False, f"its check failed: {words_of(exc)}"
            self._inbox.put(lambda: self._checked(session, found, well=well))

        self._in_background(f"check {machine}", ask)

    def _checked(self, session: Session, found: str, *, well: bool) -> None:
        if self._sessions.get(session.name) is session:
            self._emit("check", session.name, text=found, data={"well": well})
            self._handle(events_actions.Checked(session.name, well, found))

    # --- what machines say ---

    def _heard_and_handled(self, session: Session, what: Response | WireError, handled: Callable[[], None]) -> None:
        try:
            self._heard(session, what)
        finally:
            handled()

    def _heard(self, session: Session, what: Response | WireError) -> None:
        """Take what a machine said; whatever goes wrong with it is that machine's alone."""
        try:
            self._take(session, what)
        except OutputError:
            raise
        except Exception as exc:  # noqa: BLE001 - a worker may say anything
            self._lose(session.name, f"what it said cannot be used: {type(exc).__name__}: {exc}", Loss.LIED)

    def _take(self, session: Session, what: Response | WireError) -> None:
        name = session.name
        if self._sessions.get(name) is not session:
            if isinstance(what, BuildResult):
                self._emit("dropped", name, board=what.board[:200], text="it came after its machine was given up")
        elif isinstance(what, BuildResult):
            self._result(session, what)
        elif isinstance(what, BuildFile):
            self._file(session, what)
        elif isinstance(what, Heartbeat):
            self._heartbeat(session, what)
        elif isinstance(what, Trimmed):
            self._trimmed(session, what)
        elif isinstance(what, BuildDone):
            self._build_done(session, what)
        elif (
            isinstance(what, (WorktreeCreated, WorktreeFailed)) and "early" in session.features and not self._batch
        ):
            self._slot(session, what)
        elif isinstance(what, WorktreeCreated) and self._batch:
            self._emit("worktree", name, data={"done": what.thread + 1, "slots": session.slots})
            self._of_no_use(session)
        elif isinstance(what, Error):
            self._lose(name, f"its worker reported: {what.msg}", Loss.DIED)
        elif isinstance(what, WireError):
            words = session.last_words()
            self._lose(name, f"{what}" + (f"; its last words: {words}" if words else ""), _how_lost(what))
        else:
            self._of_no_use(session)

    def _slot(self, session: Session, what: WorktreeCreated | WorktreeFailed) -> None:
        """Take it that a slot is ready, or will never be, of a machine that builds in the others already."""
        done = session.opened()
        if isinstance(what, WorktreeCreated):
            self._emit("worktree", session.name, data={"done": done, "slots": session.slots})
        else:
            self._handle(events_actions.SlotLost(session.name, f"a worktree cannot be made: {visible(what.msg)}"))

    def _of_no_use(self, session: Session) -> None:
        """Count a message that changed nothing: a worker that sends them without end fills the journal."""
        self._useless[session.name] += 1
        if self._useless[session.name] > USELESS:
            self._lose(session.name, f"it sent more than {USELESS} messages that are of no use", Loss.LIED)

    def _heartbeat(self, session: Session, beat: Heartbeat) -> None:
        key = session.name, beat.board
        if beat.board not in self._schedule.holds(session.name) or key in self._slot_of:
            self._of_no_use(session)
            return
        self._slot_of[key] = beat.thread
        self._emit("started", session.name, slot=beat.thread, board=beat.board, attempt=beat.attempt)
        self._handle(events_actions.Started(session.name, beat.board, beat.attempt))

    def _trimmed(self, session: Session, what: Trimmed) -> None:
        if what.board not in self._schedule.holds(session.name):
            self._of_no_use(session)  # it was through a moment ago
            return
        if what.commits:
            self._emit("trimmed", session.name, board=what.board, data={"commits": len(what.commits)})
        self._handle(events_actions.Trimmed(session.name, what.board, what.attempt, what.commits))

    def _build_done(self, session: Session, done: BuildDone) -> None:
        if done.exceptions:
            self._emit("note", session.name, text=f"its worker reports {done.exceptions} exceptions")
        if self._batch:
            self._handle(events_actions.BatchEnded(session.name))
        self._of_no_use(session)

    def _result(self, session: Session, message: BuildResult) -> None:
        fault = fault_of(message.return_code, message.stderr, message.stdout, message.fault)
        event = events_actions.ResultIn(
            session.name, message.board, message.commit_upto, message.attempt, fault, message.carried is not None
        )
        key = session.name, message.board, message.commit_upto
        actions = self._schedule.handle(event, self._timer())
        # Kept while it is decided on; only what is asked for is kept longer.
        if any(
            isinstance(action, (events_actions.Record, events_actions.Hold)) and _key(action) == key
            for action in actions
        ):
            self._held[key] = session, message
        self._do(actions)

    def _file(self, session: Session, piece: BuildFile) -> None:
        """Take a piece of a file, if it is one of a result that is awaited."""
        if "files" not in session.features:
            self._lose(session.name, "it sent a file, which nobody asked it for", Loss.LIED)
            return
        event = events_actions.FileIn(session.name, piece.board, piece.commit_upto, piece.attempt)
        if drops := self._schedule.handle(event, self._timer()):
            self._do(drops)
            return
        try:
            self._incoming.take(session.name, piece)
        except BadFileError as exc:
            self._lose(session.name, f"of {piece.board} it sent {exc}", Loss.LIED)

    # --- actions ---

    def _do(self, actions: Sequence[events_actions.Action]) -> None:
        trouble: tuple[str, str] | None = None
        for action in actions:
            if not isinstance(action, events_actions.Record):
                self._do_one(action)  # also after trouble: what is assigned to others must reach them
                continue
            try:
                self._record(action)
            except OutputError:
                raise
            except Exception as exc:  # noqa: BLE001 - told below
                # The schedule took it for ended, and so it is: without a result, and said so.
                words = f"{type(exc).__name__}: {exc}"
                trouble = action.machine, words
                why = f"its result cannot be recorded: {words}"
                self._not_built(events_actions.NotBuilt(action.board, action.upto, why))
        if trouble is not None:
            machine, why = trouble
            self._lose(machine, f"what it said cannot be used: {why}", Loss.LIED)

    def _do_one(self, action: events_actions.Action) -> None:
        if isinstance(action, events_actions.Assign):
            self._assign(action)
        elif isinstance(action, events_actions.BoardDone):
            slot = self._slot_of.pop((action.machine, action.board), None)
            self._incoming.forget(action.machine, action.board)
            self._emit("board-done", action.machine, slot=slot, board=action.board)
        elif isinstance(action, events_actions.PartDone):
            slot = self._slot_of.pop((action.machine, action.board), None)
            self._incoming.forget(action.machine, action.board)
            self._emit("part-done", action.machine, slot=slot, board=action.board)
        elif isinstance(action, events_actions.Trim):
            if session := self._sessions.get(action.machine):
                session.trim_board(action.board, action.attempt, action.commits)
        elif isinstance(action, events_actions.Requeue):
            self._slot_of.pop((action.machine, action.board), None)
            self._incoming.forget(action.machine, action.board)
            self._emit("requeued", action.machine, board=action.board, text=action.why)
        elif isinstance(action, events_actions.NotBuilt):
            self._not_built(action)
        elif isinstance(action, events_actions.Drop):
            self._drop(action)
        elif isinstance(action, events_actions.Discard):
            self._held.pop(_key(action), None)
        elif isinstance(action, events_actions.Faulted):
            self._emit(
                "fault",
                action.machine,
                board=action.board,
                commit=self._commits[action.upto].hash,
                text=action.fault.words,
                data={"kind": action.fault.kind.value, "number": self._commits[action.upto].number},
            )
        elif isinstance(action, events_actions.Check):
            self._check(action.machine, action.archs)
        elif isinstance(action, events_actions.SetAside):
            self._let_go(action.machine)
        elif isinstance(action, events_actions.BringUp):
            self._in_background(f"bring up {action.machine}", self._crew.bring_up, action.machine, self)
        elif isinstance(action, events_actions.Away):
            self._away(action)
        elif isinstance(action, events_actions.Slots):
            self._emit("slots", action.machine, text=action.why, data={"slots": action.slots})

    def _assign(self, action: events_actions.Assign) -> None:
        session = self._sessions.get(action.machine)
        if session is None:
            return
        for job in action.jobs:
            self._slot_of.pop((action.machine, job.board.target), None)
            self._emit(
                "assigned",
                action.machine,
                board=job.board.target,
                attempt=action.attempt,
                data={"commits": len(job.commits)} | ({"backup": True} if action.backup else {}),
            )
        if "commits" not in session.features:
            # It builds them all, and gives also those that are there.
            self._useless[action.machine] -= len(self._commits) * len(action.jobs)
        if self._batch:
            session.build_boards(action.jobs, [commit.hash for commit in self._commits], action.timeout)
        else:
            for job in action.jobs:
                session.build_board(job, action.attempt, action.timeout, action.jobs_limit)

    def _record(self, action: events_actions.Record) -> None:
        session, message = self._held.pop(_key(action))
        files = self._incoming.of(action.machine, message)
        verdict, told = self._recorder.record(session, message, action.attempt, action.after, files)
        self._counts[verdict] += 1
        self._emit(
            "result",
            action.machine,
            slot=self._slot_of.get((action.machine, action.board)),
            board=action.board,
            commit=self._commits[action.upto].hash,
            attempt=action.attempt,
            data=told,
        )
        if files.missing:
            shown = "; ".join(f"{visible(name)}: {visible(why)}" for name, why in files.missing.items())
            text = cut(f"{action.board}: {count(len(files.missing), 'file')} left out: {shown}", 400)
            self._emit("note", action.machine, board=action.board, text=text)

    def _not_built(self, action: events_actions.NotBuilt) -> None:
        self._counts[Verdict.NOT_BUILT] += 1
        commit = self._commits[action.upto]
        self._emit(
            "not-built", board=action.board, commit=commit.hash, text=action.reason, data={"number": commit.number}
        )

    def _drop(self, action: events_actions.Drop) -> None:
        self._emit("dropped", action.machine, board=action.board[:200], text=action.why)
        session = self._sessions.get(action.machine)
        if action.suspect:
            why = f"it sent a result nobody asked it for ({action.board[:80]!r})"
            self._lose(action.machine, why, Loss.LIED)
        elif session is not None and not action.asked:
            self._of_no_use(session)

    def _away(self, action: events_actions.Away) -> None:
        # Where nothing is left to be done, nobody tries it again.
        again_in = None if self._schedule.finished else action.again_in
        said = action.reason, action.aside or again_in is None
        if self._said.get(action.machine) == said:
            return  # it does not answer still; once is enough for a whole night
        self._said[action.machine] = said
        self._emit(
            "machine-failed",
            action.machine,
            text=action.reason,
            data={"again_in": again_in, "aside": action.aside, "awaited": action.awaited},
        )

    def _emit(
        self,
        what: str,
        machine: str = "",
        *,
        slot: int | None = None,
        board: str = "",
        commit: str = "",
        attempt: int = 0,
        text: str = "",
        data: Mapping[str, object] | None = None,
    ) -> None:
        self._listener(
            Event(
                self._clock(), what, machine, slot, board, commit, attempt, text, data if data is not None else {}
            )
        )


def _key(action: events_actions.Record | events_actions.Hold | events_actions.Discard) -> tuple[str, str, int]:
    return action.machine, action.board, action.upto


def _how_lost(end: WireError) -> Loss:
    if isinstance(end, WireClosed):
        return Loss.VANISHED if end.status is None else Loss.DIED
    return Loss.VANISHED if isinstance(end, WireSilent) else Loss.LIED
