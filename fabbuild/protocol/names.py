"""Names that both ends of the wire use, and checks of names that come from elsewhere.

Both ends use the names of the program and of the refs on a machine. Checked are names of boards and of files of
results, patterns of files to keep, make goals, configuration fragments and toolchain archives.
"""

from __future__ import annotations

import re

#: The directory of the worker's program, below a machine's work directory.
BIN = "bin"

#: Directories there with archives that the boss sends: toolchains, and the files that variables of builds name.
TOOLCHAINS = "toolchains"
FILES = "files"

#: The name of a program there, and of its copy with byte code, which ends in the kind of Python that it is for; one
#: that is just being written has a number at its end.
PROGRAM = re.compile(r"worker-[0-9a-f]{64}\.pyz(\.[a-z]+-?\d+)?(\.\d+)?")

#: Options of the Python that runs a program: it finds the standard library and nothing else, whatever is installed
#: there or set in the environment, and takes no time to look for it.
PYTHON_OPTIONS = "-EsS"

#: The prefix of fabbuild's refs in a machine's repository, and the ref that stays: the last pushed commit.
REFS = "refs/fabbuild/"
CURRENT = REFS + "current"

#: The directory of fabbuild's own files beside the results of a branch.
OWN = ".fabbuild"

#: Files in it, which distinguish it from another directory of that name: the lock, the name of the branch or range,
#: the description of the range, and the journal of the last run.
LOCK, RANGE, COMMITS, JOURNAL = MARKS = ("lock", "range", "commits.json", "journal.ndjson")

#: Names of files in a result's directory that the boss writes itself.
RESERVED = frozenset(
    {"done", "done.new", "err", "log", "sizes", "host", "toolchain", "out-env", "out-cmd", "built-from"}
)

# Every other ASCII character is a part of make's language, or of that of the shell which its rules run.
_NOT_IN_BOARD = re.compile(r"[^A-Za-z0-9_.,+@~\x80-\U0010ffff-]|[\x80-\x9f\s]")

_NOT_FIRST_IN_BOARD = ".,+@~-"

_FILE_NAME = re.compile(r"[A-Za-z0-9._+][A-Za-z0-9._+,@-]{0,99}")

_PATTERN = re.compile(r"[A-Za-z0-9._+,@*?\[\]!/-]{1,200}")

_GOAL = re.compile(r"[A-Za-z0-9_.+%@,/-]{1,200}")

#: The name of an unpacked toolchain archive, a directory below ``WORK/toolchains``.
TOOLCHAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


def program(sha256: str) -> str:
    """Return the file name of the worker's program with this checksum."""
    return "worker-%s.pyz" % sha256


def name_problem(board: str) -> str:
    """Return why a text cannot be a board's name, the part of a defconfig's before ``_defconfig``; empty if it can.

    A board's name is a goal of make, the name of a directory, and text that the ends of the wire exchange.
    """
    if not board:
        return "a board needs a name"
    if not _is_utf8(board):
        return "its name is not UTF-8"
    if board[0] in _NOT_FIRST_IN_BOARD:
        return "a name cannot begin with %r" % board[0]
    found = _NOT_IN_BOARD.search(board)
    return "make cannot be given %r in a name" % found.group() if found else ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_file_name(name: str) -> bool:
    """Whether a result file may have this name: no path, no blank, no control character, none of `RESERVED`."""
    return _FILE_NAME.fullmatch(name) is not None and name.strip(".") != "" and name not in RESERVED


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern of files below the output directory."""
    parts = text.split("/")
    return _PATTERN.fullmatch(text) is not None and ".." not in parts and "" not in parts


def is_goal(text: str) -> bool:
    """Whether a text is a goal of make: no option, no assignment, and no path outside of the output directory."""
    parts = text.split("/")
    return not text.startswith("-") and _GOAL.fullmatch(text) is not None and ".." not in parts and "" not in parts


def is_fragment(text: str) -> bool:
    """Whether a text is the name of a configuration fragment: a goal that ends with ``.config``."""
    return is_goal(text) and text.endswith(".config") and text != ".config"
