"""The driver: moves events from sessions to the schedule and carries its actions out.

One thread, the caller's, owns the schedule, the result tree and the listeners. Machines are brought up side by
side in other threads, and each joins as soon as it is ready; what a worker says comes through one queue.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild import schedule as rules
from fabbuild.errors import OutputError, WireError
from fabbuild.messages import BuildDone, BuildResult, Error, Heartbeat, Response, WorktreeCreated
from fabbuild.model import Commit, Event, Job, Result, Verdict
from fabbuild.results import BuiltFrom, ResultTree, decisive, made_by
from fabbuild.session import Session
from fabbuild.text import first_error

Listener = Callable[[Event], None]

#: Seconds between two looks at the clock when nothing comes.
TICK = 0.5

#: Seconds for a worker to end after `quit`, when all is done.
QUIT_TIMEOUT = 15.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``counts`` has a key per `Verdict`; their sum is what was asked for."""

    counts: Mapping[Verdict, int]
    asked: int
    interrupted: str = ""


class Dispatcher:
    """Feeds the boards of one run to its machines."""

    def __init__(
        self,
        jobs: Sequence[Job],
        commits: Sequence[Commit],
        tree: ResultTree,
        settings: Mapping[str, object],
        *,
        batch: bool = False,
        listener: Listener,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a run; nothing happens before `run`.

        Args:
            jobs: one per board, with the indices of the commits that are wanted.
            commits: what was sent, in order.
            tree: where results go; locked by the caller.
            settings: the wire's settings, which name a result together with its tree and toolchain.
            batch: split the boards beforehand.
            listener: is told of every event, in the caller's thread.
            tick: is called about every half second, in the caller's thread.
            clock: seconds since the epoch.
        """
        self._commits = tuple(commits)
        self._tree = tree
        self._settings = dict(settings)
        self._batch = batch
        self._listener = listener
        self._tick = tick
        self._clock = clock
        self._jobs = {job.board.target: job for job in jobs}
        self._schedule = rules.Schedule(jobs, len(self._commits), batch=batch)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._sessions: dict[str, Session] = {}
        self._slot_of: dict[tuple[str, str], int] = {}
        self._counts: Counter[Verdict] = Counter()
        self._lost: set[str] = set()
        self._interrupted = ""

    # --- from any thread ---

    def join(self, session: Session, archs: frozenset[str], capacity: float) -> None:
        """Say that a machine is ready; from any thread."""
        self._inbox.put(lambda: self._joined(session, archs, capacity))

    def failed(self, machine: str, reason: str, *, told: bool = False) -> None:
        """Say that a machine could not be brought up; from any thread. ``told``: listeners know it already."""
        self._inbox.put(lambda: self._lose(machine, reason, told=told))

    def settle(self) -> None:
        """Say that no further machine comes; from any thread."""
        self._inbox.put(lambda: self._do(self._schedule.handle(rules.Settled())))

    def interrupt(self, reason: str) -> None:
        """End the run before its time, once what is being done is done; from any thread or a signal handler."""
        self._inbox.put(lambda: self._stop(reason))

    def tell(self, what: str, machine: str = "", text: str = "", **data: object) -> None:
        """Pass an event on to the listener; from any thread."""
        event = Event(self._clock(), what, machine=machine, text=text, data=data)
        self._inbox.put(lambda: self._listener(event))

    # --- the run ---

    def run(self) -> Outcome:
        """Work until everything that was asked for has ended; then let the workers go.

        `interrupt` ends what is open as not built and is part of the outcome.

        Raises:
            OutputError: the results cannot be written.
        """
        while not self._schedule.finished:
            self._step()
        self._check_sum()
        if not self._interrupted:
            self._dismiss()
        return Outcome(dict(self._counts), self._schedule.asked, self._interrupted)

    def _step(self) -> None:
        try:
            work = self._inbox.get(timeout=TICK)
        except queue.Empty:
            pass
        else:
            work()
        self._tick()

    def _stop(self, reason: str) -> None:
        self._interrupted = reason
        self._emit("interrupted", text=reason)
        self._do(self._schedule.handle(rules.Stopped(reason)))

    def _dismiss(self) -> None:
        """Let every worker end in its own time; one that does not is cut off when its session is closed."""
        for session in self._sessions.values():
            session.build_done()
            session.ask_to_quit()
        deadline = time.monotonic() + QUIT_TIMEOUT
        for session in self._sessions.values():
            ended = session.wait_ended(max(deadline - time.monotonic(), 0.0))
            if not ended:
                self._emit("note", session.name, text="its worker did not end in time; its connection is cut")
            session.close()
            self._emit("phase", session.name, data={"phase": "done"})

    def _check_sum(self) -> None:
        ended = sum(self._counts.values())
        if ended != self._schedule.asked:
            raise AssertionError(f"{self._schedule.asked} results were asked for and {ended} ended")

    # --- machines ---

    def _joined(self, session: Session, archs: frozenset[str], capacity: float) -> None:
        self._sessions[session.name] = session
        # Of the whole machine, for that is what its load is a load of.
        threads = session.facts.threads if session.facts else session.slots
        self._emit("phase", session.name, data={"phase": "ready", "slots": session.slots, "threads": threads})
        # From here on the sink is called in the reading thread; everything else happens in ours.
        session.feed(lambda who, what: self._inbox.put(lambda: self._heard(who, what)))
        self._do(self._schedule.handle(rules.Joined(session.name, archs, session.slots, capacity)))

    def _lose(self, machine: str, reason: str, *, told: bool = False) -> None:
        """Give a machine up: what it held goes elsewhere."""
        if machine in self._lost:
            return
        self._lost.add(machine)
        if not told:
            self._emit("machine-failed", machine, text=reason)
        session = self._sessions.pop(machine, None)
        if session is not None:
            # Closing may wait for the other end; the other machines must not.
            threading.Thread(target=session.close, name=f"close {machine}", daemon=True).start()
        self._do(self._schedule.handle(rules.Lost(machine, reason)))

    def _heard(self, session: Session, what: Response | WireError) -> None:
        """Take what a machine said; whatever goes wrong with it is that machine's alone."""
        try:
            self._take(session, what)
        except OutputError:
            raise
        except Exception as exc:  # noqa: BLE001 - a worker may say anything
            self._lose(session.name, f"what it said cannot be used: {type(exc).__name__}: {exc}")

    def _take(self, session: Session, what: Response | WireError) -> None:
        name = session.name
        if name not in self._sessions:
            if isinstance(what, BuildResult):
                self._emit("dropped", name, board=what.board, text="it came after its machine was given up")
            return
        if isinstance(what, BuildResult):
            self._result(session, what)
        elif isinstance(what, Heartbeat):
            self._heartbeat(session, what)
        elif isinstance(what, BuildDone):
            self._build_done(session, what)
        elif isinstance(what, WorktreeCreated):
            self._emit("worktree", name, data={"done": what.thread + 1, "slots": session.slots})
        elif isinstance(what, Error):
            self._lose(name, f"its worker reported: {what.msg}")
        elif isinstance(what, WireError):
            words = session.last_words()
            self._lose(name, f"{what}" + (f"; its last words: {words}" if words else ""))

    def _heartbeat(self, session: Session, beat: Heartbeat) -> None:
        if beat.board in self._schedule.holds(session.name):
            self._slot_of[session.name, beat.board] = beat.thread
            self._emit("started", session.name, slot=beat.thread, board=beat.board, attempt=beat.attempt)

    def _build_done(self, session: Session, done: BuildDone) -> None:
        if done.exceptions:
            self._emit("note", session.name, text=f"its worker reports {done.exceptions} exceptions")
        if self._batch:
            self._do(self._schedule.handle(rules.BatchEnded(session.name)))

    def _result(self, session: Session, message: BuildResult) -> None:
        trouble: Exception | None = None
        for action in self._schedule.handle(rules.ResultIn(session.name, message.board, message.commit_upto)):
            if not isinstance(action, rules.Record):
                self._do([action])  # also after trouble: what is assigned to others must reach them
                continue
            try:
                self._record(session, message, action.attempt)
            except OutputError:
                raise
            except Exception as exc:  # noqa: BLE001 - raised again below
                # The schedule took it for ended, and so it is: without a result, and said so.
                trouble = exc
                why = f"its result cannot be recorded: {type(exc).__name__}: {exc}"
                self._do([rules.NotBuilt(action.board, action.upto, why)])
        if trouble is not None:
            raise trouble

    def _record(self, session: Session, message: BuildResult, attempt: int) -> None:
        result = Result(
            board=message.board,
            upto=message.commit_upto,
            return_code=message.return_code,
            stdout=message.stdout,
            stderr=message.stderr,
            sizes=message.sizes.raw,
            config=message.config,
            machine=session.name,
            attempt=attempt,
            load_avg=message.load_avg,
            details=message.details,
        )
        board = self._jobs[message.board].board
        commit = self._commits[message.commit_upto]
        tool = session.facts.toolchains.get(board.arch) if session.facts else None
        described = {"arch": board.arch}
        if tool:
            described |= {"gcc": tool.gcc, "prefix": tool.prefix, "version": tool.version}
        maker = made_by(tool.version if tool else "", session.machine.env)
        built_from = BuiltFrom(commit.tree, board.arch, maker, decisive(self._settings))
        told = {
            "verdict": result.verdict.value,
            "return_code": result.return_code,
            "number": commit.number,
            "seconds": _seconds(message.details.get("seconds")),
            "error": first_error(message.stderr) if result.verdict is not Verdict.BUILT else "",
            "load_avg": message.load_avg,
        }
        self._tree.record(result, built_from, toolchain=described)
        self._counts[result.verdict] += 1
        slot = self._slot_of.get((session.name, message.board))
        self._emit(
            "result", session.name, slot=slot, board=message.board, commit=commit.hash, attempt=attempt, data=told
        )

    # --- actions ---

    def _do(self, actions: Sequence[rules.Action]) -> None:
        for action in actions:
            if isinstance(action, rules.Assign):
                self._assign(action)
            elif isinstance(action, rules.BoardDone):
                slot = self._slot_of.pop((action.machine, action.board), None)
                self._emit("board-done", action.machine, slot=slot, board=action.board)
            elif isinstance(action, rules.Requeue):
                self._slot_of.pop((action.machine, action.board), None)
                self._emit("requeued", action.machine, board=action.board, text=action.why)
            elif isinstance(action, rules.NotBuilt):
                self._counts[Verdict.NOT_BUILT] += 1
                commit = self._commits[action.upto]
                self._emit(
                    "not-built",
                    board=action.board,
                    commit=commit.hash,
                    text=action.reason,
                    data={"number": commit.number},
                )
            elif isinstance(action, rules.Drop):
                self._drop(action)

    def _assign(self, action: rules.Assign) -> None:
        session = self._sessions.get(action.machine)
        if session is None:
            return
        for job in action.jobs:
            self._emit(
                "assigned",
                action.machine,
                board=job.board.target,
                attempt=action.attempt,
                data={"commits": len(job.commits)},
            )
        if self._batch:
            session.build_boards(action.jobs, [commit.hash for commit in self._commits])
        else:
            for job in action.jobs:
                session.build_board(job, action.attempt)

    def _drop(self, action: rules.Drop) -> None:
        self._emit("dropped", action.machine, board=action.board[:200], text=action.why)
        if action.suspect:
            self._lose(action.machine, f"it sent a result nobody asked it for ({action.board[:80]!r})")

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


def _seconds(value: object) -> float | None:
    """Give a duration that a worker told, if it is one."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 else None
