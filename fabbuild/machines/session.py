"""The session with one machine: take its lock, push the source, start the worker, send boards, end the worker.

Each step first does the earlier steps that are missing, so that every task works alone and in a chain. A session
also has the commands that need no lock (`fabbuild.machines.one_shot`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import (
    BusyError,
    MachineError,
    ProtocolViolationError,
    PushError,
    RefusedError,
    SetupError,
    WireClosed,
    WireError,
    WireSilent,
)
from fabbuild.machines.messages import (
    Alive,
    BuildPrepareDone,
    BuildStarted,
    Busy,
    ConfigureDone,
    Error,
    Facts,
    Heartbeat,
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
    boss_options,
    describe_failure,
    describe_holder,
)
from fabbuild.machines.transport.base import Transport
from fabbuild.machines.transport.ssh import wrap
from fabbuild.machines.worker_link import Sink, WireObserver, WorkerLink
from fabbuild.machines.worker_zip import on_its_own_line, shell_place, shell_run, worker_program
from fabbuild.model import Job
from fabbuild.protocol.settings import SETTINGS, Effect
from fabbuild.protocol.wire import FEATURES, encode_command
from fabbuild.source.git import Remote
from fabbuild.source.push import NEAR, PushReport
from fabbuild.source.repository import Source
from fabbuild.text import cut

_LOG = logging.getLogger(__name__)

#: Seconds that a worker has to make one worktree.
WORKTREE_TIMEOUT = 240.0

#: Default of `SessionOptions.stall`, in seconds; and for how many times that long a checkout may go on in all.
STALL = 60.0
STALLS = 30

#: Seconds that a push has; the first push sends the whole history.
PUSH_TIMEOUT = 3600.0

#: What a shell command has that says itself where its arguments go.
_PLACES_ARGUMENTS = re.compile(r"\$\{?[@*1-9]")

#: Default of `SessionOptions.silence`, in seconds.
SILENCE = 30.0


@dataclass(frozen=True)
class SessionOptions:
    """The options of a session and its worker, from `Session.init` on.

    Attributes:
        silence: seconds without a sign of life after which the machine and its boss give each other up; 0: never.
        stall: seconds for which a checkout may do nothing before the worker ends it.
        stderr: called with each line that the worker writes to stderr, from another thread.
        observer: called with every line on the wire.
        declined: extensions of the protocol that are not requested from the worker.
        audit: by board, the indices of the commits that are to be built though a result could be carried forward.
    """

    silence: float = SILENCE
    stall: float = STALL
    stderr: Callable[[str], None] = lambda _line: None
    observer: WireObserver | None = None
    declined: frozenset[str] = frozenset({"carry"})
    audit: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StartOptions:
    """The command line of a worker.

    Attributes:
        debug: whether the worker logs its actions on stderr.
        threads: threads to use; None: those of the machine.
        slots: most boards to build at once; None: the worker's default.
    """

    debug: bool = False
    threads: int | None = None
    slots: int | None = None


class Session(OneShot):
    """The boss's session with one machine, from its probe to the end of its worker.

    Attributes:
        closed: whether the session was closed; no further step is possible then.
        held: the supervisor's answer to the lock; None: the lock is not held.
        ready: the worker's first message; None: the worker is not started.
        slots: how many boards the worker builds at once.
        outputs: the boards whose output directories the machine keeps; None: it keeps none, or does not say.
        refused: why compilers that were found here cannot be used, by architecture, as `configure` learned.
        pushed: bytes of source that were sent, also by sessions that this one renews.
        brought: hash of the commit that was pushed last; empty for none.
    """

    def __init__(self, machine: Machine, transport: Transport, search: ToolchainSearch) -> None:
        """Store the parts, as for `OneShot`; nothing is contacted yet."""
        super().__init__(machine, transport, search)
        self.closed = False
        self.ready: Ready | None = None
        self.held: Held | None = None
        self.slots = 0
        self.outputs: frozenset[str] | None = None
        self.refused: Mapping[str, str] = {}
        self.pushed = 0
        self.brought = ""
        self._options = SessionOptions()
        self._asked = self._opened = 0
        self._link: WorkerLink | None = None
        self._closing = threading.Lock()

    def renewed(self, facts: Facts | None = None) -> Session:
        """Close this session and return a new one with the same machine; with ``facts`` it need not be probed."""
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
            options: options of the worker from now on; None: as before. If the lock is held already, ``silence``
                stays that of the first call, which was sent to the machine.
            wait: seconds to wait for a lock that another boss holds.
            on_wait: called with a description of the lock's holder before waiting.

        Raises:
            BusyError: another boss holds the lock.
            SetupError: the work directory cannot be used.
            RefusedError: the `kill` task ended what this process had there.
        """
        self._check_open()
        self._options = options or self._options
        if self.held is not None:
            return self.held
        silence = self._options.silence
        self.transport.open()
        self._send_worker()
        arguments = ["supervise", "--work-dir", self.machine.work_dir, *boss_options()]
        if wait > 0:
            arguments += ["--wait", str(wait)]
        if silence:
            arguments += ["--silence", str(silence)]
        command = shell_run(self.machine.work_dir, worker_program(), arguments)
        channel = self.transport.spawn(on_its_own_line(command))
        self._link = WorkerLink(
            channel,
            self.name,
            observer=lambda: self._options.observer,
            stderr=lambda line: self._options.stderr(line),  # noqa: PLW0108 - a later `init` may name another
            silence=silence,
        )
        deadline = time.monotonic() + ANSWER_TIMEOUT + wait
        while True:
            answer = self._receive(deadline - time.monotonic(), "taking the lock")
            match answer:
                case Waiting(holder=holder):
                    on_wait(describe_holder(holder))
                case Busy(holder=holder):
                    # The same text for all machines that one boss holds, so that it is shown once for them.
                    hint = "; --wait SECONDS waits for it, `inv kill --machines NAME` ends it"
                    raise BusyError(self.name, f"BUSY: {describe_holder(holder)}{hint}", holder)
                case Held():
                    self.held = answer
                    return answer
                case Error(msg=why, final=final):
                    raise (RefusedError if final else SetupError)(self.name, why)
                case _:
                    raise ProtocolViolationError(
                        self.name, f"unexpected answer to taking the lock: {type(answer).__name__}"
                    )

    def push(self, source: Source, tip: str, *, one_pack: bool = True) -> PushReport:
        """Push a commit and all objects that it needs to the machine; takes the lock first.

        Args:
            source: the source here.
            tip: the commit's hash.
            one_pack: send the same pack to machines that lack the same objects.

        Raises:
            PushError: git failed; the message quotes git.
        """
        held = self.init()
        url, environment = self.transport.git_remote(held.git_dir)

        def git_there(pack: str) -> str:
            # This git ends with the supervisor, which notices when the boss is gone.
            arguments = ["serve", "--supervisor", str(held.supervisor), "--git-dir", held.git_dir, "--pack", pack]
            return wrap(shell_run(self.machine.work_dir, worker_program(), arguments))

        if self.machine.local:
            why = source.hardlink_objects(held.git_dir, tip)
            _LOG.debug("%s: %s", self.name, why or "its repository has hard links to the source's objects")
        command, config = git_there if held.supervisor else None, NEAR if self.machine.local else ()
        remote = Remote(url, environment, self.name, command, config)
        try:
            report = source.push(remote, tip, PUSH_TIMEOUT, one_pack=one_pack)
        except PushError as exc:
            lost = self.transport.lost
            if lost:
                raise SetupError(self.name, f"{lost}, during the push") from exc
            raise
        self.pushed += report.bytes
        self.brought = tip
        return report

    @property
    def traffic(self) -> tuple[int, int]:
        """Return the bytes sent, pushed source included, and the bytes received."""
        return self.transport.bytes_sent + self.pushed, self.transport.bytes_received

    def start(self, options: StartOptions) -> Ready:
        """Start the worker and wait for its ``ready``; takes the lock first.

        Raises:
            SetupError: the worker does not run; the message has its last lines of stderr.
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
        command = self.machine.worker_command or None
        places = command is None or _PLACES_ARGUMENTS.search(command)
        if options.slots and places:
            # Of another program's options only these two are known; `prepare` tells the slots to everyone.
            arguments += ["--max-boards", str(options.slots)]
        if command is not None and not places:
            command += ' "$@"'
        if self._link is not None:
            self._link.expect_silence()
        self._send(encode_command("start", argv=None, command=command, args=arguments, env=dict(self.machine.env)))
        answer = self._expect(Ready, "the start of the worker")
        threads = answer.nthreads or options.threads or (self.facts.threads if self.facts else 0) or 1
        self.ready = msgspec.structs.replace(answer, nthreads=threads, slots=answer.slots or threads)
        return self.ready

    def configure(self, settings: Mapping[str, object], toolchains: Mapping[str, str]) -> None:
        """Send the settings, the toolchains, and the extensions of the protocol that both sides know.

        Settings beyond the plain protocol go only to a worker that announced them, and only when they are not at
        their default.

        Args:
            settings: the settings of the wire, by name.
            toolchains: the path of a compiler for each architecture.

        Raises:
            RefusedError: the worker refuses the settings, or does not know one that changes the output.
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
        answer = self._expect(ConfigureDone, "configure", refusal=RefusedError)
        self.refused = {arch: cut(answer.refused[arch], 400) for arch in toolchains if arch in answer.refused}

    @property
    def plain(self) -> bool:
        """Return whether the worker that was started announced no protocol, as those of other programs do."""
        return self.ready is not None and not self.ready.protocol

    @property
    def features(self) -> frozenset[str]:
        """Return the extensions of the protocol in use: announced by the worker, known here, and not declined."""
        announced = frozenset(self.ready.features) if self.ready else frozenset()
        return announced & frozenset(FEATURES) - self._options.declined

    def prepare(
        self,
        commits: Sequence[str],
        slots: int,
        progress: Callable[[int, int], None],
        on_failure: Callable[[str], None] = lambda _why: None,
    ) -> int:
        """Have the worker make its worktrees; return the number of slots, of which some may open later (`opened`).

        Args:
            commits: the hashes, in order.
            slots: how many boards are built at once.
            progress: called with the number of worktrees made so far and the number of slots.
            on_failure: called with the reason when a worktree could not be made and others were.

        Raises:
            SetupError: the worker could not make the worktrees.
            ProtocolViolationError: the worker made more than it was asked for.
        """
        self._check_open()
        fields: dict[str, Any] = {"commits": list(commits), "max_boards": slots}
        longest = WORKTREE_TIMEOUT
        if "limits" in self.features:
            # The worker sees how a checkout gets on, and ends one that does not.
            longest = max(longest, STALLS * self._options.stall)
            if self._options.stall != STALL:
                fields["stall"] = self._options.stall
        self._send(encode_command("build_prepare", **fields))
        started = self._expect(BuildStarted, "build_prepare")
        made = 0
        count = started.num_threads or slots
        # A worker that announces no protocol is buildman's, which makes one for each of its threads in any case.
        most = max(slots, self.ready.nthreads) if self.ready and self.plain else slots
        if count > most:
            raise ProtocolViolationError(self.name, f"{count} slots where {slots} were asked for")
        self.slots = min(slots, count)
        self._asked, self._opened = count, 0
        kinds = (WorktreeCreated, WorktreeFailed, BuildPrepareDone)
        while True:
            match self._expect(kinds, "build_prepare", timeout=longest):
                case BuildPrepareDone(outputs=outputs):
                    self.outputs = None if outputs is None else frozenset(outputs)
                    return self.slots
                case WorktreeFailed(msg=why):
                    self.opened()
                    self.slots = max(self.slots - 1, 1)
                    on_failure(why)
                case WorktreeCreated():
                    self.opened()
                    made += 1
                    progress(made, count)

    def prepare_batch(self, threads: int) -> int:
        """Return the number of slots for `build_boards`, which sends all boards at once; sends nothing.

        fabbuild's own worker got its number of slots at its start; other workers use one for each thread.
        """
        self.slots = (self.machine.max_boards if self.features else None) or max(threads, 1)
        return self.slots

    def opened(self) -> int:
        """Count a slot that became ready or failed; with the extension ``early`` even while boards are built.

        Returns:
            The number of such slots so far.

        Raises:
            ProtocolViolationError: there are more than the worker announced.
        """
        self._opened += 1
        if self._opened > self._asked:
            raise ProtocolViolationError(self.name, f"more worktrees than the {self._asked} it said")
        return self._opened

    def feed(self, sink: Sink) -> None:
        """Pass every message of the worker to ``sink`` from now on, in the reading thread."""
        if self._link is not None:
            self._link.feed(sink)

    def build_board(self, job: Job, attempt: int, timeout: float = 0.0, most_jobs: int = 0) -> None:
        """Queue one board.

        Args:
            job: the board and its commits.
            attempt: how often the board was assigned, this time included.
            timeout: seconds that each commit may take; 0: no limit.
            most_jobs: most jobs that make may run; 0: the worker decides.
        """
        fields = self._order(job, timeout)
        if "attempt" in self.features:
            fields["attempt"] = attempt
        if "limits" in self.features and most_jobs:
            fields["jobs"] = most_jobs
        self._send(encode_command("build_board", **fields))

    def trim_board(self, board: str, attempt: int, commits: Sequence[int]) -> None:
        """Have the worker skip the commits of an order that it has not begun but these; it answers `Trimmed`."""
        self._send(encode_command("trim_board", board=board, attempt=attempt, commits=list(commits)))

    def build_boards(self, jobs: Sequence[Job], commits: Sequence[str], timeout: float = 0.0) -> None:
        """Queue all boards at once (batch mode); ``timeout`` as for `build_board`."""
        boards = [self._order(job, timeout) for job in jobs]
        self._send(encode_command("build_boards", boards=boards, commits=list(commits)))

    def _order(self, job: Job, timeout: float) -> dict[str, Any]:
        """Return the fields of an order that the worker understands."""
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
        """Tell the worker that no more boards follow."""
        self._send(encode_command("build_done"))

    def ask_to_quit(self) -> None:
        """Ask the worker to end, or, if none was started, release the lock. Never waits or raises."""
        if self._link is None or self.closed:
            return
        self._link.feed(None)
        if self.ready is not None:
            self._link.send(encode_command("quit"))
        self._link.end_input()

    def wait_ended(self, timeout: float) -> bool:
        """Wait until the supervisor has ended and so released the lock; return whether it did. Never raises."""
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
        """Let the supervisor end within ``grace`` seconds, then cut the connection; return whether it ended."""
        self.ask_to_quit()
        ended = self.wait_ended(grace)
        self.close()
        return ended

    def close(self) -> None:
        """Cut the connection, from any thread; the supervisor then ends all processes of fabbuild there.

        A second call waits for the first, because another session may use the transport afterwards.
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

    def _send_worker(self) -> None:
        program = worker_program()
        done = self.transport.run(
            shell_place(self.machine.work_dir, program), stdin=program.data, timeout=ANSWER_TIMEOUT
        )
        if done.status:
            raise SetupError(self.name, describe_failure("sending the worker", done))

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
        match answer:
            case WireClosed():
                lost = self.transport.lost
                if lost:
                    raise SetupError(self.name, f"{lost}, during {doing}") from answer
                raise self._ended(f"its worker ended during {doing}", link.exit_status(5.0)) from answer
            case WireSilent():
                # A machine that is frozen or cut off gives no exit status soon.
                raise self._ended(str(answer), link.exit_status(0.0)) from answer
            case WireError():
                raise ProtocolViolationError(self.name, f"{answer} (in place of an answer to {doing})")
            case _:
                return answer

    def _ended(self, what: str, status: int | None) -> SetupError:
        hint = STATUS_HINT.get(status or 0, "")
        if status and (status < 0 or status > 128):
            what += " (it was killed, perhaps by `inv kill`)"
        elif status:
            what += f" (exit status {status})"
        return SetupError(self.name, what + (f": {hint}" if hint else "") + self._quoted())

    def _expect(
        self,
        kinds: type[Expected] | tuple[type[Expected], ...],
        doing: str,
        *,
        timeout: float = ANSWER_TIMEOUT,
        refusal: type[MachineError] = SetupError,
    ) -> Expected:
        deadline = time.monotonic() + timeout
        answer = self._receive(timeout, doing)
        while isinstance(answer, Alive) or (self.plain and isinstance(answer, Heartbeat)):
            answer = self._receive(deadline - time.monotonic(), doing)
        if isinstance(answer, Error):
            raise refusal(self.name, f"{doing} was refused: {answer.msg}")
        if not isinstance(answer, kinds):
            raise ProtocolViolationError(self.name, f"unexpected answer to {doing}: {type(answer).__name__}")
        return answer

    def last_words(self) -> str:
        """Return the last lines that the worker wrote to stderr, joined into one; empty for none."""
        return self._link.last_words() if self._link else ""

    def _quoted(self) -> str:
        words = self.last_words()
        return f"; its last words: {words}" if words else ""
