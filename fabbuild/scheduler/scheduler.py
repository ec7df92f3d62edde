"""The rules: which board goes where, what is tried again, what is final.

A pure state machine: events in, actions out (`fabbuild.scheduler.events_actions`). It does no I/O, starts no
thread and reads no
clock, so that it can be run with a thousand simulated machines in one thread, and every rule has a test without
a mock. Who holds what is kept in `fabbuild.scheduler.state`, what has ended in `fabbuild.scheduler.accounting`,
which machines there are in
`fabbuild.scheduler.machine_states`.

Ends
 1. Every board and commit that was asked for ends exactly once: recorded, or not built with a reason.

Who gets what
 2. A machine holds at most as many boards as it has slots. It gets its first ones when it joins and one more
    each time one of its orders is through.
 3. A machine gets only boards it has a toolchain for; ``sandbox`` can be built anywhere. The machine with the
    most unused capacity goes first. It gets boards that came back before others, then those that few machines
    can build. Among these, when it is known how long they are likely to take, a slot goes on with a board like
    its last one, until the longest takes as long as all that waits, shared by the slots: then that one is next.
    When nothing is known the given order holds. A board that came back goes first of all where a free slot built
    a part of it last.
 4. A board that was lost, met a fault or took too long on a machine goes to another that can build it, if one
    is in.
 5. An order, a board handed to a machine, awaits one answer a commit. It is through when all are there and no
    result is on hold; what still lacks a result goes back to the front of the pool.
 6. A result, and a file of it, is taken only for the order it belongs to: the machine holds the board, the
    attempt is the order's, the commit is awaited. Others are dropped. One for a board that was never given to
    the machine, or for a commit that does not exist, tells on the machine; one that comes twice or late does not.

What goes wrong
 7. A machine whose worker died, or that vanished, so that nobody knows, may have died of a board that it was
    building: these are suspect, not those it had not begun or was through with. A machine builds one suspect at
    a time, so that a board that kills takes no other along; a recorded result clears it. A board that workers
    died of twice ends as not built. Machines also vanish by chance, so with them it ends at the third loss,
    deaths counted. Either needs two machines, unless no other is in that could build the board.
 8. A board that takes longer than its timeout at one commit is ended by the worker, which drops the rest of that
    order. The first time it is built again, elsewhere if possible. From the second time on, whatever the commit,
    that is its result, and its other commits go on. When a worker does not end it, the machine is given up; a
    board that this happens to as its second timeout ends as not built.
 9. A result that looks like the machine's fault, or a failure without explanation, makes the machine check itself.
    Meanwhile it gets no boards and all its results are on hold. The first time, for a board at a commit, the
    result is not used, even if the machine is well: the check comes too late for a compiler that was broken for
    a moment. It is the board's own when it comes again, from another machine or where no other can build it, and
    the machine that it comes from is well. Short memory is never the board's fault while the machine builds
    others beside it; the machine then gets half the slots, and the board goes where fewer are built at a time,
    if there is such a machine. A machine that is not well is given up, and no result on hold is used. A board
    that met too many faults at a commit ends there as not built. What the worker itself could not do, as to check
    the commit out or to start make, is never the board's result, for nothing was built: when it comes again as
    above, the board ends there as not built. A machine whose worker says so time and again, of boards that met it
    for the first time and with nothing in between that was built, is given up whatever its check says.

Coming back
10. A machine that is lost is tried again, after a wait that doubles, and after a long one when it is lost too
    often. One that comes back in vain too often, that lied or that refuses is gone for good.
11. A board that no machine can build waits for those that are coming for the first time, however long, and for
    one that could build it when it was in, until that has been away for too long. Then it is not built, and it
    is said why.
12. In batch mode rule 2 reads: when no machine is coming for the first time any more, the boards are split among
    the idle ones by capacity, one list a machine; what comes back is split the same way.
13. When the run is stopped, all that is open ends as not built.

The end of the run
14. A machine with a free slot, for which nothing waits, is given the later part of an order of another machine,
    when that pays (`fabbuild.scheduler.work_stealing`). The other is told to leave it off first, and only what it
    says it has left
    off is given on: so no commit is built twice. What met a fault or a timeout is not split, nor what a worker died
    of; what a machine vanished with is on two machines at a time until a result clears it. It pays soonest where a
    free slot built a part of the board last, for little is to be made anew there.
15. Where the commit that is being built lasts longest, what is left of an order gets a backup, when that pays: a
    second order, of another attempt, on another machine. The first result that rules 5 to 9 let in is recorded; the
    others are told to leave it off, and what still comes of it is dropped, whatever it says. An order is through
    when it awaits nothing more; what it lacks goes back only when no other order is to bring it. An order with a
    backup may be split, too: what each is expected to bring first is its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fabbuild.model import Job, LossKind, Takes
from fabbuild.scheduler import work_stealing
from fabbuild.scheduler.accounting import Accounting, discard, too_late, trim, unpromise
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
    TimePassed,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.fault_policy import ROW, TIMEOUTS, FaultPolicy
from fabbuild.scheduler.machine_states import MachineStates
from fabbuild.scheduler.state import BoardQueue, Member, OpenBoard, Order
from fabbuild.scheduler.timeouts import Timeouts
from fabbuild.scheduler.watchdog import Watchdog
from fabbuild.scheduler.work_stealing import Pace

#: How often workers may die of a board before that counts.
_TWICE = 2
#: The same for losses of machines that were building it, whether their worker died or nobody knows.
_THRICE = 3

#: Seconds between two looks at who can be helped in the end of a run: at least, and at most while a slot is free.
_LOOK_LEAST, _LOOK_MOST = 1.0, 5.0
#: At each look so many orders may be gone through for a second until the next.
_LOOK_ORDERS = 500


class Scheduler:
    """The state of one run. See the module's text for the rules."""

    def __init__(
        self,
        jobs: Iterable[Job],
        commits: int,
        machines: Iterable[str],
        *,
        batch: bool = False,
        policy: Policy | None = None,
        takes: Mapping[str, Takes] | None = None,
    ) -> None:
        """Begin with every job in the pool and every machine coming.

        Args:
            jobs: one per board, with the indices of the commits that are wanted.
            commits: how many commits were sent; a result's index must be below it.
            machines: the names of all that are being brought up.
            batch: split the boards beforehand instead of feeding them one by one.
            policy: how patient the run is.
            takes: how long each board is likely to take, by name; without it boards go in the given order.
        """
        self._commits = commits
        self._batch = batch
        self._policy = policy or Policy()
        self._roster = MachineStates(machines, self._policy)
        self._ledger = Accounting(jobs, self._roster, self._policy, batch=batch)
        self._members = self._ledger.members
        self._pool = self._ledger.pool = BoardQueue(self._ledger.open.values(), self._members, takes)
        #: The slots of machines that ran out of memory.
        self._lowered: dict[str, int] = {}
        self._judge = FaultPolicy(self._ledger, self._lowered, batch=batch)
        self._alarms = Watchdog(self._members, self._policy.slack, batch=batch)
        self._deadlines = Timeouts(self._policy)
        self._pace = Pace(takes or {})
        #: When it was looked last whether somebody can be helped, and when it is to be done next.
        self._looked, self._look, self._pause = -math.inf, math.inf, _LOOK_LEAST
        #: What each machine was ever given: a late result for one of these is no lie.
        self._given: dict[str, set[str]] = {}
        self._lacking: dict[str, Mapping[str, str]] = {}
        self._joins = 0

    @property
    def batch(self) -> bool:
        """Whether boards are split beforehand (rule 12)."""
        return self._batch

    @property
    def asked(self) -> int:
        """How many results were asked for."""
        return self._ledger.asked

    @property
    def recorded(self) -> int:
        """How many of them are written down."""
        return self._ledger.recorded

    @property
    def not_built(self) -> int:
        """How many ended without."""
        return self._ledger.not_built

    @property
    def finished(self) -> bool:
        """Whether everything that was asked for has ended."""
        return not self._ledger.open

    def holds(self, machine: str) -> tuple[str, ...]:
        """Give the boards a machine holds now."""
        member = self._members.get(machine)
        return tuple(member.orders) if member else ()

    def next_due(self) -> float | None:
        """Give the time from which on a `TimePassed` does something; None: only another event does."""
        if self.finished:
            return None
        hopes = [self._hope(arch) for arch in self._pool.archs()]
        due = min((*self._roster.dues(), self._alarms.due(), self._look, *hopes))
        return due if due < math.inf else None

    def awaited(self) -> tuple[float, list[str]] | None:
        """Give until when the run, without a machine, waits for which to come back; None: it does not."""
        if self._members or self.finished or self._roster.first:
            return None
        return self._roster.awaited()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event and say what is to be done because of it, in order.

        Args:
            event: what happened.
            now: the time in seconds, on a clock that never goes back.
        """
        if isinstance(event, ResultIn):
            return self._result(event, now)
        if isinstance(event, FileIn):
            return self._file(event, now)
        if self.finished:
            return []
        if isinstance(event, Joined) or (isinstance(event, Lost) and event.lacking):
            self._lacking[event.machine] = event.lacking
        if isinstance(event, Joined):
            return self._joined(event, now)
        if isinstance(event, Started):
            return self._started(event, now)
        if isinstance(event, CommitsLeftOff):
            return self._trimmed(event, now)
        if isinstance(event, CheckDone):
            return self._checked(event, now)
        if isinstance(event, BatchEnded):
            return self._batch_ended(event, now)
        if isinstance(event, SlotLost):
            return self._slot_lost(event)
        if isinstance(event, Lost):
            return self._lost(event, now)
        if isinstance(event, TimePassed):
            return self._tick(now)
        return self._stopped(event)

    # --- machines come, go and come back (rules 7, 10, 13) ---

    def _joined(self, event: Joined, now: float) -> list[Action]:
        if event.slots < 1 or event.capacity <= 0:
            raise ValueError(f"machine {event.machine} joins with {event.slots} slots, capacity {event.capacity}")
        if event.machine in self._members:
            raise ValueError(f"machine {event.machine} joins twice")
        if not self._roster.joined(event):
            return [CloseSession(event.machine, "it was given up")]
        slots = min(event.slots, self._lowered.get(event.machine, event.slots))
        self._joins += 1
        self._members[event.machine] = Member(event, slots, number=self._joins)
        self._ledger.room.add(event.machine)
        self._pool.members_changed()
        return self._give_out(now)

    def _slot_lost(self, event: SlotLost) -> list[Action]:
        member = self._members.get(event.machine)
        if member is None:
            return []
        member.slots = max(member.slots - 1, 1)
        return [LowerSlots(event.machine, member.slots, event.why)]

    def _lost(self, event: Lost, now: float) -> list[Action]:
        member = self._members.get(event.machine)
        ends = self._suspect(member, event) if member and event.how in (LossKind.DIED, LossKind.VANISHED) else {}
        return self._leave(event.machine, event.reason, event.how, now, ends) + self._give_out(now)

    def _suspect(self, member: Member, event: Lost) -> dict[str, str]:
        """Note what a machine was building when it was lost; give those that end with it, with the reason."""
        ends: dict[str, str] = {}
        for order in member.orders.values():
            if order.started and order.waits & order.board.missing:
                board = order.board
                board.losses.append(event)
                enough = 2 if self._pool.others(member, board.arch) else 1
                lost = [loss.machine for loss in board.losses]
                died = [loss.machine for loss in board.losses if loss.how is LossKind.DIED]
                if len(died) >= _TWICE and len(set(died)) >= enough:
                    ends[board.target] = f"kills workers (on {_names(died)})"
                elif len(lost) >= _THRICE and len(set(lost)) >= enough:
                    ends[board.target] = f"its machines were lost three times (on {_names(lost)})"
        return ends

    def _leave(self, name: str, reason: str, how: LossKind, now: float, ends: Mapping[str, str]) -> list[Action]:
        """Take a machine out, and back what it holds; what is in ``ends`` ends with that reason."""
        member = self._members.pop(name, None)
        self._pool.members_changed()
        away = self._roster.lost(name, reason, how, now, worked=member is not None and member.worked)
        actions: list[Action] = [away] if away else []
        for order in list(member.orders.values()) if member else ():
            board = order.board
            actions += discard(order, reason)
            if board.target in ends:
                actions += self._ledger.end(board, ends[board.target])
            actions += self._ledger.close(order, reason)
        return actions

    def _tick(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while (found := self._alarms.first()) and found[0] <= now:
            member = found[1]
            stuck = [order for due, order in member.dues(self._policy.slack) if due <= now]
            actions += self._stuck(member, [order for order in stuck if order], now)
        actions += [BringUp(name) for name in self._roster.call(now)]
        # A tick alone frees nothing: it is looked who can be helped when that is due.
        return actions + (self._give_out(now) if actions or now >= self._look else self._distribute(now))

    def _stopped(self, event: RunStopped) -> list[Action]:
        actions: list[Action] = []
        for member in self._members.values():
            for order in member.orders.values():
                actions += discard(order, event.reason)
            member.orders.clear()
        self._pool.clear()
        for board in list(self._ledger.open.values()):
            actions += self._ledger.end(board, event.reason)
        return actions

    # --- boards that are built (rules 5, 6, 8) ---

    def _started(self, event: Started, now: float) -> list[Action]:
        order = self._order(event)
        if order and not order.started:
            order.started, order.sign = True, now
            self._members[event.machine].sign = now
        return []

    def _file(self, event: FileIn, now: float) -> list[Action]:
        order = self._order(event)
        if order is None or event.upto not in order.waits:
            return [self._drop(event)]
        order.moved = now
        return []

    def _order(self, event: Started | ResultIn | FileIn | CommitsLeftOff) -> Order | None:
        """Give the order that the machine speaks of, if it has it."""
        member = self._members.get(event.machine)
        order = member.orders.get(event.board) if member else None
        return order if order and event.attempt in (0, order.attempt) else None

    def _result(self, event: ResultIn, now: float) -> list[Action]:
        order = self._order(event)
        if order is None or event.upto not in order.waits:
            if order is not None:
                order.sign = now  # a worker that cannot be told which commits are wanted builds them all
            return [self._drop(event)]
        member = self._members[event.machine]
        if event.fault is None and order.started and not event.carried:
            self._deadlines.took(order.board.job.board, now - order.sign)
            self._pace.took(order, member, now - order.sign)
        order.started, order.sign, member.sign = True, now, now
        order.answers += 1
        order.waits.discard(event.upto)
        order.leaving -= {event.upto}
        if event.upto not in order.board.missing:
            return self._too_late(event, order, now)
        suspect = bool(order.board.losses)
        actions = self._judge.judge(member, order, event.upto, event.fault)
        if member.row >= ROW:
            asked = [action for action in actions if not isinstance(action, Check)]
            why = f"its worker failed {ROW} times in a row: {order.why}"
            return asked + self._give_up(member, why, now) + self._give_out(now)
        cleared = suspect and not order.board.losses
        actions += self._ledger.close_if_through(order)
        # A slot that is free, or a suspect that is cleared, is all that lets another board in.
        return actions + self._give_out(now) if order.through or cleared else actions

    def _too_late(self, event: ResultIn, order: Order, now: float) -> list[Action]:
        """Drop what another machine brought before; whatever it says, it is nobody's fault (rule 15)."""
        if event.fault and event.fault.kind is FaultKind.TIMEOUT:
            order.why = event.fault.words
            order.waits.clear()  # its worker drops the rest of the order
        drop = too_late(event.machine, event.board, event.upto)
        if self.finished:
            return [drop]
        return [drop, *self._ledger.close_if_through(order), *self._give_out(now)]

    def _drop(self, event: ResultIn | FileIn) -> Drop:
        def drop(why: str, *, suspect: bool = False) -> Drop:
            return Drop(event.machine, event.board, event.upto, why, suspect=suspect)

        member = self._members.get(event.machine)
        if member is None:
            return drop("it came after its machine was given up")
        if event.board not in self._given.get(event.machine, ()) or not 0 <= event.upto < self._commits:
            return drop("nobody asked this machine for it", suspect=True)
        board = self._ledger.open.get(event.board)
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
            awaited = order.waits & board.missing
            if not awaited:
                continue
            board.timeouts.append(member.name)
            actions += self._ledger.fault(
                member, order, min(awaited), Fault(FaultKind.TIMEOUT, "its build does not end")
            )
            if len(board.timeouts) >= TIMEOUTS:
                ends[board.target] = f"timed out (on {_names(board.timeouts)})"
        return actions + self._leave(member.name, why, LossKind.FAILED, now, ends)

    def _batch_ended(self, event: BatchEnded, now: float) -> list[Action]:
        member = self._members.get(event.machine)
        if member is None or not member.in_batch:
            return []
        member.in_batch = False
        actions: list[Action] = []
        for order in list(member.orders.values()):
            for upto in sorted(order.waits):
                order.why = "its worker ended the batch without all results"
                actions += self._ledger.note(member, order.board, upto, Fault(FaultKind.WORKER, order.why))
            order.waits.clear()
            actions += self._ledger.close_if_through(order)
        return actions + self._give_out(now)

    # --- a machine has checked itself (rule 9) ---

    def _checked(self, event: CheckDone, now: float) -> list[Action]:
        member = self._members.get(event.machine)
        if member is None or not member.checking:
            return []
        member.checking = False
        self._ledger.room.add(member.name)
        actions: list[Action] = []
        if event.well:
            for order in list(member.orders.values()):
                held, order.held = order.held, {}
                for upto, fault in held.items():
                    actions += self._judge.settle(member, order, upto, fault)
                actions += self._ledger.close_if_through(order)
        else:
            actions += self._give_up(member, event.words or "its check says that it is not well", now)
        return actions + self._give_out(now)

    def _give_up(self, member: Member, why: str, now: float) -> list[Action]:
        """Let a machine go that is not well: nothing on hold is used, and what looks like its fault is noted."""
        actions: list[Action] = [CloseSession(member.name, why)]
        for order in member.orders.values():
            held = dict(order.held)
            actions += discard(order, why)
            for upto, fault in held.items():
                actions += self._ledger.fault(member, order, upto, fault) if fault else []
        return actions + self._leave(member.name, why, LossKind.FAILED, now, {})

    # --- giving out (rules 2 to 4, 11, 12) ---

    def _give_out(self, now: float) -> list[Action]:
        return self._distribute(now) + self._help(now)

    def _distribute(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if self._pool:
            actions += self._split(now) if self._batch else self._feed(now)
            for arch in self._pool.archs():
                if self._hope(arch) <= now:
                    for board in self._pool.remove(arch):
                        actions += self._ledger.end(board, self._why_nobody(arch))
        return actions

    def _hope(self, arch: str) -> float:
        """Give the time until which the boards of an architecture that are in the pool wait there."""
        able = any(member.can(arch) for member in self._members.values())
        return math.inf if able else self._roster.hope(arch)

    def _feed(self, now: float) -> list[Action]:
        """Hand out boards one by one while a machine with a free slot can take one."""
        actions: list[Action] = []
        while self._pool:
            room = sorted(self._with_room(), key=lambda m: (-m.unused, m.number))
            if home := self._pool.home(room):
                actions.append(self._hand(home[0], [home[1]], now))
                continue
            for member in room:
                board = self._pool.take(member)
                if board is not None:
                    actions.append(self._hand(member, [board], now))
                    break
            else:
                break
        return actions

    # --- the end of the run (rules 14, 15) ---

    def _help(self, now: float) -> list[Action]:
        """Let machines with nothing to do help others, if it pays."""
        if self._batch or not self._policy.backup or self.finished:
            self._look = math.inf
            return []
        if now < self._looked + self._pause:
            # Asked once: that nobody has room any more is found out when the time comes.
            if self._look > self._looked + self._pause and any(m.joined.trims for m in self._with_room()):
                self._look = self._looked + self._pause
            return []
        room = [member for member in self._with_room() if member.joined.trims]
        orders = sum(len(member.orders) for member in self._members.values())
        self._pause = max(orders / _LOOK_ORDERS, _LOOK_LEAST)
        self._look = now + max(self._pause, _LOOK_MOST) if room else math.inf
        if not room:
            return []
        self._looked = now
        actions: list[Action] = []
        for one in work_stealing.plan(self._members.values(), room, self._pace, now):
            if one.backup:
                actions.append(self._hand(one.helper, [one.order.board], now, set(one.commits)))
            else:
                one.order.leaving, one.order.helper = frozenset(one.commits), one.helper
                one.helper.promised += 1
                actions.append(trim(one.order))
        return actions

    def _trimmed(self, event: CommitsLeftOff, now: float) -> list[Action]:
        """Give what a machine left off to the one it was meant for."""
        order = self._order(event)
        if order is None:
            return []
        helper, board = order.helper, order.board
        unpromise(order)
        left = order.leaving & set(event.left_off) & order.waits
        order.leaving -= left
        order.waits -= left
        order.commits -= left
        actions: list[Action] = []
        if wanted := board.missing & left:
            if helper and self._members.get(helper.name) is helper and work_stealing.may_help(helper, board, order):
                actions.append(self._hand(helper, [board], now, wanted))
            elif wanted & board.loose:
                self._pool.put_back(board)
        if left:
            actions += self._ledger.close_if_through(order)
        return actions + self._give_out(now)

    def _with_room(self) -> list[Member]:
        """Give the machines that can be given a board."""
        members = (self._members.get(name) for name in self._ledger.room)
        found = [m for m in members if m is not None and m.free > 0 and not m.checking]
        self._ledger.room = {member.name for member in found}
        return found

    def _split(self, now: float) -> list[Action]:
        """Split the pool among the idle machines by capacity."""
        idle = [m for m in self._members.values() if not m.in_batch and not m.checking]
        if self._roster.first or not idle:
            return []
        shares = self._pool.deal(idle)
        return [self._hand(member, share, now) for member, share in shares if share]

    def _hand(
        self, member: Member, boards: Sequence[OpenBoard], now: float, commits: set[int] | None = None
    ) -> Assign:
        member.worked, member.in_batch, member.sign = True, self._batch, now
        orders = []
        for board in boards:
            board.attempt += 1
            timeout = self._deadlines.timeout(board.job.board)
            wanted = board.loose if commits is None else commits
            backup = not wanted <= board.loose
            found = member.occupy(board.job.board)
            order = Order(board, set(wanted), member.name, board.attempt, timeout, now, member.slots, found)
            order.commits = set(wanted)
            member.orders[board.target] = order
            board.orders.append(order)
            self._given.setdefault(member.name, set()).add(board.target)
            orders.append(order)
        self._alarms.set(member)
        return Assign(
            member.name,
            tuple(replace(order.board.job, commits=tuple(sorted(order.commits))) for order in orders),
            max(order.attempt for order in orders),
            max(order.timeout for order in orders),
            member.joined.share if member.name in self._lowered else 0,
            backup,
        )

    def _why_nobody(self, arch: str) -> str:
        if not arch:
            return "its defconfig cannot be evaluated, so it has no architecture"
        reasons: dict[str, list[str]] = {}
        for name, reason in self._roster.out().items():
            reasons.setdefault(reason, []).append(name)
        out = "; ".join(f"{_names(there)}: {reason}" for reason, there in reasons.items())
        if out and not self._members:
            return f"no machine left: {out}"
        asked: dict[str, list[str]] = {}
        for name, lacking in self._lacking.items():
            if arch in lacking:
                asked.setdefault(lacking[arch], []).append(name)
        missing = "".join(f"; {one}, which was named for it, is not on {_names(on)}" for one, on in asked.items())
        return f"no machine has a toolchain for {arch}{missing}" + (f" (not in use: {out})" if out else "")


def _names(machines: Iterable[str]) -> str:
    """Name each machine once, in order."""
    return ", ".join(dict.fromkeys(machines))
