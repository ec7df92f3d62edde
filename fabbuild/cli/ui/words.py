"""Print single lines and warnings, and ask for confirmation."""

from __future__ import annotations

import logging
import sys

from fabbuild.cli.ui.output import error, stderr, stdout
from fabbuild.events.event_lines import json_line
from fabbuild.text import visible


def say(text: str) -> None:
    """Print text on standard output."""
    stdout().line(visible(text, newlines=True))


def note(text: str) -> None:
    """Print a remark on standard error, apart from what a task lists for other programs."""
    error(text)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    stdout().line(json_line(value))


def stderr_line(machine: str, line: str) -> None:
    """Print a line of a worker's stderr on standard error: ``[name] line``."""
    stderr().line(f"[{visible(machine)}] {visible(line)}")


def confirm(question: str) -> bool:
    """Ask a question that is answered with y or n; without a terminal the answer is no."""
    if not sys.stdin or not sys.stdin.isatty():
        return False
    try:
        return input(f"{visible(question)} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


class _Warnings(logging.Handler):
    """A log handler that prints the library's warnings as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one warning."""
        error(record.getMessage())


def show_warnings() -> None:
    """Print the library's warnings from now on; may be called more than once."""
    logger = logging.getLogger("fabbuild")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False
