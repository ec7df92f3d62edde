"""Record the reports and JUnit files that fabbuild exports, so that they do not count as edits of the source.

A report that lies inside the source would otherwise be an edit of the current source, and each build would build
everything again. Each exported file is recorded with its checksum beside the results: if the user replaces the file
by another one, that is part of the source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fabbuild.errors import OutputError, advice_for
from fabbuild.files import whole_file
from fabbuild.protocol.names import OWN
from fabbuild.text import visible

#: The record of exported files, in fabbuild's own directory beside the results: path → SHA-256.
FILES = "files.json"


@contextlib.contextmanager
def exported_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that the user named; readers find the whole file or none.

    Raises:
        OutputError: the file cannot be written; an older one is unchanged.
    """
    try:
        with whole_file(path) as file:
            yield file
    except OSError as exc:
        raise OutputError(
            f"cannot write {visible(str(path))}: {exc.strerror or exc}; {advice_for(exc, 'name another file')}"
        ) from exc


def remember(root: Path, path: Path) -> None:
    """Record that a file was exported from the results in ``root``, if that is a result tree.

    Failing to do so is no error: the file is then part of the source, like any other.
    """
    own = root / OWN
    with contextlib.suppress(OSError):
        if root in path.parents or not own.is_dir():
            return
        files = {name: digest for name, digest in _read(own).items() if Path(name).is_file()}
        files[str(path.parent.resolve() / path.name)] = _digest(path)
        with whole_file(own / FILES) as file:
            file.write(json.dumps(files, indent=1).encode() + b"\n")


def written(output: Path) -> list[Path]:
    """Return the files that were exported from results in an output directory and have not changed since."""
    found: set[tuple[str, str]] = set()
    with contextlib.suppress(OSError):
        for own in output.glob(f"*/{OWN}"):
            found |= _read(own).items()
    return [Path(name) for name, digest in sorted(found) if _is(Path(name), digest)]


def _read(own: Path) -> dict[str, str]:
    try:
        value = json.loads((own / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in value.items()} if isinstance(value, dict) else {}


def _is(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and _digest(path) == digest
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
