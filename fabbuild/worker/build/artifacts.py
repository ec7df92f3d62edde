"""Read and remove a build's files in its output directory: images, programs, generated configuration."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base.processes import Processes
from fabbuild.worker.base.text import decode
from fabbuild.worker.deps.reverse_deps import is_dependency_file

#: Longest list of symbols, in bytes; sandbox with all its tests has less than 2 MB.
_MAX_SYMBOLS = 16 * 1024 * 1024

#: Files of the configuration that are compared by content, whatever their size.
_INCLUDE = "include/"
_CONFIGURATION = frozenset(place for _, place in TREE.config_files)

#: Other files at the top of the output up to this size, in bytes, are compared by content.
_SMALL = 65536


def remove_configuration(output: str) -> None:
    """Remove the generated configuration, so that no failure has that of another board or commit.

    Kbuild generates it again when ``.config`` is new.

    Raises:
        OSError: a file cannot be removed.
    """
    _unlink(output, (place for _, place in TREE.config_files))


def file_states(output: str) -> Dict[str, str]:
    """Return the state of each file in an output directory: building may read anything that configuring makes.

    Those that Kbuild writes anew each time are compared by content: the configuration, and small files at the top.
    All others are compared by their times.
    """
    found = {}
    top = len(os.path.join(output, ""))
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.join(folder, name)
            place = path[top:]
            # A dependency file lists the Kconfig files, and .config.old is the configuration before.
            if not is_dependency_file(name) and place != ".config.old":
                found[place] = _state(path, place)
    return found


def states_alike(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Return whether configuring left everything as it was, except files that it removed for the build to make."""
    removed = {place for _, place in TREE.config_files if not place.startswith(_INCLUDE)} - after.keys()
    return {place: state for place, state in before.items() if place not in removed} == after


def _state(path: str, place: str) -> str:
    about = os.lstat(path)
    if stat.S_ISLNK(about.st_mode):
        return os.readlink(path)
    kept = place == ".config" or place.startswith(_INCLUDE) or place in _CONFIGURATION
    if stat.S_ISREG(about.st_mode) and (kept or (os.sep not in place and about.st_size < _SMALL)):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    return "%d %d %d" % (about.st_mtime_ns, about.st_size, about.st_ino)


def saved_configuration(output: str) -> Dict[str, Tuple[bytes, int]]:
    """Return the content and time, in ns, of each file that `remove_configuration` removes, by its place."""
    found = {}
    for _, place in TREE.config_files:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(output, place), "rb") as file:
            found[place] = file.read(), os.fstat(file.fileno()).st_mtime_ns
    return found


def put_back(output: str, saved: Mapping[str, Tuple[bytes, int]]) -> None:
    """Write the files again that are missing, with their times.

    Raises:
        OSError: a file cannot be written.
    """
    for place, (data, time) in saved.items():
        path = os.path.join(output, place)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(data)
            os.utime(path, ns=(time, time))


def remove_programs(output: str) -> None:
    """Remove the programs and the image, so that no result describes one that its commit does not build.

    make links them again.

    Raises:
        OSError: a file cannot be removed.
    """
    _unlink(output, (*TREE.programs, TREE.image))


def _unlink(output: str, places: Iterable[str]) -> None:
    for place in places:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.unlink(os.path.join(output, place))


def sizes(processes: Processes, output: str, prefix: str, env: Mapping[str, str]) -> str:
    """Return the line of ``size`` for each program that was built, followed by the program's .rodata size.

    The latter is read by the compiler's own objdump, which knows every object format of its linker. Programs that
    cannot be measured are left out: a missing size is no failure of the board.

    Args:
        processes: the owner of the tools' processes.
        output: the output directory.
        prefix: the prefix of the compiler's tools.
        env: the tools' environment.
    """
    lines: List[str] = []
    for program in TREE.programs:
        if not os.path.isfile(os.path.join(output, program)):
            continue
        try:
            measured = processes.run([prefix + "size", program], output, env, timeout=60.0)
            sections = processes.run([prefix + "objdump", "-h", program], output, env, timeout=60.0)
        except OSError:
            continue
        found = [line for line in measured.stdout.splitlines() if line.split()[5:6] == [program]]
        if measured.code == 0 and found:
            lines.append("%s %s" % (found[0], _rodata(sections.stdout)))
    return "\n".join(lines)


def functions(processes: Processes, output: str, prefix: str, env: Mapping[str, str]) -> Dict[str, bytes]:
    """Return the output of ``nm --size-sort`` for each program that was built, by the name of its file in a result.

    Programs that cannot be read are left out. The arguments are those of `sizes`.
    """
    found: Dict[str, bytes] = {}
    for program in TREE.programs:
        if not os.path.isfile(os.path.join(output, program)):
            continue
        argv = [prefix + "nm", "--size-sort", program]
        try:
            listed = processes.run(argv, output, env, timeout=60.0, limit=_MAX_SYMBOLS)
        except OSError:
            continue
        if listed.code == 0 and listed.stdout:
            found[TREE.function_sizes(program)] = listed.stdout.encode()
    return found


def _rodata(sections: str) -> str:
    """Return .rodata's size from the output of ``objdump -h``, eight digits of hex."""
    for line in sections.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[1] == ".rodata":
            return fields[2]
    return "00000000"


def config_files(output: str) -> Dict[str, str]:
    """Read the generated configuration files that exist, up to `MAX_TEXT` bytes of all together."""
    found: Dict[str, str] = {}
    room = MAX_TEXT
    for name, place in TREE.config_files:
        try:
            with open(os.path.join(output, place), "rb") as file:
                data = file.read(room + 1)
        except OSError:
            continue
        if len(data) > room:
            break
        found[name] = decode(data)
        room -= len(data)
    return found


def checksum(output: str) -> Optional[str]:
    """Return the SHA-256, in hex, of the tree's main image; None if there is none."""
    digest = hashlib.sha256()
    try:
        with open(os.path.join(output, TREE.image), "rb") as file:
            for block in iter(lambda: file.read(1024 * 1024), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
