"""Fakes for tests without machines: a transport without a network, a worker that builds nothing, a source.

Everything above the transport is real: sessions, bring-up, dispatcher, results::

    def build(asked: BuildRequest) -> Mapping[str, object]:
        return {"return_code": 2, "stderr": "a.c:1:1: error: no"} if asked.board == "sandbox" else {}


    session = Session(Machine("m1"), FakeTransport("m1", FakeWorker(build)), ToolchainSearch())

A fake worker answers as the real one does. To make a fake worker misbehave, give it a reaction to a command: one of
`busy`, `die`, `ignore`, `later`, `refuse` and `write`, or any function of the worker and the command::

    FakeWorker(on={"supervise": busy, "build_prepare": refuse("no room"), "build_board": die(1, "Killed")})

``supervise`` is the start of the supervisor, which takes the machine's lock; all others are commands of the wire.
Nothing here sleeps. A build function may wait for a `threading.Event`, for each slot has a thread of its own.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fabbuild.errors import MachineError, WireClosed
from fabbuild.machines.transport.base import NO_STATUS, Completed, Counted
from fabbuild.protocol.wire import FEATURES, PROTOCOL, LineSplitter, ProtocolError, decode_object, encode_response
from fabbuild.source.git import Remote
from fabbuild.source.push import PushReport
from fabbuild.source.repository import Source
from fabbuild.worker.base.processes import WorkerStopped
from fabbuild.worker.build.builder import BoardBuild, Builder
from fabbuild.worker.build.result import Built
from fabbuild.worker.build.result_files import ResultFile
from fabbuild.worker.build.settings import Settings, SettingsError
from fabbuild.worker.service.commands import CommandError, order_of, text
from fabbuild.worker.service.slot_pool import JobShare, SlotPool
from fabbuild.worker.supervisor.supervisor import BUSY_STATUS
from fabbuild.worker.tools.toolchains import Toolchain

#: The work directory of every fake machine, which does not exist.
WORK_DIR = "/nonexistent/fabbuild"

#: The exit status of a supervisor whose worker has quit, and so killed its process group, itself included.
QUIT_STATUS = 128 + 9

#: The default sizes of a board: a line of ``size``, and the size of .rodata.
SIZES = "    100\t      8\t      4\t    112\t     70\tu-boot\t00000010"


def _gcc(prefix: str) -> dict[str, str]:
    # Without an identity no result gets into the store of results.
    return {"gcc": f"/usr/bin/{prefix}gcc", "prefix": prefix, "version": "gcc 12", "machine": "", "identity": ""}


#: The default answers to one-shot commands: the response, and its fields.
ANSWERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "facts": ("facts", {
        "hostname": "fake", "arch": "x86_64", "threads": 2, "bogomips": 1000.0, "load_avg": 0.0, "mem_mb": 8000,
        "mem_total_mb": 8000, "disk_mb": 100_000, "work_dir": WORK_DIR, "writable": True,
        "noexec": False, "owner": "", "python": "3.11.2",
        "git": "2.39.5", "make": "4.3", "dtc": "1.6.1", "swig": "4.1.0",
        "toolchains": {"arm": _gcc("arm-linux-gnueabi-"), "sandbox": _gcc("")},
        "fetched": [], "tried": [], "outputs": 0, "outputs_mb": 0, "lock": None,
    }),
    "check": ("checked", {"well": True, "problems": [], "disk_mb": 100_000, "mem_mb": 8000}),
    "kill": ("killed", {"pids": [], "left": [], "holder": None}),
    "usage": ("usage", {"work_dir": WORK_DIR, "parts": [], "holder": None}),
    "clean": ("cleaned", {"work_dir": WORK_DIR, "freed_mb": 0.0, "left_mb": 0.0}),
    "unpack": ("unpacked", {"place": f"{WORK_DIR}/toolchains/fake", "already": False, "mb": 1}),
}  # fmt: skip

#: Another answer: fields in place of the default's, the end of the command, an error to raise, or a function of the
#: arguments that returns one of these.
Answer = Mapping[str, object] | Completed | Exception | Callable[[Sequence[str]], Any]


class FakeChannel:
    """A `Channel` to two functions: ``take`` is given the data sent, ``hung_up`` is called at the end of stdin."""

    def __init__(self, counted: Counted, take: Callable[[bytes], None], hung_up: Callable[[], None]) -> None:
        self._counted, self._take, self._hung_up = counted, take, hung_up
        self._stdout: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stderr: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._status = NO_STATUS

    def send(self, data: bytes) -> None:
        """See `Channel.send`."""
        if self._over.is_set():
            raise WireClosed("the fake command reads no more")
        self._counted.count(sent=len(data))
        self._take(data)

    def recv(self) -> bytes:
        """See `Channel.recv`."""
        return self._next(self._stdout)

    def recv_stderr(self) -> bytes:
        """See `Channel.recv_stderr`."""
        return self._next(self._stderr)

    def _next(self, stream: queue.SimpleQueue[bytes]) -> bytes:
        data = stream.get()
        if not data:
            stream.put(b"")  # the next call sees the end, too
        self._counted.count(received=len(data))
        return data

    def close_stdin(self) -> None:
        """See `Channel.close_stdin`."""
        self._hung_up()

    def exit_status(self, timeout: float) -> int | None:
        """See `Channel.exit_status`."""
        return self._status if self._over.wait(timeout) else None

    def close(self) -> None:
        """See `Channel.close`."""
        self.end(NO_STATUS)
        self._hung_up()

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        """Send bytes to the boss, unless the command has ended."""
        with self._lock:
            if data and not self._over.is_set():
                (self._stderr if stderr else self._stdout).put(data)

    def end(self, status: int) -> None:
        """End the command with this exit status; with `NO_STATUS` the connection is lost."""
        with self._lock:
            if not self._over.is_set():
                self._status = status
                self._over.set()
                self._stdout.put(b"")
                self._stderr.put(b"")


@dataclass(frozen=True)
class BuildRequest:
    """A board and commit for a fake worker to build; ``commit`` is the hash, ``upto`` the commit's index."""

    worker: FakeWorker
    board: str
    arch: str
    upto: int
    commit: str
    attempt: int


