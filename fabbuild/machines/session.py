"""One machine's session: lock, push, start, send, receive, quit; commands without it are in `one_shot`.

Each step does what is missing before it, so that every task works alone
and in a chain. The way to the machine is the `Transport` it is given.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabbuild.config.select_machines import Machine, ToolchainSearch
from fabbuild.errors import (
    BusyError,
    LiedError,
    MachineError,
    RefusedError,
    SetupError,
    WireClosed,
    WireError,
    WireSilent,
)
from fabbuild.machines.messages import (
    BuildPrepareDone,
    BuildStarted,
    Busy,
    ConfigureDone,
    Error,
    Facts,
    Held,
    Ready,
    Response,
    Waiting,
    WorktreeCreated,
    WorktreeFailed,
)
from fabbuild.machines.one_shot import (
    ANSWER_TIMEOUT,
    STATUS_HINT,
    Expected,
    OneShot,
    holder_words,
    what_failed,
    who_we_are,
)
from fabbuild.machines.transport.ssh import Transport, wrap
from fabbuild.machines.worker_link import WireLog, WorkerLink
from fabbuild.machines.worker_zip import on_its_own_line, shell_place, shell_run, worker_bundle
from fabbuild.model import Job
from fabbuild.protocol.settings import SETTINGS, Effect
from fabbuild.protocol.wire import FEATURES, encode_command
from fabbuild.source.push import PushReport
from fabbuild.source.repository import Source

_LOG = logging.getLogger(__name__)

#: Seconds for one worktree; git itself has 60 s a command.
WORKTREE_TIMEOUT = 240.0

#: Seconds for bringing the source; the first time the whole history travels.
PUSH_TIMEOUT = 3600.0

#: Seconds of silence after which a machine is given up, and gives up its boss, where nobody says otherwise.
SILENCE = 30.0


@dataclass(frozen=True)
class SessionOptions:
    """How a session treats its worker, from `Session.init` on.

    Attributes:
        silence: seconds without a sign of life after which the machine and its boss give each other up; 0: never.
        stderr: is called with each line the worker writes to stderr, from another thread.
        log: is told of every line that goes over the wire.
        declined: extensions of the protocol that the worker is not asked for.
        audit: by board, the indices of the commits that are to be built though a result could be carried forward.
    """

    silence: float = SILENCE
    stderr: Callable[[str], None] = lambda _line: None
    log: WireLog | None = None
    declined: frozenset[str] = frozenset({"carry"})
    audit: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StartOptions:
    """What the worker is started with. ``threads`` and ``slots``: None leaves it to the machine."""

    debug: bool = False
    threads: int | None = None
    slots: int | None = None


#: What is given everything the worker says while boards are fed, and what to call when that has been handled.
Sink = Callable[["Session", "Response | WireError", Callable[[], None]], None]


class Session(OneShot):
    """What fabbuild does with one machine, from probing it to leaving it clean."""

    def __init__(
        self,
        machine: Machine,
        transport: Transport,
        search: ToolchainSearch,
    ) -> None:
        """Name the parts, as of `OneShot`; nothing is contacted yet."""
        super().__init__(machine, transport, search)
        self.closed = False
        self.ready: Ready | None = None
        self.held: Held | None = None
        self.slots = 0
        self.pushed = 0
        #: The commit that was brought last; empty: none was.
        self.brought = ""
        self._options = SessionOptions()
        self._asked = self._opened = 0
        self._link: WorkerLink | None = None
        self._closing = threading.Lock()

    def renewed(self, facts: Facts | None = None) -> Session:
        """Close this session and return a new one of the same machine; ``facts`` spare it another probe."""
        self.close()
        again = Session(self.machine, self.transport, self._search)
        again.facts, again.pushed = facts, self.pushed
        again.identified = facts is not None and self.identified
        return again

    # --- the steps ---

    def init(
        self,
        options: SessionOptions | None = None,
        *,
        wait: float = 0.0,
        on_wait: Callable[[str], None] = lambda _holder: None,
    ) -> Held:
        """Take the machine's lock and make or reuse the repository there.

        Args:
            options: how the worker is treated from now on. Where the lock is held already, its ``silence`` stays
                as it was agreed on with the machine then. None: as before.
            wait: seconds to wait for a lock that somebody else holds.
            on_wait: is called with who holds it, when there is something to wait for.

        Raises:
            BusyError: somebody else holds the lock.
            SetupError: the work directory cannot be used.
            RefusedError: somebody ended, by `kill`, what this process had there.
        """
        self._check_open()
        self._options = options or self._options
        if self.held is not None:
            return self.held
        silence = self._options.silence
        self.transport.open()
        self._send_bundle()
        arguments = ["supervise", "--work-dir", self.machine.work_dir, *who_we_are()]
        if wait > 0:
            arguments += ["--wait", str(wait)]
        if silence:
            arguments += ["--silence", str(silence)]
        command = shell_run(self.machine.work_dir, worker_bundle(), arguments)
        channel = self.transport.spawn(on_its_own_line(command))
        self._link = WorkerLink(
            channel,
            self.name,
            log=lambda: self._options.log,
            stderr=lambda line: self._options.stderr(line),  # noqa: PLW0108 - a later `init` may name another
            silence=silence,
        )
        deadline = time.monotonic() + ANSWER_TIMEOUT + wait
        while True:
            answer = self._receive(deadline - time.monotonic(), "taking the lock")
            match answer:
                case Waiting(holder=holder):
                    on_wait(holder_words(holder))
                case Busy(holder=holder):
                    # The same text for all machines that one boss holds, so that it is shown once for them.
                    hint = "; --wait SECONDS waits for it, `inv kill --machines NAME` ends it"
                    raise BusyError(self.name, f"BUSY: {holder_words(holder)}{hint}", holder)
                case Held():
                    self.held = answer
                    return answer
                case Error(msg=why, final=final):
                    raise (RefusedError if final else SetupError)(self.name, why)
                case _:
                    raise LiedError(self.name, f"unexpected answer to taking the lock: {type(answer).__name__}")

    def push(self, source: Source, tip: str, *, one_pack: bool = True) -> PushReport:
        """Bring the commit and all it needs to the machine; ``one_pack``: in the pack of others that lack the same.

        Raises:
            PushError: git failed; the message holds its words.
        """
        held = self.init()
        url, environment = self.transport.git_remote(held.git_dir)

        def git_there(pack: str) -> str:
            # It ends with the supervisor, which notices when we are gone.
            arguments = ["serve", "--supervisor", str(held.supervisor), "--git-dir", held.git_dir, "--pack", pack]
            return wrap(shell_run(self.machine.work_dir, worker_bundle(), arguments))

        there = git_there if held.supervisor else None
        near = self.machine.local
        if near:
            why = source.lend(held.git_dir, tip)
            _LOG.debug("%s: %s", self.name, why or "the source is lent to it")
        report = source.push(
            url, environment, tip,
            machine=self.name, timeout=PUSH_TIMEOUT, there=there, near=near, one_pack=one_pack,
        )  # fmt: skip
        self.pushed += report.bytes
        self.brought = tip
        return report

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent, pushed source included, and bytes received."""
        return self.transport.bytes_sent + self.pushed, self.transport.bytes_received

    def start(self, options: StartOptions) -> Ready:
        """Start the worker and wait for its ``ready``.

        Raises:
            SetupError: it does not run; the message holds its last words.
        """
        self._check_open()
        if self.ready is not None:
            return self.ready
        if self.held is None:
            self.init()
        arguments: list[str] = []
        if options.debug:
            arguments.append("-D")
        if options.threads:
            arguments += ["--threads", str(options.threads)]
        if options.slots:
            arguments += ["--max-boards", str(options.slots)]
        command = self.machine.worker_command or None
        if self._link is not None:
            self._link.rest()
        self._send(encode_command("start", argv=None, command=command, args=arguments, env=dict(self.machine.env)))
        answer = self._expect(Ready, "the start of the worker")
        self.ready = answer
        return answer

    def configure(self, settings: Mapping[str, object], toolchains: Mapping[str, str]) -> None:
        """Send the settings, the toolchains, and the extensions that both sides know.

        Settings beyond the plain protocol go only to a worker that announced them, and only when they are not at
        their default.

        Raises:
            RefusedError: the worker does not take them, or does not know one; it must not be used then.
        """
        own = {name: row for name, row in SETTINGS.items() if not row.plain}
        ours = {
            name: settings[name]
            for name, row in own.items()
            if row.is_set(settings) and (name in self.features or row.effect is not Effect.SPEED)
        }
        lacking = sorted(ours.keys() - self.features)
        if lacking:
            raise RefusedError(
                self.name,
                f"its worker does not know {', '.join(lacking).replace('_', '-')}, and would build without; "
                "leave that option off, or this machine out",
            )
        plain = {name: value for name, value in settings.items() if name not in own}
        fields: dict[str, Any] = {"settings": {**plain, **ours}, "toolchains": dict(toolchains)}
        if self.features:
            fields["features"] = sorted(self.features)
        self._check_open()
        self._send(encode_command("configure", **fields))
        self._expect(ConfigureDone, "configure", refusal=RefusedError)

    @property
    def features(self) -> frozenset[str]:
        """The extensions that this worker announced, and that we know and want."""
        announced = frozenset(self.ready.features) if self.ready else frozenset()
        return announced & frozenset(FEATURES) - self._options.declined

    def prepare(
        self,
        commits: Sequence[str],
        slots: int,
        progress: Callable[[int, int], None],
        lack: Callable[[str], None] = lambda _why: None,
    ) -> int:
        """Have the worktrees made; give the number of slots, some of which may be ready later (`opened`).

        Args:
            commits: the hashes, in order.
            slots: how many boards at once.
            progress: is called with (worktrees made, slots).
            lack: is called with why one could not be made, where others were.

        Raises:
            SetupError: the worker could not make them.
            LiedError: it made more than it was asked for.
        """
        self._check_open()
        self._send(encode_command("build_prepare", commits=list(commits), max_boards=slots))
        started = self._expect(BuildStarted, "build_prepare")
        made = 0
        # A worker that announces no protocol is the peer's, which makes one for each of its threads in any case.
        most = max(slots, self.ready.nthreads) if self.ready and not self.ready.protocol else slots
        if started.num_threads > most:
            raise LiedError(self.name, f"{started.num_threads} slots where {slots} were asked for")
        self.slots = min(slots, max(started.num_threads, 1))
        self._asked, self._opened = started.num_threads, 0
        kinds = (WorktreeCreated, WorktreeFailed, BuildPrepareDone)
        while True:
            answer = self._expect(kinds, "build_prepare", timeout=WORKTREE_TIMEOUT)
            if isinstance(answer, BuildPrepareDone):
                break
            self.opened()
            if isinstance(answer, WorktreeFailed):
                self.slots = max(self.slots - 1, 1)
                lack(answer.msg)
            else:
                made += 1
                progress(made, started.num_threads)
        return self.slots

    def prepare_batch(self, threads: int) -> int:
        """Return the number of slots where all boards are given at once, by `build_boards`; nothing is sent.

        fabbuild's own worker was told its slots when it was started; another one takes as many as it has threads.
        """
        self.slots = (self.machine.max_boards if self.features else None) or max(threads, 1)
        return self.slots

    def opened(self) -> int:
        """Count a slot that is ready or failed; with ``early`` some come while boards are fed. Give how many did.

        Raises:
            LiedError: it is one more than there are.
        """
        self._opened += 1
        if self._opened > self._asked:
            raise LiedError(self.name, f"more worktrees than the {self._asked} it said")
        return self._opened

    def feed(self, sink: Sink) -> None:
        """From now on give everything the worker says to ``sink``, from the reading thread."""
        if self._link is not None:
            self._link.feed(lambda what, handled: sink(self, what, handled))

    def build_board(self, job: Job, attempt: int, timeout: float = 0.0, most_jobs: int = 0) -> None:
        """Queue one board.

        Args:
            job: the board and its commits.
            attempt: how often it was given out, this time included.
            timeout: seconds that a commit of it may take; 0: any time.
            most_jobs: how many jobs its make may run; 0: as the worker sees fit.
        """
        fields = self._order(job, timeout)
        if "attempt" in self.features:
            fields["attempt"] = attempt
        if "limits" in self.features and most_jobs:
            fields["jobs"] = most_jobs
        self._send(encode_command("build_board", **fields))

    def trim_board(self, board: str, attempt: int, commits: Sequence[int]) -> None:
        """Have all commits of an order but these be left off that were not begun; the answer is `Trimmed`."""
        self._send(encode_command("trim_board", board=board, attempt=attempt, commits=list(commits)))

    def build_boards(self, jobs: Sequence[Job], commits: Sequence[str], timeout: float = 0.0) -> None:
        """Give the whole list at once (batch mode); ``timeout`` as for `build_board`."""
        boards = [self._order(job, timeout) for job in jobs]
        self._send(encode_command("build_boards", boards=boards, commits=list(commits)))

    def _order(self, job: Job, timeout: float) -> dict[str, Any]:
        """Give what names a board to the worker, alone or in a list: as much as it understands."""
        fields: dict[str, Any] = {"board": job.board.target, "arch": job.board.arch}
        if "commits" in self.features:
            fields["commits"] = list(job.commits)
        if "limits" in self.features and timeout:
            fields["timeout"] = timeout
        audited = self._options.audit.get(job.board.target)
        if "carry" in self.features and audited is not None:
            fields["audit"] = [upto for upto in audited if upto in job.commits]
        return fields

    def build_done(self) -> None:
        """Say that no more boards come."""
        self._send(encode_command("build_done"))

    def ask_to_quit(self) -> None:
        """Ask the worker to end; where there is none yet, give the lock back. Does not wait, never raises."""
        if self._link is None or self.closed:
            return
        self._link.feed(None)
        if self.ready is not None:
            self._link.send(encode_command("quit"))
        self._link.end_input()

    def wait_ended(self, timeout: float) -> bool:
        """Wait until the far side has ended, and with it the lock; give whether it did in time. Never raises."""
        link = self._link
        if link is None or self.closed:
            return True
        deadline = time.monotonic() + timeout
        with contextlib.suppress(TimeoutError):
            while not isinstance(link.receive(deadline - time.monotonic()), WireError):
                continue
            return link.exit_status(deadline - time.monotonic()) is not None
        return False

    def leave(self, grace: float) -> bool:
        """Let the far side end, give it ``grace`` seconds, cut the connection; give whether it ended in time."""
        self.ask_to_quit()
        ended = self.wait_ended(grace)
        self.close()
        return ended

    def close(self) -> None:
        """Cut the connection, from any thread; the far side ends by itself what it still does.

        Whoever calls it second waits for the first: after that the transport may be another session's.
        """
        with self._closing:
            if self.closed:
                return
            self.closed = True
            if self._link is not None:
                self._link.close()
            self.transport.close()

    # --- inside ---

    def _check_open(self) -> None:
        if self.closed:
            raise MachineError(self.name, "its session is closed already; open a new one")

    def _send_bundle(self) -> None:
        bundle = worker_bundle()
        done = self.transport.run(
            shell_place(self.machine.work_dir, bundle), stdin=bundle.data, timeout=ANSWER_TIMEOUT
        )
        if done.status:
            raise SetupError(self.name, what_failed("sending the worker", done))

    def _send(self, line: bytes) -> None:
        if self._link is not None:
            self._link.send(line)

    def _receive(self, timeout: float, doing: str) -> Response:
        link = self._link
        if link is None:
            raise MachineError(self.name, f"{doing} before its lock was taken")
        try:
            answer = link.receive(timeout)
        except TimeoutError:
            raise MachineError(self.name, f"no answer to {doing} within its time{self._quoted()}") from None
        if isinstance(answer, WireError) and not isinstance(answer, (WireClosed, WireSilent)):
            raise LiedError(self.name, f"{answer} (in place of an answer to {doing})")
        if isinstance(answer, WireError):
            # What is frozen, or cut off, does not say how it ended.
            status = link.exit_status(5.0 if isinstance(answer, WireClosed) else 0.0)
            hint = STATUS_HINT.get(status or 0, "")
            what = f"its worker ended during {doing}" if isinstance(answer, WireClosed) else str(answer)
            if status and (status < 0 or status > 128):
                what += " (it was killed, perhaps by `inv kill`)"
            elif status:
                what += f" (exit status {status})"
            raise SetupError(self.name, what + (f": {hint}" if hint else "") + self._quoted()) from answer
        return answer

    def _expect(
        self,
        kinds: type[Expected] | tuple[type[Expected], ...],
        doing: str,
        *,
        timeout: float = ANSWER_TIMEOUT,
        refusal: type[MachineError] = SetupError,
    ) -> Expected:
        answer = self._receive(timeout, doing)
        if isinstance(answer, Error):
            raise refusal(self.name, f"{doing} was refused: {answer.msg}")
        if not isinstance(answer, kinds):
            raise LiedError(self.name, f"unexpected answer to {doing}: {type(answer).__name__}")
        return answer

    def last_words(self) -> str:
        """Give the last lines the worker wrote to stderr, in one line; empty when there are none."""
        return self._link.last_words() if self._link else ""

    def _quoted(self) -> str:
        words = self.last_words()
        return f"; its last words: {words}" if words else ""
