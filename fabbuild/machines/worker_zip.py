"""Make the worker program, a zipapp, and the shell commands that install and run it on a machine.

The program is `fabbuild.worker` and `fabbuild.protocol` in one file, named by its SHA-256, so that each version is
sent once. The commands are POSIX sh without newlines and, unless a work directory's name holds one, without
backslashes: they survive being quoted once more for a login shell of any kind (``exec sh -c 'COMMAND'``).

Exit statuses of the commands before the program runs: `NO_PLACE`, `NO_PYTHON`, `OLD_PYTHON`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import json
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from fabbuild.protocol import names

#: Exit status: the work directory or the program in it cannot be written; stderr has the system's words.
NO_PLACE = 96

#: Exit status: there is no python3.
NO_PYTHON = 97

#: Exit status: python3 is older than the worker needs; stderr says so.
OLD_PYTHON = 98

#: Seconds that the program may take to arrive; what receives it there ends after that.
ARRIVAL = 60

#: The oldest Python that the worker runs on.
PYTHON_NEEDED = (3, 8)

_TOO_OLD = "python3 on this machine is %d.%d; fabbuild's worker needs {}.{} or newer".format(*PYTHON_NEEDED)

# In syntax that any Python since 2.7 can parse, because an old one would otherwise show a traceback.
_STUB = f"""\
import sys

if sys.version_info < {PYTHON_NEEDED}:
    sys.stderr.write({_TOO_OLD + chr(10)!r} % sys.version_info[:2])
    sys.exit({OLD_PYTHON})

# Imported by its file name: with the package, all of it would come from here.
sys.path.insert(0, sys.path[0] + "/fabbuild/worker")
import byte_code

sys.path[0] = byte_code.compiled(sys.argv[0])

from fabbuild.worker.main import main

sys.exit(main(sys.argv[1:]))
"""

# Reads the program from stdin into a file that exists in memory only. No newline and no backslash, for the shells.
_FROM_MEMORY = ";".join(
    (
        "import os,sys,signal",
        f"v=sys.version_info;old=v<{PYTHON_NEEDED}",
        f'old and sys.stderr.write("{_TOO_OLD}"%v[:2]+chr(10))',
        f"old and sys.exit({OLD_PYTHON})",
        "n=int(sys.argv[1])",
        # A Python that was built against a C library older than its kernel knows no memfd.
        'm=getattr(os,"memfd_create",None)',
        'f=m("fabbuild") if m else os.open("/dev/shm",os.O_TMPFILE|os.O_RDWR,448)',
        # The other end may be gone without a sign of it.
        f"signal.alarm({ARRIVAL})",
        '[os.write(f,d) for d in iter(lambda:os.read(0,min(65536,n-os.lseek(f,0,1))),b"")]',
        'os.lseek(f,0,1)==n or sys.exit("the worker program was cut short on its way here")',
        "signal.alarm(0)",
        'p="/proc/self/fd/%d"%f;sys.argv[:2]=[p];import runpy;runpy.run_path(p,run_name="__main__")',
    )
)

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class WorkerProgram:
    """The worker program: the bytes of the zipapp, their SHA-256 in hexadecimal, and its file name."""

    data: bytes
    sha256: str
    name: str


@functools.lru_cache(maxsize=1)
def worker_program() -> WorkerProgram:
    """Return the zipapp: the same bytes for the same source, on every machine.

    Its files are stored, not compressed: zlib's output depends on its version, and a machine's Python may lack it.
    """
    files = {"__main__.py": _STUB.encode(), "fabbuild/__init__.py": b""}
    for package in ("protocol", "worker"):
        files.update(_modules(importlib.resources.files("fabbuild") / package, f"fabbuild/{package}"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, files[name])
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return WorkerProgram(data, digest, names.program(digest))


def _modules(package: Traversable, place: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path in the zipapp and the source of each module of a package and of the packages in it."""
    for entry in package.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{place}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{place}/{entry.name}", entry.read_bytes()