#: Returns the fields of `fabbuild.worker.build.result.Built` that differ from a success, with ``files`` as
#: {name: bytes}, and ``differs`` for the response to an audit; None: no result is sent.
Build = Callable[[BuildRequest], Mapping[str, Any] | None]

#: Is called in place of the answer to a command.
Reaction = Callable[["FakeWorker", Mapping[str, Any]], None]


class FakeWorker:
    """A supervisor and its worker, for one connection: answers on the wire, with results that a function returns.

    Attributes:
        commands: the commands received, without signs of life; the first is ``supervise`` with its ``arguments``.
        on: reactions by command; may be changed at any time.
        silent: whether its messages, signs of life included, are lost.
        agreed: the extensions that both sides named.
    """

    def __init__(
        self,
        build: Build = lambda _asked: {},
        *,
        on: Mapping[str, Reaction] | None = None,
        threads: int = 2,
        features: Sequence[str] = FEATURES,
        protocol: int = PROTOCOL,
    ) -> None:
        """Begin before the supervisor is started.

        Args:
            build: returns the result of a board at a commit.
            on: reactions in place of answers, by command.
            threads: threads of the machine, and its slots where the boss names no other number.
            features: the extensions that it announces.
            protocol: the version that it announces; 0: nothing, as another program's worker.
        """
        self.build, self.on, self.threads = build, dict(on or {}), threads
        self.features, self.protocol = list(features), protocol
        self.commands: list[Mapping[str, Any]] = []
        self.silent = self.started = False
        self._unsaid: set[tuple[str, int]] = set()
        self._attempts: dict[str, int] = {}
        self._channel: FakeChannel | None = None
        self._lines = LineSplitter()
        self._beat = 0.0
        self._slots = threads
        self.agreed: frozenset[str] = frozenset()
        self._compilers: dict[str, Toolchain] = {}
        self._pool: SlotPool | None = None

    def again(self) -> FakeWorker:
        """Return a worker for another connection that behaves like this one."""
        return FakeWorker(
            self.build, on=self.on, threads=self.threads, features=self.features, protocol=self.protocol
        )

    # --- for reactions and build functions ---

    def say(self, resp: str, **fields: Any) -> None:
        """Write one response."""
        self.write(encode_response(resp, **fields))

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        """Write any bytes."""
        if self._channel is not None and not self.silent:
            self._channel.write(data, stderr=stderr)

    def die(self, status: int = NO_STATUS) -> None:
        """End with this exit status; without one the connection is lost."""
        if self._channel is not None:
            self._channel.end(status)
        if self._pool is not None:
            self._pool.stop()

    def answer(self, command: Mapping[str, Any]) -> None:
        """Answer a command as the real worker does."""
        name = str(command.get("cmd"))
        if not self.started and name not in ("supervise", "start"):
            refuse(f"unknown command: {name} (a supervisor takes only start)")(self, command)
            return
        handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "supervise": self._supervise, "start": self._start, "configure": self._configure,
            "build_prepare": self._build_prepare, "build_board": self._build_board, "trim_board": self._trim_board,
            "build_boards": self._build_boards, "build_done": self._build_done, "quit": self._quit,
        }  # fmt: skip
        try:
            handlers.get(name, _unknown)(command)
        except (CommandError, SettingsError) as exc:
            self.say("error", msg=str(exc))

    # --- from the channel ---

    def begin(self, channel: FakeChannel, arguments: Sequence[str]) -> None:
        """Start as the supervisor, with these arguments."""
        self._channel = channel
        self._beat = float(_option(arguments, "--silence") or 0) / 6
        self._take({"cmd": "supervise", "arguments": list(arguments)})

    def feed(self, data: bytes) -> None:
        """Handle data that the boss sends."""
        for line in self._lines.feed(data):
            if line.strip():
                try:
                    self._take(decode_object(line))
                except ProtocolError as exc:
                    refuse(str(exc))(self, {})

    def hung_up(self) -> None:
        """End, because the boss is gone."""
        self.die(QUIT_STATUS if self.started else 0)

    def _take(self, command: Mapping[str, Any]) -> None:
        if command.get("cmd") != "alive":
            self.commands.append(command)
            reaction = self.on.get(str(command.get("cmd")))
            if reaction is not None:
                reaction(self, command)
            else:
                self.answer(command)
        elif self._beat:
            self.say("alive")  # the real one has a clock of its own; this one answers the boss's signs

    # --- the commands ---

    def _supervise(self, _command: Mapping[str, Any]) -> None:
        self.say("held", work_dir=WORK_DIR, git_dir=f"{WORK_DIR}/repo.git", supervisor=1)

    def _start(self, command: Mapping[str, Any]) -> None:
        if self.started:
            _unknown(command)
        arguments = command.get("args") or []
        threads = int(_option(arguments, "--threads") or self.threads)
        self._slots = int(_option(arguments, "--max-boards") or threads)
        self.started = True
        ours = {"protocol": self.protocol, "features": self.features} if self.protocol else {}
        signs = {"alive": self._beat} if self._beat and self.protocol else {}
        self.say("ready", nthreads=threads, slots=self._slots, **ours, **signs)

    def _configure(self, command: Mapping[str, Any]) -> None:
        Settings(command.get("settings") or {})
        self.agreed = frozenset(command.get("features") or ()) & frozenset(self.features)
        archs = {"sandbox": "gcc", **(command.get("toolchains") or {})}
        self._compilers = {arch: Toolchain(arch, gcc, "", "", "") for arch, gcc in archs.items()}
        self.say("configure_done")

    def _build_prepare(self, command: Mapping[str, Any]) -> None:
        self._open(command, command.get("max_boards") or self._slots)

    def _open(self, command: Mapping[str, Any], slots: int) -> SlotPool:
        if self._pool is not None and self._pool.busy:
            raise CommandError(f"{command['cmd']}: boards are being built (send build_done first)")
        commits = [str(commit) for commit in command.get("commits") or [None]]
        builders = [
            cast("Builder", _FakeBuilder(self, slot, commits, self._attempts, self._unsaid))
            for slot in range(slots)
        ]
        share = JobShare(self.threads)
        self._pool = SlotPool(builders, commits, self._compilers.get, self._send, share, self.agreed)
        self.say("build_started", num_threads=slots)
        demand = command["cmd"] == "build_prepare"
        first = 1 if demand and "early" in self.agreed else slots
        for slot in range(slots):
            self.say("worktree_created", thread=slot)
            if demand and slot + 1 == first:
                self.say("build_prepare_done", **({"outputs": []} if "outputs" in self.agreed else {}))
        return self._pool

    def _send(self, resp: str, **fields: Any) -> None:
        if resp != "build_result" or (fields["board"], fields["commit_upto"]) not in self._unsaid:
            self.say(resp, **fields)

    def _build_board(self, command: Mapping[str, Any]) -> None:
        if self._pool is None:
            raise CommandError("no builder (send build_prepare first)")
        order = order_of(command, "build_board", self._pool.commits, self.agreed)
        self._attempts[order.board] = order.echo.get("attempt", 0)
        self._pool.add(order)

    def _trim_board(self, command: Mapping[str, Any]) -> None:
        if "trim" not in self.agreed:
            _unknown(command)
        board, attempt = text(command, "board", "trim_board"), command.get("attempt", 0)
        off = self._pool.trim(board, attempt, command["commits"]) if self._pool is not None else []
        self.say("trimmed", board=board, attempt=attempt, commits=off)

    def _build_boards(self, command: Mapping[str, Any]) -> None:
        boards = command.get("boards")
        if not boards:
            raise CommandError("no boards specified")
        pool = self._open(command, min(self._slots, len(boards)))
        for board in boards:
            pool.add(order_of(board, "build_boards", pool.commits, self.agreed))
        self._build_done(command)

    def _build_done(self, _command: Mapping[str, Any]) -> None:
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        with contextlib.suppress(WorkerStopped):
            exceptions = self._pool.drain() if self._pool is not None else 0
            self._pool = None
            self.say("build_done", exceptions=exceptions)

    def _quit(self, _command: Mapping[str, Any]) -> None:
        self.say("quit_ack")
        self.die(QUIT_STATUS)


