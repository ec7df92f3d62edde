"""Decide which results a run takes from the store instead of building them, and which it adds to the store.

`Reuse.restore` takes results from the store: the settings must allow it
(`fabbuild.protocol.settings.Shortcut.STORE`), and the store must have a result under the same key
(`fabbuild.results.reuse.keys` makes keys, `fabbuild.results.reuse.lookup` looks them up). `Reuse.keep` adds a
result unless it depends on more than the key covers.

The store is optional: if it is broken, locked, full or of another version, one note says so, and the run goes on
without it. A run whose results all exist does not open it.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fabbuild.config.settings import BuildSettings
from fabbuild.event_types import Event, Note, Payload, ResultReused
from fabbuild.machines.messages import BuildResult
from fabbuild.machines.session import Session
from fabbuild.machines.session_pool import group_of
from fabbuild.model import Board, Commit, Job, Result, Verdict
from fabbuild.protocol.settings import Shortcut, ruled_out
from fabbuild.protocol.wire import TIMED_OUT
from fabbuild.results.incoming import Arrived, names_for
from fabbuild.results.reuse import audit
from fabbuild.results.reuse.keys import BuildTools, StoredDocument, Views, build_tools
from fabbuild.results.reuse.lookup import Hit, StoreLookup
from fabbuild.results.reuse.store import Store, StoreError, store_path
from fabbuild.results.reuse.writer import StoreWriter
from fabbuild.results.tree import BuiltFrom, ResultTree
from fabbuild.source.repository import Source
from fabbuild.text import commit_label, first_error

#: Seconds for writing the last results into the store at the end of a run, and after an interrupt.
LEAVE = 15.0
HURRY = 2.0


class Reuse:
    """Reuse of results in one run."""

    def __init__(
        self,
        source: Source,
        commits: Sequence[Commit],
        settings: BuildSettings,
        tree: ResultTree,
        listener: Callable[[Event], None],
    ) -> None:
        """Prepare the parts; no file is opened before it is needed.

        Args:
            source: the repository, for listing trees.
            commits: the commits to build.
            settings: the settings of the run.
            tree: the results of the run.
            listener: is given events about reused results, comparisons and trouble.
        """
        self._commits = tuple(commits)
        self._settings = settings
        self._wire = settings.wire_settings()
        self._tree = tree
        self._listener = listener
        git, trees = source.git, [commit.tree for commit in commits]
        self._views = Views(git, trees)
        self._writer = StoreWriter(Views(git, trees), commits, self._wire)
        self._on = settings.reuse
        self._reported = False
        #: The boards of which `restore` found that their builds read a file that the commits change.
        self.affected: frozenset[str] = frozenset()
        self._is_ours = names_for({})
        self._audit = audit.Audit(tree, commits, reproducible=settings.reproducible)

    @property
    def declined(self) -> frozenset[str]:
        """The extensions of the protocol that workers are not asked for: ``carry``, or none."""
        settings = self._settings
        varies = not settings.reproducible and ruled_out(Shortcut.CARRY_VARYING, self._wire)
        carry = settings.reuse and not settings.force and not varies
        return frozenset() if carry else frozenset({"carry"})

    # --- out of the store ---

    def restore(
        self,
        jobs: Sequence[Job],
        usable: Sequence[Session],
        changed: Callable[[], frozenset[str]] = frozenset,
    ) -> list[Job]:
        """Write results from the store into the result tree, and return what is left to build.

        For this the lists of what boards read are loaded, so it costs little to find ``affected`` boards as well.

        Args:
            jobs: boards and commits without a result.
            usable: the machines of the run; only results made with one of their toolchains are reused.
            changed: returns the files that the commits change.

        Raises:
            OutputError: the result tree cannot be written.
        """
        brought: dict[str, set[int]] = {}
        if jobs and self._on:
            _identify(usable)
        if self._settings.audit_reuse:
            self._audit.begin()
        if jobs and self._may_restore() and store_path().exists():
            try:
                with Store.open(make=False) as store:
                    self._restore(store, jobs, build_tools(usable), brought, changed())
            except StoreError as exc:
                self._on = False
                self._trouble(str(exc))
        left = []
        for job in jobs:
            rest = tuple(upto for upto in job.commits if upto not in brought.get(job.board.target, ()))
            if rest:
                left.append(replace(job, commits=rest))
        self._sample_built(left)
        return left

    def _may_restore(self) -> bool:
        return self._on and not ruled_out(Shortcut.STORE, self._wire)

    def _restore(
        self,
        store: Store,
        jobs: Sequence[Job],
        by: Mapping[str, Sequence[BuildTools]],
        brought: dict[str, set[int]],
        changed: frozenset[str],
    ) -> None:
        lookup = StoreLookup(store, self._views, self._commits, self._wire, changed)
        hits = [lookup.find(job, by.get(job.board.arch, ())) for job in jobs]
        self.affected = frozenset(lookup.affected)
        self._sample_stored(lookup, jobs, hits)
        used = []
        for job, there in zip(jobs, hits, strict=True):
            target = job.board.target
            wanted = [hit for hit in there if hit.upto not in self._audit.builds.get(target, ())]
            failures = not self._settings.force_failures
            for hit, result, document in lookup.restore(job.board, wanted, self._tree, failures=failures):
                brought.setdefault(target, set()).add(hit.upto)
                used.append(hit.number)
                self._tell(result, document)
        missed = sum(len(job.commits) for job in jobs) - len(used)
        self._writer.do(lambda store: store.used(used, brought=len(used), missed=missed))

    def _tell(self, result: Result, document: StoredDocument) -> None:
        commit = self._commits[result.upto]
        verdict = result.verdict
        reused = ResultReused(
            verdict=verdict.value,
            return_code=result.return_code,
            number=commit.number,
            error=first_error(result.stderr) if verdict is not Verdict.BUILT else "",
            commit=document.commit,
            when=document.when,
            machine=document.machine,
            output=document.output,
        )
        self._say(reused, document.machine, result.board, commit.hash)

    # --- into the store ---

    def keep(
        self, session: Session, board: Board, message: BuildResult, result: Result, built: BuiltFrom, files: Arrived
    ) -> None:
        """Add a recorded result to the store, if a build from scratch would give the same.

        Results are left out that were carried forward, built in the quick way, or lack a file; those of a machine
        whose tools are not known or whose worker is another program; and failures that may be the machine's fault.
        """
        from fabbuild.scheduler.fault_patterns import fault_of  # compiling its patterns takes long

        tool = session.facts.toolchains.get(board.arch) if session.facts else None
        known = tool is not None and tool.identity and not session.machine.worker_command
        if not (self._on and known and tool and {"files", "details"} <= session.features):
            return
        if message.carried is not None or self._wire.get("quick") or not files.complete:
            return
        if result.return_code and (message.fault or result.return_code == TIMED_OUT):
            return  # perhaps the machine's fault, even after several tries
        if fault_of(message.return_code, message.stderr, message.stdout, message.fault):
            return
        names = [name for name in files.there if self._is_ours(name)]
        if any(self._is_ours(name) for name in files.missing):
            return
        described = {"arch": board.arch, "gcc": tool.gcc, "prefix": tool.prefix, "version": tool.version}
        place = self._tree.place(result.board, result.upto)
        self._writer.keep(board, result, BuildTools(built.toolchain, tool.identity), described, place, names)

    # --- a sample is built and compared ---

    def _sample_stored(self, lookup: StoreLookup, jobs: Sequence[Job], hits: Sequence[Sequence[Hit]]) -> None:
        """Choose some results that would be reused, write them elsewhere, and have them built for a comparison."""
        every = [(job.board, hit) for job, there in zip(jobs, hits, strict=True) for hit in there]
        random.shuffle(every)
        wanted = self._settings.audit_reuse
        for board, hit in every:
            if wanted <= 0:
                break
            for one, _, document in lookup.restore(board, [hit], self._audit.apart):
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(document.when))
                origin = f"of {commit_label(document.commit)}, built on {document.machine} at {when}"
                self._audit.expect(board.target, one.upto, one.number, origin)
                wanted -= 1

    def _sample_built(self, left: Sequence[Job]) -> None:
        """Choose some results that may be carried forward or built upon others, and have them built from nothing.

        First commits are among them: they are built upon what earlier runs and other boards left.
        """
        wanted = self._settings.audit_reuse - sum(map(len, self._audit.builds.values()))
        may = [
            (job.board.target, upto)
            for job in left
            for upto in job.commits
            if upto not in self._audit.builds.get(job.board.target, ())
        ]
        for target, upto in random.sample(may, max(min(wanted, len(may)), 0)):
            self._audit.have_built(target, upto)

    @property
    def audited(self) -> dict[str, list[int]]:
        """Return, by board, the commits to build from nothing and to compare; call after `restore`."""
        return {target: sorted(uptos) for target, uptos in self._audit.builds.items()}

    def listen(self, event: Event) -> None:
        """Compare a new result with the one in place of which it was built, if it belongs to the sample."""
        for audited, number in self._audit.check(event) if self._settings.audit_reuse else ():
            text = audit.words(audited) if audited.differs else f"the same as a new build ({audited.origin})"
            self._say(audited, event.machine, event.board, event.commit, text)
            if number is not None:
                self._writer.do(functools.partial(Store.forget, result=number))

    @property
    def differs(self) -> int:
        """The number of results that differed from those of a build from nothing."""
        return self._audit.differs

    # --- the end, and trouble ---

    def tick(self) -> None:
        """Report trouble with the store."""
        self._trouble(self._writer.trouble)

    def close(self, *, hurry: bool) -> None:
        """Write the last results into the store, within `LEAVE` or `HURRY` seconds."""
        self._writer.close(HURRY if hurry else LEAVE)
        self.tick()

    def _trouble(self, why: str) -> None:
        if why and not self._reported:
            self._reported = True
            self._say(Note(), text=f"{why}; the run goes on without it")

    def _say(
        self,
        payload: Payload,
        machine: str = "",
        board: str = "",
        commit: str = "",
        text: str = "",
    ) -> None:
        self._listener(Event(time.time(), payload, machine, None, board, commit, text=text))


def _identify(sessions: Sequence[Session]) -> None:
    """Ask machines for the identity of their tools, as far as that was not done when they were probed.

    Nothing is reused for a machine that does not answer; bringing it up will report the loss.
    """
    unasked = group_of([session for session in sessions if not session.identified])
    unasked.on_all(lambda session: session.probe(identify=True))
