"""A simulated world for the scheduler: machines that come, build, lie, hang and die, and what must hold after each event.

It keeps its own books of what was sent to whom and what came of it, from events and actions alone. All choices
are made by a function that is given a list, so that both hypothesis and a seeded generator can drive it.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.events_actions import (
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
    LossKind,
    Lost,
    LowerSlots,
    PartDone,
    Policy,
    Record,
    Requeue,
    ResultIn,
    RunStopped,
    Started,
    StopAtReached,
    TimePassed,
    Trim,
)
from fabbuild.scheduler.fault_patterns import Fault, FaultKind
from fabbuild.scheduler.scheduler import Scheduler

ARCHS = ("arm", "riscv64", "sandbox")
NAMES = ("m1", "m2", "m3")
POLICY = Policy(floor=90, slack=20, restarts=4, window=300, aside=60, patience=100, fruitless=4, most_faults=4)

DISK = Fault(FaultKind.DISK, "no space left")
MEMORY = Fault(FaultKind.MEMORY, "out of memory")
TIMEOUT = Fault(FaultKind.TIMEOUT, "it took too long")
UNEXPLAINED = Fault(FaultKind.UNEXPLAINED, "make failed")
CHECKOUT = Fault(FaultKind.CHECKOUT, "cannot check out", reported=True)

#: How a run may go on once the choices are used up: what every machine does from then on.
ENDINGS = (
    "fair",
    "dead",
    "hung",
    "faulty",
    "short",
    "sick",
    "odd",
    "slow",
    "unable",
    "killer",
    "loser",
    "silent",
    "stop",
)


@dataclass
class Order:
    attempt: int
    timeout: float
    left: list  # what the worker has still to build
    waits: set  # what has no answer
    sign: float
    slots: int
    commits: set = field(default_factory=set)  # what it brings if it is not left off
    leaving: set = field(default_factory=set)  # what it was told to leave off and has not
    held: set = field(default_factory=set)
    short: bool = False
    hung: bool = False
    started: bool = False
    moved: float = -math.inf  # when a piece of a file came

    def stuck_at(self, slack):
        return max(self.sign + self.timeout, self.moved) + slack


@dataclass
class Machine:
    state: str = "coming"  # coming, in, away, gone
    first: bool = True
    joined: Joined = None
    slots: int = 0
    orders: dict = field(default_factory=dict)
    checking: bool = False
    in_batch: bool = False
    worked: bool = False
    brought: bool = False
    lost: float = -math.inf
    due: float = math.inf
    vain: int = 0  # joins in a row without a result
    row: int = 0  # failures of its worker in a row, of boards that met none before


class World:
    def __init__(self, archs, commits, *, batch=False, machines=NAMES, policy=POLICY, likely=None):
        self.arch = {f"b{i}": arch for i, arch in enumerate(archs)}
        self.commits = commits
        self.batch = batch
        self.policy = policy
        self.wanted = {(board, upto) for board in self.arch for upto in range(commits)}
        jobs = [Job(Board(b, a), tuple(range(commits))) for b, a in self.arch.items()]
        # A later commit takes so long that it often pays to split.
        expected = dict.fromkeys(self.arch, ExpectedDuration(20.0, 30.0))
        self.likely = likely or {}  # whose directories each machine is likely to have, until it comes
        self.schedule = Scheduler(
            jobs, commits, machines, batch=batch, policy=policy, expected=expected, likely=self.likely
        )
        self.trims = []  # (machine, order, what stays) that a machine has not answered
        self.machines = {name: Machine() for name in machines}
        self.now = 1000.0
        self.ended = {}
        self.recorded = 0
        self.held = {}
        self.past = []  # (machine, board, attempt, commit) of everything ever handed out
        self.given = defaultdict(set)
        self.lowered = {}
        self.attempts = Counter()
        self.losses = defaultdict(list)  # board: [(machine, how)] since its last recorded result
        self.tried = {}  # boards that were being built on the machine that is lost now: why each ends, or nothing
        self.timeouts = Counter()
        self.stumbled = {}  # board: the attempt at which a worker failed at it first
        self.met = defaultdict(list)  # (board, commit): [(machine, kind, words)]
        self.avoid = defaultdict(set)
        self.crowd = {}  # board: on so many slots memory was short
        self.answers = {}  # (machine, board, commit): whether the last answer that was awaited was a failure
        self.failed = set()  # boards with a failure among their recorded results
        self.stopped = ""  # the reason, where enough boards have failed
        self.log = []
        self._enter = {
            Assign: self._on_assign,
            Record: self._on_record,
            Hold: self._on_hold,
            Discard: self._on_discard,
            Faulted: self._on_faulted,
            Check: self._on_check,
            LowerSlots: self._on_slots,
            CloseSession: self._on_set_aside,
            Away: self._on_away,
            BringUp: self._on_bring_up,
            BoardDone: self._on_board_done,
            PartDone: self._on_part_done,
            Trim: self._on_trim,
            Requeue: self._on_requeue,
            EndUnbuilt: self._on_not_built,
            StopAtReached: self._on_stop_at,
            Drop: self._on_drop,
        }

    # --- what the books say ---

    def missing(self, board):
        return {upto for b, upto in self.wanted if b == board} - {u for b, u in self.ended if b == board}

    def members(self):
        return {name: m for name, m in self.machines.items() if m.state == "in"}

    def holders(self, board):
        return [name for name, m in self.members().items() if board in m.orders]

    def orders(self, board):
        return [m.orders[board] for m in self.members().values() if board in m.orders]

    def loose(self, board):
        """What is missing and nobody is to bring."""
        return self.missing(board).difference(*(o.waits | o.held for o in self.orders(board)))

    def able(self, board, but=()):
        return [n for n, m in self.members().items() if n not in but and m.joined.can(self.arch[board])]

    def owners(self, board):
        """The machines for which the board waits, because nobody was given it and they have its directory."""
        if self.batch or self.attempts[board]:
            return set()
        coming = {n for n, m in self.machines.items() if m.first and board in self.likely.get(n, ())}
        return coming | {n for n in self.able(board) if board in (self.machines[n].joined.outputs or ())}

    def suits(self, name, board):
        """Whether no other machine that is in is better for the board."""
        crowd = self.crowd.get(board, math.inf)
        free = {n for n in self.able(board) if board not in self.machines[n].orders}
        better = [n for n in free - self.avoid[board] if self.machines[n].slots < crowd]
        return name in better or not better

    def suspects(self, name):
        return [board for board in self.machines[name].orders if self.losses[board]]

    def spent(self, board):
        """Why a board ends for the machines that were lost while they built it; empty: it does not."""
        lost = dict.fromkeys(name for name, _ in self.losses[board])
        died = dict.fromkeys(name for name, how in self.losses[board] if how is LossKind.DIED)
        deaths = sum(how is LossKind.DIED for _, how in self.losses[board])
        nobody = not self.able(board)
        if deaths > 1 and (nobody or len(died) > 1):
            return f"kills workers (on {', '.join(died)})"
        if len(self.losses[board]) > 2 and (nobody or len(lost) > 1):
            return f"its machines were lost three times (on {', '.join(lost)})"
        return ""

    def hope(self, board):
        """Until when the board may wait for a machine that is not in."""
        times = [-math.inf]
        for m in self.machines.values():
            if m.state == "coming" and m.first:
                times.append(math.inf)
            elif m.joined and m.joined.can(self.arch[board]):
                if m.state == "coming":
                    times.append(math.inf)
                if m.state == "away":
                    times.append(m.lost + self.policy.patience)
        return max(times)

    # --- one event ---

    def do(self, event):
        self.log.append((self.now, event))
        was_finished = self.schedule.finished
        taken = self._foresee(event)
        actions = self.schedule.handle(event, self.now)
        self.log.append(actions)
        if was_finished:
            assert all(isinstance(a, Drop) for a in actions), "something is done though all has ended"
            return actions
        self._answered(event, taken, actions)
        for action in actions:
            self._enter[type(action)](action, event)
        self.check()
        if isinstance(event, TimePassed):
            self._nothing_stuck()
        for action in actions:
            if isinstance(action, Drop) and action.suspect and self.machines[action.machine].state == "in":
                self.lose(action.machine, LossKind.UNTRUSTED)
        return actions

    def _foresee(self, event):
        """Enter in the books what the event itself means; for a result: whether it belongs to an order."""
        m = self.machines.get(getattr(event, "machine", None))
        self.tried = {}
        if isinstance(event, Joined):
            m.state, m.first, m.joined = "in", False, event
            m.slots = min(event.slots, self.lowered.get(event.machine, event.slots))
            m.orders, m.checking, m.in_batch, m.worked, m.brought = {}, False, False, False, False
            m.row = 0
        elif isinstance(event, Lost):
            suspects = [
                b
                for b, order in m.orders.items()
                if m.state == "in" and order.started and order.waits & self.missing(b)
            ]
            self._out(m)
            if event.how in (LossKind.DIED, LossKind.VANISHED):
                for board in suspects:
                    self.losses[board].append((event.machine, event.how))
                    self.tried[board] = self.spent(board)
            if event.how is LossKind.UNNEEDED:
                m.state = "gone"  # without a word
        elif isinstance(event, CommitsLeftOff):
            order = m.orders.get(event.board) if m.state == "in" else None
            if order and order.attempt == event.attempt:
                left = order.leaving & set(event.left_off) & order.waits
                order.leaving -= left
                order.waits -= left
                order.commits -= left
        elif isinstance(event, CheckDone):
            m.checking = False
        elif isinstance(event, BatchEnded):
            m.in_batch = False
            for board, order in m.orders.items():
                for upto in sorted(order.waits):
                    text = "its worker ended the batch without all results"
                    self.met[board, upto].append((event.machine, FaultKind.WORKER, text))
                order.waits.clear()
        elif isinstance(event, Started):
            order = m.orders.get(event.board)
            if order and event.attempt in (0, order.attempt) and not order.started:
                order.started, order.sign = True, self.now
        elif isinstance(event, FileIn) and m.state == "in":
            order = m.orders.get(event.board)
            if order and event.attempt in (0, order.attempt) and event.upto in order.waits:
                order.moved = self.now
        elif isinstance(event, ResultIn) and m.state == "in":
            order = m.orders.get(event.board)
            if order and event.attempt in (0, order.attempt) and event.upto in order.waits:
                order.started, order.sign = True, self.now
                order.waits.discard(event.upto)
                order.leaving.discard(event.upto)
                self.answers[event.machine, event.board, event.upto] = event.failed
                late = event.upto not in self.missing(event.board)
                if event.fault is TIMEOUT:
                    self.timeouts[event.board] += not late
                    order.waits.clear()
                if not late and event.fault is None:
                    m.row = 0
                if not late and event.fault is CHECKOUT:
                    first = self.stumbled.setdefault(event.board, order.attempt)
                    m.row += first == order.attempt
                return "late" if late else order
        return None

    def _out(self, m):
        if m.state == "in":
            m.lost = self.now
            m.vain = 0 if m.brought else m.vain + m.worked
        m.state, m.first, m.checking, m.in_batch = "away", False, False, False
        m.due = math.inf

    def _answered(self, event, order, actions):
        if isinstance(event, FileIn):
            assert all(isinstance(a, Drop) for a in actions)
            return
        if not isinstance(event, ResultIn):
            assert not any(isinstance(a, (Drop, Hold)) for a in actions)
            return
        drops = [a for a in actions if isinstance(a, Drop)]
        given_up = next((i for i, a in enumerate(actions) if isinstance(a, CloseSession)), len(actions))
        verdicts = [a for a in actions[:given_up] if isinstance(a, (Record, Hold, Faulted))]
        if order == "late":
            assert not verdicts, "a second record"
            assert [d.asked for d in drops] == [True], "a late result tells on its machine"
            return
        if order is not None:
            assert not drops, "a result that was awaited is dropped"
            assert [(v.machine, v.board, v.upto) for v in verdicts] == [(event.machine, event.board, event.upto)]
            return
        assert not verdicts, "a result that was not awaited is used"
        assert len(drops) == len(actions) == 1
        invented = event.board not in self.given[event.machine] or not 0 <= event.upto < self.commits
        assert drops[0].suspect == (invented and event.machine in self.members())

    # --- what each action must be, and what it means ---

    def _on_assign(self, action, event):
        assert not self._enough_failed(), "work though enough boards have failed"
        m = self.machines[action.machine]
        assert m.state == "in", "work for a machine that is not in"
        assert not m.checking, "work for a machine that is being checked"
        assert not (self.batch and m.in_batch), "a second list"
        assert not (self.batch and any(x.first for x in self.machines.values()))
        assert action.jobs
        m.worked, m.in_batch = True, self.batch
        for job in action.jobs:
            board = job.board.target
            assert m.joined.can(self.arch[board])
            assert board not in m.orders, "it holds a part of it"
            commits = set(job.commits)
            split = isinstance(event, CommitsLeftOff) and board == event.board
            if action.backup:
                assert not self.batch
                assert commits <= self.missing(board)
                copies = [sum(upto in o.waits for o in self.orders(board)) for upto in commits]
                assert max(copies) in (1, 2), "no backup, or one too many"
                assert split or min(copies) > 0, "no backup"
            elif split:
                assert commits <= self.loose(board), "two build it"
            else:
                assert commits == self.loose(board), "two build it, or nobody"
            if self.losses[board] and action.backup:
                assert [how for _, how in self.losses[board]] == [LossKind.VANISHED]
                assert len(list(self.orders(board))) < 2, "a third machine at risk"
            assert job.commits == tuple(sorted(job.commits))
            assert job.commits
            assert action.backup or split or self.suits(action.machine, board), "another could take it"
            assert not (self.losses[board] and self.suspects(action.machine)), "two suspects side by side"
            self.attempts[board] += 1
            assert self.attempts[board] <= action.attempt
            assert self.batch or self.attempts[board] == action.attempt
            m.orders[board] = Order(
                self.attempts[board],
                action.timeout,
                list(job.commits),
                set(job.commits),
                self.now,
                m.slots,
                commits,
            )
            self.given[action.machine].add(board)
            self.past += [(action.machine, board, self.attempts[board], upto) for upto in job.commits]
        assert self.batch or len(m.orders) <= m.slots, "more than its slots"
        assert action.timeout == self.policy.timeout or action.timeout >= self.policy.floor
        assert action.jobs_limit == (m.joined.share if action.machine in self.lowered else 0)

    def _on_trim(self, action, event):
        m = self.machines[action.machine]
        order = m.orders[action.board]
        assert m.joined.trims
        assert not self.batch
        assert action.attempt == order.attempt
        assert set(action.commits) <= order.waits
        order.leaving = order.waits - set(action.commits)
        assert order.leaving
        self.trims.append((action.machine, order, action.board, set(action.commits)))

    def _end(self, board, upto, how):
        assert (board, upto) in self.wanted, "invented"
        assert (board, upto) not in self.ended, "ended twice"
        self.ended[board, upto] = how

    def _on_record(self, action, event):
        key = action.machine, action.board, action.upto
        m = self.machines[action.machine]
        assert m.state == "in"
        assert self.held.get(key) is not CHECKOUT, "nothing was built, and it is recorded"
        m.orders[action.board].held.discard(action.upto)
        if key in self.held:
            assert isinstance(event, CheckDone)
            assert event.well
            assert event.machine == action.machine
            del self.held[key]
        else:
            assert isinstance(event, ResultIn), "recorded without a result"
            assert not m.checking
            assert event.fault is None or (event.fault is TIMEOUT and self.timeouts[action.board] >= 2)
        assert action.attempt == m.orders[action.board].attempt
        assert action.after == tuple(f"{name}: {words}" for name, _, words in self.met[key[1:]])
        self._end(action.board, action.upto, action)
        if self.answers[key]:
            self.failed.add(action.board)
        self.recorded += 1
        self.losses[action.board].clear()
        m.brought, m.vain = True, 0

    def _is_machines(self, event, order):
        if event.fault is TIMEOUT:
            return self.timeouts[event.board] == 1
        if event.fault is None:
            return False
        before = {n for n, kind, _ in self.met[event.board, event.upto] if kind is not FaultKind.TIMEOUT}
        if not before or (event.fault is MEMORY and order.slots > 1):
            return True
        others = [n for n in self.able(event.board, before) if n != event.machine]
        return event.machine in before and bool(others)

    def _on_hold(self, action, event):
        key = action.machine, action.board, action.upto
        assert key not in self.held
        assert key[1:] not in self.ended
        m = self.machines[action.machine]
        checked = event.fault not in (None, TIMEOUT)
        assert m.checking or checked, "on hold for nothing"
        assert not self._is_machines(event, m.orders[action.board])
        self.held[key] = event.fault
        m.orders[action.board].held.add(action.upto)

    def _on_discard(self, action, event):
        self.held.pop((action.machine, action.board, action.upto))
        order = self.machines[action.machine].orders.get(action.board)
        if order:
            order.held.discard(action.upto)

    def _on_faulted(self, action, event):
        m = self.machines[action.machine]
        if m.state == "away" and isinstance(event, ResultIn):
            assert (action.machine, action.board, action.upto) not in self.held, "it is still on hold"
        elif isinstance(event, ResultIn):
            order = m.orders[action.board]
            assert self._is_machines(event, order), "the board's own failure is not used"
            if event.fault is MEMORY and order.slots > 1 and not self.batch:
                order.short = True
                self.crowd[action.board] = min(order.slots, self.crowd.get(action.board, math.inf))
        elif isinstance(event, TimePassed):
            assert action.fault.kind is FaultKind.TIMEOUT
            order = m.orders[action.board]
            assert self.now >= order.stuck_at(self.policy.slack) or self.batch
            self.timeouts[action.board] += 1
            order.hung = True
        else:
            assert isinstance(event, CheckDone)
            assert not event.well or action.fault is CHECKOUT
            assert (action.machine, action.board, action.upto) not in self.held, "it is still on hold"
        assert (action.board, action.upto) not in self.ended
        self.met[action.board, action.upto].append((action.machine, action.fault.kind, action.fault.words))

    def _on_check(self, action, event):
        m = self.machines[action.machine]
        assert m.state == "in"
        assert not m.checking
        assert isinstance(event, ResultIn)
        assert event.fault not in (None, TIMEOUT)
        assert self.arch[event.board] in action.archs
        m.checking = True

    def _on_slots(self, action, event):
        m = self.machines[action.machine]
        assert event.fault is MEMORY
        assert 1 <= action.slots == m.slots // 2
        m.slots = self.lowered[action.machine] = action.slots

    def _on_set_aside(self, action, event):
        m = self.machines[action.machine]
        assert m.state == "in"
        failing = isinstance(event, ResultIn) and event.fault is CHECKOUT and m.row >= 3
        assert failing or isinstance(event, TimePassed) or (isinstance(event, CheckDone) and not event.well)
        self._out(m)

    def _on_away(self, action, event):
        m = self.machines[action.machine]
        assert m.state == "away"
        final = isinstance(event, Lost) and event.how in (LossKind.UNTRUSTED, LossKind.REFUSED, LossKind.UNNEEDED)
        vain = m.vain >= self.policy.fruitless
        assert (action.again_in is None) == (final or vain)
        if action.again_in is None:
            m.state = "gone"
        else:
            assert self.policy.backoff <= action.again_in <= max(self.policy.aside, self.policy.backoff_most)
            assert not action.aside or action.again_in >= self.policy.aside
            m.due = self.now + action.again_in

    def _on_bring_up(self, action, event):
        m = self.machines[action.machine]
        assert m.state == "away", "it is there, or gone for good"
        assert self.now >= m.due
        m.state = "coming"

    def _closed(self, action, event):
        m = self.machines[action.machine]
        order = m.orders.pop(action.board)
        assert not order.waits or m.state != "in", "an order ends though answers are awaited"
        assert not any((n, b) == (action.machine, action.board) for n, b, _ in self.held)
        return order

    def _on_board_done(self, action, event):
        self._closed(action, event)
        assert not self.missing(action.board)

    def _on_part_done(self, action, event):
        order = self._closed(action, event)
        assert self.missing(action.board)
        assert not order.commits & self.loose(action.board), "what it lacks is with nobody"

    def _on_requeue(self, action, event):
        order = self._closed(action, event)
        assert not (order.hung and self.timeouts[action.board] >= 2), "it hangs again and again"
        assert not self.tried.get(action.board), "it goes on though too many machines were lost with it"
        assert order.commits & self.loose(action.board)
        assert action.why
        if not order.short:
            self.avoid[action.board].add(action.machine)

    def _on_not_built(self, action, event):
        assert action.reason
        board, upto = action.board, action.upto
        assert not any((b, u) == (board, upto) for _, b, u in self.held)
        if action.reason.startswith(("kills", "its machines")):
            assert action.reason == self.tried.get(board), "too few machines were lost with it"
        elif action.reason.startswith("timed out"):
            assert self.timeouts[board] >= 2
        elif action.reason.startswith("machine faults"):
            met = self.met[board, upto]
            again = (
                isinstance(event, CheckDone) and event.well and met[-1][1] is FaultKind.CHECKOUT and len(met) > 1
            )
            assert again or len(met) >= self.policy.most_faults
        elif self.stopped:
            assert action.reason == self.stopped
        elif not isinstance(event, RunStopped):
            assert action.reason.startswith("no machine")
            assert not self.able(board), "a machine that is in could build it"
            assert self.hope(board) <= self.now, "it has not waited long enough"
        self._end(board, upto, action)

    def _enough_failed(self):
        return 0 < self.policy.stop_at <= len(self.failed)

    def _on_stop_at(self, action, event):
        assert self._enough_failed()
        assert action.failed == len(self.failed)
        assert not self.stopped, "it ends twice"
        assert set(self.ended) != self.wanted, "it had ended"
        self.stopped = action.reason

    def _on_drop(self, action, event):
        order = self.machines[action.machine].orders.get(action.board)
        if isinstance(event, FileIn):
            awaited = order is not None and event.attempt in (0, order.attempt) and event.upto in order.waits
            assert not awaited, "a piece of a file that is awaited is dropped"
        elif order is not None and event.attempt in (0, order.attempt):
            order.sign = self.now  # it is no result of use, and a sign of life all the same

    # --- what always holds ---

    def check(self):
        s = self.schedule
        assert s.asked == len(self.wanted)
        assert s.recorded == self.recorded
        assert s.recorded + s.not_built == len(self.ended)
        assert s.finished == (len(self.ended) == s.asked)
        assert s.finished or not self._enough_failed(), "it goes on though enough boards have failed"
        if s.finished:
            assert s.next_due() is None
            assert not self.held
            return
        for name, m in self.machines.items():
            assert set(s.holds(name)) == (set(m.orders) if m.state == "in" else set())
            assert m.state == "in" or not m.orders
            for order in m.orders.values():
                assert order.waits or m.checking, "an order that is through is still held"
        for name, board, upto in self.held:
            m = self.machines[name]
            assert m.state == "in"
            assert m.checking
            assert board in m.orders
            assert upto not in m.orders[board].waits
        self._nobody_waits_for_nothing()
        if self.members() or any(m.first for m in self.machines.values()):
            assert s.awaited() is None
        else:
            _, names = s.awaited()
            assert all(self.machines[name].state in ("away", "coming") for name in names)
            assert names
        due = s.next_due()
        pending = any(m.orders or m.checking or m.state == "coming" for m in self.machines.values())
        assert pending or due is not None, "nothing will ever happen"
        if not pending:
            assert due < math.inf

    def _nobody_waits_for_nothing(self):
        for board in {b for b, _ in self.wanted - set(self.ended)}:
            if not self.loose(board).difference(*(order.commits for order in self.orders(board))):
                continue  # what failed goes back when its order is through
            able = self.able(board)
            if not able:
                hope = self.hope(board)
                assert hope == math.inf or self.schedule.next_due() <= hope, "it waits for nobody"
                continue
            if self.batch and any(m.first for m in self.machines.values()):
                continue
            for name in able:
                m = self.machines[name]
                busy = m.checking or board in m.orders or (m.in_batch if self.batch else len(m.orders) >= m.slots)
                elsewhere = not self.suits(name, board)
                alone = self.losses[board] and self.suspects(name)
                others = bool(self.owners(board)) and name not in self.owners(board)
                assert busy or elsewhere or alone or others, f"{name} idles and {board} waits"

    def _nothing_stuck(self):
        """After a tick no order is left that is too old, and nobody waits who should have been called."""
        if self.schedule.finished:
            return
        for m in self.machines.values():
            assert m.state != "away" or m.due > self.now
            for order in m.orders.values():
                if not self.batch and order.waits:
                    assert self.now < order.stuck_at(self.policy.slack)
        due = self.schedule.next_due()
        assert due is None or due > self.now

    # --- what may happen; each takes the function that chooses ---

    def join(self, choose):
        coming = [name for name, m in self.machines.items() if m.state == "coming"]
        if coming:
            archs = choose([("arm", "riscv64"), ("arm", "riscv64"), ("arm",), ("riscv64",), ()])
            slots, capacity = choose([1, 2, 3, 4]), choose([1.0, 2.5, 100.0])
            share, trims = choose([0, 4]), choose([True, True, False])
            kept = choose([None, (), ("b0",), ("b1", "b2", "gone"), tuple(self.arch)])
            outputs = None if kept is None else frozenset(kept)
            joined = Joined(choose(coming), frozenset(archs), slots, capacity, share, trims, outputs=outputs)
            self.do(joined)

    def not_up(self, choose):
        coming = [name for name, m in self.machines.items() if m.state == "coming"]
        if coming:
            ways = [
                LossKind.FAILED,
                LossKind.FAILED,
                LossKind.DIED,
                LossKind.VANISHED,
                LossKind.REFUSED,
                LossKind.UNNEEDED,
            ]
            self.lose(choose(coming), choose(ways))

    def die(self, choose):
        if self.members():
            self.lose(choose(list(self.members())), choose([LossKind.DIED, LossKind.VANISHED]))

    def drop_out(self, choose):
        if self.members():
            self.lose(choose(list(self.members())), choose([LossKind.FAILED, LossKind.UNTRUSTED, LossKind.REFUSED]))

    def lose(self, name, how):
        self.do(Lost(name, f"lost ({how.value})", how))

    def start(self, choose):
        todo = [(n, b) for n, m in self.members().items() for b, o in m.orders.items() if not o.started]
        if todo:
            name, board = choose(todo)
            self.do(Started(name, board, choose([0, self.machines[name].orders[board].attempt])))

    def answer(self, choose, faults=(None,), wait=(0.0, 1.0, 30.0)):
        """A worker is through with a commit of a board."""
        todo = [(n, b) for n, m in self.members().items() for b, o in m.orders.items() if o.left]
        if todo:
            name, board = choose(todo)
            order = self.machines[name].orders[board]
            self.now += choose(list(wait))
            upto = order.left.pop(0)
            fault = choose(list(faults))
            if fault is TIMEOUT:
                order.left.clear()
            failed = fault is not None or (self.policy.stop_at > 0 and choose([True, False, False]))
            self.do(ResultIn(name, board, upto, choose([0, order.attempt]), fault, failed=failed))

    def trimmed(self, choose, odd=(False, False, True)):
        """A worker leaves off what it has not begun, or says so of what it was not asked to."""
        self.trims = [
            t for t in self.trims if self.members().get(t[0]) and t[1] in self.members()[t[0]].orders.values()
        ]
        if self.trims:
            name, order, board, stay = choose(self.trims)
            self.trims = [t for t in self.trims if t[1] is not order or t[3] is not stay]
            begun = order.left[:1] if order.started or choose([True, False]) else []
            off = [upto for upto in order.left if upto not in stay and upto not in begun]
            order.left = [upto for upto in order.left if upto not in off]
            if choose(list(odd)):
                off += [-1, 0, 7]
            self.do(CommitsLeftOff(name, board, order.attempt, tuple(off)))

    def odd_trimmed(self, choose):
        """An answer that nobody waits for."""
        if self.past:
            name, board, attempt, upto = choose(self.past)
            order = self.members()[name].orders.get(board) if name in self.members() else None
            if not (order and order.attempt == attempt and upto in order.leaving):
                self.do(CommitsLeftOff(name, board, attempt, (upto,)))

    def fault(self, choose):
        self.answer(choose, (DISK, MEMORY, UNEXPLAINED, TIMEOUT, CHECKOUT, CHECKOUT))

    def repeat(self, choose):
        """A result comes that belongs to an order of now or of long ago."""
        if self.past:
            name, board, attempt, upto = choose(self.past)
            self.do(ResultIn(name, board, upto, attempt, choose([None, None, DISK, TIMEOUT])))

    def untold(self, choose):
        """The same, from a worker that does not tell attempts: it counts if it is awaited."""
        if self.past:
            name, board, _, upto = choose(self.past)
            self.do(ResultIn(name, board, upto, 0))

    def piece(self, choose):
        """A piece of a file comes, of an order of now or of long ago."""
        if self.past:
            name, board, attempt, upto = choose(self.past)
            actions = self.do(FileIn(name, board, upto, choose([0, attempt])))
            assert all(isinstance(action, Drop) and not action.suspect for action in actions)

    def old_start(self, choose):
        if self.past:
            name, board, attempt, _ = choose(self.past)
            self.do(Started(name, board, attempt))

    def lie(self, choose):
        name = choose(list(self.machines))
        self.do(ResultIn(name, choose([*self.arch, "../x"]), choose([-1, 0, self.commits]), choose([0, 1, 2])))

    def checked(self, choose):
        checking = [name for name, m in self.machines.items() if m.checking]
        if checking:
            name, well = choose(checking), choose([True, True, False])
            self.do(CheckDone(name, well, "" if well else choose(["", "no space"])))

    def stray_check(self, choose):
        idle = [name for name, m in self.machines.items() if not m.checking]
        if idle:
            assert self.do(CheckDone(choose(idle), choose([True, False]), "stray")) == []

    def batch_end(self, choose):
        ending = [name for name, m in self.machines.items() if m.in_batch]
        if ending:
            self.do(BatchEnded(choose(ending)))

    def tick(self, choose):
        self.pass_time(choose([0.5, 3.0, 20.0, 61.0]))

    def pass_time(self, seconds):
        """Let time pass; a tick that is before its due does nothing, and one that is due something."""
        due = self.schedule.next_due()
        self.now += seconds
        actions = self.do(TimePassed())
        is_due = due is not None and due <= self.now
        # Where somebody could be helped, or a board waits for its directory, it is looked whether it pays.
        joined = [m.joined for m in self.machines.values() if m.joined]
        looks = not self.batch and (bool(self.likely) or any(one.trims or one.outputs for one in joined))
        assert bool(actions) == is_due or (looks and is_due), (due, self.now)

    def tick_due(self, choose):
        due = self.schedule.next_due()
        if due is not None:
            self.pass_time(max(due - self.now, 0.0))

    def stop(self, choose):
        self.do(RunStopped("interrupted"))
        assert self.schedule.finished

    # --- how it ends ---

    def end(self, how, choose):
        """From now on every machine does the same for ever: everything must end in a bounded number of events."""
        for _ in range(4000):
            if self.schedule.finished:
                break
            self._go_on(how, choose)
        assert self.schedule.finished, f"it never ends when all are {how}"
        assert set(self.ended) == self.wanted
        for name, board, _attempt, upto in self.past[-5:]:
            self.do(ResultIn(name, board, upto))
        self.do(TimePassed())
        self.do(RunStopped("late"))

    def _go_on(self, how, choose):
        coming = [name for name, m in self.machines.items() if m.state == "coming"]
        checking = [name for name, m in self.machines.items() if m.checking]
        todo = [(n, b) for n, m in self.members().items() for b, o in m.orders.items() if o.left]
        if how == "stop":
            self.stop(choose)
        elif coming and how == "dead":
            self.lose(coming[0], LossKind.FAILED)
        elif coming:
            self.do(Joined(coming[0], frozenset(ARCHS), 2, 1.0, trims=True))
        elif self.trims and how != "silent":
            self.trimmed(choose, (False,))
        elif how == "dead" and self.members():
            self.lose(next(iter(self.members())), LossKind.DIED)
        elif checking:
            self.do(CheckDone(checking[0], how not in ("sick", "dead"), ""))
        elif todo and how in ("killer", "loser"):
            name, board = todo[0]
            self.do(Started(name, board))
            self.lose(name, LossKind.DIED if how == "killer" else LossKind.VANISHED)
        elif todo and how not in ("hung", "silent"):
            kinds = {"faulty": DISK, "short": MEMORY, "sick": DISK, "odd": UNEXPLAINED, "slow": TIMEOUT}
            kinds |= {"unable": CHECKOUT}
            self.answer(choose, (kinds.get(how),), (1.0,))
        elif how == "hung" and (new := [(n, b) for n, b in todo if not self.machines[n].orders[b].started]):
            self.do(Started(*new[0]))
        elif how == "fair" and (ended := [n for n, m in self.members().items() if m.in_batch and not m.orders]):
            self.do(BatchEnded(ended[0]))
        else:
            assert self.schedule.next_due() is not None, "nothing will ever happen"
            self.tick_due(choose)


#: What may happen, and how often each is chosen.
MOVES = {
    "join": 8,
    "not_up": 2,
    "die": 3,
    "drop_out": 1,
    "start": 8,
    "answer": 12,
    "fault": 6,
    "repeat": 2,
    "untold": 1,
    "old_start": 1,
    "piece": 3,
    "lie": 1,
    "checked": 6,
    "stray_check": 1,
    "batch_end": 2,
    "trimmed": 6,
    "odd_trimmed": 1,
    "tick": 4,
    "tick_due": 2,
}
