"""The real dispatcher as the boss of a simulated fleet: lines come over the wire, results go to a real result tree.

`Dispatcher`, `Session`, the scheduler, the recorder, the journal with a log of each wire, the accounts of
progress are the product's own. The machines, the time and the wire between are simulated. There are no connections:
a line that a worker would write is read when the dispatcher next looks, in its own thread and not in one a machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.fleetlib.draw import Fleet
from benchmarks.fleetlib.world import World
from fabbuild.build.dispatcher import Clock, Dispatcher
from fabbuild.build.inbox import BroughtUp, Inbox, Message
from fabbuild.build.recorder import Recorder
from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import WireClosed, WireError
from fabbuild.event_types import BoardAssigned, BoardRequeued, Event, RunStarted
from fabbuild.events.durations import Learner
from fabbuild.events.journal import Journal
from fabbuild.events.progress import Progress
from fabbuild.machines.messages import Facts, Held, Ready, Response, ToolchainFacts, decode_response
from fabbuild.machines.session import Session, SessionOptions
from fabbuild.machines.worker_link import Sink
from fabbuild.model import Commit, Job
from fabbuild.protocol.wire import DEPENDS, FEATURES, PREFIX, PROTOCOL
from fabbuild.results.tree import ResultTree
from fabbuild.scheduler.events_actions import Policy
from fabbuild.scheduler.scheduler import Scheduler

#: Bytes of the files that come of the first commit of an order, as those of a Cubieboard are.
FILES = {
    ".config": 40_000,
    "u-boot.cfg": 17_300,
    "u-boot-spl.cfg": 17_500,
    "autoconf.mk": 600,
    "autoconf-spl.mk": 900,
    "autoconf.h": 16_700,
    "u-boot.sizes": 94_500,
    "spl-u-boot-spl.sizes": 6_700,
    DEPENDS: 40_000,
}

#: Of these another comes with each later commit; the others are named as unchanged.
CHANGING = "u-boot.sizes"

#: Of so many results one has a warning, and one fails.
WARNS, FAILS = 10, 50

_WARNING = "drivers/mmc/sunfish.c:{line}:9: warning: unused variable 'oversampling' [-Wunused-variable]\n"
_ERROR = "drivers/mmc/sunfish.c:{line}:2: error: 'struct mmc' has no member named 'fade'\nmake: *** [all] Error 2\n"

#: When the simulated world begins, in seconds since the epoch.
_EPOCH = 1_700_000_000.0


class Driven:
    """The boss of the machines: a real dispatcher, and what goes between it and them."""

    def __init__(self, fleet: Fleet, world: World, slots: int, place: Path, *, known: bool, policy: Policy) -> None:
        """Prepare a run that leaves its results in ``place``."""
        self._fleet = fleet
        self._world = world
        self._slots = slots
        self._jobs = {job.board.target: job for job in fleet.jobs}
        self._archs = frozenset(job.board.arch for job in fleet.jobs)
        commits = [_commit(number) for number in range(max(len(job.commits) for job in fleet.jobs))]
        self._answers = _Answers()
        self._links: dict[str, _Link] = {}
        self._place = place
        self._tree = ResultTree(place, "fleet", commits)
        self.progress = Progress()
        self._learner = Learner({name: job.board.arch for name, job in self._jobs.items()})
        self._journal: Journal
        self.machines = tuple(fleet.speed)
        self._tree.lock()
        expected = fleet.expected if known else None
        self._scheduler = Scheduler(fleet.jobs, len(commits), self.machines, policy=policy, expected=expected)
        self._dispatcher = _Dispatcher(
            self._scheduler,
            self,
            Recorder(
                self._tree,
                {(name, upto): job.board for name, job in self._jobs.items() for upto in job.commits},
                commits,
                {},
            ),
            commits,
            self._listen,
            lambda: self._journal.tick(self._now()),
            Clock(self._now, lambda: self._world.now),
        )
        self._dispatcher.world = world
        #: CPU seconds of the boss, user and system.
        self.cpu = 0.0

    def run(self) -> dict[str, int]:
        """Build everything; give how many results ended how."""
        self._world.begin(self)
        with Journal(self._tree.own, self._now) as self._journal:
            results = sum(len(job.commits) for job in self._jobs.values())
            commits = max(len(job.commits) for job in self._jobs.values())
            run = RunStarted(len(self._jobs), commits, results, 0, "", ())
            self._listen(Event(self._now(), run))
            began = time.process_time()
            outcome = self._dispatcher.run()
            self.cpu = time.process_time() - began - self._dispatcher.worlds
        self._tree.close()
        return {verdict.value: number for verdict, number in outcome.counts.items()}

    def _now(self) -> float:
        return _EPOCH + self._world.now

    def _listen(self, event: Event) -> None:
        match event.payload:
            case BoardAssigned():
                self._world.waiting -= 0 if event.payload.backup else 1
            case BoardRequeued():
                self._world.waiting += 1
        self.progress.update(event)
        self._learner.listener(event)
        self._journal.listener(event)

    # --- the machines, to the dispatcher ---

    def bring_up(self, machine: str, _inbox: Inbox) -> None:
        """Have a machine come back; at first all come by themselves."""
        if machine in self._links:
            self._world.call(machine)

    def check(self, _session: Session, _archs: Iterable[str]) -> tuple[bool, str]:
        """Nothing is ever wrong with a machine here."""
        return True, ""

    # --- the boss, to the machines ---

    @property
    def finished(self) -> bool:
        return self._scheduler.finished

    def joined(self, machine: str) -> None:
        link = self._links[machine] = _Link(self._dispatcher, lambda line: self._sent(machine, line))
        session = Session(Machine(machine), _NoTransport(), ToolchainSearch())
        link.wire = self._journal.wire(machine)
        session.held = Held("/work", "/work/git")
        session.init(SessionOptions(observer=link.wire, declined=frozenset()))
        session.slots = self._slots
        session.outputs = self._world.outputs(machine)
        session.ready = Ready(self._slots, self._slots, PROTOCOL, FEATURES)
        compilers = {arch: ToolchainFacts(f"/usr/bin/{arch}-gcc", version=_version(arch)) for arch in self._archs}
        session.facts = Facts(machine, "x86_64", self._slots, "/work", toolchains=compilers)
        session._link = link  # noqa: SLF001 - it has no connection to make one of
        self._dispatcher.inbox.put(BroughtUp(session, self._archs, self._fleet.speed[machine] * self._slots))

    def lost(self, machine: str) -> None:
        self._links[machine].says(WireClosed("its connection is lost"))

    def started(self, machine: str, board: str, slot: int, attempt: int) -> None:
        self._links[machine].says(_line("heartbeat", board=board, thread=slot, attempt=attempt))

    def result(self, machine: str, board: str, slot: int, upto: int, attempt: int, seconds: float) -> None:
        for line in self._answers.to(self._jobs[board].board.arch, board, slot, upto, attempt, seconds):
            self._links[machine].says(line)

    def trimmed(self, machine: str, board: str, attempt: int, left_off: list[int]) -> None:
        self._links[machine].says(_line("trimmed", board=board, attempt=attempt, commits=left_off))

    def tick(self) -> None:
        """The dispatcher looks at the clock by itself."""

    def next_due(self) -> float | None:
        return None

    def _sent(self, machine: str, line: bytes) -> None:
        told = json.loads(line)
        if told["cmd"] == "build_board":
            job = Job(self._jobs[told["board"]].board, tuple(told["commits"]))
            self._world.give(machine, job, told["attempt"])
        elif told["cmd"] == "trim_board":
            self._world.trim(machine, told["board"], told["attempt"], tuple(told["commits"]))


class _Dispatcher(Dispatcher):
    """The real one; but where it would wait, the machines live on, and what it has others do is done at once."""

    world: World
    #: CPU seconds of the world.
    worlds = 0.0

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        #: What is on the wire: to be read when the inbox is empty.
        self.unread: deque[Callable[[], None]] = deque()

    def outside(self, work: Callable[[], Any]) -> Any:
        """Do what is none of the boss's work."""
        began = time.process_time()
        try:
            return work()
        finally:
            self.worlds += time.process_time() - began

    def _wait(self) -> Message | None:
        while (message := self.inbox.get()) is None:
            if self.unread:
                self.unread.popleft()()
                continue
            due = self._scheduler.next_due()
            if not self.outside(lambda due=due: self.world.step(due)):
                return None
        return message

    @staticmethod
    def _in_background(_name: str, work: Callable[..., object], *arguments: object) -> None:
        work(*arguments)


