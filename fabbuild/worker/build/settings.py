"""The settings that ``configure`` carries: checked, and turned into words and goals of make."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from fabbuild.protocol import dotconfig
from fabbuild.protocol.settings import SETTINGS, Effect, Setting, Shortcut, ruled_out
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.build.result_files import ALL_OUTPUTS

#: Settings that only buildman's boss sends, with their defaults. They are about speed, which this worker sees to by
#: itself, so any value is taken; but ``lines`` asks for something in the results, and is taken only when off.
PEER_SETTINGS: Dict[str, Any] = {"lines": False, "shared_dtc": False, "skip_unaffected": True}

_UNSUPPORTED = ("lines",)


class SettingsError(ValueError):
    """A setting is unknown, or its value is of the wrong kind; names the setting."""


class Settings:
    """The settings of a ``configure``, which hold for all builds after it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Check the given settings; all others have their defaults.

        Raises:
            SettingsError: a setting is unknown or of the wrong kind.
        """
        rows = {**SETTINGS, **{name: Setting(name, default) for name, default in PEER_SETTINGS.items()}}
        values = {name: row.default for name, row in rows.items()}
        # A newer boss names settings that are off, too: these ask for nothing.
        unknown = sorted(name for name in given.keys() - values.keys() if given[name] not in (None, False, "", []))
        if unknown:
            raise SettingsError(
                "unknown setting%s: %s; known are %s"
                % ("s" if len(unknown) > 1 else "", ", ".join(unknown), ", ".join(sorted(values)))
            )
        for name, value in given.items():
            # null leaves the setting to the worker.
            if value is not None and name in rows:
                values[name] = _checked(rows[name], value)
        for name in _UNSUPPORTED:
            if values[name]:
                raise SettingsError("setting %s is not supported; leave it off" % name)
        self._values = values

    def __getitem__(self, name: str) -> Any:
        """Return the value of a setting."""
        return self._values[name]

    def make_flags(self) -> List[str]:
        """Return the words that the settings add to make's command line."""
        return [word for name, row in SETTINGS.items() if self[name] for word in row.make]

    def output_flags(self) -> List[str]:
        """Return those of `make_flags` that can change the output."""
        rows = SETTINGS.items()
        return [word for name, row in rows if self[name] and row.effect is Effect.OUTPUT for word in row.make]

    def rules_out(self, shortcut: Shortcut) -> bool:
        """Return whether one of the settings rules out this way to avoid a build."""
        return ruled_out(shortcut, self._values)

    def goals(self) -> List[str]:
        """Return the goals of make once the board is configured; none means everything."""
        if self["config_only"]:
            return [TREE.config_goal]
        return [self["target"]] if self["target"] else []

    def kept(self) -> List[str]:
        """Return the patterns of the files of the output directory that are kept."""
        return [*(ALL_OUTPUTS if self["keep_outputs"] else ()), *self["keep"]]

    def unseen_debug_info(self) -> bool:
        """Return whether debug information has no effect: it was not requested, and no file or command is kept."""
        return not (self["debug_info"] or self["target"] or self["verbose_build"] or self.kept())

    def adjustments(self) -> List[Tuple[str, str]]:
        """Return symbols, without ``CONFIG_``, and values that are set in ``.config`` after the fragments."""
        return [dotconfig.parse(line) for line in self["adjust_cfg"]]


def _checked(row: Setting, value: Any) -> Any:
    if isinstance(row.default, bool):
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise SettingsError("setting %s must be true or false, not %r" % (row.name, value))
    several = isinstance(row.default, list)
    items = value if several else [value] if value else []
    if isinstance(value, type(row.default)) and all(
        isinstance(one, str) and row.check.passes(one) for one in items
    ):
        return value
    words = "a list, each item %s" % row.check.words if several else row.check.words
    raise SettingsError("setting %s must be %s, not %r" % (row.name, words, value))
