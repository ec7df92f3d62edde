"""The scheduler decides which board goes to which machine, which failures are tried again, and which are final.

The scheduler is a pure state machine: events in, actions out (`fabbuild.scheduler.events_actions`). It does no I/O,
starts no thread and reads no clock; the time is an argument. So it can be run with a thousand simulated machines in
one thread, and every rule has a test without a mock. Its state, a `fabbuild.scheduler.state.State` and the learned
durations, changes in `Scheduler.handle` and nowhere else: the other modules of this package are functions that
`handle` calls with the state, and containers in the state that do not know each other.

An *order* is a board assigned to a machine, an *attempt* the number of an order among those of its board, from 1.

Ends
 1. Every requested board and commit ends exactly once: recorded, or not built with a reason.

Assignment
 2. A machine holds at most as many boards as it has slots. It gets its first boards when it joins, and one more
    each time one of its orders ends.
 3. A machine gets only boards that it has a toolchain for; ``sandbox`` can be built anywhere. The machine with the
    most unused capacity goes first. It gets boards that came back before others, then those that are to come first
    (because they read a file that the commits change), then the rest. Of either, boards that few machines can
    build go before others. Among these come first the boards whose output directory the machine has, the longest
    first, because they take a fraction of a first build there. Boards whose directory only other machines have
    wait for these (but see rule 14), also for one that is coming for the first time and is likely to have it; no
    slot is idle while any other board waits that it could build. Among the others, if their durations are known, a
    slot continues with a board like its last one, until the longest board takes as long as all of them together,
    divided by the slots: then that board is next. If no durations are known, the given order is kept. A board that
    came back goes first of all to a machine that has its directory. If machines do not help each other
    (``Policy.backup``), the boards of others come last.
 4. A board that was lost, met a fault or took too long on a machine goes to another machine that can build it, if
    one is in.
 5. An order awaits one answer for each commit. The order ends when all answers are there and no result is on hold;
    its board goes back to the front of the queue with the commits that still lack a result.
 6. A result, or a file of one, is accepted only for its own order: the machine holds the board, the attempt is the
    order's, the commit is awaited. Others are dropped. A result for a board that the machine was never given, or
    for a commit that does not exist, shows that the machine is not to be trusted; a duplicate or late one does not.

Failures
 7. If a worker dies, or a machine vanishes (then it is not known whether its worker died), one of the boards that
    it was building may be the cause: these boards are suspect, but not boards that it had not begun or had
    finished. A machine builds one suspect at a time, so that a board that kills workers takes no other board with
    it; a recorded result clears a suspect. A board ends as not built when two workers have died of it. Machines
    also vanish by chance, so otherwise a board ends at the third loss, deaths counted. Both rules need two
    machines, unless no other machine that could build the board is in.
 8. The worker ends a board that takes longer than its timeout at one commit, and drops the rest of that order. The
    first time, the board is built again, elsewhere if possible. From the second time on, at any commit, the timeout
    is its result, and its other commits continue. If the worker does not end the board, the machine is given up; if
    this is the board's second timeout, it ends as not built.
 9. After a result that looks like the machine's fault, or a failure without explanation, the machine checks itself.
    Meanwhile it gets no boards and all its results are on hold. The first time, for a board at a commit, the
    result is not used, even if the machine is well: the check comes too late for a compiler that was broken for a
    moment. The result is the board's own if it comes again from a machine that is well: another one, or, if no
    other machine can build the board, the same. Lack of memory is never the board's fault while the machine builds
    others beside it; the machine then gets half the slots, and the board goes to a machine that builds fewer boards
    at a time, if there is one. A machine that is not well is given up, and no result on hold is used. A board that
    met too many faults at a commit ends there as not built. If the worker itself could not build, as when it cannot
    check the commit out or start make, or if a program, header or library that the build needs is not on the
    machine, that is never the board's result: if this comes again as above, the board ends there as not built, and
    the next run tries it again. A machine whose worker reports repeatedly that it could not build, for boards
    that met it for the first time and without a build in between, is given up whatever its check says.

Recovery
10. A machine that is lost is tried again, after a wait that doubles, and after a long wait if it is lost too often.
    A machine that comes back too often without a result, breaks the protocol or refuses is gone for good.
11. A board that no machine can build waits for machines that are coming for the first time, however long, and for a
    machine that could build it when it was in, until that has been away for too long. Then it is not built, with
    the reason.
12. In batch mode, in place of rule 2: when no machine is coming for the first time any more, the boards are divided
    among the idle machines by capacity, one list for each machine; boards that come back are divided in the same
    way (`fabbuild.scheduler.batch`).
13. When the run is stopped, all unfinished boards and commits end as not built. If the run is to end after some
    failed boards (``Policy.stop_at``), it is stopped once so many boards have a failure recorded. A board counts
    once, and a failure that is blamed on a machine does not count.

The end of the run
14. A machine with a free slot for which no board waits takes over the last board that waits for another machine, if
    building it from nothing ends clearly earlier than that machine is expected to be through with all its boards
    (`fabbuild.scheduler.work_stealing`). A machine that is still to come is expected to need as long again as it
    was waited for. Otherwise the free slot gets the later part of another machine's order, if that pays. The other
    machine is first told to skip that part, and only the commits that it reports as skipped are assigned: so no
    commit is built twice. An order whose board met a fault, a timeout or the death of a worker is not split; a
    board that a machine vanished with is on at most two machines at a time until a result clears it. Splitting pays
    soonest for a machine that has the board's output directory, because little has to be built again there.
15. If the commit in build takes long, the rest of an order gets a backup, if that pays: a second order, of another
    attempt, on another machine. The first result that rules 5 to 9 accept is recorded; the other machines are told
    to skip that commit, and any later result of it is dropped. An order ends when it awaits nothing more; the
    commits it lacks go back only if no other order is to build them. An order with a backup may be split as well:
    each order keeps the commits that it is expected to finish first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fabbuild.model import ExpectedDuration, Job, LossKind
from fabbuild.scheduler import accounting, fault_policy, work_stealing
from fabbuild.scheduler.batch import Batch
from fabbuild.scheduler.board_queue import BoardQueue
from fabbuild.scheduler.distribution import OnDemand
from fabbuild.scheduler.events_actions import (
    Action,
    Assign,
    BatchEnded,
    BringUp,
    Check,
    CheckDone,
    CloseSession,
    CommitsLeftOff,
    Drop,
    Event,
    FileIn,
    Joined,
    Lost,
    LowerSlots,
    Policy,
    ResultIn,
    RunStopped,
    SlotLost,
    Started,
    StopAtReached,
    TimePassed,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.machine_states import MachineStates
from fabbuild.scheduler.orders import Member, OpenBoard, Order
from fabbuild.scheduler.pace import Pace
from fabbuild.scheduler.state import State, open_boards
from fabbuild.scheduler.timeouts import Timeouts
from fabbuild.text import count

#: How often workers may die of a board until it ends.
_TWICE = 2
#: The same for losses of machines that were building it, whether their worker died or nobody knows.
_THRICE = 3

#: Seconds between two looks at who can be helped in the end of a run: at least, and at most while a slot is free.
_LOOK_LEAST, _LOOK_MOST = 1.0, 5.0
#: Orders that may be gone through at a look for each second until the next.
_LOOK_ORDERS = 500


class Scheduler:
    """The rules of one run, and its state. See the module's text for the rules."""

    def __init__(
        self,
        jobs: Iterable[Job],
        commits: int,
        machines: Iterable[str],
        *,
        batch: bool = False,
        policy: Policy | None = None,
        expected: Mapping[str, ExpectedDuration] | None = None,
        first: Collection[str] = (),
        failed: Iterable[str] = (),
        likely: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Begin with every job in the queue and every machine coming.

        Args:
            jobs: one per board, with the indices of the commits that are wanted.
            commits: how many commits were sent; a result's index must be below it.
            machines: the names of all machines that are being brought up.
            batch: split the boards beforehand instead of feeding them one by one.
            policy: the limits and waiting times of the run.
            expected: how long each board is likely to take, by name; without it boards go in the given order.
            first: boards that go before others that no machine was given yet, by name.
            failed: boards of this run that have a failure already. If these are enough to end the run, it ends
                with the first event.
            likely: the boards whose output directories each machine is likely to have, until it joins and says so.

        Raises:
            ValueError: a board is asked for twice.
        """
        policy, machines = policy or Policy(), list(machines)
        boards = open_boards(jobs)
        queue = BoardQueue(boards.values(), expected, first, waits=policy.backup and not batch)
        self._state = State(policy, boards, queue, MachineStates(machines, policy))
        self._state.failed.update(failed)
        for machine in machines:
            queue.expect(machine, (likely or {}).get(machine, ()))
        self._commits = commits
        self._distribution = Batch() if batch else OnDemand()
        self._watchdog = self._distribution.watchdog(policy.slack)
        self._timeouts = Timeouts(policy)
        self._pace = Pace(expected or {})
        #: The times of the last and the next search for orders to help with, and the pause between them.
        self._looked, self._look, self._pause = -math.inf, math.inf, _LOOK_LEAST
        self._joins = 0
        #: The time at which the first machine joined.
        self._began = math.inf
        #: The number of requested results.
        self.asked = sum(board.asked for board in boards.values())
        #: Whether boards are split beforehand (rule 12).
        self.batch = self._distribution.batch

    @property
    def recorded(self) -> int:
        """The number of recorded results."""
        return self._state.recorded

    @property
    def not_built(self) -> int:
        """The number of results that ended as not built."""
        return self._state.not_built

    @property
    def finished(self) -> bool:
        """Whether everything that was asked for has ended."""
        return not self._state.open

    def holds(self, machine: str) -> tuple[str, ...]:
        """Return the boards that a machine holds now."""
        member = self._state.members.get(machine)
        return tuple(member.orders) if member else ()

    def next_due(self) -> float | None:
        """Return the time at which a `TimePassed` is due; None if only another event can change anything."""
        if self.finished:
            return None
        waits = [self._wait_until(arch) for arch in self._state.queue.archs()]
        due = min((*self._state.machines.deadlines(), self._watchdog.due(self._state.members), self._look, *waits))
        return due if due < math.inf else None

    def awaited(self) -> tuple[float, list[str]] | None:
        """Return until when the run waits for machines to come back, and their names; None if it does not wait."""
        if self._state.members or self.finished or self._state.machines.first:
            return None
        return self._state.machines.awaited()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Handle one event and return the resulting actions, in order.

        Args:
            event: what happened.
            now: the time in seconds, on a clock that never goes back.
        """
        actions = self._handle(event, now)
        if self._state.enough_failed and not self.finished:
            actions += self._stop_early()
        return actions

    def _handle(self, event: Event, now: float) -> list[Action]:
        match event:
            case ResultIn():
                return self._result(event, now)
            case FileIn():
                return self._file(event, now)
            case _ if self.finished:
                return []
            case Joined():
                return self._joined(event, now)
            case Started():
                return self._started(event, now)
            case CommitsLeftOff():
                return self._left_off(event, now)
            case CheckDone():
                return self._check_done(event, now)
            case BatchEnded():
                return self._batch_ended(event, now)
            case SlotLost():
                return self._slot_lost(event)
            case Lost():
                return self._lost(event, now)
            case TimePassed():
                return self._time_passed(now)
            case RunStopped():
                return self._end_all(event.reason)

    # --- machines come, go and come back (rules 7, 10, 13) ---

    def _joined(self, event: Joined, now: float) -> list[Action]:
        state = self._state
        state.lacking[event.machine] = event.lacking
        if event.slots < 1 or event.capacity <= 0:
            raise ValueError(f"machine {event.machine} joins with {event.slots} slots, capacity {event.capacity}")
        if state.members.get(event.machine):
            raise ValueError(f"machine {event.machine} joins twice")
        if not state.machines.joined(event):
            return [CloseSession(event.machine, "it was given up")]
        slots = min(event.slots, state.lowered.get(event.machine, event.slots))
        self._joins += 1
        self._began = min(self._began, now)
        member = self._distribution.member(event, slots, self._joins)
        state.members.add(member)
        state.queue.joined(member)
        return self._give_out(now)

    def _slot_lost(self, event: SlotLost) -> list[Action]:
        member = self._state.members.get(event.machine)
        if member is None:
            return []
        self._state.members.set_slots(member, max(member.slots - 1, 1))
        return [LowerSlots(event.machine, member.slots, event.why)]

    def _lost(self, event: Lost, now: float) -> list[Action]:
        """Remove a machine that the dispatcher lost; boards that it was building may end with it."""
        if event.lacking:
            self._state.lacking[event.machine] = event.lacking
        member = self._state.members.get(event.machine)
        ends = self._suspect(member, event) if member and event.how in (LossKind.DIED, LossKind.VANISHED) else {}
        return self._take_out(event.machine, event.reason, event.how, now, ends) + self._give_out(now)

    def _suspect(self, member: Member, event: Lost) -> dict[str, str]:
        """Note the boards that a machine was building when it was lost; return those that end, with the reason."""
        ends: dict[str, str] = {}
        for order in member.orders.values():
            if order.started and order.awaited & order.board.missing:
                board = order.board
                board.losses.append(event)
                enough = 2 if self._state.members.others(member, board.arch) else 1
                lost = [loss.machine for loss in board.losses]
                died = [loss.machine for loss in board.losses if loss.how is LossKind.DIED]
                if len(died) >= _TWICE and len(set(died)) >= enough:
                    ends[board.target] = f"kills workers (on {_names(died)})"
                elif len(lost) >= _THRICE and len(set(lost)) >= enough:
                    ends[board.target] = f"its machines were lost three times (on {_names(lost)})"
        return ends

    def _give_up(self, member: Member, why: str, now: float) -> list[Action]:
        """Give up a machine that is not well: no result on hold is used, and faults among them are noted."""
        actions: list[Action] = [CloseSession(member.name, why)]
        for order in member.orders.values():
            held = dict(order.held)
            actions += accounting.discard_held(order, why)
            for upto, fault in held.items():
                actions += accounting.fault(self._state, member, order, upto, fault) if fault else []
        return actions + self._take_out(member.name, why, LossKind.FAILED, now, {})

    def _take_out(self, name: str, reason: str, how: LossKind, now: float, ends: Mapping[str, str]) -> list[Action]:
        """Remove a machine and take its boards back; the boards in ``ends`` end, with the reason given there."""
        state = self._state
        member = state.members.pop(name)
        state.queue.left(name)
        away = state.machines.lost(name, reason, how, now, worked=member is not None and member.worked)
        actions: list[Action] = [away] if away else []
        for order in list(member.orders.values()) if member else ():
            board = order.board
            actions += accounting.discard_held(order, reason)
            if board.target in ends:
                actions += accounting.end_board(state, board, ends[board.target])
            actions += accounting.close(state, order, reason)
        return actions

    def _time_passed(self, now: float) -> list[Action]:
        state = self._state
        actions: list[Action] = []
        while (found := self._watchdog.first(state.members)) and found[0] <= now:
            member = found[1]
            stuck = [order for due, order in member.deadlines(state.policy.slack) if due <= now]
            actions += self._stuck(member, [order for order in stuck if order], now)
        actions += [BringUp(name) for name in state.machines.call(now)]
        # The time alone frees nothing: it is looked who can be helped when that is due.
        return actions + (self._give_out(now) if actions or now >= self._look else self._distribute(now))

    def _stop_early(self) -> list[Action]:
        """Stop the run, because enough boards have failed."""
        failed = len(self._state.failed)
        reason = f"{count(failed, 'board')} failed, as --stop-at {self._state.policy.stop_at} asks"
        return [StopAtReached(failed, reason), *self._end_all(reason)]

    def _end_all(self, reason: str) -> list[Action]:
        actions: list[Action] = []
        for member in self._state.members:
            for order in member.orders.values():
                actions += accounting.discard_held(order, reason)
            member.orders.clear()
        self._state.queue.clear()
        while self._state.open:  # a board may have a later job
            for board in list(self._state.open.values()):
                actions += accounting.end_board(self._state, board, reason)
        return actions

    # --- boards that are built (rules 5, 6, 8) ---

    def _started(self, event: Started, now: float) -> list[Action]:
        found = self._order_of(event)
        if found and not found[1].started:
            member, order = found
            order.started, order.heard, member.heard = True, now, now
        return []

    def _file(self, event: FileIn, now: float) -> list[Action]:
        found = self._order_of(event)
        if found is None or event.upto not in found[1].awaited:
            return [self._drop(event)]
        found[1].file_came = now
        return []

    def _order_of(self, event: Started | ResultIn | FileIn | CommitsLeftOff) -> tuple[Member, Order] | None:
        """Return the machine of an event, and the order, if the machine has it."""
        member = self._state.members.get(event.machine)
        order = member.orders.get(event.board) if member else None
        return (member, order) if member and order and event.attempt in (0, order.attempt) else None

    def _result(self, event: ResultIn, now: float) -> list[Action]:
        found = self._order_of(event)
        if found is None or event.upto not in found[1].awaited:
            if found is not None:
                found[1].heard = now  # a worker without the feature `commits` builds all of them
            return [self._drop(event)]
        member, order = found
        if event.fault is None and order.started and not event.carried:
            self._timeouts.took(order.board.job.board, now - order.heard)
            self._pace.took(order, member, now - order.heard)
        order.started, order.heard, member.heard = True, now, now
        order.answers += 1
        order.awaited.discard(event.upto)
        order.leaving -= {event.upto}
        if event.failed:
            order.failures.add(event.upto)
        if event.upto not in order.board.missing:
            return self._too_late(event, order, now)
        suspect = bool(order.board.losses)
        actions = fault_policy.decide(self._state, member, order, event.upto, event.fault)
        if member.worker_failures >= fault_policy.WORKER_FAILURES:
            actions = [action for action in actions if not isinstance(action, Check)]
            why = f"its worker failed {fault_policy.WORKER_FAILURES} times in a row: {order.why}"
            return actions + self._give_up(member, why, now) + self._give_out(now)
        cleared = suspect and not order.board.losses
        actions += accounting.close_if_through(self._state, order)
        # A slot that is free, or a suspect that is cleared, is all that lets another board in.
        return actions + self._give_out(now) if order.through or cleared else actions

    def _too_late(self, event: ResultIn, order: Order, now: float) -> list[Action]:
        """Drop a result that another machine brought first; even a failure is no machine's fault then (rule 15)."""
        if event.fault and event.fault.kind is FaultKind.TIMEOUT:
            order.why = event.fault.words
            order.awaited.clear()  # its worker drops the rest of the order
        drop = accounting.too_late(event.machine, event.board, event.upto)
        if self.finished:
            return [drop]
        return [drop, *accounting.close_if_through(self._state, order), *self._give_out(now)]

    def _drop(self, event: ResultIn | FileIn) -> Drop:
        """Drop a result or file that belongs to no order, with the reason."""

        def drop(why: str, *, suspect: bool = False) -> Drop:
            return Drop(event.machine, event.board, event.upto, why, suspect=suspect)

        member = self._state.members.get(event.machine)
        if member is None:
            return drop("it came after its machine was given up")
        if event.board not in self._state.given.get(event.machine, ()) or not 0 <= event.upto < self._commits:
            return drop("it was not asked for", suspect=True)
        board = self._state.open.get(event.board)
        order = member.orders.get(event.board)
        if board and event.upto in board.missing and not (order and event.upto in order.held):
            return drop("it belongs to an attempt that was given up")
        return drop("it is there already")

    def _stuck(self, member: Member, orders: Sequence[Order], now: float) -> list[Action]:
        """Give up a machine whose worker does not end these orders: each is a timeout (rule 8)."""
        why = f"its build of {orders[0].board.target} does not end" if orders else "it does not end its batch"
        actions: list[Action] = [CloseSession(member.name, why)]
        ends: dict[str, str] = {}
        for order in orders:
            board = order.board
            awaited = order.awaited & board.missing
            if not awaited:
                continue
            board.timeouts.append(member.name)
            timeout = Fault(FaultKind.TIMEOUT, "its build does not end")
            actions += accounting.fault(self._state, member, order, min(awaited), timeout)
            if len(board.timeouts) >= fault_policy.TIMEOUTS:
                ends[board.target] = f"timed out (on {_names(board.timeouts)})"
        return actions + self._take_out(member.name, why, LossKind.FAILED, now, ends)

    def _batch_ended(self, event: BatchEnded, now: float) -> list[Action]:
        member = self._state.members.get(event.machine)
        actions = self._distribution.list_ended(self._state, member) if member else None
        return actions + self._give_out(now) if actions is not None else []

    # --- a machine has checked itself (rule 9) ---

    def _check_done(self, event: CheckDone, now: float) -> list[Action]:
        member = self._state.members.get(event.machine)
        if member is None or not member.checking:
            return []
        member.checking = False
        self._state.members.freed(member)
        actions: list[Action] = []
        if event.well:
            for order in list(member.orders.values()):
                held, order.held = order.held, {}
                for upto, fault in held.items():
                    actions += fault_policy.decide_held(self._state, member, order, upto, fault)
                actions += accounting.close_if_through(self._state, order)
        else:
            actions += self._give_up(member, event.words or "its check says that it is not well", now)
        return actions + self._give_out(now)

    # --- giving out (rules 2 to 4, 11, 12) ---

    def _give_out(self, now: float) -> list[Action]:
        """Assign the boards that can be built, and let idle machines help others; nothing before an early end."""
        if self._state.enough_failed:
            return []
        return self._distribute(now) + self._help(now)

    def _distribute(self, now: float) -> list[Action]:
        state = self._state
        actions: list[Action] = [
            self._hand(member, boards, now) for member, boards in self._distribution.assignments(state)
        ]
        came_back = False
        for arch in state.queue.archs():
            if self._wait_until(arch) <= now:
                for board in state.queue.remove(arch):
                    actions += accounting.end_board(state, board, self._why_nobody(arch))
                    came_back = came_back or bool(board.later)
        return actions + (self._distribute(now) if came_back else [])

    def _wait_until(self, arch: str) -> float:
        """Return the time until which boards of an architecture wait in the queue for a machine."""
        able = any(member.can(arch) for member in self._state.members)
        return math.inf if able else self._state.machines.wait_until(arch)

    def _hand(
        self, member: Member, boards: Sequence[OpenBoard], now: float, commits: set[int] | None = None
    ) -> Assign:
        """Assign boards to a machine; by default all commits that no order is to build, else ``commits``."""
        member.assigned(now)
        orders = []
        for board in boards:
            board.attempt += 1
            timeout = self._timeouts.timeout(board.job.board)
            wanted = board.unassigned if commits is None else commits
            if commits is None and self._state.policy.spread and member.trims and len(wanted) > 1:
                wanted = {min(wanted)}
                self._state.queue.put_back(board)
            backup = not wanted <= board.unassigned
            found = member.occupy(board.job.board)
            order = Order(board, set(wanted), member.name, board.attempt, timeout, now, member.slots, found)
            order.commits = set(wanted)
            member.orders[board.target] = order
            board.orders.append(order)
            self._state.given.setdefault(member.name, set()).add(board.target)
            orders.append(order)
        self._watchdog.set(member)
        return Assign(
            member.name,
            tuple(replace(order.board.job, commits=tuple(sorted(order.commits))) for order in orders),
            max(order.attempt for order in orders),
            max(order.timeout for order in orders),
            member.joined.share if member.name in self._state.lowered else 0,
            backup,
        )

    def _why_nobody(self, arch: str) -> str:
        """Return the reason why no machine builds boards of an architecture."""
        if not arch:
            return "its defconfig cannot be evaluated, so it has no architecture"
        reasons: dict[str, list[str]] = {}
        for name, reason in self._state.machines.out().items():
            reasons.setdefault(reason, []).append(name)
        out = "; ".join(f"{_names(there)}: {reason}" for reason, there in reasons.items())
        if out and not self._state.members:
            return f"no machine left: {out}"
        asked: dict[str, list[str]] = {}
        for name, lacking in self._state.lacking.items():
            if arch in lacking:
                asked.setdefault(lacking[arch], []).append(name)
        missing = "".join(f"; {one}, which was named for it, is not on {_names(on)}" for one, on in asked.items())
        return f"no machine has a toolchain for {arch}{missing}" + (f" (not in use: {out})" if out else "")

    # --- the end of the run (rules 14, 15) ---

    def _help(self, now: float) -> list[Action]:
        """Let idle machines help others, if that pays."""
        members = self._state.members
        if not self._state.policy.backup or self.finished:
            self._look = math.inf
            return []
        if now < self._looked + self._pause:
            # Asked once: that nobody has room any more is found out when the time comes.
            if self._look > self._looked + self._pause and self._may_help(members.with_room()):
                self._look = self._looked + self._pause
            return []
        room = members.with_room()
        orders = sum(len(member.orders) for member in members)
        self._pause = max(orders / _LOOK_ORDERS, _LOOK_LEAST)
        looks = self._may_help(room)
        self._look = now + max(self._pause, _LOOK_MOST) if looks else math.inf
        if not looks:
            return []
        self._looked = now
        actions: list[Action] = []
        kept, waited = self._state.queue.kept(), now - self._began
        for helper, board in work_stealing.take_over(list(members), room, kept, self._pace, now, waited):
            self._state.queue.take_kept(board)
            actions.append(self._hand(helper, [board], now))
        room = [member for member in members.with_room() if member.trims]
        for one in work_stealing.plan(members, room, self._pace, now):
            if one.backup:
                actions.append(self._hand(one.helper, [one.order.board], now, set(one.commits)))
            else:
                one.order.leaving, one.order.helper = frozenset(one.commits), one.helper
                one.helper.promised += 1
                actions.append(accounting.trim(one.order))
        return actions

    def _may_help(self, room: Sequence[Member]) -> bool:
        """Whether a machine with a free slot may help: its worker can skip commits, or boards wait for another."""
        return any(member.trims for member in room) or (bool(room) and self._state.queue.waits)

    def _left_off(self, event: CommitsLeftOff, now: float) -> list[Action]:
        """Assign the commits that a machine skipped to the machine that they were meant for."""
        found = self._order_of(event)
        if found is None:
            return []
        _, order = found
        helper, board, state = order.helper, order.board, self._state
        accounting.release_promised_slots(order)
        left = order.leaving & set(event.left_off) & order.awaited
        order.leaving -= left
        order.awaited -= left
        order.commits -= left
        actions: list[Action] = []
        if wanted := board.missing & left:
            if helper and state.members.get(helper.name) is helper and work_stealing.may_help(helper, board, order):
                actions.append(self._hand(helper, [board], now, wanted))
            elif wanted & board.unassigned:
                state.queue.put_back(board)
        if left:
            actions += accounting.close_if_through(state, order)
        return actions + self._give_out(now)


def _names(machines: Iterable[str]) -> str:
    """Name each machine once, in order."""
    return ", ".join(dict.fromkeys(machines))
