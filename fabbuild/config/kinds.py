"""The kinds of option values: how a value of each kind is read, checked and sent."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fabbuild.config.wording import describe_value, quote
from fabbuild.protocol import dotconfig, sizes
from fabbuild.protocol.environment import SET_FOR_BUILDS, is_locale
from fabbuild.protocol.settings import Setting
from fabbuild.text import is_name

#: The name of a variable of the environment.
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Longest ``wait``, in seconds: a week.
MAX_WAIT = 7 * 24 * 3600

_ARCH = re.compile(r"[a-z0-9_]+")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class ValueKind:
    """A kind of value.

    Attributes:
        read: a function of the given value and of whether a number or a flag may be given as text. It returns the
            value in its type, or raises ValueError, whose text follows the option's name: ``is …; it must be …``.
        empty: the value of an option that is not given.
        to_wire: a function that converts the value to that of a setting in ``configure``.
        repeated: whether the value is a tuple, to which each layer of options adds.
    """

    read: Callable[[object, bool], Any]
    empty: object = ""
    to_wire: Callable[[Any], object] = lambda value: value
    repeated: bool = False


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _flag(value: object, texts: bool) -> bool:
    if isinstance(value, bool):
        return value
    # In the environment flags are 0 and 1, which Invoke may have made numbers.
    word = str(value).strip().lower() if texts and isinstance(value, (str, int)) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"is {describe_value(value)}; it must be true or false{' (or 1 or 0)' if texts else ''}")


def _text(value: object, *, lists: bool) -> str:
    if lists and isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - all of it is what the user wrote
            f"is {describe_value(value)}; it must be text{' or a list of texts' if lists else ''}"
        )
    if not is_name(value):
        raise ValueError(f"is {quote(value)}; it must not have control characters")
    if lists and not value.isprintable():
        # Names of boards and machines are texts; those of files, branches and ranges may be any bytes.
        raise ValueError(f"is {quote(value)}; its bytes are not {sys.getfilesystemencoding()}")
    return value


#: A flag.
FLAG = ValueKind(_flag, empty=False)

#: A text; a list of texts, separated by commas.
TEXT = ValueKind(lambda value, _: _text(value, lists=False))
LIST = ValueKind(lambda value, _: _text(value, lists=True))


def _size(value: object, _texts: bool) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not sizes.is_size(text):
        raise ValueError(f"is {describe_value(value)}; it must be a size: {sizes.WORDS}")
    return text.strip()


#: A size, as a text; a number without a unit may be a number.
SIZE = ValueKind(_size)


def kind_of(row: Setting) -> ValueKind:
    """Return the kind of an option that sets a build setting."""
    if isinstance(row.default, bool):
        return FLAG
    several = isinstance(row.default, list)

    def read(value: object, _texts: bool) -> str:
        text = _text(value, lists=several)
        for item in _items(text) if several else [text]:
            if not row.check.passes(item):
                raise ValueError(
                    f"{'has' if several else 'is'} {describe_value(item)}; it must be {row.check.words}"
                )
        return text

    return ValueKind(read, to_wire=_items if several else str)


def choice(*words: str) -> ValueKind:
    """Return the kind of a text that must be one of the allowed texts."""

    def read(value: object, _texts: bool) -> object:
        if value in words:
            return value
        raise ValueError(f"is {describe_value(value)}; it must be {' or '.join(words)}")

    return ValueKind(read)


def whole(most: int = 1_000_000, least: int = 0) -> ValueKind:
    """Return the kind of a whole number from ``least`` to ``most``; not given: 0, or None."""

    def read(value: object, texts: bool) -> int:
        number = value
        if texts and isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value, re.ASCII):
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f"is {describe_value(value)}; it must be a whole number from {least} to {most}")
        return number

    return ValueKind(read, empty=None if least else 0)


def seconds(least: float = 0, most: float = MAX_WAIT) -> ValueKind:
    """Return the kind of a number of seconds from ``least`` to ``most``."""

    def read(value: object, texts: bool) -> float:
        number = value
        if texts and isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                number = None
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
            raise ValueError(f"is {describe_value(value)}; it must be a number of seconds from {least} to {most}")
        return float(number)

    return ValueKind(read, empty=0.0)


def _read_adjustments(value: object, _texts: bool) -> tuple[str, ...]:
    """Check ``~FOO``, ``FOO`` and ``FOO=val``, given as texts or as a mapping of names to values."""
    if isinstance(value, Mapping):
        value = [
            f"~{name}" if item is False or item is None else f"{name}={'y' if item is True else item}"
            for name, item in value.items()
        ]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"is {describe_value(value)}; it must be ~FOO, FOO or FOO=val, or a list of these")
    for text in texts:
        try:
            dotconfig.asked(text)
        except ValueError as exc:
            raise ValueError(f"has {describe_value(str(exc))}; it must be ~FOO, FOO or FOO=val") from None
    return tuple(texts)


def adjustments(texts: Iterable[str]) -> dict[str, str]:
    """Return adjustments as symbol, without ``CONFIG_``, → value, ``n`` for not set; the last one counts."""
    return {name: value for text in texts for name, value in dotconfig.asked(text).items()}


#: Adjustments of the configuration. They are sent sorted, so that the same ones name the same result.
ADJUSTMENTS = ValueKind(
    _read_adjustments,
    empty=(),
    to_wire=lambda texts: [dotconfig.line(*one) for one in sorted(adjustments(texts).items())],
    repeated=True,
)


def check_toolchain(arch: object, value: object) -> str:
    """Return the prefix or path of a toolchain for an architecture; that of ``sandbox`` may be empty.

    Raises:
        ValueError: the value cannot be a toolchain; the text begins with ``is``.
    """
    if not isinstance(arch, str) or not _ARCH.fullmatch(arch):
        raise ValueError(f"is for {quote(str(arch))}; an architecture is like arm, aarch64 or x86_64")
    if not isinstance(value, str) or not (value.strip() or arch == "sandbox") or not value.isprintable():
        raise ValueError(
            f"is {describe_value(value)}; it must be a prefix (arm-linux-gnueabi-) or the path of a gcc"
        )
    return value


def _read_toolchains(value: object, _texts: bool = True) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{arch}={check_toolchain(arch, prefix)}" for arch, prefix in value.items())
    if isinstance(value, str):
        value = _items(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(  # noqa: TRY004 - all of it is what the user wrote
            f"is {describe_value(value)}; it must be ARCH=PREFIX or a list of these"
        )
    seen: dict[str, str] = {}
    for entry in value:
        arch, equals, prefix = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if not equals:
            raise ValueError(f"has {describe_value(entry)}; it must be ARCH=PREFIX, such as arm=arm-linux-gnueabi-")
        check_toolchain(arch, prefix)
        if arch in seen:
            raise ValueError(f"names {arch} twice: {quote(seen[arch])} and {quote(prefix)}")
        seen[arch] = prefix
    return tuple(f"{arch}={prefix}" for arch, prefix in seen.items())


#: Toolchains: ``ARCH=PREFIX`` or ``ARCH=path of gcc`` each.
TOOLCHAINS = ValueKind(_read_toolchains, empty=(), repeated=True)


def _read_variables(value: object, _texts: bool) -> tuple[str, ...]:
    """Check ``NAME=VALUE``, given as texts or as a mapping of names to values."""
    if isinstance(value, Mapping):
        wrong = next(
            (item for item in value.values() if isinstance(item, bool) or not isinstance(item, (str, int))), None
        )
        if wrong is not None:
            raise ValueError(f"has {describe_value(wrong)}; the value of a variable must be text")
        value = [f"{name}={item}" for name, item in value.items()]
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)):
        raise ValueError(  # noqa: TRY004 - all of it is what the user wrote
            f"is {describe_value(value)}; it must be NAME=VALUE or a list of these"
        )
    for entry in entries:
        name, equals, text = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if not equals or not VARIABLE_NAME.fullmatch(name) or not text.isprintable():
            raise ValueError(f"has {describe_value(entry)}; it must be NAME=VALUE, such as BL31=../bl31.bin")
        if name in SET_FOR_BUILDS or is_locale(name) or name.startswith("FABBUILD_"):
            raise ValueError(f"has {name}, which fabbuild sets itself{_INSTEAD.get(name, '')}")
    return tuple(entries)


#: What to say in place of a variable.
_INSTEAD = {"CROSS_COMPILE": "; name a compiler with --toolchain ARCH=PREFIX"}

#: Variables of the environment, ``NAME=VALUE`` each.
VARIABLES = ValueKind(_read_variables, empty=(), repeated=True)