class _FakeBuilder:
    """A slot of the real `SlotPool`, with results that the test returns."""

    def __init__(
        self,
        worker: FakeWorker,
        slot: int,
        commits: Sequence[str],
        attempts: Mapping[str, int],
        unsaid: set[tuple[str, int]],
    ) -> None:
        self.slot = slot
        self._differs: Sequence[str] | None = None
        self._worker, self._commits, self._attempts, self._unsaid = worker, commits, attempts, unsaid

    def begin(self, how: BoardBuild, *, from_nothing: bool = False) -> None:
        del from_nothing  # there is no output to build upon
        self._how = how

    def share_objects(self, _board: str) -> None:
        """Do nothing: there is no output to take objects of."""

    def end(self, _board: str) -> None:
        """Do nothing: no board waits for another."""

    def carried(self, _commit: str) -> None:
        """Return None: each commit is built."""

    def audited(self, commit: str) -> tuple[Built, Sequence[str] | None]:
        built = self.build(commit)
        return built, self._differs

    def build(self, commit: str) -> Built:
        upto, board, arch = self._commits.index(commit), self._how.board, self._how.compiler.arch
        attempt = self._attempts.get(board, 0)
        said = self._worker.build(BuildRequest(self._worker, board, arch, upto, commit, attempt))
        self._unsaid.discard((board, upto))
        if said is None:
            self._unsaid.add((board, upto))
        fields = {"return_code": 0, **(said or {})}
        self._differs = fields.pop("differs", None)
        sizes = {} if fields["return_code"] else {"sizes": SIZES}
        if "files" in self._worker.agreed:
            fields.pop("config", None)
        files = [ResultFile(name, "", data) for name, data in fields.pop("files", {}).items()]
        return Built(**{**sizes, **fields}, files=files)


