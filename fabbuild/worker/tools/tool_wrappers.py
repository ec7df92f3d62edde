"""Make a directory of faster tools with the same output, for the front of a build's PATH.

``WORK/tools/DIGEST/bin`` holds, for one toolchain and the host's own tools,

* copies of nm, ar and ranlib. binutils loads every plugin of the directory ``../lib/bfd-plugins`` beside the
  program when it reads an object, and LLVM's plugin alone takes twenty times longer than all the rest. A copy finds
  a directory of ours there, with every plugin but that one. Copies are made only where LLVM's plugin is installed;
* wrappers of the compilers, which call ccache to compile a C file to an object. Probes, preprocessing, assembling
  and linking go straight to the compiler. Wrappers are made only where ccache is installed.

The digest covers everything that the directory is made of, so that workers of different versions, or with another
PATH, do not disturb each other, and another compiler has another directory. After any error, builds run without
these tools.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import threading
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from fabbuild.worker.base import workdir
from fabbuild.worker.tools import run_tool
from fabbuild.worker.tools.toolchains import Toolchain

#: The binutils that load plugins for each object that they read; no others do.
_PLUGGED = ("nm", "ar", "ranlib")

_PLUGINS = "lib/bfd-plugins"

#: The beginning of the names of LLVM's plugin.
_SLOW = "LLVMgold"

_BIN = "bin"

#: Written last: what the directory was made of.
_RECIPE = "made-of.json"

#: Longest time that a tool may take to say its version, in seconds.
_TIMEOUT = 15.0

#: The size of the compiler cache on the disk, unless the user has set it.
CACHE_SIZE = "5G"

#: The cache is not used while less than this is free on its disk, in bytes: builds need the space.
CACHE_ROOM = 1 << 30

#: Settings of ccache besides `fabbuild.protocol.environment.WITHOUT_DIRECT_MODE`; those in the user's environment
#: come first. The original source is compiled, not the preprocessed one (CPP2), because some warnings differ. No
#: sloppiness. Paths below the slots' directory are hashed as relative ones, and the working directory is not
#: hashed: only debug information shows it. So all slots share the cache.
_CCACHE = (
    ("CCACHE_CPP2", "true"),
    ("CCACHE_SLOPPINESS", ""),
    ("CCACHE_NOHASHDIR", "true"),
    ("CCACHE_NOCOMPRESS", "true"),
)


class _Copy(NamedTuple):
    """A program to copy: its name, the file, and its plugins except the slow one."""

    name: str
    source: str
    plugins: Tuple[str, ...]


class _Wrap(NamedTuple):
    """A wrapper to write: its name, the program it is for, and its text."""

    name: str
    source: str
    text: str


class _Recipe(NamedTuple):
    copies: Tuple[_Copy, ...]
    wraps: Tuple[_Wrap, ...]

    def text(self) -> str:
        """Return a text of everything that the directory is made of; raise OSError if a program is gone."""
        copies = [(*one[:2], list(one.plugins), _stamp(one.source)) for one in self.copies]
        return json.dumps([copies, [tuple(one) for one in self.wraps]], indent=1)


class ToolDirs:
    """The directories of tools of a work directory. May be used by several threads."""

    def __init__(
        self, work_dir: str, slots: str, environment: Mapping[str, str], light: bool = True, ccache: bool = True
    ) -> None:
        """Store the paths; `path` makes the directories.

        Args:
            work_dir: absolute.
            slots: the directory of all worktrees; each has the same sources.
            environment: the environment of builds.
            light: whether to copy binutils without the slow plugin.
            ccache: whether to wrap the compilers.
        """
        self._light = light
        self._ccache = ccache
        self._base = os.path.join(work_dir, workdir.TOOLS)
        self._cache = environment.get("CCACHE_DIR") or os.path.join(work_dir, workdir.CCACHE)
        self._own_cache = "CCACHE_DIR" not in environment
        self._slots = slots
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._known: Dict[Tuple[str, str, bool], str] = {}
        self._said: List[str] = []

    def path(self, compiler: Toolchain) -> str:
        """Return the directory for the front of a build's PATH; empty if nothing would be gained, or on failure.

        Never raises. A failure is reported on stderr, once.
        """
        ccache = self._ccache and self._has_room()
        if not self._light and not ccache:
            return ""
        key = (compiler.gcc, compiler.version, ccache)
        with self._lock:
            known = self._known.get(key)
            if known is not None and (not known or os.path.isdir(known)):
                return known
            try:
                place = self._make(compiler, ccache)
            except (OSError, run_tool.ToolError) as exc:
                place = ""
                self._say("builds go without tools of their own: %s" % exc)
            self._known[key] = place
            return place

    def _make(self, compiler: Toolchain, ccache: bool) -> str:
        search = compiler.path(self._environment["PATH"])
        recipe = _Recipe(
            tuple(_copies(compiler.prefix, search) if self._light else ()),
            tuple(self._wraps(compiler.prefix, search) if ccache else ()),
        )
        if not recipe.copies and not recipe.wraps:
            return ""
        text = recipe.text()
        place = os.path.join(self._base, hashlib.sha256(text.encode()).hexdigest()[:24])
        if not _is_whole(place, recipe, text):
            self._replace(place, recipe, text)
        self._try(os.path.join(place, _BIN), recipe)
        with contextlib.suppress(OSError):
            os.utime(place)
        return os.path.join(place, _BIN)

    def _replace(self, place: str, recipe: _Recipe, text: str) -> None:
        """Make the directory under another name and rename it, so that it is never incomplete."""
        os.makedirs(self._base, mode=0o700, exist_ok=True)
        if os.path.lexists(place):
            broken = tempfile.mkdtemp(prefix=workdir.TOOLS_BROKEN, dir=self._base)
            os.rename(place, os.path.join(broken, "it"))
            shutil.rmtree(broken, ignore_errors=True)
        new = tempfile.mkdtemp(prefix=workdir.TOOLS_NEW, dir=self._base)
        try:
            _fill(new, recipe, text)
            try:
                os.rename(new, place)
            except OSError:
                if not _is_whole(place, recipe, text):  # else another worker made it meanwhile
                    raise
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _wraps(self, prefix: str, search: str) -> Iterator[_Wrap]:
        ccache = shutil.which("ccache", path=search)
        if ccache is None:
            return
        for name in sorted({prefix + "gcc", "gcc", "cc"}):
            gcc = shutil.which(name, path=search)
            # A link to ccache is the machine owner's own way to use it.
            if gcc is None or os.path.basename(os.path.realpath(gcc)) == "ccache":
                continue
            yield _Wrap(name, gcc, self._wrapper(ccache, gcc))

    def _wrapper(self, ccache: str, gcc: str) -> str:
        settings = [*_CCACHE, ("CCACHE_BASEDIR", self._slots), ("CCACHE_DIR", self._cache)]
        if self._own_cache:
            settings.append(("CCACHE_MAXSIZE", CACHE_SIZE))
        words = ["%s=%s" % (name, shlex.quote(value)) for name, value in settings if name not in self._environment]
        # By itself ccache looks at the driver only, not at the programs that compile and assemble.
        words.append("CCACHE_COMPILERCHECK=string:" + self._compiler(gcc))
        return '#!/bin/sh\ncase " $*" in *" -c "*.c) %s exec %s %s "$@" ;; esac\nexec %s "$@"\n' % (
            " ".join(words),
            shlex.quote(ccache),
            shlex.quote(gcc),
            shlex.quote(gcc),
        )

    def _compiler(self, gcc: str) -> str:
        """Return a digest of a compiler's programs, by their paths, sizes and times."""
        stamps = [_stamp(gcc)]
        for part in ("cc1", "as", "lto1"):
            asked = run_tool.run_tool([gcc, "-print-prog-name=" + part], _TIMEOUT, env=self._environment)
            found = shutil.which(asked.out.strip(), path=self._environment["PATH"])
            stamps.append(_stamp(found) if found else [])
        return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:32]

    def _try(self, place: str, recipe: _Recipe) -> None:
        """Compare each tool's ``--version`` with its original's: a disk may be mounted without ``exec``."""
        originals = {one.name: one.source for one in recipe.copies}
        originals.update((one.name, one.source) for one in recipe.wraps)
        for name, source in originals.items():
            ours, theirs = (
                run_tool.run_tool([path, "--version"], _TIMEOUT, env=self._environment)
                for path in (os.path.join(place, name), source)
            )
            if (ours.status, ours.out) != (theirs.status, theirs.out):
                raise run_tool.ToolError("%s does not work in %s: %s" % (name, place, ours.err or ours.status))

    def _has_room(self) -> bool:
        """Return whether the compiler cache can be used now; otherwise ccache would fail the compilation."""
        try:
            if self._own_cache:
                os.makedirs(os.path.dirname(self._cache), mode=0o700, exist_ok=True)
            os.makedirs(self._cache, mode=0o700, exist_ok=True)
            room = os.statvfs(self._cache)
        except OSError as exc:
            self._say("builds go without a compiler cache: %s" % exc)
            return False
        if not os.access(self._cache, os.W_OK | os.X_OK):
            self._say("builds go without a compiler cache: %s cannot be written to" % self._cache)
            return False
        return room.f_bavail * room.f_frsize >= CACHE_ROOM

    def _say(self, words: str) -> None:
        if words not in self._said:
            self._said.append(words)
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(words + "\n")
                sys.stderr.flush()


