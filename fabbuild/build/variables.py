"""Collect the variables of the environment that builds get from the user, and the files that these name.

They come from the user's own environment, as far as builds are known to read them (`FirmwareTree.variables`), and
from ``--env``. A machine's ``env`` in machines.yaml is stronger than the former and weaker than the latter. A file
that such a variable names is sent to the machines, in an archive that is named by its content; so the variable's
value on a machine, which is part of a result's key, stands for the content.
"""

from __future__ import annotations

import io
import itertools
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabbuild.config.wording import quote
from fabbuild.errors import UsageError
from fabbuild.files import digest_of
from fabbuild.protocol.environment import SENT_FILES
from fabbuild.protocol.uboot import TREE, BuildVariable, Names
from fabbuild.text import names, size

#: Most bytes of all files together, and most files: what a user means to send is far smaller.
MOST_BYTES = 1 << 30
MOST_FILES = 20_000

#: Times of the archive's files, so that the archive depends on their content alone.
_NO_TIME = 0


@dataclass(frozen=True)
class FileArchive:
    """The files that variables name, as a tar archive.

    Attributes:
        path: the archive; it is removed when the last reference to this object goes.
        name: the name of its directory on machines, by its content.
        sha256: its checksum.
    """

    path: Path
    name: str
    sha256: str
    _directory: tempfile.TemporaryDirectory[str] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Variables:
    """The variables of a run's builds.

    Attributes:
        taken: those that are taken from the user's environment.
        given: those of ``--env``.
        files: the files that they name; None if they name none.
        notes: what the user is told about them, a line each.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    files: FileArchive | None = None
    notes: tuple[str, ...] = ()

    def added_to(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a machine whose ``env`` is given."""
        return {**self.taken, **env, **self.given}


def collect(given: Mapping[str, str], source: Path, environ: Mapping[str, str] = os.environ) -> Variables:
    """Collect the variables of a run's builds, and pack the files that they name.

    Args:
        given: those of ``--env``.
        source: the source, to which relative paths belong, as they do for make there.
        environ: the user's environment.

    Raises:
        UsageError: a file cannot be read, or there are too many.
    """
    known = {row.name: row for row in TREE.variables}
    there = {name: environ[name] for name in known if environ.get(name) and name not in given}
    taken = {name: value for name, value in there.items() if known[name].taken}
    packer = _Packer(source)
    values = {name: packer.value(known.get(name), name, value) for name, value in {**taken, **given}.items()}
    files = packer.archive()
    if files:
        values = {name: value.replace(SENT_FILES, f"{SENT_FILES}{files.name}/") for name, value in values.items()}
    notes = [f"{name} names {quote(value)}, which does not exist here" for name, value in packer.missing]
    if taken:
        notes.insert(0, f"builds get from your environment: {' '.join(taken)}")
    if left := [name for name in there if name not in taken]:
        notes.append(
            f"set in your environment, and not passed on to builds: {' '.join(left)}; --env NAME=VALUE does"
        )
    return Variables(
        taken={name: values[name] for name in taken},
        given={name: values[name] for name in given},
        files=files,
        notes=tuple(notes),
    )


class _Packer:
    """Collects the files that variables name.

    Attributes:
        missing: variables and the paths in them at which is nothing.
    """

    def __init__(self, source: Path) -> None:
        self.missing: list[tuple[str, str]] = []
        self._source = source
        self._files: dict[str, Path] = {}

    def value(self, row: BuildVariable | None, name: str, value: str) -> str:
        """Return a variable's value with the places of its files on a machine, in place of those here."""
        if row is None or row.names is Names.NOTHING:
            return value
        if row.names is Names.FILE:
            return self._file(row, value)
        words = [self._directory(f"{name}/{place}", name, word) for place, word in enumerate(value.split())]
        return " ".join(words)

    def _file(self, row: BuildVariable, value: str) -> str:
        path = self._source / value
        if not path.exists():
            if "/" in value:  # else builds look for it in directories of theirs
                self.missing.append((row.name, value))
            return value
        if not path.is_file():
            return value  # /dev/null
        for one in (path, *(path.with_suffix(suffix) for suffix in row.beside)):
            if one.is_file():
                self._files[f"{row.name}/{one.name}"] = one
        return f"{SENT_FILES}{row.name}/{path.name}"

    def _directory(self, place: str, name: str, word: str) -> str:
        path = self._source / word
        if not path.is_dir():
            self.missing.append((name, word))
            return word
        found = list(itertools.islice(_below(path), MOST_FILES + 1))
        for one in found:
            self._files[f"{place}/{one.relative_to(path)}"] = one
        if not found:
            return word
        return f"{SENT_FILES}{place}"

    def archive(self) -> FileArchive | None:
        """Write the archive; return None if there is no file."""
        if not self._files:
            return None
        shown = names(sorted({name.split("/")[0] for name in self._files}))
        try:
            total = sum(path.stat().st_size for path in self._files.values())
            if total > MOST_BYTES or len(self._files) > MOST_FILES:
                raise UsageError(
                    f"{shown}: the files there, {len(self._files)} with {size(total)}, are too many to be sent "
                    "to each machine; name a directory that has what builds need and nothing else"
                )
            directory = tempfile.TemporaryDirectory(prefix="fabbuild-files-")
            path = Path(directory.name) / "files.tar"
            _write(path, self._files)
            digest = digest_of(path)
        except OSError as exc:
            raise UsageError(f"{shown}: {exc.filename or 'the files'}: {exc.strerror or exc}") from exc
        return FileArchive(path, digest[:24], digest, directory)


def _below(directory: Path) -> Iterator[Path]:
    for folder, folders, found in os.walk(directory):
        folders.sort()
        for name in sorted(found):
            path = Path(folder, name)
            if path.is_file():
                yield path


def _write(path: Path, files: Mapping[str, Path]) -> None:
    with tarfile.open(path, "w") as archive:
        for name in sorted(files):
            data = files[name].read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), _NO_TIME, 0o644
            archive.addfile(member, io.BytesIO(data))