class _Link:
    """A wire without a connection: what the worker says is read when the dispatcher looks."""

    def __init__(self, dispatcher: _Dispatcher, sent: Callable[[bytes], None]) -> None:
        self.wire: Any = None
        self._dispatcher = dispatcher
        self._sent = sent
        self._sink: Sink | None = None

    def says(self, what: bytes | WireError) -> None:
        self._dispatcher.unread.append(lambda: self._read(what))

    def _read(self, what: bytes | WireError) -> None:
        if isinstance(what, bytes):
            self.wire.received(what)
            read: Response | WireError | None = decode_response(what)
        else:
            read = what
        if self._sink is not None and read is not None:
            self._sink(read, lambda: None)

    def send(self, line: bytes) -> None:
        self.wire.sent(line.rstrip(b"\n"))
        self._dispatcher.outside(lambda: self._sent(line))

    def feed(self, sink: Sink | None) -> None:
        self._sink = sink

    def receive(self, _timeout: float) -> WireError:
        return WireClosed("it has ended")

    def exit_status(self, _timeout: float) -> int:
        return 0

    def last_words(self) -> str:
        return ""

    def end_input(self) -> None: ...

    close = end_input


class _NoTransport:
    def close(self) -> None: ...


class _Answers:
    """What workers say of a board at a commit, as lines."""

    def __init__(self) -> None:
        self._files = {name: _compressed(name, size, 0) for name, size in FILES.items()}
        self._changing = [_compressed(CHANGING, FILES[CHANGING], number) for number in range(5)]
        self._had: dict[tuple[str, int], int] = {}

    def to(self, arch: str, board: str, slot: int, upto: int, attempt: int, seconds: float) -> list[bytes]:
        begin = self._had.setdefault((board, attempt), upto)
        named = {"board": board, "commit_upto": upto, "attempt": attempt}
        odd = int.from_bytes(hashlib.sha256(f"{board} {upto}".encode()).digest()[:4], "big")
        failed = not odd % FAILS
        if upto == begin:
            new = dict(self._files)
        else:
            new = {} if failed else {CHANGING: self._changing[upto % len(self._changing)]}
        lines = [_line("build_file", **named, name=name, last=True, data=data) for name, data in new.items()]
        kept = {name: begin for name in FILES if name not in new and not (failed and name == CHANGING)}
        stderr = _ERROR.format(line=odd % 900) if failed else "" if odd % WARNS else _WARNING.format(line=odd % 900)
        lines.append(
            _line(
                "build_result",
                **named,
                return_code=2 if failed else 0,
                stderr=stderr,
                stdout="",
                load_avg=7.5,
                sizes={"raw": " 315401\t  29308\t      0\t 344709\t  54285\tu-boot 0000be84"},
                details=_details(arch, board, slot, upto, seconds),
                files=list(new),
                unchanged=kept,
            )
        )
        return lines


