"""Fetching toolchains: each archive is got once, here, and passed on to every machine that lacks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import platformdirs

from fabbuild.errors import FabbuildError, FetchError
from fabbuild.machines.session import Session
from fabbuild.machines.session_pool import each
from fabbuild.machines.toolchains import download
from fabbuild.machines.toolchains.archives import Archive, Catalogue, fetch


class Watcher(Protocol):
    """Who is told how far the files are on their way."""

    def say(self, text: str) -> None:
        """Take a line of text."""

    def begin(self, what: str, size: int = 0) -> Callable[[int, int], None]:
        """Something sets out; give what to tell how many bytes are there, and how many there will be (0: ?)."""


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched, and from where.

    Attributes:
        archs: architectures, or ``all``.
        url: see `fetch.Catalogue`.
        version: see `Catalogue.choose`.
        unchecked: see `fetch.fetch`.
    """

    archs: Sequence[str]
    url: str
    version: str = ""
    unchecked: bool = False


def cache_directory() -> Path:
    """Give where archives are kept here."""
    return platformdirs.user_cache_path("fabbuild", appauthor=False) / "archives"


def listed(sessions: Sequence[Session], wanted: Wanted) -> list[Archive]:
    """Give what could be fetched for these machines, every architecture in its newest version.

    Raises:
        FabbuildError: no machine was reached, or there is nothing for one of them.
    """
    catalogue = Catalogue(wanted.url, silence=download.SILENCE)
    archs: dict[str, None] = {}
    for found in each(sessions, Session.probe).values():
        if isinstance(found, Exception):
            raise found
        archs[found.arch] = None
    return [archive for arch in archs for archive in catalogue.listed(arch, wanted.version)]


def fetch_for(
    sessions: Sequence[Session], wanted: Wanted, watcher: Watcher, cache: Path | None = None
) -> Mapping[str, str | FabbuildError]:
    """Fetch toolchains and unpack them on all machines; give what was done on each, or why it was not.

    An archive that a machine has is not sent there again, and one that is whole in the cache is not got again.

    Raises:
        FetchError: the address is none.
    """
    catalogue = Catalogue(wanted.url, silence=download.SILENCE)
    told: dict[str, list[str]] = {session.name: [] for session in sessions}
    failed: dict[str, FabbuildError] = {}
    plan: dict[Archive, list[Session]] = {}
    chosen: dict[str, list[Archive] | FetchError] = {}
    for session, found in zip(sessions, each(sessions, Session.probe).values(), strict=True):
        if isinstance(found, Exception):
            failed[session.name] = _ours(found)
            continue
        if found.arch not in chosen:
            try:
                chosen[found.arch] = catalogue.choose(found.arch, wanted.archs, wanted.version)
            except FetchError as exc:
                chosen[found.arch] = exc
        archives = chosen[found.arch]
        if isinstance(archives, FetchError):
            failed[session.name] = archives
            continue
        for archive in archives:
            if archive.directory in found.fetched:
                told[session.name].append(f"{_label(archive)} is there already")
            else:
                plan.setdefault(archive, []).append(session)
    for archive, waiting in plan.items():
        _bring(catalogue, archive, waiting, wanted, watcher, cache or cache_directory(), told, failed)
    outcomes: dict[str, str | FabbuildError] = {}
    for session in sessions:
        why = failed.get(session.name)
        done = "; ".join(told[session.name])
        outcomes[session.name] = _with(why, done) if why else done
    return outcomes


def _bring(
    catalogue: Catalogue,
    archive: Archive,
    sessions: Sequence[Session],
    wanted: Wanted,
    watcher: Watcher,
    cache: Path,
    told: dict[str, list[str]],
    failed: dict[str, FabbuildError],
) -> None:
    """Get one archive and pass it on."""
    try:
        path, sha256, _ = fetch(
            catalogue,
            archive,
            cache,
            unchecked=wanted.unchecked,
            progress=watcher.begin(f"get {archive.url}"),
            waiting=lambda: watcher.say(f"waits for another fabbuild that gets {archive.name}"),
        )
    except FetchError as exc:
        failed.update({session.name: exc for session in sessions})
        return
    size = path.stat().st_size

    def pass_on(session: Session) -> str:
        tell = watcher.begin(f"send {archive.name} to {session.name}", size)
        there = session.unpack(path, archive.directory, sha256, lambda done: tell(done, size))
        if there.already:
            return f"{_label(archive)} is there already"
        return f"{_label(archive)} is in {there.place} ({there.mb} MB)"

    for name, outcome in each(sessions, pass_on).items():
        if isinstance(outcome, Exception):
            failed[name] = _ours(outcome)
        else:
            told[name].append(outcome)


def _label(archive: Archive) -> str:
    return f"{archive.triplet} gcc {archive.version}"


def _ours(exc: Exception) -> FabbuildError:
    if not isinstance(exc, FabbuildError):
        raise exc
    return exc


def _with(exc: FabbuildError, done: str) -> FabbuildError:
    """Say with what failed also what did not."""
    return FetchError(f"{exc}; but {done}") if done else exc
