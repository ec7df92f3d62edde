"""Files that were written of results for other programs: where they are inside the source, they are no part of it.

A report or a JUnit file beside the source's own files would else be an edit of the current source, and each build
would build all of it anew. What was written is remembered with its checksum beside the results, so that a file of
the user's that takes its place is part of the source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from fabbuild.results.tree import OWN

#: Which files there are, in our own directory: path → SHA-256.
FILES = "files.json"


def remember(root: Path, path: Path) -> None:
    """Keep in mind that a file was written of the results in ``root``; nothing where there is no directory of ours.

    That it cannot be kept is no trouble: the file is part of the source then, as any other.
    """
    own = root / OWN
    with contextlib.suppress(OSError):
        if root in path.parents or not own.is_dir():
            return
        files = {name: digest for name, digest in _read(own).items() if Path(name).is_file()}
        files[str(path.parent.resolve() / path.name)] = _digest(path)
        temporary = own / f"{FILES}.new"
        temporary.write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
        temporary.replace(own / FILES)


def written(output: Path) -> list[Path]:
    """Give the files that were written of any results in an output directory, and are as they were written."""
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
