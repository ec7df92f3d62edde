"""Fingerprint everything on this machine that can affect build output.

The fingerprint for one compiler is called its identity. Two machines with the same identity, or one machine at two
times, get the same output from the same source and settings. An identity covers

* the compiler: the content of gcc (or of a wrapper or script in its place), its properties, the programs that it
  calls, its headers and libraries;
* the same of the host's own compiler, and the headers and libraries that host tools are compiled with;
* other programs that builds call, by their content and that of the libraries they are linked to: those that are
  known to be called, and all programs in directories of PATH that are not the distribution's, or where the source's
  own build keeps tools that it downloaded; Python with the names of its modules;
* the environment of a build, except variables that only say where things are; files that it names, by their
  content;
* the worker's own code (`own_code`).

Digests of files and answers of programs are remembered in the work directory (`digest_cache`). An identity that
cannot be determined is empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from fabbuild.protocol.environment import DIGESTS_DIR, SEARCHED, is_place
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.base import workdir
from fabbuild.worker.deps.digest_cache import DigestCache
from fabbuild.worker.deps.own_code import code_digest, deciding_modules
from fabbuild.worker.tools import run_tool
from fabbuild.worker.tools.toolchains import Toolchain

_FORMAT = 2

#: Seconds that a program may take to answer.
_TIMEOUT = 15.0

#: The programs that gcc calls.
_PROGRAMS = ("cc1", "lto1", "collect2", "lto-wrapper", "as", "ld")

#: The programs that have gcc's prefix.
_BINUTILS = ("ld", "ld.bfd", "as", "ar", "nm", "objcopy", "objdump", "strip", "size", "readelf", "ranlib", "cpp")

#: Files that gcc links, or that host tools and sandbox are linked with. Not every gcc has each of them.
_LIBRARIES = (
    "libgcc.a", "libgcc_s.so", "libgcc_s.so.1", "liblto_plugin.so", "specs", "crt1.o", "Scrt1.o", "crti.o",
    "crtn.o", "crtbegin.o", "crtbeginS.o", "crtend.o", "crtendS.o", "libc.so", "libc.so.6", "libc_nonshared.a",
    "libm.so.6", "libcrypto.so", "libssl.so", "libgnutls.so", "libuuid.so", "libSDL2.so",
)  # fmt: skip

#: Other programs that builds call and that can affect the output.
_TOOLS = [
    "ar", "awk", "bash", "bc", "bison", "bootgen", "bunzip2", "bzip2", "cbfstool", "cert-to-efi-sig-list", "cmp",
    "cpio", "cpp", "cst", "cut", "date", "dd", "diff", "dtc", "expr", "fdtget", "fdtput", "find", "fiptool", "flex",
    "futility", "gawk", "getconf", "git", "grep", "gzip", "head", "hexdump", "iasl", "ifwitool", "ld", "lz4",
    "lzma", "lzma_alone", "lzop", "m4", "make", "mawk", "nm", "objcopy", "objdump", "od", "openssl", "perl",
    "pkg-config", "printf", "python", "python2", "python3", "sdl2-config", "sed", "sh", "sort", "srec_cat", "stat",
    "strip", "swig", "tail", "tr", "uniq", "wc", "xargs", "xxd", "xz", "zstd",
]  # fmt: skip

#: Directories of the distribution's programs. Only those listed above count there, or each package that is
#: installed would change the identity.
_OF_DISTRIBUTION = frozenset(["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/games"])

#: Directories of headers, and of pkg-config's files.
_HEADERS = ("/usr/local/include", "/usr/include")
_PACKAGES = ("/usr/share/pkgconfig", "/usr/lib/pkgconfig", "/usr/local/lib/pkgconfig")

#: Directories of a compiler's own headers.
_COMPILER_HEADERS = ("include", "include-fixed")

#: Directories of headers for languages that firmware is not written in.
_OTHER_LANGUAGES = ("c++",)

#: A path in the value of an environment variable.
_NAMED = re.compile(r"(?:^|[\s:=,]|-[IL])(/[^\s:,]+)")

#: The most files that one directory may have.
_MANY = 200_000

#: The shell script that asks a compiler everything; answers are separated by a byte 1.
_QUESTIONS = 'g=$1; "$g" -dumpspecs || exit 1; ' + " ".join(
    "printf '\\1'; \"$g\" -print-%s=%s || exit 1;" % question
    for question in (
        *(("prog-name", name) for name in _PROGRAMS),
        *(("file-name", name) for name in _LIBRARIES),
        *(("file-name", name) for name in _COMPILER_HEADERS),
    )
)

#: The dynamic linker's list of libraries.
_LINKER_CACHE = "/etc/ld.so.cache"

#: Prints Python's version and directories of modules, also those that the first installed module would create.
_PYTHON = (
    "import json,site,sys;"
    "print(json.dumps([sys.version,sys.path,[site.getusersitepackages(),*site.getsitepackages()]]))"
)


class _UnknownPartError(Exception):
    """A part of the identity cannot be determined."""


class Identities:
    """The identities of a machine's compilers; each is determined once."""

    def __init__(self, directory: str, environment: Mapping[str, str], own_code: str = "") -> None:
        """Determine nothing yet.

        Args:
            directory: where digests are remembered; if it does not exist or cannot be written, they are not.
            environment: of builds, see `fabbuild.protocol.environment.base_environment`.
            own_code: a text in place of the fingerprint of the worker's code; empty for that fingerprint.
        """
        self._environment = dict(environment)
        self._own_code = own_code
        asked_in = hashlib.sha256(json.dumps(sorted(self._relevant_environment().items())).encode())
        directory = os.environ.get(DIGESTS_DIR) or directory
        self._cache = DigestCache(os.path.join(directory, workdir.DIGESTS), asked_in.hexdigest())
        self._lock = threading.Lock()
        self._found: Dict[Tuple[str, str], str] = {}
        self._common: Optional[bytes] = None
        self._compilers: Dict[Tuple[str, str, str], List[str]] = {}

    def _relevant_environment(self) -> Dict[str, str]:
        """Return the part of the environment that the answers of compilers and ldd can depend on."""
        return {name: value for name, value in self._environment.items() if name in SEARCHED or not is_place(name)}

    def of(self, chain: Toolchain) -> str:
        """Return a compiler's identity, in hex; empty if it cannot be determined. Never raises."""
        key = chain.gcc, chain.path_dir
        with self._lock:
            if key not in self._found:
                try:
                    self._found[key] = self._of(chain)
                except (_UnknownPartError, OSError, ValueError, run_tool.ToolError):
                    self._found[key] = ""
                self._cache.save()
            return self._found[key]

    def of_host(self) -> str:
        """Return the common part of the identities of all compilers, in hex; empty if not known."""
        with self._lock:
            return self._common.hex() if self._common else ""

    def _of(self, chain: Toolchain) -> str:
        if self._common is None:
            self._common = self._of_host()
        digest = hashlib.sha256(self._common)
        _feed(digest, [os.path.basename(chain.gcc), chain.version, chain.machine])
        _feed(digest, self._compiler(chain.gcc, chain.prefix, chain.path(self._path)))
        return digest.hexdigest()

    def outside(self, chain: Toolchain) -> List[str]:
        """Return the directories outside of a source tree whose content the identity covers. Never raises.

        Args:
            chain: the compiler that builds.
        """
        found = list(_HEADERS)
        with self._lock, contextlib.suppress(_UnknownPartError, OSError, ValueError, run_tool.ToolError):
            path = chain.path(self._path)
            host = shutil.which("gcc", path=self._path)
            for gcc in dict.fromkeys((chain.gcc, *((host,) if host else ()))):
                said = self._ask(gcc, path).split("\1")[-len(_COMPILER_HEADERS) :]
                found += [place.strip() for place in said if place.startswith("/")]
        return found

    @property
    def _path(self) -> str:
        return self._environment.get("PATH", os.defpath)

    def _of_host(self) -> bytes:
        digest = hashlib.sha256(b"fabbuild identity %d\0" % _FORMAT)
        _feed(digest, [self._own_code or self._code(), os.uname().machine, os.uname().sysname])
        _feed(digest, self._of_environment())
        found = {name: shutil.which(name, path=self._path) for name in _TOOLS}
        _feed(digest, self._libraries([path for path in found.values() if path]))
        _feed(digest, ["%s %s" % (name, self._cache.digest(path) if path else "-") for name, path in found.items()])
        _feed(digest, self._users_programs())
        for name in ("gcc", "cc"):
            gcc = shutil.which(name, path=self._path)
            _feed(digest, self._compiler(gcc, "", self._path) if gcc else ["-"])
        for place in _HEADERS:
            _feed(digest, _listing(place))
        for place in self._package_directories():
            _feed(digest, _listing(place, deep=False))
        if found["python3"]:
            _feed(digest, self._modules(found["python3"]))
        return digest.digest()

    def _code(self) -> str:
        """Return the fingerprint of the worker's own code, remembered for the same source: it takes 0.2 s."""
        modules = deciding_modules()
        source = hashlib.sha256()
        for name in sorted(modules):
            source.update(b"%s\0%s\0" % (name.encode(), modules[name]))
        question = ["own code", sys.version, source.hexdigest()]
        return self._cache.answer(question, [], lambda: code_digest(modules))

    def _users_programs(self) -> Iterator[str]:
        """Yield programs in PATH that are not the distribution's, and tools that the source's build downloaded."""
        home = self._environment.get("HOME", "")
        places = [*self._path.split(os.pathsep), *([os.path.join(home, TREE.fetched_tools)] if home else [])]
        for place in dict.fromkeys(places):
            if os.path.realpath(place) in _OF_DISTRIBUTION:
                continue
            names: List[str] = []
            with contextlib.suppress(OSError):
                names = sorted(os.listdir(place))
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    yield "%s %s" % (name, self._cache.digest(path))

    def _compiler(self, gcc: str, prefix: str, path: str) -> List[str]:
        """Return lines that describe a compiler, without the place where it is installed."""
        key = os.path.realpath(gcc), prefix, path
        if key not in self._compilers:
            self._compilers[key] = self._describe(gcc, prefix, path)
        return self._compilers[key]

    def _describe(self, gcc: str, prefix: str, path: str) -> List[str]:
        specs, *answers = self._ask(gcc, path).split("\1")
        said = [answer.strip() for answer in answers]
        lines = [self._cache.digest(gcc), hashlib.sha256(specs.encode("utf-8", "replace")).hexdigest()]
        programs: List[Optional[str]] = [gcc]
        for name, answer in zip(_PROGRAMS, said):
            real = answer if answer.startswith("/") else shutil.which(answer, path=path)
            lines.append("%s %s" % (name, self._if_there(real)))
            programs.append(real)
        for name in _BINUTILS:
            real = shutil.which(prefix + name, path=path)
            lines.append("%s %s" % (name, self._if_there(real)))
            programs.append(real)
        for name, answer in zip(_LIBRARIES, said[len(_PROGRAMS) :]):
            lines.append("%s %s" % (name, self._if_there(answer if answer.startswith("/") else None)))
        for place in said[len(_PROGRAMS) + len(_LIBRARIES) :]:
            if place.startswith("/"):
                lines += self._contents(place)
        return lines + self._libraries([one for one in programs if one and os.path.isfile(one)])

    def _if_there(self, path: Optional[str]) -> str:
        return self._cache.digest(path) if path and os.path.isfile(path) else "-"

    def _libraries(self, paths: Sequence[str]) -> List[str]:
        """Return the libraries that programs are linked to, by name and content."""
        real = sorted({os.path.realpath(path) for path in paths})
        ldd = shutil.which("ldd", path=self._path)
        if not ldd or not real:
            return []
        # The answer also depends on these: a library may be installed that is found before another one.
        searched = [_LINKER_CACHE, *self._environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)]
        cache = [place for place in searched if os.path.exists(place)]
        argv = [ldd, *real]
        environment = self._with_path(self._path)
        said = self._cache.answer(
            argv, real + cache, lambda: run_tool.run_tool(argv, _TIMEOUT, env=environment).out
        )
        words = {word for line in said.splitlines() if line[:1].isspace() for word in line.split()}
        return sorted(
            "%s %s" % (os.path.basename(word), self._if_there(word)) for word in words if word.startswith("/")
        )

    def _contents(self, place: str) -> Iterator[str]:
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(one for one in folders if one not in _OTHER_LANGUAGES)
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    yield "%s %s" % (os.path.relpath(path, place), self._cache.digest(path))

    def _of_environment(self) -> Iterator[str]:
        for name, value in sorted(self._environment.items()):
            if is_place(name):
                continue
            yield "%s=%s" % (name, value)
            for path in _NAMED.findall(value):
                if os.path.isfile(path):
                    yield self._cache.digest(path)
                elif os.path.isdir(path):
                    yield from _listing(path)

    def _package_directories(self) -> Iterator[str]:
        yield from _PACKAGES
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir("/usr/lib")):
                if name.endswith("-gnu"):
                    yield "/usr/lib/%s/pkgconfig" % name

    def _modules(self, python: str) -> Iterator[str]:
        argv = [python, "-c", _PYTHON]
        # The answer contains the directory of the user's own modules, which is below HOME.
        question = [*argv, self._environment.get("HOME", "")]
        said = self._cache.answer(question, [python], lambda: _said(argv, self._with_path(self._path)))
        version, places, sites = json.loads(said)
        yield version
        for place in dict.fromkeys(places + sites):
            names: List[str] = []
            with contextlib.suppress(OSError):
                names = os.listdir(place) if place else []
            # Packages name their version; the standard library goes with Python's own.
            yield from sorted(name for name in names if name != "__pycache__")

    def _ask(self, gcc: str, path: str) -> str:
        """Return a compiler's answers; a wrapper is asked each time, for it may call another compiler by now."""
        argv = ["/bin/sh", "-c", _QUESTIONS, "sh", gcc]
        if _is_wrapper(gcc):
            return _said(argv, self._with_path(path))
        return self._cache.answer([*argv, path], [gcc], lambda: _said(argv, self._with_path(path)))

    def _with_path(self, path: str) -> Dict[str, str]:
        return dict(self._environment, PATH=path)