def _details(arch: str, board: str, slot: int, upto: int, seconds: float) -> dict[str, object]:
    make = f"env LC_ALL=C CROSS_COMPILE={arch}-linux- make O=build -s -j1 NPROC=1 SOURCE_DATE_EPOCH=0"
    return {
        "seconds": round(seconds, 3),
        "toolchain": _version(arch),
        "command": f"git checkout --detach {_commit(upto).hash}\n{make} {board}_defconfig\n{make}\n",
        "environment": {
            "CROSS_COMPILE": f"{arch}-linux-",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.abbrev",
            "GIT_CONFIG_VALUE_0": "12",
            "LANG": "C.UTF-8",
            "LC_ALL": "C",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        },
        "slot": slot,
        "phases": {"checkout": 0.7, "configure": 1.2, "build": round(seconds * 0.9, 3), "collect": 0.2},
        "sha256": hashlib.sha256(f"{board} {upto}".encode()).hexdigest(),
    }


def _version(arch: str) -> str:
    return f"{arch}-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0"


def _commit(number: int) -> Commit:
    name = hashlib.sha1(f"commit {number}".encode()).hexdigest()
    return Commit(name, hashlib.sha1(f"tree {number}".encode()).hexdigest(), f"Commit number {number}", number + 1)


def _compressed(name: str, size: int, number: int) -> str:
    """Give a text of so many bytes that is compressed to about a quarter, as it travels."""
    lines, length, n = [], 0, 0
    while length < size:
        mark = hashlib.sha256(f"{name} {number} {n}".encode()).hexdigest()
        lines.append(f"CONFIG_SYS_{mark[:6].upper()}_OFFSET=0x{mark[6:10]}\n")
        length, n = length + len(lines[-1]), n + 1
    return base64.b64encode(zlib.compress("".join(lines).encode()[:size])).decode("ascii")


def _line(response: str, **fields: object) -> bytes:
    return f"{PREFIX.decode()}{json.dumps({'resp': response, **fields})}".encode()
