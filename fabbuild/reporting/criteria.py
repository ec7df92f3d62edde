"""Judge results for a bisection: whether a board shows a fault at a commit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fabbuild.build.bisection import Mark
from fabbuild.errors import UsageError
from fabbuild.protocol.sizes import parse_size
from fabbuild.reporting.summary.sizes import PARTS, parse_sizes
from fabbuild.text import first_error, one_line

#: The status by which a command of ``--run`` skips a commit, and the first one that ends the bisection, as in git.
_SKIP, _ENDS = 125, 128


@dataclass(frozen=True)
class BoardResult:
    """A result of one board at one commit, as far as it is judged; ``place`` is its directory."""

    board: str
    commit: str
    return_code: int
    stderr: str
    place: Path

    def size(self, part: int) -> int | None:
        """Return the size of the board's main program, which is the first one; None if it is not known."""
        try:
            sizes = parse_sizes((self.place / "sizes").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return None
        return next((size[part] for size in sizes.values()), None)


@dataclass(frozen=True)
class Judgement:
    """What a result says of its commit, and why."""

    mark: Mark
    why: str = ""


class Criterion(Protocol):
    """Decides whether a result shows the fault that is looked for."""

    #: Whether judging takes so long that only those results are judged that the search asks for.
    slow: bool

    def judge(self, result: BoardResult, good: BoardResult | None) -> Judgement:
        """Judge a result; ``good`` is that of the same board at the good commit, None if that itself is judged."""


_GOOD = Judgement(Mark.GOOD)


def _other_failure(result: BoardResult) -> Judgement:
    error = first_error(result.stderr)
    return Judgement(Mark.SKIP, f"it fails in another way: {error}" if error else "it fails in another way")


@dataclass(frozen=True)
class AnyFailure:
    """The board fails to build."""

    slow = False

    def judge(self, result: BoardResult, good: BoardResult | None) -> Judgement:
        """See `Criterion`."""
        del good
        return Judgement(Mark.BAD, first_error(result.stderr) or "it fails") if result.return_code else _GOOD


@dataclass(frozen=True)
class Matches:
    """A line of the board's messages matches; ``fails``: the build must have failed, too."""

    pattern: re.Pattern[str]
    fails: bool
    slow = False

    def judge(self, result: BoardResult, good: BoardResult | None) -> Judgement:
        """See `Criterion`."""
        del good
        line = next((line for line in result.stderr.splitlines() if self.pattern.search(line)), None)
        if line is not None and (result.return_code or not self.fails):
            return Judgement(Mark.BAD, one_line(line))
        return _other_failure(result) if result.return_code else _GOOD


@dataclass(frozen=True)
class Grows:
    """The board's program is larger than at the good commit, by this many bytes or more."""

    part: str
    size: int
    slow = False

    def judge(self, result: BoardResult, good: BoardResult | None) -> Judgement:
        """See `Criterion`."""
        if result.return_code:
            return _other_failure(result)
        place = PARTS.index(self.part)
        now, before = result.size(place), (good or result).size(place)
        if now is None or before is None:
            return Judgement(Mark.SKIP, "its size is not known")
        text = f"{self.part} {now - before:+} bytes, {now} in all"
        return Judgement(Mark.BAD, text) if now - before >= self.size else Judgement(Mark.GOOD, text)


@dataclass(frozen=True)
class Runs:
    """A command, run in the directory of the result, ends with a status other than 0."""

    command: str
    slow = True

    def judge(self, result: BoardResult, good: BoardResult | None) -> Judgement:
        """See `Criterion`.

        Raises:
            UsageError: the command says that the bisection is to end, or was ended by a signal.
        """
        del good
        if result.return_code:
            return _other_failure(result)
        env = {**os.environ, "FABBUILD_BOARD": result.board, "FABBUILD_COMMIT": result.commit}
        ran = subprocess.run(self.command, shell=True, cwd=result.place, env=env, check=False, capture_output=True)  # noqa: S602 - the user's own
        said = (ran.stderr or ran.stdout).decode("utf-8", "replace").strip().splitlines()
        words = f"the command ended with {ran.returncode}" + (f": {one_line(said[-1])}" if said else "")
        if ran.returncode < 0 or ran.returncode >= _ENDS:
            raise UsageError(
                f"--run: {words}, in {result.place}; mend it and call bisect again, which goes on there"
            )
        if ran.returncode == _SKIP:
            return Judgement(Mark.SKIP, words)
        return Judgement(Mark.BAD, words) if ran.returncode else _GOOD


def criterion_of(options: Mapping[str, object]) -> Criterion:
    """Return the criterion that the options name: that a board fails, if they name none.

    Raises:
        UsageError: two of them, no regular expression, or no number of bytes.
    """
    given = [name for name in ("error", "warning", "grows", "run") if options[name] is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} both say what is bad; give one of them")
    if not given:
        return AnyFailure()
    name, text = given[0], str(options[given[0]])
    if not text:
        raise UsageError(f"--{name} is empty; say what is looked for, or leave it out to look for a failure")
    if name == "run":
        return Runs(text)
    if name == "grows":
        region, _, number = text.rpartition(":")
        try:
            size = parse_size(number) if not number.isdecimal() else int(number)
        except ValueError as exc:
            raise UsageError(f"--grows {text}: {exc}; write BYTES or REGION:BYTES, such as text:100") from None
        if size < 1 or (region or "all") not in PARTS:
            raise UsageError(f"--grows {text}: BYTES is at least 1, REGION one of {', '.join(PARTS)}")
        return Grows(region or "all", size)
    try:
        return Matches(re.compile(text), fails=name == "error")
    except re.error as exc:
        raise UsageError(f"--{name} {text}: no regular expression: {exc}") from None


def of_boards(judged: Mapping[str, Judgement], wanted: Sequence[str]) -> Judgement:
    """Return the judgement on a commit: bad if any board shows the fault, skipped if any cannot be judged.

    Args:
        judged: the judgement on each board; a board that is missing was not built or does not exist there.
        wanted: all boards.
    """
    for mark in (Mark.BAD, Mark.SKIP):
        found = [
            f"{board}: {judged[board].why}" for board in wanted if board in judged and judged[board].mark is mark
        ]
        if found:
            return Judgement(mark, "; ".join(found))
    missing = [board for board in wanted if board not in judged]
    return Judgement(Mark.SKIP, f"{', '.join(missing)}: not there, or not built") if missing else _GOOD
