"""Streams that fail or lack characters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabbuild.cli import ui
from fabbuild.cli.ui.output import Output
from fabbuild.errors import ConnectError, SourceError
from tests.support.census import HANG_LIMIT
from tests.support.screens import (
    board,
    printed,
)


def test_closed_streams_are_no_error() -> None:
    closed = io.StringIO()
    closed.close()
    ui.print_boards([board()], stream=closed)
    ui.error("x", stream=closed)
    output = Output(None)
    output.line("x")
    assert output.broken


def run_python(code: str, *, shell_after: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    root = str(Path(ui.__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": root, **environment}
    if not shell_after:
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=False, timeout=HANG_LIMIT
        )
    line = f'set -o pipefail; "$0" -c "$1" {shell_after}'
    command = ["bash", "-c", line, sys.executable, code]
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=HANG_LIMIT)


LIST = "from fabbuild.cli import ui; from fabbuild.model import Board; ui.print_boards([Board('b%d' % n, 'arm') for n in range(6000)])"


def test_a_list_into_head_ends_quietly() -> None:
    ended = run_python(LIST, shell_after="| head -1")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.split() == [b"b0", b"arm", b"-", b"-", b"-"]


def test_a_full_disk_behind_standard_output_is_no_traceback() -> None:
    ended = run_python(LIST, shell_after=">/dev/full")
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_characters_gets_others(encoding: str) -> None:
    code = (
        "from fabbuild.cli import ui; from fabbuild.text import cut; from fabbuild.cli.ui.tables import MachineOutcome\n"
        "ui.say(cut('abcdef', 3) + ' \\u2018x\\u2019 \\udc80'); ui.print_outcomes([MachineOutcome('m', True, '\\u6f22')])"
    )
    ended = run_python(code, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(
        "ab… \u2018x\u2019 \\udc80".encode() if encoding == "utf-8" else b"ab~ \\u2018x\\u2019 \\udc80"
    )


def test_importing_the_library_part_does_not_bring_rich() -> None:
    code = "import sys, fabbuild.cli.ui.display, fabbuild.events.journal, fabbuild.events.progress; sys.exit('rich.console' in sys.modules)"
    assert run_python(code).returncode == 0


def test_an_error_is_one_line() -> None:
    assert printed(ui.error, SourceError("no such range:\nfatal: bad\x1b")) == (
        "fabbuild: no such range:; fatal: bad\\x1b\n"
    )
    assert printed(ui.error, ConnectError("ruru", "connection refused")) == "fabbuild: ruru: connection refused\n"
