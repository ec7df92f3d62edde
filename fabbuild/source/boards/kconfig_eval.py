"""Evaluate Kconfig symbols for many boards of one tree; run as a program of its own.

`fabbuild.source.boards.catalogue` starts several side by side, each with a small environment: kconfiglib takes all
its settings from the environment, and a ``$(NAME)`` in a Kconfig file must not find a variable of the user's. The
program imports nothing of fabbuild, so that it starts quickly.

Loading each board's configuration and asking kconfiglib for each symbol would take several times longer: U-Boot has
over a thousand boards that differ in a dozen lines, and a symbol such as SYS_BOARD has hundreds of defaults, one a
board. So boards are evaluated in an order in which neighbours are alike, only the differences to the board before
are set (`Loaded`), and nearly all defaults are ruled out without being evaluated (`Values`).

Standard input is one JSON object::

    {"boards": {name: path of its defconfig}, "symbols": [symbol…], "cpp": [word…], "prefix": text}

Standard output is another one, or ``{"error": text}`` where Kconfig itself does not parse::

    {"boards": {name: [value…]}, "options": {name: [option…]}, "problems": {name: text}}

The values are in the order of the symbols. The options are those that are set and whose names begin with the
prefix; they take longer to evaluate, and there are none for an empty prefix.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Options of the C preprocessor: those with which a Makefile reads a defconfig.
CPP_FLAGS = ("-nostdinc", "-P", "-undef", "-x", "assembler-with-cpp")

#: A line that asks for another file.
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]+[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)

#: Seconds that the preprocessor may take for one defconfig.
CPP_TIMEOUT = 30.0


class Assigned(NamedTuple):
    """The assignments of a defconfig that Kconfig accepts.

    Attributes:
        values: symbol → value, as kconfiglib's ``Symbol.set_value`` takes it.
        modes: choice → mode, as ``Choice.set_value`` takes it.
        selected: choice → its symbol that was set to y last.
    """

    values: dict[Any, str]
    modes: dict[Any, str]
    selected: dict[Any, Any]

    def likeness(self, places: dict[Any, int]) -> list[tuple[int, str]]:
        """Return a sort key by which boards that select the same symbols become neighbours."""
        return sorted((places[choice], symbol.name) for choice, symbol in self.selected.items())


def assigned(conf: Any, text: str) -> Assigned:
    """Read a defconfig by the rules of ``Kconfig.load_config``, which ignores lines that it does not accept."""
    import kconfiglib

    found = Assigned({}, {}, {})
    pattern = re.compile(
        "{0}(?P<name>[^=]+)=(?P<value>.*)|# {0}(?P<off>[^ ]+) is not set".format(re.escape(conf.config_prefix))
    )
    truths = {kconfiglib.BOOL: ("y", "n"), kconfiglib.TRISTATE: ("y", "m", "n")}
    bases = {kconfiglib.INT: 10, kconfiglib.HEX: 16}
    for line in text.split("\n"):
        match = pattern.match(line.rstrip())
        symbol = conf.syms.get(match["name"] or match["off"]) if match else None
        if match is None or symbol is None or not symbol.nodes:
            continue
        kind, value = symbol.orig_type, match["value"]
        if kind in truths:
            value = (value or "n")[0] if match["off"] or value else ""
            if value not in truths[kind]:
                continue
            if symbol.choice and value != "n" and value in truths.get(symbol.choice.orig_type, ()):
                found.modes[symbol.choice] = value
            if symbol.choice and value == "y":
                found.selected[symbol.choice] = symbol
        elif match["off"]:
            continue
        elif kind == kconfiglib.STRING:
            quoted = re.match(r'"((?:[^\\"]|\\.)*)"', value)
            if quoted is None:
                continue
            value = kconfiglib.unescape(quoted[1])
        elif kind not in bases or not is_number(value, bases[kind]):
            continue
        found.values[symbol] = value
    return found


def is_number(text: str, base: int) -> bool:
    """Whether a symbol of type int (base 10) or hex (base 16) accepts this value."""
    try:
        return int(text, base) >= 0 or base == 10
    except ValueError:
        return False


class Loaded:
    """The user's values of a Kconfig, set from one defconfig after the other."""

    def __init__(self, conf: Any) -> None:
        self._conf = conf
        self._now = Assigned({}, {}, {})

    def load(self, new: Assigned) -> None:
        """Set the values of this defconfig alone; values that stay the same cost nothing."""
        old, self._now = self._now, new
        for symbol in old.values:
            if symbol not in new.values:
                symbol.unset_value()
        for choice in (old.modes.keys() - new.modes.keys()) | (old.selected.keys() - new.selected.keys()):
            choice.unset_value()
        for choice, mode in new.modes.items():
            choice.set_value(mode)
        for symbol, value in new.values.items():
            if old.values.get(symbol) != value:
                symbol.set_value(value)
        for choice, symbol in new.selected.items():
            if choice.user_selection is not symbol:
                symbol.set_value("y")
                if new.values[symbol] != "y":  # assigned twice: it stays selected all the same
                    symbol.set_value(new.values[symbol])

    def forget(self) -> None:
        """Unset all values, whatever state an error left."""
        self._now = Assigned({}, {}, {})
        self._conf.unset_values()


