"""Convert a summary to plain values for JSON; docs/reference/summary-json.md describes each key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fabbuild.protocol.uboot import TREE
from fabbuild.reporting.summary.changes import (
    ArchSizes,
    BoardSizes,
    ChangedLine,
    CommitChanges,
    ConfigChanges,
    DiagnosticChange,
    Summary,
)
from fabbuild.reporting.summary.configs import ValueChanges
from fabbuild.reporting.summary.sizes import PARTS, Bloat, Size
from fabbuild.reporting.summary.unread import Unread
from fabbuild.source.boards.would_build import WouldBuild
from fabbuild.text import visible

#: The version of the JSON, raised when the meaning of a key changes.
SCHEMA = 1

#: The program whose sizes stand for those of a board.
MAIN = TREE.program


def as_json(summary: Summary) -> dict[str, Any]:
    """Return a summary as plain values; parts that were not requested, or are not known, are absent."""
    return {
        "schema": SCHEMA,
        "name": summary.name,
        "output": str(summary.output / summary.name),
        "total": summary.total,
        "complaints": list(summary.complaints),
        "archs": dict(summary.archs),
        "commits": [_commit(commit) for commit in summary.commits],
        **({"unread": unread_facts(summary.unread)} if summary.unread else {}),
    }


def unread_facts(unread: Unread) -> dict[str, Any]:
    """Return the files that no board read; where there are any, also of how many boards that is known."""
    facts: dict[str, Any] = {"files": [visible(file) for file in unread.files]}
    if unread.files:
        facts |= {"known": unread.known, "boards": unread.boards}
    if unread.would:
        facts["would"] = {visible(file): _would(one) for file, one in unread.would.items()}
    if unread.uncompiled:
        facts["uncompiled"] = [
            {
                "file": visible(one.file),
                "first": one.first,
                "last": one.last,
                "condition": visible(one.condition),
                **({"would": _would(one.would)} if one.would else {}),
            }
            for one in unread.uncompiled
        ]
    return facts


def _would(would: WouldBuild) -> dict[str, Any]:
    return {"setting": would.setting, "boards": list(would.boards)}


def _commit(commit: CommitChanges) -> dict[str, Any]:
    boards = commit.boards
    facts: dict[str, Any] = {
        "number": commit.number,
        "hash": commit.hash,
        "subject": commit.subject,
        "first": commit.first,
        "changed": commit.changed,
        "counts": {
            "built": commit.counts.built,
            "warned": commit.counts.warned,
            "failed": commit.counts.failed,
            "not_built": commit.counts.not_built,
            "not_there": commit.counts.not_there,
        },
        "boards": {
            "broke": list(boards.broke),
            "mended": list(boards.mended),
            "warns": list(boards.warns),
            "clean": list(boards.clean),
            "new": list(boards.new),
            "gone": list(boards.gone),
            "failing": list(boards.failing),
            "warning": list(boards.warning),
            "not_built": [{"board": one.board, "reason": one.reason} for one in boards.not_built],
            "not_there": [{"board": one.board, "reason": one.reason} for one in boards.not_there],
            "renamed": [{"from": former, "to": name} for former, name in boards.renamed],
            "flaky": [{"board": one.board, "failure": one.failure} for one in boards.flaky],
        },
        "culprits": [_diagnostic(diagnostic) for diagnostic in commit.culprits],
        "problems": {
            "new": [_diagnostic(diagnostic) for diagnostic in commit.new_problems],
            "gone": [_diagnostic(diagnostic) for diagnostic in commit.gone_problems],
        },
        "errors": {"new": _lines(commit.new_errors), "gone": _lines(commit.gone_errors)},
        "warnings": {"new": _lines(commit.new_warnings), "gone": _lines(commit.gone_warnings)},
        "blob_notes": {"new": _lines(commit.new_blobs), "gone": _lines(commit.gone_blobs)},
        "blobs": list(commit.blobs),
    }
    if commit.arch_sizes is not None and commit.board_sizes is not None:
        facts["sizes"] = {
            "archs": {arch: _arch_sizes(sizes) for arch, sizes in commit.arch_sizes.items()},
            "boards": {board: _board_sizes(sizes) for board, sizes in commit.board_sizes.items()},
        }
    if commit.functions is not None:
        facts["functions"] = {
            board: {program: _bloat(bloat) for program, bloat in programs.items()}
            for board, programs in commit.functions.items()
        }
    if commit.config is not None:
        facts["config"] = {
            arch: {file: _config(changes) for file, changes in files.items()}
            for arch, files in commit.config.items()
        }
    if commit.environment is not None:
        facts["environment"] = {board: _change(change) for board, change in commit.environment.items()}
    return facts


def _lines(lines: Iterable[ChangedLine]) -> list[dict[str, Any]]:
    return [{"text": line.text, "boards": list(line.boards)} for line in lines]


def _diagnostic(diagnostic: DiagnosticChange) -> dict[str, Any]:
    return {
        "kind": diagnostic.kind,
        "text": diagnostic.text,
        "lines": list(diagnostic.lines),
        "boards": list(diagnostic.boards),
    }


def _parts(size: Size) -> dict[str, int]:
    return dict(zip(PARTS, size, strict=True))


def _arch_sizes(sizes: ArchSizes) -> dict[str, Any]:
    programs = {
        program: {part: round(parts.get(part, 0.0), 3) for part in PARTS}
        for program, parts in sizes.average.items()
    }
    return {
        "boards": sizes.changed,
        "of": sizes.of,
        "average": programs.get(MAIN, dict.fromkeys(PARTS, 0.0)),
        "programs": programs,
    }


def _board_sizes(sizes: BoardSizes) -> dict[str, Any]:
    return {
        "arch": sizes.arch,
        "delta": _parts(sizes.programs.get(MAIN, Size(0, 0, 0, 0, 0))),
        "programs": {program: _parts(delta) for program, delta in sizes.programs.items()},
    }


def _bloat(bloat: Bloat) -> dict[str, Any]:
    return {
        "added": bloat.added,
        "removed": bloat.removed,
        "grown": bloat.grown,
        "shrunk": bloat.shrunk,
        "up": bloat.up,
        "down": bloat.down,
        "functions": [{"name": one.name, "old": one.old, "new": one.new} for one in bloat.symbols],
    }


def _config(changes: Iterable[ConfigChanges]) -> dict[str, Any]:
    changes = list(changes)
    return {
        "added": [
            {"name": one.name, "value": one.new, "boards": list(one.boards)} for one in changes if one.old is None
        ],
        "removed": [
            {"name": one.name, "value": one.old, "boards": list(one.boards)} for one in changes if one.new is None
        ],
        "changed": [
            {"name": one.name, "old": one.old, "new": one.new, "boards": list(one.boards)}
            for one in changes
            if one.old is not None and one.new is not None
        ],
    }


def _change(change: ValueChanges) -> dict[str, Any]:
    return {
        "added": dict(change.added),
        "removed": dict(change.removed),
        "changed": {name: {"old": old, "new": new} for name, (old, new) in change.changed.items()},
    }