# --- reactions ------------------------------------------------------------------------------------------------


def busy(worker: FakeWorker, _command: Mapping[str, Any]) -> None:
    """Answer that another boss holds the machine's lock, and end; a reaction to ``supervise``."""
    worker.say("busy", holder={"who": "ada", "host": "desk", "pid": 4711})
    worker.die(BUSY_STATUS)


def ignore(_worker: FakeWorker, _command: Mapping[str, Any]) -> None:
    """Give no answer, and continue."""


def refuse(words: str, *, final: bool = False) -> Reaction:
    """Return a reaction that answers with an ``error``, after which a supervisor ends."""

    def react(worker: FakeWorker, _command: Mapping[str, Any]) -> None:
        worker.say("error", msg=words, **({"final": True} if final else {}))
        if not worker.started:
            worker.die(1)

    return react


def die(status: int = NO_STATUS, words: str = "") -> Reaction:
    """Return a reaction that ends the worker, with words on stderr; without a status the connection is lost."""

    def react(worker: FakeWorker, _command: Mapping[str, Any]) -> None:
        worker.write(words.encode(), stderr=True)
        worker.die(status)

    return react


def write(data: bytes) -> Reaction:
    """Return a reaction that answers with these bytes."""
    return lambda worker, _command: worker.write(data)


def later(event: threading.Event) -> Reaction:
    """Return a reaction that answers as usual once the event is set; other commands are answered meanwhile."""

    def react(worker: FakeWorker, command: Mapping[str, Any]) -> None:
        def wait() -> None:
            event.wait()
            worker.answer(command)

        threading.Thread(target=wait, daemon=True).start()

    return react


# --- the transport and the source -----------------------------------------------------------------------------


