"""Describe an option of a task by its names and help, and declare the options of ``build``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fabbuild.config.kinds import ValueKind, kind_of
from fabbuild.protocol.settings import SETTINGS


@dataclass(frozen=True)
class Option:
    """An option of a task on the command line.

    Attributes:
        default: False for a flag, True for a flag that ``--no-NAME`` turns off, None for an option with a value.
        help: what the option does.
        given: how the option may be given. ``joined``: more than once, and means the values with commas between;
            ``repeated``: more than once, and means a list; ``bare``: without its value, and is True then.
        short: buildman's letter for the same option; empty for none.
        also: buildman's name for the same option; empty for none.
        completes: the kind of values that a shell completes: a key of `fabbuild.cli.complete.KINDS`.
    """

    default: object
    help: str
    given: Literal["once", "joined", "repeated", "bare"] = "once"
    short: str = ""
    also: str = ""
    completes: str = ""

    @property
    def help_text(self) -> str:
        """The help, with a note if the option may be given more than once."""
        return f"{self.help}; may be given more than once" if self.given == "joined" else self.help

    def words(self, name: str) -> list[str]:
        """Return the ways to write the option with this name on the command line."""
        words = [f"--{name.replace('_', '-')}"]
        return words + [f"-{self.short}"] * bool(self.short) + [f"--{self.also}"] * bool(self.also)

    def taken(self, value: object) -> object:
        """Return an option's value for the task; Invoke gives a list if an option may be given more than once."""
        if self.given == "joined" and isinstance(value, (list, tuple)):
            return ",".join(filter(None, value)) or self.default
        return value


@dataclass(frozen=True)
class BuildOption:
    """An option of ``build``.

    ``shown`` is the option on the command line; ``setting`` names the build setting that the option sets, if any.
    """

    shown: Option
    kind: ValueKind
    setting: str


def option(kind: ValueKind, text: str, *, default: object = None, setting: str = "", **shown: Any) -> Any:
    """Declare an option of ``build``, as a field of a dataclass.

    Args:
        kind: the kind of the value.
        text: the help. A default that is a number or a word is added to it.
        default: the value where none is given; None for ``kind.empty``.
        setting: the name of the build setting that the option sets.
        shown: other fields of `Option`.
    """
    default = kind.empty if default is None else default
    flag = isinstance(default, bool)
    if default and not flag:
        text += f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
    if kind.repeated:
        shown["given"] = "repeated"
    row = Option(default if flag else None, text, **shown)
    return field(default=default, metadata={"option": BuildOption(row, kind, setting)})


def setting(name: str, text: str, *, kind: ValueKind | None = None, **shown: Any) -> Any:
    """Declare the option that sets a build setting, with the default and kind of its row in `SETTINGS`."""
    row = SETTINGS[name]
    return option(
        kind or kind_of(row),
        text,
        default=None if isinstance(row.default, list) else row.default,
        setting=name,
        **shown,
    )
