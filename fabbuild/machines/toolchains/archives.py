"""List the toolchain archives on a server, and choose those that suit a machine.

The server is laid out as the cross toolchains of kernel.org are::

    BASE/bin/HOSTARCH/                              a listing in HTML, of the versions
    BASE/bin/HOSTARCH/VERSION/                      a listing in HTML, of the archives
    BASE/bin/HOSTARCH/VERSION/sha256sums.asc        lines ``HEX  NAME``, signed or not
    BASE/bin/HOSTARCH/VERSION/HOSTARCH-gcc-VERSION-nolibc-TRIPLET.tar.xz

An architecture is named as fabbuild names it (``arm``, ``riscv64``, ``x86``) or as an archive's triplet begins
(``i386``, ``or1k``).
"""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fabbuild.errors import FetchError
from fabbuild.files import digest_of
from fabbuild.machines.toolchains import download
from fabbuild.protocol.architectures import FAMILIES
from fabbuild.protocol.names import TOOLCHAIN_NAME
from fabbuild.text import names

#: The default address of archives.
DEFAULT_URL = "https://mirrors.edge.kernel.org/pub/tools/crosstool/files"

#: Words in place of architectures: fetch all; fetch what a machine lacks and others have; only list the archives.
EVERY = "all"
MISSING = "missing"
SHOW = "list"

#: By ``uname -m``: other names of the machine's architecture in the names of archives.
_HOST_NAMES: Mapping[str, Sequence[str]] = {
    "aarch64": ("arm64",),
    "i386": ("i686",),
    "i486": ("i686",),
    "i586": ("i686",),
    "i686": ("i386",),
    "ppc64le": ("powerpc64le",),
}

