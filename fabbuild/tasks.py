"""The Invoke tasks by their published names: call them from tasks of your own."""

from __future__ import annotations

from fabbuild.cli.tasks import (
    bisect,
    boards,
    build,
    cache,
    clean,
    collection,
    init,
    kill,
    probe,
    push,
    start,
    summary,
    toolchains,
)
from fabbuild.cli.tasks_local import completion, export, history, reply, report, status, version

__all__ = [
    "bisect",
    "boards",
    "build",
    "cache",
    "clean",
    "collection",
    "completion",
    "export",
    "history",
    "init",
    "kill",
    "probe",
    "push",
    "reply",
    "report",
    "start",
    "status",
    "summary",
    "toolchains",
    "version",
]
