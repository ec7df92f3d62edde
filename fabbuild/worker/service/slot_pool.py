"""The slots at work: a thread each, boards from one queue, one result for each board and commit.

A board stays in one slot for all commits of an order. If several slots are idle, an order goes to the slot that
built its board last, where little has to be built again; else to the slot that ended an order last; slots that
built nothing yet come last. The boss relies on this order (`fabbuild.scheduler.orders.Member.finds`). Any error
with a board ends as a result of that board.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
import traceback
from typing import (
    AbstractSet,
    Any,
    Callable,
    Collection,
    Deque,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from fabbuild.protocol.names import name_problem
from fabbuild.protocol.wire import TIMEOUT, WORKER
from fabbuild.worker.base.host import load_average
from fabbuild.worker.base.processes import WorkerStopped
from fabbuild.worker.build.artifact_sender import Delivery
from fabbuild.worker.build.builder import BoardBuild, Builder
from fabbuild.worker.build.result import Built, failed
from fabbuild.worker.tools.jobserver import JobServer
from fabbuild.worker.tools.toolchains import Toolchain

#: Seconds of silence about a board after which a boss of the plain protocol gets a sign of life at the next phase.
SIGN = 60.0

#: Sends a response: its name, then its fields.
Send = Callable[..., None]


class JobShare(NamedTuple):
    """The limit of jobs for the makes of a pool.

    Attributes:
        threads: the most jobs of all makes together.
        tokens: the jobserver that makes share, except those of orders with their own limit; None: `SlotPool.jobs`.
    """

    threads: int
    tokens: Optional[JobServer] = None


class BoardOrder(NamedTuple):
    """One board to build.

    Attributes:
        commits: indices into the pool's commits, ascending.
        echo: fields that are sent back with the heartbeat and each result.
        timeout: seconds that one commit may take; 0: no limit.
        jobs: the most jobs of a make; 0: no limit.
        audit: the `commits` to build from nothing even if another commit's result could be carried forward, and
            to compare if they are built upon what is there.
    """

    board: str
    arch: str
    commits: Sequence[int]
    echo: Mapping[str, Any] = {}
    timeout: float = 0.0
    jobs: int = 0
    audit: Sequence[int] = ()


class _Slot:
    """A slot.

    Attributes:
        builder: the slot's builder.
        order: the order that the slot was given, until it begins.
        board: the board that the slot built last.
        turn: a counter value of the end of that build; 0: the slot built nothing yet.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.order: Optional[BoardOrder] = None
        self.board = ""
        self.turn = 0


class _OrderBuild:
    """Builds the commits of one order, one after the other.

    Attributes:
        begun: whether the builder has begun this board.
    """

    def __init__(
        self, builder: Builder, order: BoardOrder, commits: Sequence[str], how: Optional[BoardBuild]
    ) -> None:
        self.begun = False
        self._builder = builder
        self._order = order
        self._commits = commits
        self._how = how
        self._last = -1

    def result(self, upto: int) -> Tuple[Built, Dict[str, Any]]:
        """Build one commit, or carry a result forward; return the result, and further fields of its response."""
        builder, order, commit = self._builder, self._order, self._commits[upto]
        why = name_problem(order.board)
        if why:
            return failed("%r cannot be the name of a board: %s" % (order.board, why)), {}
        if self._how is None:
            return failed("no toolchain for architecture %r on this machine" % order.arch), {}
        if not self.begun:
            builder.begin(self._how)
            self.begun = True
        carried = builder.carried(commit)
        if carried and upto not in order.audit:
            return carried, {"carried": self._last}
        said: Dict[str, Any] = {}
        if upto in order.audit and not carried:
            built, differs = builder.audited(commit)
            if differs is not None:
                said["differs"] = differs
        else:
            if carried:
                said["could_carry"] = self._last
                builder.begin(self._how, from_nothing=True)
            built = builder.build(commit)
        self._last = upto
        return built, said


