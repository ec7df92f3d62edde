"""Find the compilers of a machine, and choose one for each architecture.

Sources, the earlier winning for an architecture:

1. the machine's own ``toolchains`` in machines.yaml; if such a compiler does not work, the architecture has none on
   this machine, because to build with another than the one that was asked for would be worse;
2. the ``prefixes`` configured for all machines;
3. the directories ``.``, ``bin`` and ``usr/bin`` of the configured ``paths`` (``~`` and wildcards allowed);
4. archives that ``toolchains --fetch`` unpacked below the work directory, a newer version before an older one:
   the user asked for these by name;
5. the directories of PATH.

In 3, 4 and 5 every file named ``…-gcc`` is a candidate; it counts if ``gcc --version`` works and ``gcc
-dumpmachine`` names the architecture of its name. The text before the first dash of the name is the architecture
(`fabbuild.protocol.architectures.FAMILIES`); one compiler serves its whole family, so ``riscv64-linux-gnu-gcc``
serves riscv64, riscv32 and riscv. Of several compilers of one source for an architecture the best is, in this
order:

* one named for the very architecture before one of its family, in the family's order;
* ``…-linux-gnueabihf``, then ``-linux-gnueabi``, then ``-linux-gnu``, then any other Linux, then bare ones
  (``-elf``, ``-none-eabi``);
* the earlier directory, then the alphabet.

``sandbox`` is the host's own compiler, ``gcc`` or else ``cc`` from PATH, with an empty prefix. It also serves the
machine's own architecture where no other does.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from fabbuild.protocol.architectures import FAMILIES, SANDBOX
from fabbuild.protocol.names import TOOLCHAIN_NAME
from fabbuild.worker.tools import run_tool

#: Longest time one question to a compiler may take, in seconds.
TIMEOUT = 15.0

_AT_ONCE = 4
# Tools that a build calls by the compiler's prefix.
_BINUTILS = ("ld", "as", "ar", "nm", "objcopy", "objdump", "strip", "size")
_SUBDIRECTORIES = (".", "bin", "usr/bin")
# Systems for which firmware is not compiled, though the compilers' names begin alike.
_FOREIGN = ("mingw", "cygwin", "msys", "darwin", "djgpp")


class ToolchainError(Exception):
    """A compiler that was named does not work; the text names the compiler and the reason."""


class Toolchain(NamedTuple):
    """A compiler that works, and the architecture that it is for.

    Attributes:
        gcc: its absolute path.
        prefix: for CROSS_COMPILE, empty for the host's own compiler. It never has a path: messages of tools and
            strings in an image would show where the compiler lies, and so differ from machine to machine.
        version: the first line of ``gcc --version``.
        machine: the answer of ``gcc -dumpmachine``.
        path_dir: the directory that PATH lacks to find it, empty if none; see `path`.
        path_first: whether that directory must come first, because PATH has other tools of these names.
    """

    arch: str
    gcc: str
    prefix: str
    version: str
    machine: str
    path_dir: str = ""
    path_first: bool = False

    def path(self, path: str) -> str:
        """Return a PATH that finds this compiler and its binutils.

        Its directory comes last, because it may hold more than these, unless other tools of their names would be
        found.
        """
        parts = (self.path_dir, path) if self.path_first else (path, self.path_dir)
        return os.pathsep.join(filter(None, parts))


class Tried(NamedTuple):
    """A compiler that was tried: its architecture, whether it is usable, and its version or why it is not."""

    path: str
    arch: str
    ok: bool
    why: str


class ScanResult(NamedTuple):
    """The compiler of each architecture, and all compilers that were tried."""

    toolchains: Dict[str, Toolchain]
    tried: List[Tried]


def scan(
    toolchains: Dict[str, str], prefixes: Dict[str, str], paths: Sequence[str], fetched: str = ""
) -> ScanResult:
    """Find the compilers of this machine by the rules above. Never raises; failures are in ``tried``.

    Args:
        toolchains: the machine's own toolchains, by architecture: a prefix or the path of a gcc.
        prefixes: the prefixes configured for all machines, by architecture.
        paths: directories to look in.
        fetched: the directory of fetched archives; empty for none.
    """
    found: Dict[str, Toolchain] = {}
    tried: List[Tried] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        own = _named(pool, toolchains, found, tried)
        _spread(found)
        barred = own - set(found)  # named for this machine, and not working
        wider: Dict[str, Toolchain] = {}
        _named(pool, prefixes, wider, tried)
        _spread(wider)
        _merge(found, wider, barred)
        sources = [_configured_directories(paths), *_fetched_directories(fetched), _path_directories()]
        for directories in sources:
            _merge(found, _in_directories(pool, directories, tried), barred)
        host = _host(tried)
    if host:
        _merge(
            found,
            {arch: host._replace(arch=arch) for arch in (SANDBOX, *serves(_first(host.machine)))},
            barred,
        )
    return ScanResult(dict(sorted(found.items())), tried)


def fetched_names(base: str) -> List[str]:
    """Return the names of the toolchains that were unpacked in a directory, the newest version first."""
    try:
        names = [name for name in os.listdir(base) if TOOLCHAIN_NAME.fullmatch(name)]
    except OSError:
        return []
    there = [name for name in names if os.path.isdir(os.path.join(base, name))]
    return sorted(sorted(there), key=_gcc_version, reverse=True)


def serves(first: str) -> List[str]:
    """Return the architectures of a compiler by the first part of its name; that part itself if not known."""
    return [arch for arch, names in FAMILIES.items() if first in names] or [first]


def from_path(arch: str, value: str) -> Toolchain:
    """Return the toolchain that a user or a ``configure`` message names by a prefix or the path of a gcc.

    Examples: ``/usr/bin/arm-linux-gnueabihf-gcc``, ``arm-linux-gnueabihf-``, ``/opt/x/bin/arm-none-eabi-``,
    ``gcc``.

    Raises:
        ToolchainError: the file does not exist, or the compiler does not work.
    """
    return _probe(arch, locate(arch, value))


def locate(arch: str, value: str) -> str:
    """Return the absolute path of the compiler that `from_path` would take, without running it.

    Raises:
        ToolchainError: no such file.
    """
    text = os.path.expanduser(value.strip())
    if os.path.isdir(text) and not text.endswith("-"):
        raise ToolchainError(
            "%s is a directory; name a prefix such as %s/bin/ARCH-linux-" % (value, text.rstrip("/"))
        )
    names = [text] if text.endswith("gcc") else [text + "gcc", text + "-gcc", text]
    gcc = next((path for path in map(shutil.which, names) if path), None)
    if gcc is None:
        raise ToolchainError("%s: no such compiler" % (names[0] if value else "(empty)"))
    gcc = os.path.abspath(gcc)
    if not gcc.endswith("gcc") and arch != SANDBOX:
        raise ToolchainError("%s: name the compiler as PREFIXgcc, so that its binutils are found by PREFIX" % value)
    return gcc


def _named(
    pool: ThreadPoolExecutor, wanted: Dict[str, str], found: Dict[str, Toolchain], tried: List[Tried]
) -> "set[str]":
    def attempt(item: Tuple[str, str]) -> Tuple[Optional[Toolchain], Tried]:
        arch, value = item
        try:
            chain = from_path(arch, value)
        except ToolchainError as exc:
            return None, Tried(value, arch, False, str(exc))
        return chain, Tried(chain.gcc, arch, True, chain.version)

    for chain, note in pool.map(attempt, sorted(wanted.items())):
        tried.append(note)
        if chain:
            found[chain.arch] = chain
    return set(wanted)


def _spread(found: Dict[str, Toolchain]) -> None:
    """Use a compiler named for one architecture for those of its family that were not named."""
    for arch, chain in sorted(found.items()):
        if arch != SANDBOX:
            names = set(FAMILIES.get(arch, (arch,)))
            for other, other_names in FAMILIES.items():
                if other not in found and names & set(other_names):
                    found[other] = chain._replace(arch=other)


def _merge(found: Dict[str, Toolchain], more: Dict[str, Toolchain], barred: Iterable[str]) -> None:
    for arch, chain in more.items():
        if arch not in barred:
            found.setdefault(arch, chain)


def _in_directories(
    pool: ThreadPoolExecutor, directories: Sequence[str], tried: List[Tried]
) -> Dict[str, Toolchain]:
    """Try each candidate in some directories and choose one for each architecture."""

    def attempt(gcc: str) -> Tuple[str, Optional[Toolchain], str]:
        first = _first(os.path.basename(gcc))
        try:
            chain = _probe(first, gcc)
        except ToolchainError as exc:
            return gcc, None, str(exc)
        if not set(serves(first)) & set(serves(_first(chain.machine))):
            return gcc, None, "it compiles for %s" % chain.machine
        if any(word in chain.machine for word in _FOREIGN):
            return gcc, None, "it compiles for another system, %s" % chain.machine
        return gcc, chain, chain.version

    best: Dict[str, Tuple[Tuple[int, int, int], Toolchain]] = {}
    for order, (gcc, chain, why) in enumerate(pool.map(attempt, _candidates(directories))):
        first = _first(os.path.basename(gcc))
        tried.append(Tried(gcc, serves(first)[0], chain is not None, why))
        if chain is None:
            continue
        for arch in serves(first):
            names = list(FAMILIES.get(arch, (arch,)))
            key = (names.index(first), _kind(os.path.basename(gcc)), order)
            if arch not in best or key < best[arch][0]:
                best[arch] = (key, chain._replace(arch=arch))
    return {arch: chain for arch, (_, chain) in best.items()}


def _candidates(directories: Sequence[str]) -> List[str]:
    found = []
    seen = set()
    for directory in directories:
        real = os.path.realpath(directory)
        if real in seen:
            continue
        seen.add(real)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith("-gcc") and os.path.isfile(path) and os.access(path, os.X_OK):
                found.append(path)
    return found


def _kind(name: str) -> int:
    """Rank a compiler by its name: 0 is Debian's usual one, bare-metal ones come last."""
    for rank, end in enumerate(("-linux-gnueabihf-gcc", "-linux-gnueabi-gcc", "-linux-gnu-gcc")):
        if name.endswith(end):
            return rank
    return 3 if "-linux" in name else 4