def shell_place(work_dir: str, program: WorkerProgram) -> str:
    """Return the command that puts the program into ``bin`` of the work directory.

    The command prints ``have`` if the whole program exists; else it prints ``send``, and then reads the program
    from stdin up to its end. A truncated program is not put in place, and a damaged one of the right length, as
    after a crash of the machine, is sent again.

    Raises:
        ValueError: the work directory's name cannot be used in a shell line.
    """
    size = len(program.data)

    def whole(name: str) -> str:
        # Without sha256sum the length alone counts.
        digest = f'case "$(sha256sum <"{name}" 2>/dev/null)" in ""|{program.sha256}*) true;; *) false;; esac'
        return f'[ "$(wc -c <"{name}")" -eq {size} ] && {digest}'

    return (
        f'{_directory(work_dir)} B="$D/{names.BIN}" P="$D/{names.BIN}/{program.name}"; '
        f'umask 077; mkdir -p "$B" || exit {NO_PLACE}; '
        f'if [ -f "$P" ] && {whole("$P")}; then echo have; exit 0; fi; echo send; '
        f'T="$P.$$"; C=cat; command -v timeout >/dev/null 2>&1 && C="timeout {ARRIVAL} cat"; '
        f'if $C >"$T" && {whole("$T")} && chmod 700 "$T" && mv -f "$T" "$P"; '
        f'then exit 0; fi; rm -f "$T"; echo "the worker program was not written to $P" >&2; exit {NO_PLACE}'
    )


def shell_run(work_dir: str, program: WorkerProgram, args: Sequence[str]) -> str:
    """Return the command that runs the program that `shell_place` has put there.

    Raises:
        ValueError: the work directory's name cannot be used in a shell line.
    """
    there = f'"$D/{names.BIN}/{program.name}"'
    return f"{_directory(work_dir)} {_python()} {names.PYTHON_OPTIONS} {there} {_arguments(args)}".rstrip()


def on_its_own_line(command: str) -> str:
    """Return a command that prints a newline first: a login may have printed a line without one."""
    return f"echo; {command}"


def shell_memory(args: Sequence[str], program: WorkerProgram | None = None) -> str:
    """Return the command that runs the program from memory, without writing a file.

    It reads the program's bytes (``data`` of ``program``, by default `worker_program`) from stdin.
    """
    size = len((program or worker_program()).data)
    return f"{_python()} {names.PYTHON_OPTIONS} -c {shlex.quote(_FROM_MEMORY)} {size} {_arguments(args)}".rstrip()


def _directory(work_dir: str) -> str:
    """Return the sh commands that set D to the work directory, as `fabbuild.worker.base.workdir.resolve` does."""
    if any(char in work_dir for char in "\0\n\r"):
        raise ValueError(f"work_dir holds a control character: {work_dir!r}")
    home = f'[ -n "$HOME" ] || {{ echo "HOME is not set on this machine; give a work_dir" >&2; exit {NO_PLACE}; }};'
    if not work_dir:
        # The XDG specification says that a relative XDG_CACHE_HOME is to be ignored.
        cache = 'case "$XDG_CACHE_HOME" in /*) D="$XDG_CACHE_HOME";; *) D="$HOME/.cache";; esac;'
        return f'{home} {cache} D="$D/fabbuild/$(uname -n)";'
    if work_dir.startswith("/"):
        return f"D={shlex.quote(work_dir)};"
    if work_dir == "~" or work_dir.startswith("~/"):
        work_dir = work_dir[2:]
    return f'{home} D="$HOME"/{shlex.quote(work_dir)};'


def _python() -> str:
    missing = "no python3 on this machine; install it (Debian: apt-get install python3)"
    test = f"command -v python3 >/dev/null 2>&1 || {{ echo {shlex.quote(missing)} >&2; exit {NO_PYTHON}; }}"
    return f"{test}; exec python3"


def _arguments(args: Sequence[str]) -> str:
    text = "".join(args)
    if text.isprintable() and text.isascii() and not set(text) & set("\\'!"):
        return shlex.join(args)
    return f"--hex {json.dumps(list(args)).encode().hex()}"