class SlotPool:
    """Slots that take boards until they are drained or stopped."""

    def __init__(
        self,
        builders: Sequence[Builder],
        commits: Sequence[str],
        compiler: Callable[[str], Optional[Toolchain]],
        send: Send,
        share: JobShare,
        features: AbstractSet[str],
        slots: int = 0,
    ) -> None:
        """Start a thread for each builder.

        Args:
            builders: one per slot; `join` adds more.
            commits: the hashes of the commits, in order.
            compiler: returns the compiler of an architecture, or None.
            send: sends a response to the boss.
            share: the limit of jobs for the makes.
            features: the extensions of the protocol that both ends have.
            slots: the final number of slots; 0: as many as builders.
        """
        self.commits = list(commits)
        self._compiler = compiler
        self._send = send
        self._share = share
        self._features = features
        self._slots = slots or len(builders)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        #: The orders that wait for a slot, and the slots that have nothing to do or only the last result of an
        #: order to send: one of the two is empty.
        self._queue: Deque[BoardOrder] = collections.deque()
        self._idle: List[_Slot] = []
        self._turn = 0
        #: The orders that have not ended, each with the commits that were not begun.
        self._left: List[Tuple[BoardOrder, List[int]]] = []
        self._open = 0
        self._exceptions = 0
        self._stopped = False
        self._draining = False
        self._workers: List[threading.Thread] = []
        for builder in builders:
            self.join(builder)

    def join(self, builder: Builder) -> None:
        """Add a slot, which takes boards from now on.

        Raises:
            RuntimeError: the slot's thread cannot be started.
        """
        slot = _Slot(builder)
        worker = threading.Thread(target=self._work, args=(slot,), name="slot %d" % builder.slot, daemon=True)
        with self._lock:
            worker.start()
            self._workers.append(worker)
            # Here and not in its thread: which slot gets the first board must not depend on which thread is quick.
            self._free(slot)

    def lose_slot(self) -> None:
        """Reduce the number of slots by one that cannot be made."""
        with self._lock:
            self._slots = max(1, self._slots - 1)

    @property
    def busy(self) -> bool:
        """Whether a board is queued or being built."""
        with self._lock:
            return self._open > 0

    def add(self, order: BoardOrder) -> None:
        """Queue one board."""
        with self._changed:
            self._open += 1
            self._left.append((order, list(order.commits)))
            if not self._idle:
                self._queue.append(order)
                return
            slot = max(self._idle, key=lambda one: (one.board == order.board, one.turn, -one.builder.slot))
            self._idle.remove(slot)
            slot.order = order
            self._changed.notify_all()

    def trim(self, board: str, attempt: int, stay: Collection[int]) -> List[int]:
        """Drop the commits of an order that were not begun, except those in ``stay``; return the dropped ones."""
        with self._lock:
            for order, left in self._left:
                if order.board == board and order.echo.get("attempt", 0) == attempt:
                    off = [upto for upto in left if upto not in stay]
                    left[:] = [upto for upto in left if upto in stay]
                    return off
        return []

    def _each(self, order: BoardOrder) -> Iterator[int]:
        """Yield the commits of an order, each when it is begun."""
        with self._lock:
            left = next(left for one, left in self._left if one is order)
        while True:
            with self._lock:
                if not left:
                    return
                upto = left.pop(0)
            yield upto

    def drain(self) -> int:
        """Wait until all queued boards are built, end the threads, and return the number of exceptions.

        Raises:
            WorkerStopped: `stop` was called meanwhile.
        """
        with self._changed:
            self._draining = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or not self._open)
            if self._stopped:
                raise WorkerStopped
            workers = list(self._workers)
        for worker in workers:
            worker.join()
        return self._exceptions

    def stop(self) -> None:
        """Let `drain` return; programs that run are ended by their owner."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def jobs(self) -> int:
        """Return the most jobs of a make now: the threads divided by the boards being built and queued."""
        with self._lock:
            boards = min(self._open, self._slots)
        return max(1, self._share.threads // max(1, boards))

    def _next(self, slot: _Slot) -> Optional[BoardOrder]:
        """Wait for an order; return None if the slot gets no more."""
        with self._changed:
            self._free(slot)
            self._changed.wait_for(lambda: slot.order or self._draining or self._stopped)
            if slot in self._idle:
                self._idle.remove(slot)
            order, slot.order = slot.order, None
            return None if self._stopped else order

    def _free(self, slot: _Slot, board: str = "") -> None:
        """Give a slot the order that has waited longest, or let the slot wait; the caller holds the lock."""
        if board:
            self._turn += 1
            slot.board, slot.turn = board, self._turn
        if slot.order is None and self._queue:
            slot.order = self._queue.popleft()
        elif slot.order is None and slot not in self._idle:
            self._idle.append(slot)

    def _work(self, slot: _Slot) -> None:
        while True:
            order = self._next(slot)
            if order is None:
                return
            try:
                self._build(slot, order)
            except (WorkerStopped, OSError):
                # OSError: the boss is gone; who reads its commands ends the worker.
                self.stop()
                return
            finally:
                slot.builder.end(order.board)
            with self._changed:
                self._left = [(one, left) for one, left in self._left if one is not order]
                self._open -= 1
                self._changed.notify_all()

    def _build(self, slot: _Slot, order: BoardOrder) -> None:
        beat = {"board": order.board, "thread": slot.builder.slot, **order.echo}
        self._send("heartbeat", **beat)
        said = time.monotonic()

        def sign() -> None:
            nonlocal said
            if time.monotonic() - said >= SIGN:
                self._send("heartbeat", **beat)
                said = time.monotonic()

        if not self._features:
            # A boss of the plain protocol has no other sign of life, and gives a silent worker up.
            slot.builder.sign = sign

        def jobs() -> int:
            return min(self.jobs(), order.jobs or self._share.threads)

        compiler, tokens = self._compiler(order.arch), None if order.jobs else self._share.tokens
        how = BoardBuild(order.board, compiler, jobs, order.timeout, tokens) if compiler else None
        build = _OrderBuild(slot.builder, order, self.commits, how)
        delivery = Delivery(self._send, order.board, order.echo)
        for upto in self._each(order):
            try:
                built, more = build.result(upto)
            except WorkerStopped:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is, the board needs its result
                build.begun = False
                built, more = self._exception(exc), {}
            fields = {**self._fields(order, upto, built), **more}
            if "files" in self._features:
                fields.update(delivery.deliver(upto, built.files))
            slot.builder.share_objects(order.board)
            # What hung once would most likely hang again; whether it is tried is for the boss to decide.
            hung = built.fault == TIMEOUT
            self._answered(slot, order, through=hung)
            self._send("build_result", **fields)
            said = time.monotonic()
            if hung:
                break

    def _answered(self, slot: _Slot, order: BoardOrder, *, through: bool) -> None:
        """Free the slot before the last result of an order is sent, so that the boss's next order finds it free."""
        with self._lock:
            if through or not any(left for one, left in self._left if one is order):
                self._free(slot, order.board)

    def _exception(self, exc: Exception) -> Built:
        with self._lock:
            self._exceptions += 1
        if not isinstance(exc, OSError):  # a full disk needs no traceback
            traceback.print_exc(file=sys.stderr)
        return failed("the worker failed: %s: %s" % (type(exc).__name__, exc), WORKER)

    def _fields(self, order: BoardOrder, upto: int, built: Built) -> Dict[str, Any]:
        fields: Dict[str, Any] = {"board": order.board, "commit_upto": upto}
        fields.update(built.fields())
        fields["load_avg"] = load_average()
        fields.update(order.echo)
        if "limits" in self._features and built.fault:
            fields["fault"] = built.fault
        if "details" in self._features:
            fields["details"] = dict(built.details)
        return fields