_HREF = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'?#]+)["']""", re.IGNORECASE)
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_ARCHIVE = re.compile(
    r"(?P<host>[\w.]+?)-gcc-(?P<version>\d+(?:\.\d+)*)-nolibc[-_](?P<triplet>[\w-]+)\.(?:tar\.(?:xz|gz|bz2)|tgz)"
)
_SUMS = re.compile(r"sha256sums?(?:\.\w+)?", re.IGNORECASE)
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S+)")


@dataclass(frozen=True)
class Archive:
    """One toolchain archive.

    Attributes:
        host: the architecture it runs on, as archives name it.
        version: the version of gcc.
        triplet: the target, which the names of its programs begin with.
        name: the file's name.
        url: the file's address.
        listing: the address of the listing that names it.
        sums: the address of the list with its checksum; empty when there is none.
    """

    host: str
    version: str
    triplet: str
    name: str
    url: str
    listing: str
    sums: str

    @property
    def arch(self) -> str:
        """Return the architecture that the triplet begins with."""
        return self.triplet.split("-", 1)[0]

    @property
    def directory(self) -> str:
        """Return the name of its directory on a machine."""
        return re.sub(r"\.(tar\.\w+|tgz)$", "", self.name)


class ArchiveIndex:
    """The archives at one address; each listing is downloaded once."""

    def __init__(self, base: str, *, silence: float = download.SILENCE) -> None:
        """Store the address; nothing is contacted yet.

        Raises:
            FetchError: the address is not one of HTTP.
        """
        self.base = download.check_url(base)
        self._silence = silence
        self._pages: dict[str, str] = {}
        self._sums: dict[str, dict[str, str]] = {}

    def choose(self, machine_arch: str, wanted: Sequence[str], version: str = "") -> list[Archive]:
        """Return the archives for a machine, one for each architecture, each in the newest version that has it.

        Args:
            machine_arch: the output of ``uname -m`` there.
            wanted: architectures; ``all`` stands for every architecture.
            version: the version of gcc; ``13`` is the newest 13; empty: any.

        Raises:
            FetchError: the architecture or version does not exist (lists those that do), or there was no answer.
        """
        host = self._host(machine_arch)
        found: dict[str, Archive] = {}
        missing = [arch for arch in dict.fromkeys(wanted) if arch != EVERY]
        seen: dict[str, None] = {}
        for one in self._versions(host, version):
            there = {archive.arch: archive for archive in self._archives(host, one)}
            seen.update(dict.fromkeys(sorted(there)))
            for arch in list(missing):
                first = _best(arch, there)
                if first:
                    found.setdefault(first, there[first])
                    missing.remove(arch)
            if EVERY in wanted:
                for first, archive in there.items():
                    found.setdefault(first, archive)
            elif not missing:
                break
        if missing:
            of = f" in version {version}" if version else ""
            raise FetchError(
                f"{self.base}: has no toolchain for {', '.join(missing)}{of} that runs on {machine_arch}; "
                f"there are: {names(sorted(seen), 60) or 'none'}"
            )
        return [found[first] for first in sorted(found)]

    def listed(self, machine_arch: str, version: str = "") -> list[Archive]:
        """Return the archives for every architecture, each in the newest version that has it.

        Raises:
            FetchError: as `choose`.
        """
        return self.choose(machine_arch, [EVERY], version)

    def checksum(self, archive: Archive) -> str:
        """Return an archive's SHA-256 from the server's list, in hexadecimal; empty if the list lacks it.

        Raises:
            FetchError: the list cannot be downloaded.
        """
        if not archive.sums:
            return ""
        if archive.sums not in self._sums:
            lines = self._page(archive.sums).splitlines()
            matches = [match for line in lines if (match := _SUM_LINE.fullmatch(line.strip()))]
            known: dict[str, str] = {}
            for match in matches:
                name, digest = match.group(2).removeprefix("./"), match.group(1).lower()
                # Of two checksums for one name neither can be relied on.
                known[name] = digest if known.get(name, digest) == digest else ""
            self._sums[archive.sums] = known
        return self._sums[archive.sums].get(archive.name, "")

    # --- inside ---

    def _host(self, machine_arch: str) -> str:
        there = self._names(f"{self.base}/bin/")
        for name in (machine_arch, *_HOST_NAMES.get(machine_arch, ())):
            if name in there:
                return name
        raise FetchError(
            f"{self.base}/bin/: has no toolchains that run on {machine_arch}; there are some for: "
            f"{names(sorted(there), 20) or 'no machine at all'}"
        )

    def _versions(self, host: str, wanted: str) -> list[str]:
        where = f"{self.base}/bin/{host}/"
        there = [name for name in self._names(where) if _VERSION.fullmatch(name)]
        asked = wanted.split(".")
        fitting = [name for name in there if not wanted or name.split(".")[: len(asked)] == asked]
        if not fitting:
            what = f"has no version {wanted}" if wanted else "has no versions"
            there_are = f"; there are: {names(sorted(there, key=_number), 60)}" if there else ""
            raise FetchError(f"{where}: {what}{there_are}")
        return sorted(fitting, key=_number, reverse=True)

    def _archives(self, host: str, version: str) -> list[Archive]:
        where = f"{self.base}/bin/{host}/{version}/"
        listed = self._names(where)
        sums = sorted(
            (name for name in listed if _SUMS.fullmatch(name)), key=lambda name: not name.endswith(".asc")
        )
        found = []
        for name in listed:
            match = _ARCHIVE.fullmatch(name)
            if match and match["host"] == host and match["version"] == version and TOOLCHAIN_NAME.fullmatch(name):
                where_sums = where + urllib.parse.quote(sums[0]) if sums else ""
                url = where + urllib.parse.quote(name)
                found.append(Archive(host, version, match["triplet"], name, url, where, where_sums))
        return found

    def _names(self, url: str) -> list[str]:
        """Return the names directly below a listing that it links to."""
        base = urllib.parse.urlsplit(url)
        found: dict[str, None] = {}
        for link in _HREF.findall(self._page(url)):
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(url, html.unescape(link)))
            below = parts.path.removeprefix(base.path)
            name = urllib.parse.unquote(below).removesuffix("/")
            if parts.netloc == base.netloc and below != parts.path and TOOLCHAIN_NAME.fullmatch(name):
                found[name] = None
        return list(found)

    def _page(self, url: str) -> str:
        if url not in self._pages:
            self._pages[url] = download.page(url, self._silence)
        return self._pages[url]


def fetch(
    index: ArchiveIndex,
    archive: Archive,
    cache: Path,
    *,
    unchecked: bool = False,
    progress: download.Progress = lambda _done, _size: None,
    waiting: Callable[[], None] = lambda: None,
    silence: float = download.SILENCE,
) -> tuple[Path, str, bool]:
    """Download an archive into the cache, unless it is there already.

    Args:
        index: where the archive is from.
        archive: from `ArchiveIndex.choose`.
        cache: the directory to put it in.
        unchecked: accept an archive that no list of checksums names.
        progress: see `download.file`.
        waiting: see `download.file`.
        silence: see `download.file`.

    Returns:
        The archive's file, its SHA-256, and whether it was downloaded now.

    Raises:
        FetchError: the checksum is missing or wrong, or the archive cannot be downloaded.
    """
    sha256 = index.checksum(archive)
    if not sha256 and not unchecked:
        where = archive.sums or f"{archive.listing} (it has no sha256sums.asc)"
        raise FetchError(
            f"{archive.url}: no checksum of it is in {where}, so it cannot be verified; "
            "--unchecked accepts it anyway"
        )
    path = cache / archive.name
    got = download.file(archive.url, path, sha256, progress=progress, waiting=waiting, silence=silence)
    return path, sha256 or digest_of(path), got


def split_archs(text: str) -> list[str]:
    """Split a list of architectures such as ``arm,riscv64``.

    Raises:
        FetchError: the list is empty, or an item cannot be the name of an architecture.
    """
    words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
    wrong = [word for word in words if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", word)]
    if not words or wrong:
        what = f"{wrong[0]!r} is not an architecture" if wrong else "names no architecture"
        raise FetchError(f"--fetch: {what}; it takes names such as arm,aarch64, or {EVERY}, {MISSING} or {SHOW}")
    if SHOW in words and len(words) > 1:
        raise FetchError(f"--fetch: {SHOW} stands alone; name architectures, or {EVERY}, to fetch some")
    return words


def _best(arch: str, there: Iterable[str]) -> str:
    """Return the first part of the triplet that suits an architecture best; empty if none does."""
    known = set(there)
    if arch in known:
        return arch
    return next((first for first in FAMILIES.get(arch, ()) if first in known), "")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:8])