class FakeTransport(Counted):
    """A `Transport` to no machine.

    Attributes:
        answers: answers to one-shot commands other than the default ones, by name (those of `ANSWERS`, and
            ``place`` for the transfer of the program); may be changed at any time.
        refusal: the error that `open` raises; None: it succeeds.
        asked: the arguments of all commands, in order; those of ``place`` are empty.
        workers: the workers that were started, in order.
    """

    def __init__(self, name: str, *workers: FakeWorker, answers: Mapping[str, Answer] | None = None) -> None:
        """Prepare; no worker is started yet.

        Args:
            name: the name of the machine.
            workers: one for each connection, in order; then copies of the last one.
            answers: answers to one-shot commands, as the attribute.
        """
        super().__init__(name)
        self.answers = dict(answers or {})
        self.refusal: MachineError | None = None
        self.asked: list[Sequence[str]] = []
        self.workers: list[FakeWorker] = []
        self._next = list(workers) or [FakeWorker()]
        self._channels: list[FakeChannel] = []

    def open(self) -> None:
        """See `Transport.open`."""
        if self.refusal is not None:
            raise self.refusal

    def run(self, command: str, *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ARG002
        """See `Transport.run`."""
        done = self._answer(_arguments(command))
        self.count(sent=len(stdin), received=len(done.stdout) + len(done.stderr))
        return done

    def spawn(self, command: str) -> FakeChannel:
        """See `Transport.spawn`."""
        arguments = _arguments(command)
        if arguments[:1] != ["supervise"]:
            return self._one_shot(arguments)
        self.asked.append(arguments)
        worker = self._next.pop(0) if self._next else self.workers[-1].again()
        self.workers.append(worker)
        channel = FakeChannel(self, worker.feed, worker.hung_up)
        self._channels.append(channel)
        worker.begin(channel, arguments)
        return channel

    def git_remote(self, path: str) -> tuple[str, dict[str, str]]:
        """See `Transport.git_remote`; a real git finds nothing there: use a `FakeSource`."""
        return path, {}

    def close(self) -> None:
        """See `Transport.close`; may be used again after that."""
        for channel in list(self._channels):
            channel.close()

    def _one_shot(self, arguments: Sequence[str]) -> FakeChannel:
        answered = threading.Event()

        def answer() -> None:
            if answered.is_set():
                return
            answered.set()
            done = self._answer(arguments)
            channel.write(done.stdout)
            channel.write(done.stderr, stderr=True)
            channel.end(done.status)

        channel = FakeChannel(self, lambda _data: None, answer)
        return channel

    def _answer(self, arguments: Sequence[str]) -> Completed:
        self.asked.append(arguments)
        name = arguments[0] if arguments else "place"
        if "--look" in arguments:
            name = "usage"
        answer: Any = self.answers.get(name, {})
        if not isinstance(answer, (Mapping, Completed, Exception)):
            answer = answer(arguments)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completed):
            return answer
        if name == "place":
            return Completed(0, b"\nhave\n", b"")
        resp, fields = ANSWERS[name]
        return Completed(0, encode_response(resp, **{**fields, **answer}), b"")


@dataclass(frozen=True)
class FakeSource(Source):
    """A source that is never pushed; by default it has no directory either.

    With the path and git directory of a real source everything but the push is real.

    Attributes:
        pushed: (machine, hash) of each push, in order.
        on_push: called with (machine, hash) before each push; it may wait, or raise `PushError`.
    """

    path: Path = Path("/nonexistent/source")
    git_dir: Path = Path("/nonexistent/source/.git")
    pushed: list[tuple[str, str]] = field(default_factory=list, compare=False)
    on_push: Callable[[str, str], object] = field(default=lambda _machine, _tip: None, compare=False)

    def again(self) -> FakeSource:
        """Return the same source with git processes of its own; both record pushes in the same list."""
        return FakeSource(self.path, self.git_dir, pushed=self.pushed, on_push=self.on_push)

    def push(self, remote: Remote, tip: str, timeout: float, *, one_pack: bool = True) -> PushReport:  # noqa: ARG002
        """Record the machine and the commit in `pushed`, and push nothing."""
        self.on_push(remote.name, tip)
        self.pushed.append((remote.name, tip))
        return PushReport(0, 0, 0.0)

    def hardlink_objects(self, _git_dir: str, _tip: str) -> str:
        """Return the reason why no objects are linked, so that they are left to `push`."""
        return "a fake source has no objects"


def _arguments(command: str) -> list[str]:
    """Return the program's arguments in a shell command of `worker_zip`; none where the line places the program."""
    words = shlex.split(command)
    with contextlib.suppress(ValueError):
        words = words[words.index("exec") + 3 :]  # python3 -EsS
        words = words[3 if words[0] == "-c" else 1 :]
        if words[:1] == ["--hex"]:
            decoded: list[str] = json.loads(bytes.fromhex(words[1]))
            return decoded
        return words
    return []


def _option(arguments: Sequence[str], name: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def _unknown(command: Mapping[str, Any]) -> None:
    raise CommandError(f"unknown command: {command.get('cmd')}")
