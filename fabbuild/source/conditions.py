"""Tell which lines of a source file the C preprocessor drops, by a board's configuration alone.

An expression of ``#if`` has three values here: it holds, it does not, or that is not known, because it names macros
that are no symbols of the configuration. What is compiled for a stage before the main program (``SPL``) counts as
compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fabbuild.protocol.uboot import TREE

_STAGES = tuple(stage.upper() for stage in TREE.stages)

#: The macro that a stage's build defines, and no configuration. ``XPL`` stands for any of them.
_STAGE_BUILD = frozenset(f"CONFIG_{stage}_BUILD" for stage in (*_STAGES, "XPL"))

_SYMBOL = re.compile(r"CONFIG_\w+")

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_DIRECTIVE = re.compile(r"\s*#\s*(\w+)\s*(.*)", re.DOTALL)
_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|0[xX][0-9a-fA-F]+|\d+|&&|\|\||[=!<>]=|[!<>()]|\S)")

#: What lets the lines after it through, or not.
_OPENING = ("if", "ifdef", "ifndef")


class Condition(NamedTuple):
    """A condition of a line.

    Attributes:
        directive: the directive as it is written, in one line.
        expression: its expression; that of ``#ifdef A`` is ``defined(A)``.
        holds: whether the line needs it to hold, or not to hold.
        number: the number of the directive's line.
    """

    directive: str
    expression: str
    holds: bool
    number: int

    @property
    def symbol(self) -> str:
        """The one symbol that has to be set for it, if there is nothing else to it; else empty."""
        found = _SYMBOL.findall(self._named())
        plain = re.fullmatch(r"(?:defined|IS_ENABLED|CONFIG_IS_ENABLED)?\s*\(?\s*\w+\s*\)?", self.expression)
        return found[0].removeprefix("CONFIG_") if self.holds and plain and len(found) == 1 else ""

    def _named(self) -> str:
        return re.sub(r"CONFIG_IS_ENABLED\s*\(\s*(\w+)\s*\)", r"CONFIG_\1", self.expression)


class ConditionalLine(NamedTuple):
    """A line that is neither blank, comment nor directive, by its number from 1, with all its conditions."""

    number: int
    conditions: tuple[Condition, ...]


def symbols(conditions: Sequence[Condition]) -> frozenset[str]:
    """Return the symbols, with ``CONFIG_``, whose values `is_dropped` asks for."""
    found: set[str] = set()
    for one in conditions:
        for name in re.findall(r"\w+", one.expression):
            found.update((name, f"{name}_MODULE") if name.startswith("CONFIG_") else ())
            found.update(f"CONFIG_{stage}{name}" for stage in ("", *(f"{stage}_" for stage in _STAGES)))
    return frozenset(found | {f"CONFIG_{stage}" for stage in _STAGES})


def is_dropped(conditions: Sequence[Condition], values: Mapping[str, str]) -> bool:
    """Return whether the preprocessor drops a line with these conditions for certain.

    Args:
        conditions: the conditions.
        values: the values of the symbols that are set, by their names with ``CONFIG_``, as `.config` has them.
    """
    return any(truth(one.expression, values) is (not one.holds) for one in conditions)


def conditional_lines(text: str) -> Iterator[ConditionalLine]:
    """Yield the lines of a file that can be compiled; none from where its directives do not fit together."""
    plain = _COMMENT.sub(_without_comment, text)
    #: Of each ``#if`` that is open: the conditions that its earlier branches leave, and that of its present one.
    opened: list[tuple[tuple[Condition, ...], tuple[Condition, ...]]] = []
    defined = frozenset(re.findall(r"^\s*#\s*(?:define|undef)\s+(CONFIG_\w+)", plain, re.MULTILINE))
    number = 0
    for line in re.findall(r"(?:[^\n]*\\\n)*[^\n]*\n?", plain):
        first, number = number + 1, number + line.count("\n")
        found = _DIRECTIVE.match(line)
        if found is None:
            if line.strip():
                conditions = tuple(one for before, now in opened for one in (*before, *now))
                # What the file defines itself, the configuration does not tell.
                known = tuple(one for one in conditions if defined.isdisjoint(_SYMBOL.findall(one.expression)))
                yield from (ConditionalLine(at, known) for at in range(first, max(number, first) + 1))
            continue
        word, rest = found[1], re.sub(r"\\\n|\s+", " ", found[2]).strip()
        shown = f"#{word} {rest}".strip()
        if word in _OPENING:
            expression = rest if word == "if" else f"defined({rest})"
            opened.append(((), (Condition(shown, expression, word != "ifndef", first),)))
        elif word in ("elif", "else", "endif"):
            if not opened:
                return
            before, now = opened.pop()
            left = (*before, *(one._replace(holds=not one.holds) for one in now))
            if word == "elif":
                opened.append((left, (Condition(shown, rest, holds=True, number=first),)))
            elif word == "else":
                opened.append((left, ()))


def _without_comment(found: re.Match[str]) -> str:
    text = found[0]
    return text if text[0] in "\"'" else " " + "\n" * text.count("\n")


def truth(expression: str, values: Mapping[str, str]) -> bool | None:
    """Return whether an expression of ``#if`` holds; None if the configuration does not tell.

    Args:
        expression: the expression.
        values: see `is_dropped`.
    """
    parser = _Parser(_TOKEN.findall(expression), values)
    try:
        value = parser.either()
    except (IndexError, ValueError):
        return None
    return None if parser.left or value is None else bool(value)


class _Parser:
    """Evaluates an expression; a value that is not known is None.

    What it does not know (arithmetic, ``?:``, other macros with arguments) is a ValueError.
    """

    def __init__(self, tokens: Sequence[str], values: Mapping[str, str]) -> None:
        self.left = list(tokens)
        self._values = values

    def either(self) -> int | None:
        value = self._both()
        while self._take("||"):
            other = self._both()
            known = [one for one in (value, other) if one is not None]
            value = 1 if any(known) else 0 if len(known) == 2 else None
        return value

    def _both(self) -> int | None:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            known = [one for one in (value, other) if one is not None]
            value = 0 if not all(known) else 1 if len(known) == 2 else None
        return value

    def _compared(self) -> int | None:
        value = self._simple()
        for sign, compare in _COMPARE.items():
            if self._take(sign):
                other = self._simple()
                return None if value is None or other is None else int(compare(value, other))
        return value

    def _simple(self) -> int | None:
        if self._take("!"):
            value = self._simple()
            return None if value is None else int(not value)
        if self._take("("):
            value = self.either()
            self._close()
            return value
        word = self.left.pop(0)
        if word == "defined":
            inside = self._take("(")
            name = self.left.pop(0)
            if inside:
                self._close()
            return self._is_set(name)
        if word in ("IS_ENABLED", "CONFIG_IS_ENABLED"):
            if not self._take("("):
                raise ValueError(word)
            name = self.left.pop(0)
            self._close()
            return self._enabled(name) if word == "IS_ENABLED" else self._enabled_at_stage(name)
        if word[0].isdigit():
            return int(word, 0)
        if not word[0].isalpha() and word[0] != "_":
            raise ValueError(word)
        if self.left[:1] == ["("]:
            raise ValueError(word)
        return self._value(word)

    def _take(self, token: str) -> bool:
        found = self.left[:1] == [token]
        if found:
            del self.left[0]
        return found

    def _close(self) -> None:
        if not self._take(")"):
            raise ValueError("no )")

    def _is_set(self, name: str) -> int | None:
        if name in _STAGE_BUILD:
            return None if "CONFIG_SPL" in self._values else 0
        return int(name in self._values) if name.startswith("CONFIG_") else None

    def _value(self, name: str) -> int | None:
        there = self._is_set(name)
        if not there:
            return there
        value = self._values[name]
        try:
            return 1 if value == "y" else int(value, 0)
        except ValueError:
            return None

    def _enabled(self, name: str) -> int | None:
        if not name.startswith("CONFIG_"):
            return None
        return int(any(self._values.get(one) in ("y", "m", "1") for one in (name, f"{name}_MODULE")))

    def _enabled_at_stage(self, name: str) -> int | None:
        """As ``CONFIG_IS_ENABLED(NAME)``, which asks for ``SPL_NAME`` and the like in the build of a stage."""
        if not any(f"CONFIG_{one}{name}" in self._values for one in ("", *(f"{stage}_" for stage in _STAGES))):
            return 0
        staged = any(f"CONFIG_{stage}" in self._values for stage in _STAGES)
        return None if staged else self._enabled(f"CONFIG_{name}")


_COMPARE = {
    "==": int.__eq__,
    "!=": int.__ne__,
    "<=": int.__le__,
    ">=": int.__ge__,
    "<": int.__lt__,
    ">": int.__gt__,
}