def _copies(prefix: str, search: str) -> Iterator[_Copy]:
    first = ""
    for name in (prefix + tool for tool in _PLUGGED):
        found = shutil.which(name, path=search)
        if not found:
            continue
        source = os.path.realpath(found)
        folder = os.path.normpath(os.path.join(os.path.dirname(source), "..", _PLUGINS))
        first = first or folder
        plugins = _names(folder)
        if folder == first and any(plugin.startswith(_SLOW) for plugin in plugins):
            kept = (os.path.join(folder, plugin) for plugin in plugins if not plugin.startswith(_SLOW))
            yield _Copy(name, source, tuple(kept))


def _fill(place: str, recipe: _Recipe, text: str) -> None:
    folder = os.path.join(place, _BIN)
    os.mkdir(folder)
    for name, source, _ in recipe.copies:
        shutil.copyfile(source, os.path.join(folder, name))
        os.chmod(os.path.join(folder, name), 0o700)
    for name, _, script in recipe.wraps:
        with open(os.path.join(folder, name), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(script)
        os.chmod(os.path.join(folder, name), 0o700)
    os.makedirs(os.path.join(place, _PLUGINS))
    for path in _plugins(recipe):
        os.symlink(path, os.path.join(place, _PLUGINS, os.path.basename(path)))
    with open(os.path.join(place, _RECIPE), "w", encoding="utf-8") as file:
        file.write(text)


def _is_whole(place: str, recipe: _Recipe, text: str) -> bool:
    """Return whether the directory is unchanged; a damaged program would fail every board."""
    try:
        with open(os.path.join(place, _RECIPE), encoding="utf-8") as file:
            if file.read() != text:
                return False
        for name, source, _ in recipe.copies:
            if _read(os.path.join(place, _BIN, name)) != _read(source):
                return False
        for name, _, script in recipe.wraps:
            if _read(os.path.join(place, _BIN, name)) != script.encode("utf-8", "surrogateescape"):
                return False
        links = (os.path.join(place, _PLUGINS, os.path.basename(path)) for path in _plugins(recipe))
        return all(os.path.islink(link) for link in links)
    except OSError:
        return False


def _plugins(recipe: _Recipe) -> Sequence[str]:
    return sorted({path for one in recipe.copies for path in one.plugins})


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _stamp(path: str) -> List[object]:
    info = os.stat(path)
    return [os.path.realpath(path), info.st_size, info.st_mtime_ns]
