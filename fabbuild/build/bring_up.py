"""Bring the machines of one run up, also after a loss, have them check themselves, and release them.

The dispatcher decides when. Each of these steps takes long and runs in a thread of its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future

from fabbuild.build.inbox import BringUpFailed, BroughtUp, Inbox
from fabbuild.build.variables import FileArchive
from fabbuild.config.machines import Fit, Machine
from fabbuild.config.settings import BuildSettings
from fabbuild.errors import (
    HostKeyError,
    MachineError,
    ProtocolViolationError,
    RefusedError,
    SetupError,
    describe_error,
)
from fabbuild.event_types import Note, PhaseEntered, WorktreeMade
from fabbuild.machines.messages import Facts
from fabbuild.machines.probe import unfit_because
from fabbuild.machines.session import Session, SessionOptions, StartOptions
from fabbuild.machines.session_group import leave_all
from fabbuild.machines.session_pool import group_of
from fabbuild.machines.tool_versions import ToolDifference, differences, of_machine
from fabbuild.model import SANDBOX, Commit, LossKind
from fabbuild.protocol.names import FILES
from fabbuild.source.repository import Source
from fabbuild.text import visible

#: Seconds that a run waits for the other machines' probes once one has answered; those join later.
LATE = 3.0

#: How many pushes run at once, each with an ssh of its own here; `pack_cache.MAKERS` says how many pack objects.
PUSHES = 32

#: Seconds that a machine which comes back has to end the processes of its last session, which hold its lock.
LEFTOVERS = 20.0


class RunMachines:
    """The machines of one run, with a session each; a machine that comes back gets a new one."""

    def __init__(
        self,
        sessions: Sequence[Session],
        source: Source,
        commits: Sequence[Commit],
        settings: BuildSettings,
        fit: Fit,
        files: FileArchive | None = None,
    ) -> None:
        """Prepare; nothing is contacted yet.

        Args:
            sessions: a session for each machine, probed or not.
            source: the source to push; `leave` ends its git processes (`Source.interrupt`).
            commits: the commits to build, in order.
            settings: all options of the build.
            fit: the minimum for a machine to be used.
            files: the files that variables of builds name.
        """
        self._files = files
        self._sessions = {session.name: session for session in sessions}
        self._source = source
        self._commits = tuple(commits)
        self._settings = settings
        self._fit = fit
        self._wanted: frozenset[str] = frozenset()
        self._boards: Counter[str] = Counter()
        self._late: dict[str, Future[Facts]] = {}
        self._came_up: set[str] = set()
        self._used: dict[str, Facts] = {}
        self._differs: set[str] = set()
        self._lock = threading.Lock()
        self._over = False
        self._pushes = threading.BoundedSemaphore(PUSHES)
        self._session_options: Mapping[str, SessionOptions] = {}

    @property
    def machines(self) -> Sequence[str]:
        """See `dispatcher.MachineProvider`."""
        return tuple(self._sessions)

    def probe(
        self, begun: Mapping[str, Future[Facts]], *, identify: bool, all_at_once: bool
    ) -> tuple[list[Session], list[BringUpFailed]]:
        """Probe all machines at once; return the sessions to use, and the machines that cannot be used now.

        A machine that takes long to answer is in neither list: the run does not wait for it, and it joins later.

        Args:
            begun: probes that were started before, by machine.
            identify: whether to fingerprint compilers by their contents, for the store of results.
            all_at_once: wait for all machines, so that none joins later.
        """
        group = group_of(list(self._sessions.values()))
        probes = group.without(begun).start(lambda session: session.probe(identify=identify))
        probes.update(begun)
        answers = group.results(probes, patience=None if all_at_once else lambda took: max(LATE, 2 * took))
        self.await_probes({name: probe for name, probe in probes.items() if name not in answers})
        usable: list[Session] = []
        failed: list[BringUpFailed] = []
        for session in (session for name, session in self._sessions.items() if name in answers):
            found = answers[session.name]
            if isinstance(found, Facts):
                why = self._unfit_because(found, session.machine)
                if not why:
                    usable.append(session)
                    self.use(session)
                    continue
                failed.append(BringUpFailed(session.name, "not fit: " + "; ".join(why)))
            else:
                failed.append(BringUpFailed(session.name, describe_error(found), loss_by(found)))
            session.close()
        return usable, failed

    def use(self, session: Session) -> None:
        """Add a machine that was probed to those that the run starts with."""
        if session.facts is not None:
            self._used[session.name] = session.facts

    def open_with(self, options: Mapping[str, SessionOptions]) -> None:
        """Set the options for opening sessions, by machine; call this before the first bring-up."""
        self._session_options = options

    def await_probes(self, late: Mapping[str, Future[Facts]]) -> None:
        """Take over probes that have not ended; the bring-up of each machine waits for its probe."""
        self._late = dict(late)

    def need(self, wanted: Iterable[str]) -> list[str]:
        """Set the architectures to build, one entry for each board; return the machines that can build none.

        These machines are not started, and the others get no more slots than there are boards for them.
        """
        self._boards = Counter(wanted)
        self._wanted = frozenset(self._boards)
        return [name for name, facts in self._used.items() if not _archs(facts) & self._wanted]

    def compare(self, wanted: Iterable[str]) -> list[ToolDifference]:
        """Return the tools that differ between the machines that build these architectures."""
        self.need(wanted)
        found = differences(self._used, self._wanted)
        self._differs = set(map(str, found))
        return found

    @property
    def traffic(self) -> Mapping[str, tuple[int, int]]:
        """Return the bytes sent and received, by machine."""
        return {name: session.traffic for name, session in self._sessions.items()}

    def bring_up(self, machine: str, inbox: Inbox) -> None:
        """See `dispatcher.MachineProvider`; any error is reported as that machine's."""
        try:
            message = self._bring_up(self._session(machine), inbox)
        except Exception as exc:  # noqa: BLE001 - one machine must not stop the others, whatever it is
            message = BringUpFailed(machine, describe_error(exc), loss_by(exc))
        if isinstance(message, BringUpFailed):
            self._sessions[machine].close()
        inbox.put(message)

    def check(self, session: Session, archs: Iterable[str]) -> tuple[bool, str]:
        """See `dispatcher.MachineProvider`."""
        fit = session.machine.fit or self._fit
        found = session.check(archs, session.brought, min_disk_mb=fit.min_disk_mb, min_mem_mb=fit.min_mem_mb)
        return found.well, "; ".join(found.problems)

    def leave(self, grace: float) -> None:
        """Release every machine; connections that are still in use after ``grace`` seconds are cut."""
        with self._lock:
            self._over = True
            sessions = list(self._sessions.values())
        self._source.interrupt()  # a push to a machine that is no longer needed
        leave_all(sessions, grace)

    # --- one machine ---

    def _session(self, machine: str, anew: Facts | None = None) -> Session:
        """Return the machine's session; a new one if the last is closed, or, with ``anew``, without a probe."""
        session = self._sessions[machine]
        if session.closed or anew:
            session = session.renewed(anew)  # waits for the old one's end, so it is done outside the lock
        with self._lock:
            self._check_not_over(machine)
            self._sessions[machine] = session
        return session

    def _check_not_over(self, machine: str) -> None:
        if self._over:
            raise MachineError(machine, "the run ended before it was ready")

    def _bring_up(self, session: Session, inbox: Inbox) -> BroughtUp | BringUpFailed:
        """Bring a machine up, from its probe to its worktrees."""
        name = session.name
        late = session.facts is None or name in self._late
        if late:
            self._phase(name, "probe", inbox)
            self._look_again(session)
            self._compare_again(session, inbox)
        facts = session.facts
        assert facts is not None
        archs = _archs(facts)
        if not archs & self._wanted:
            if late:  # for the machines at the start of the run this is reported together
                inbox.tell(Note(), name, f"not needed: it has no toolchain for {', '.join(sorted(self._wanted))}")
            return BringUpFailed(name, "not needed", LossKind.UNNEEDED, session.lacking)
        try:
            threads = self._open(session, inbox, archs)
        except SetupError as exc:
            if session.ready is None:
                raise
            # Its worker may have found its repository damaged; then that is made anew, once.
            inbox.tell(Note(), name, f"begun anew: {exc}")
            session = self._session(name, anew=facts)
            try:
                threads = self._open(session, inbox, archs, again=True)
            except SetupError as exc_again:
                hint = f"`inv clean --machines {name}` removes what is there"
                raise SetupError(name, f"{exc_again}; {hint}") from exc_again
        self._came_up.add(name)
        archs = archs.difference(session.refused)
        return BroughtUp(session, archs, facts.capacity / max(facts.threads, 1) * max(threads, 1))

    def _phase(self, machine: str, phase: str, inbox: Inbox) -> None:
        self._check_not_over(machine)
        inbox.tell(PhaseEntered(phase), machine)

    def _open(self, session: Session, inbox: Inbox, archs: frozenset[str], *, again: bool = False) -> int:
        """Bring up a machine that was probed, from its lock to its worktrees; return the threads that it uses.

        Raises:
            RefusedError: it refuses the settings, or its worker cannot use any compiler that this run needs.
        """
        name, settings, facts = session.name, self._settings, session.facts
        assert facts is not None
        self._phase(name, "init", inbox)
        # The processes of its last session may still be ending.
        wait = max(settings.wait, LEFTOVERS if again or name in self._came_up else 0.0)
        options = self._session_options.get(name)
        session.init(options, wait=wait, on_wait=lambda who: inbox.tell(Note(), name, f"waits: {who}"))
        with self._pushes:
            self._phase(name, "push", inbox)
            session.push(self._source, self._commits[-1].hash, one_pack=settings.one_pack)
            if self._files:
                session.unpack(self._files.path, self._files.name, self._files.sha256, into=FILES)
        self._phase(name, "start", inbox)
        machine = session.machine
        ready = session.start(start_options(machine, settings))
        self._phase(name, "configure", inbox)
        wire = {**settings.wire_settings(), "outputs": self._outputs(machine)}
        session.configure(wire, {arch: tool.gcc for arch, tool in facts.toolchains.items()})
        for arch, why in session.refused.items():
            if arch in self._wanted:
                inbox.tell(Note(), name, f"builds no board of {arch}: its compiler does not work: {visible(why)}")
        archs = archs.difference(session.refused)
        if not archs & self._wanted:
            raise RefusedError(name, "none of the compilers that are needed works here")
        threads = machine.threads or ready.nthreads
        if settings.batch:
            session.prepare_batch(threads)
            if machine.max_boards and not session.features:
                inbox.tell(
                    Note(), name, "max_boards has no effect here with --batch: its worker is another program"
                )
        else:
            self._phase(name, "prepare", inbox)
            session.prepare(
                [commit.hash for commit in self._commits],
                min(machine.max_boards or max(threads, 1), self._boards_for(archs)),
                lambda made, slots: inbox.tell(WorktreeMade(made, slots), name),
                lambda why: inbox.tell(Note(), name, f"a slot less: a worktree cannot be made: {visible(why)}"),
            )
        return threads

    def _unfit_because(self, facts: Facts, machine: Machine, *, known: bool = False) -> list[str]:
        local = known or machine.local
        return unfit_because(facts, machine.fit or self._fit, local=local, outputs=self._outputs(machine))

    def _outputs(self, machine: Machine) -> str:
        """Return the limit of the output directories that a machine keeps; empty for the default."""
        return machine.outputs or self._settings.outputs

    def _boards_for(self, archs: Iterable[str]) -> int:
        """Return how many boards of the run a machine with these toolchains can build."""
        return max(sum(self._boards[arch] for arch in archs), 1)

    def _look_again(self, session: Session) -> None:
        """Probe a machine again; a machine that was in before also has to check itself."""
        late = self._late.pop(session.name, None)
        facts = late.result() if late is not None else session.probe(identify=self._settings.reuse)
        known = session.name in self._came_up
        # Its load may well be of the boards it built a moment ago.
        why = self._unfit_because(facts, session.machine, known=known)
        if known and not why:
            well, found = self.check(session, self._wanted)
            why = [] if well else [found]
        if why:
            raise MachineError(session.name, "not fit: " + "; ".join(why))

    def _compare_again(self, session: Session, inbox: Inbox) -> None:
        """Compare the tools of a machine that joins late, or again, with those of the others."""
        assert session.facts is not None
        with self._lock:
            others = {name: facts for name, facts in self._used.items() if name != session.name}
            found = differences({**others, session.name: session.facts}, self._wanted)
            lines = [line for line in of_machine(found, session.name) if line not in self._differs]
            if not (lines and self._settings.strict_toolchains):
                self._used[session.name] = session.facts
                self._differs.update(lines)
        if lines and self._settings.strict_toolchains:
            raise RefusedError(
                session.name, f"its tools are not those of the others (--strict-toolchains): {'; '.join(lines)}"
            )
        for one in found:
            if str(one) in lines:
                inbox.tell(Note(one.thing, one.versions), session.name, one.sentence)


def loss_by(exc: BaseException) -> LossKind:
    """Return the kind of loss for an error that ended a bring-up; it decides whether the machine may come back."""
    if isinstance(exc, (HostKeyError, RefusedError)):
        return LossKind.REFUSED
    return LossKind.UNTRUSTED if isinstance(exc, ProtocolViolationError) else LossKind.FAILED


def start_options(machine: Machine, settings: BuildSettings) -> StartOptions:
    """Return the options that a machine's worker is started with."""
    return StartOptions(debug=settings.verbose_worker, threads=machine.threads, slots=machine.max_boards)


def _archs(facts: Facts) -> frozenset[str]:
    """Return the architectures that a machine can build; every machine has a compiler for sandbox."""
    return frozenset(facts.toolchains) | {SANDBOX}
