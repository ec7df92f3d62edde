"""Parse and write settings of a ``.config``, and check whether Kconfig kept those that were asked for.

A setting is a symbol, without ``CONFIG_``, and its value as in ``.config``: ``y``, ``m``, a number, or a text in
double quotes; ``n`` stands for ``# CONFIG_NAME is not set``.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

#: The value of a symbol that is not set.
OFF = "n"

_NAME = r"[A-Za-z0-9_]{1,200}"
_NUMBER = r"-?[0-9]{1,30}|0[xX][0-9a-fA-F]{1,30}"
_TEXT = r'"(?:[^"\\]|\\.){0,2000}"'
_SET = re.compile(r"CONFIG_(%s)=([ynm]|%s|%s)" % (_NAME, _NUMBER, _TEXT))
_UNSET = re.compile(r"# CONFIG_(%s) is not set" % _NAME)
_ASKED = re.compile(r"(~?)(?:CONFIG_)?(%s)(?:=(.*))?" % _NAME, re.DOTALL)

#: A comma between two settings: one that is not within a text.
_BETWEEN = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


def line(name: str, value: str) -> str:
    """Return the line of a ``.config`` for a setting."""
    return "# CONFIG_%s is not set" % name if value == OFF else "CONFIG_%s=%s" % (name, value)


def is_line(text: str) -> bool:
    """Whether a text is one line of a ``.config`` for a setting."""
    return text.isprintable() and (_SET.fullmatch(text) or _UNSET.fullmatch(text)) is not None


def parse(text: str) -> Tuple[str, str]:
    """Parse a line of a ``.config``, and return its symbol and value.

    Raises:
        ValueError: the line is not for a setting.
    """
    found = _SET.fullmatch(text)
    if found:
        return found.group(1), found.group(2)
    unset = _UNSET.fullmatch(text)
    if not unset:
        raise ValueError("not a line of a .config: %r" % text)
    return unset.group(1), OFF


def asked(text: str) -> Dict[str, str]:
    """Parse a user's request: ``~FOO``, ``FOO`` or ``FOO=val``, separated by commas.

    A value that is no number and not ``y``, ``n`` or ``m`` is a text, quoted or not. If a symbol is named more than
    once, the last one counts.

    Returns:
        symbols and values.

    Raises:
        ValueError: an item has another form; the message is that item.
    """
    found: Dict[str, str] = {}
    for item in filter(None, map(str.strip, _BETWEEN.split(text))):
        match = _ASKED.fullmatch(item)
        if not match or (match.group(1) and match.group(3) is not None):
            raise ValueError(item)
        off, name, value = match.groups()
        value = OFF if off else "y" if value is None else value
        if not is_line(line(name, value)):
            value = '"%s"' % value
        if not is_line(line(name, value)):
            raise ValueError(item)
        found.pop(name, None)
        found[name] = value
    return found


def write(path: str, settings: Sequence[Tuple[str, str]]) -> None:
    """Write settings into a ``.config``, in place of its lines for the same symbols.

    Raises:
        OSError: the file cannot be read or written.
    """
    names = {name for name, _ in settings}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        kept = [text for text in file.read().splitlines() if _name_in(text) not in names]
    kept += [line(name, value) for name, value in settings]
    temporary = path + ".fabbuild"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(kept) + "\n")
    os.replace(temporary, path)


def did_not_stick(path: str, settings: Iterable[Tuple[str, str]]) -> List[str]:
    """Return a sentence for each setting that a ``.config`` does not have, with the value it has."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            there = read(file)
    except OSError:
        there = {}
    return [
        "%s did not stick: it was to be %s and is %s" % ("CONFIG_" + name, _shown(value), _shown(there.get(name)))
        for name, value in settings
        if not _same(there.get(name, OFF), value)
    ]


def says(path: str, name: str, value: str) -> bool:
    """Whether a ``.config`` has a symbol at a value; False if the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return read(file).get(name) == value
    except OSError:
        return False


def read(lines: Iterable[str]) -> Mapping[str, str]:
    """Parse a ``.config`` into symbols and values; a symbol that is not set has the value `OFF`."""
    values: Dict[str, str] = {}
    for text in lines:
        name = _name_in(text)
        if name:
            values[name] = text.rstrip("\n").partition("=")[2] if text.startswith("CONFIG_") else OFF
    return values


def _name_in(text: str) -> str:
    found = re.match(r"(?:CONFIG_(%s)=|# CONFIG_(%s) is not set)" % (_NAME, _NAME), text)
    return (found.group(1) or found.group(2)) if found else ""


def _same(is_now: str, wanted: str) -> bool:
    if is_now == wanted:
        return True
    number = re.compile(_NUMBER)
    if number.fullmatch(is_now) and number.fullmatch(wanted):
        return _number(is_now) == _number(wanted)
    return False


def _number(text: str) -> int:
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def _shown(value: object) -> str:
    return "not set" if value == OFF else "not there" if value is None else str(value)
