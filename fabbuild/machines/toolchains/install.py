"""Fetch toolchains: download each archive once, and send it to every machine that lacks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import platformdirs

from fabbuild.errors import FabbuildError, FetchError
from fabbuild.machines.messages import Facts
from fabbuild.machines.probe import lacking_archs
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup
from fabbuild.machines.session_pool import group_of
from fabbuild.machines.toolchains import download
from fabbuild.machines.toolchains.archives import MISSING, Archive, ArchiveIndex, fetch


class TransferDisplay(Protocol):
    """Shows the progress of file transfers."""

    def say(self, text: str) -> None:
        """Show a line of text."""

    def begin(self, what: str, size: int = 0) -> Callable[[int, int], None]:
        """Show that a transfer begins; return a function to call with the bytes done and the size (0: unknown)."""


@dataclass(frozen=True)
class ToolchainRequest:
    """The toolchains to fetch, and the address to fetch them from.

    Attributes:
        archs: architectures, ``all``, or ``missing``: those that a machine lacks and another one of them has.
        url: see `archives.ArchiveIndex`.
        version: see `ArchiveIndex.choose`.
        unchecked: see `archives.fetch`.
    """

    archs: Sequence[str]
    url: str
    version: str = ""
    unchecked: bool = False


def cache_directory() -> Path:
    """Return the directory on this machine that archives are kept in."""
    return platformdirs.user_cache_path("fabbuild", appauthor=False) / "archives"


def listed(machines: SessionGroup, wanted: ToolchainRequest) -> list[Archive]:
    """Return the toolchains available for these machines, every architecture in its newest version.

    Raises:
        FabbuildError: a machine was not reached, or the server has no toolchain for it.
    """
    index = ArchiveIndex(wanted.url, silence=download.SILENCE)
    archs: dict[str, None] = {}
    for found in machines.on_all(Session.probe).values():
        if isinstance(found, Exception):
            raise found
        archs[found.arch] = None
    return [archive for arch in archs for archive in index.listed(arch, wanted.version)]


def fetch_for(
    machines: SessionGroup, wanted: ToolchainRequest, display: TransferDisplay, cache: Path | None = None
) -> Mapping[str, str | FabbuildError]:
    """Fetch toolchains and unpack them on all machines; return the outcome for each machine.

    Archives that a machine has are not sent again, and complete archives in the cache are not downloaded again.

    Raises:
        FetchError: the address cannot be fetched from.
    """
    return _Installation(machines, wanted, display, cache or cache_directory()).run()


class _Installation:
    """The toolchains of one request on their way to the machines of one group."""

    def __init__(
        self, machines: SessionGroup, wanted: ToolchainRequest, display: TransferDisplay, cache: Path
    ) -> None:
        self._machines = machines
        self._wanted = wanted
        self._display = display
        self._cache = cache
        self._index = ArchiveIndex(wanted.url, silence=download.SILENCE)
        self._done: dict[str, list[str]] = {session.name: [] for session in machines.sessions}
        self._failed: dict[str, FabbuildError] = {}

    def run(self) -> Mapping[str, str | FabbuildError]:
        for archive, sessions in self._plan().items():
            self._bring(archive, sessions)
        outcomes: dict[str, str | FabbuildError] = {}
        for name, parts in self._done.items():
            done = "; ".join(parts)
            why = self._failed.get(name)
            outcomes[name] = _with(why, done) if why else done
        return outcomes

    def _plan(self) -> Mapping[Archive, list[Session]]:
        """Return the archives to install, each with the machines that lack it."""
        plan: dict[Archive, list[Session]] = {}
        chosen: dict[tuple[str, tuple[str, ...]], list[Archive] | FetchError] = {}
        found = self._machines.on_all(Session.probe)
        lacking = lacking_archs({name: facts for name, facts in found.items() if isinstance(facts, Facts)})
        named = tuple(arch for arch in self._wanted.archs if arch != MISSING)
        for session in self._machines.sessions:
            facts = found[session.name]
            if isinstance(facts, Exception):
                self._failed[session.name] = _ours(facts)
                continue
            wanted = (*named, *lacking[session.name]) if MISSING in self._wanted.archs else named
            if not wanted:
                self._done[session.name].append("lacks no toolchain that another machine has")
                continue
            key = facts.arch, wanted
            if key not in chosen:
                try:
                    chosen[key] = self._index.choose(*key, self._wanted.version)
                except FetchError as exc:
                    chosen[key] = exc
            archives = chosen[key]
            if isinstance(archives, FetchError):
                self._failed[session.name] = archives
                continue
            for archive in archives:
                if archive.directory in facts.fetched:
                    self._done[session.name].append(f"{_label(archive)} is there already")
                else:
                    plan.setdefault(archive, []).append(session)
        return plan

    def _bring(self, archive: Archive, sessions: Sequence[Session]) -> None:
        """Download one archive and send it to these machines."""
        display = self._display
        try:
            path, sha256, _ = fetch(
                self._index,
                archive,
                self._cache,
                unchecked=self._wanted.unchecked,
                progress=display.begin(f"get {archive.url}"),
                waiting=lambda: display.say(f"waits for another fabbuild that gets {archive.name}"),
            )
        except FetchError as exc:
            self._failed.update({session.name: exc for session in sessions})
            return
        size = path.stat().st_size

        def send(session: Session) -> str:
            tell = display.begin(f"send {archive.name} to {session.name}", size)
            there = session.unpack(path, archive.directory, sha256, lambda sent: tell(sent, size))
            if there.already:
                return f"{_label(archive)} is there already"
            return f"{_label(archive)} is in {there.place} ({there.mb} MB)"

        for name, outcome in group_of(sessions).on_all(send).items():
            if isinstance(outcome, Exception):
                self._failed[name] = _ours(outcome)
            else:
                self._done[name].append(outcome)


def _label(archive: Archive) -> str:
    return f"{archive.triplet} gcc {archive.version}"


def _ours(exc: Exception) -> FabbuildError:
    if not isinstance(exc, FabbuildError):
        raise exc
    return exc


def _with(exc: FabbuildError, done: str) -> FabbuildError:
    """Return an error that also reports what was done on the same machine."""
    return FetchError(f"{exc}; but {done}") if done else exc
