"""What an option is: its help and its names on the command line, and the row of one of ``build``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fabbuild.config.kinds import Kind, kind_of
from fabbuild.protocol.settings import SETTINGS


@dataclass(frozen=True)
class Option:
    """An option of a task, as the command line has it.

    Attributes:
        default: False makes a flag, True ``--[no-]x``; None takes a value.
        help: what the option does.
        given: how it may be given. ``joined``: more than once, which means what one list with commas does;
            ``repeated``: more than once, as a list; ``bare``: without its value, and is True then.
        short: a letter, and
        also: another name, that buildman's users know it by; only where they mean the same.
        completes: what a shell completes as its value: a name in `fabbuild.cli.complete.KINDS`.
    """

    default: object
    help: str
    given: Literal["once", "joined", "repeated", "bare"] = "once"
    short: str = ""
    also: str = ""
    completes: str = ""

    @property
    def told(self) -> str:
        """The help, and whether the option may be given more than once."""
        return f"{self.help}; may be given more than once" if self.given == "joined" else self.help

    def words(self, name: str) -> list[str]:
        """Return how the option of this name is written on the command line."""
        words = [f"--{name.replace('_', '-')}"]
        return words + [f"-{self.short}"] * bool(self.short) + [f"--{self.also}"] * bool(self.also)

    def taken(self, value: object) -> object:
        """Return a value as the task gets it: Invoke has a list where an option may be given more than once."""
        if self.given == "joined" and isinstance(value, (list, tuple)):
            return ",".join(filter(None, value)) or self.default
        return value


@dataclass(frozen=True)
class BuildOption:
    """The row of an option of ``build``: its command line, its kind, and the setting of a build that it gives."""

    shown: Option
    kind: Kind
    setting: str


def option(kind: Kind, text: str, *, default: object = None, setting: str = "", **shown: Any) -> Any:
    """Declare an option of ``build``: the default of a field of a dataclass, which is typed as ``kind`` reads it.

    Args:
        kind: the kind of its value.
        text: its help, without a default that is a number or a word.
        default: the value where none is given, if it is not ``kind.empty``.
        setting: the name of the setting of a build that it gives.
        shown: more fields of `Option`.
    """
    default = kind.empty if default is None else default
    flag = isinstance(default, bool)
    if default and not flag:
        text += f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
    if kind.repeated:
        shown["given"] = "repeated"
    row = Option(default if flag else None, text, **shown)
    return field(default=default, metadata={"option": BuildOption(row, kind, setting)})


def setting(name: str, text: str, *, kind: Kind | None = None, **shown: Any) -> Any:
    """Declare the option of a setting of a build, whose default and kind are those of its row in `SETTINGS`."""
    row = SETTINGS[name]
    return option(
        kind or kind_of(row),
        text,
        default=None if isinstance(row.default, list) else row.default,
        setting=name,
        **shown,
    )