def _configured_directories(paths: Sequence[str]) -> List[str]:
    found = []
    for path in paths:
        text = os.path.expanduser(path)
        # The name of a directory may look like a wildcard.
        for match in [text] if os.path.isdir(text) else sorted(glob.glob(text)):
            found += [os.path.normpath(os.path.join(match, name)) for name in _SUBDIRECTORIES]
    return found


def _fetched_directories(base: str) -> List[List[str]]:
    """Return the ``bin`` directories of each fetched archive, which are up to two levels down."""
    every = []
    for name in fetched_names(base) if base else []:
        place = glob.escape(os.path.join(base, name))
        every.append(
            [
                path
                for depth in ("bin", "*/bin", "*/*/bin")
                for path in sorted(glob.glob(os.path.join(place, depth)))
            ]
        )
    return every


def _gcc_version(name: str) -> Tuple[int, ...]:
    match = re.search(r"gcc-(\d+(?:\.\d+)*)", name)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def _path_directories() -> List[str]:
    return [directory for directory in os.environ.get("PATH", os.defpath).split(":") if directory.startswith("/")]


def _host(tried: List[Tried]) -> Optional[Toolchain]:
    gcc = shutil.which("gcc") or shutil.which("cc")
    if gcc is None:
        tried.append(Tried("gcc", SANDBOX, False, "no gcc and no cc in PATH"))
        return None
    try:
        chain = _probe(SANDBOX, gcc)
    except ToolchainError as exc:
        tried.append(Tried(gcc, SANDBOX, False, str(exc)))
        return None
    tried.append(Tried(gcc, SANDBOX, True, chain.version))
    return chain


def _probe(arch: str, gcc: str) -> Toolchain:
    try:
        version = run_tool.run_tool([gcc, "--version"], TIMEOUT)
        if version.status or not version.out.strip():
            raise ToolchainError("%s --version: %s" % (gcc, version.err or "exit status %d" % version.status))
        machine = run_tool.run_tool([gcc, "-dumpmachine"], TIMEOUT)
    except run_tool.ToolError as exc:
        raise ToolchainError(str(exc)) from exc
    directory, name = os.path.split(gcc)
    # A host compiler has its binutils beside it, without a prefix.
    prefix = "" if name == "gcc" or arch == SANDBOX else name[: -len("gcc")]
    usual = [shutil.which(tool) for tool in (name, *(prefix + tool for tool in _BINUTILS))]
    first_line = version.out.splitlines()[0].strip()
    chain = Toolchain(arch, gcc, prefix, first_line, machine.out.strip())
    if usual[0] and os.path.abspath(usual[0]) == gcc:
        return chain
    return chain._replace(path_dir=directory, path_first=any(usual))


def _first(name: str) -> str:
    return name.split("-", 1)[0]