def _feed(digest: Any, lines: Iterable[str]) -> None:
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(b"\1")


def _is_wrapper(gcc: str) -> bool:
    """Whether gcc is a script, or a link to a program of another name, such as ccache."""
    if "gcc" not in os.path.basename(os.path.realpath(gcc)):
        return True
    with open(gcc, "rb") as file:
        return file.read(4) != b"\x7fELF"


def _said(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    ran = run_tool.run_tool(argv, _TIMEOUT, env=dict(environment))
    if ran.status:
        raise _UnknownPartError("%s: %s" % (" ".join(argv), ran.err))
    return ran.out


def _listing(place: str, *, deep: bool = True) -> Iterator[str]:
    """Return the files below a directory by name, size and time, sorted.

    Raises:
        _UnknownPartError: there are too many files.
    """
    lines: List[str] = []
    left = [(place, "")]
    while left:
        folder, below = left.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if deep and entry.name not in _OTHER_LANGUAGES:
                    left.append((entry.path, below + entry.name + "/"))
                continue
            try:
                about = entry.stat()
            except OSError:
                continue
            lines.append("%s %d %d" % (below + entry.name, about.st_size, int(about.st_mtime)))
        if len(lines) > _MANY:
            raise _UnknownPartError("%s has too many files" % place)
    return iter(sorted(lines))