class Values:
    """The values of some symbols of a Kconfig, for the defconfig that is loaded."""

    def __init__(self, conf: Any, symbols: Sequence[str]) -> None:
        self._conf = conf
        #: symbol → the choice's symbol that must be selected (None: none) → number, value and condition of a
        #: default.
        self._defaults: dict[str, dict[Any, list[tuple[int, Any, Any]]]] = {}
        for name in symbols:
            by_pick = self._defaults[name] = {}
            for number, (value, condition) in enumerate(conf.syms[name].defaults if name in conf.syms else ()):
                by_pick.setdefault(pick(condition), []).append((number, value, condition))
        picked = {symbol for by_pick in self._defaults.values() for symbol in by_pick if symbol is not None}
        self._choices = {symbol.choice for symbol in picked}

    def all(self) -> list[str]:
        """Return the values in the order of the symbols; empty for a symbol that does not exist."""
        selected = [None, *(choice.selection for choice in self._choices)]
        return [self._of(name, selected) for name in self._defaults]

    def _of(self, name: str, selected: list[Any]) -> str:
        """Return a symbol's ``str_value``: the first default whose condition holds, unless the user set a value."""
        import kconfiglib

        symbol = self._conf.syms.get(name)
        if symbol is None:
            return ""
        if symbol.orig_type != kconfiglib.STRING or symbol.user_value is not None:
            return str(symbol.str_value)
        by_pick = self._defaults[name]
        may_count = [default for one in selected if one in by_pick for default in by_pick[one]]
        for _, value, condition in sorted(may_count, key=lambda default: default[0]):
            if kconfiglib.expr_value(condition):
                return str(value.str_value)
        return ""


def pick(expression: Any) -> Any:
    """Return the symbol of a choice that must be selected for an expression to hold; None if there is none.

    Only choices of bools count: in these all symbols but the selected one are n.
    """
    import kconfiglib

    if isinstance(expression, tuple):
        if expression[0] is not kconfiglib.AND:
            return None
        # The first operand rules out most: it names the board, the second one the architecture.
        return pick(expression[1]) or pick(expression[2])
    choice = getattr(expression, "choice", None)
    plain = choice and expression.orig_type == choice.orig_type == kconfiglib.BOOL
    return expression if plain else None


def chosen(symbols: list[Any]) -> list[str]:
    """Return the names of the options that are set."""
    return [symbol.name for symbol in symbols if symbol.str_value == "y"]


def expand(path: Path, cpp: list[str]) -> str:
    """Read a defconfig, with the C preprocessor if it includes other files.

    Raises:
        ValueError: the preprocessor failed, with its first line, or does not exist.
    """
    text = path.read_text("utf-8")
    if not INCLUDE.search(text):
        return text
    if not cpp:
        raise ValueError("it includes another file, and there is no C preprocessor (gcc) here to read it")
    done = subprocess.run(
        [*cpp, *CPP_FLAGS, "-I", ".", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CPP_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise ValueError(first_line(done.stderr.decode("utf-8", "replace")) or "the C preprocessor failed")
    return done.stdout.decode("utf-8")


def first_line(text: str) -> str:
    """Return the first line that is not blank, with paths relative to the tree."""
    here = str(Path.cwd())
    for line in text.replace(here + "/", "").replace(f"'{here}'", "the tree").splitlines():
        if line.strip():
            return line.strip()
    return ""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Evaluate a request; request and answer are described at the top of this module."""
    import kconfiglib

    try:
        conf = kconfiglib.Kconfig("Kconfig", warn=False, warn_to_stderr=False)
    except kconfiglib.KconfigError as exc:
        return {"error": first_line(str(exc))}
    except (OSError, ValueError, RecursionError) as exc:
        return {"error": first_line(str(exc)) or type(exc).__name__}
    choosing = [symbol for name, symbol in conf.syms.items() if name.startswith(request["prefix"] or "\0")]
    problems = {}
    found = {}
    for name, path in request["boards"].items():
        try:
            found[name] = assigned(conf, expand(Path(path), request["cpp"]))
        except Exception as exc:  # noqa: BLE001 - an error in one defconfig must not stop the others
            problems[name] = first_line(str(exc)) or type(exc).__name__
    boards, options = {}, {}
    places = {choice: number for number, choice in enumerate(conf.unique_choices)}
    loaded, values = Loaded(conf), Values(conf, request["symbols"])
    for name in sorted(found, key=lambda name: found[name].likeness(places)):
        try:
            loaded.load(found[name])
            boards[name], options[name] = values.all(), chosen(choosing)
        except Exception as exc:  # noqa: BLE001 - an error in one defconfig must not stop the others
            problems[name] = first_line(str(exc)) or type(exc).__name__
            loaded.forget()
    return {"boards": boards, "options": options, "problems": problems}


def main() -> None:
    """Answer the one request on standard input."""
    gc.disable()  # nearly all objects live to the end of this short program
    # The output of a $(shell …) or of kconfiglib must not mix with the answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        json.dump(answer(json.load(sys.stdin)), out)


if __name__ == "__main__":
    main()
