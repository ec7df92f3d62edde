"""The settings a ``configure`` carries: checked, and turned into what make is given."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Tuple

from fabbuild.protocol import dotconfig
from fabbuild.protocol.names import is_fragment, is_goal, is_pattern
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import OWN_SETTINGS, SETTINGS
from fabbuild.worker.build.artifact_sender import ALL_OUTPUTS

#: What a peer's boss sends besides. They are about speed, which is ours to see to, and so taken whatever they say;
#: but ``lines`` asks for something to be in the results, so it is taken only when it is off.
PEER_SETTINGS: Dict[str, Any] = {
    "lines": False,
    "shared_dtc": False,
    "skip_unaffected": True,
}

_UNSUPPORTED = ("lines",)

_FLAGS = (
    *((name, (variable,)) for name, variable in TREE.make_variables.items()),
    ("reproducible_builds", ("SOURCE_DATE_EPOCH=0",)),
    ("warnings_as_errors", ("KCFLAGS=-Werror", "HOSTCFLAGS=-Werror")),
)


class SettingsError(ValueError):
    """A setting that is unknown, or whose value is of the wrong kind; names it."""


class Settings:
    """The settings of all later builds."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Check the settings; those that are not given have their defaults.

        Raises:
            SettingsError: one is unknown or of the wrong kind.
        """
        values = dict(SETTINGS)
        for name, default in (*OWN_SETTINGS.items(), *PEER_SETTINGS.items()):
            values.setdefault(name, default)
        unknown = sorted(name for name in given if name not in values)
        if unknown:
            raise SettingsError(
                "unknown setting%s: %s; known are %s"
                % ("s" if len(unknown) > 1 else "", ", ".join(unknown), ", ".join(sorted(values)))
            )
        for name, value in given.items():
            # null is what a boss says that leaves it to the worker.
            if value is not None:
                values[name] = _checked(name, value, values[name])
        for name in _UNSUPPORTED:
            if values[name]:
                raise SettingsError("setting %s is not supported; leave it off" % name)
        self._values = values

    def __getitem__(self, name: str) -> Any:
        """Give a setting's value."""
        return self._values[name]

    def make_flags(self) -> List[str]:
        """Give what the settings add to make's command line."""
        flags = ["V=1"] if self["verbose_build"] else []
        for name, words in _FLAGS:
            if self[name]:
                flags.extend(words)
        return flags

    def goals(self) -> List[str]:
        """Give what is made once the board is configured; nothing means everything."""
        if self["config_only"]:
            return [TREE.config_goal]
        return [self["target"]] if self["target"] else []

    def kept(self) -> List[str]:
        """Give the patterns of what is kept of the output directory."""
        return [*(ALL_OUTPUTS if self["keep_outputs"] else ()), *self["keep"]]

    def unseen_debug_info(self) -> bool:
        """Whether nobody can tell if a build has debug information: nothing of it is kept, no command is shown."""
        return not (self["debug_info"] or self["target"] or self["verbose_build"] or self.kept())

    def adjustments(self) -> List[Tuple[str, str]]:
        """Give what ``.config`` is to say: a symbol each, without ``CONFIG_``, and its value."""
        return [dotconfig.parse(line) for line in self["adjust_cfg"]]


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise SettingsError("setting %s must be true or false, not %r" % (name, value))
    if isinstance(default, str):
        if isinstance(value, str) and (not value or is_goal(value)):
            return value
        raise SettingsError("setting %s must be the name of a make target, not %r" % (name, value))
    good, what = _LISTS[name]
    if isinstance(value, list) and all(isinstance(item, str) and good(item) for item in value):
        return value
    raise SettingsError("setting %s must be a list of %s, not %r" % (name, what, value))


#: What the items of a setting that is a list must be.
_LISTS: Dict[str, Tuple[Callable[[str], bool], str]] = {
    "fragments": (is_fragment, "names of configuration fragments (NAME.config)"),
    "keep": (is_pattern, "patterns of files below the output directory"),
    "adjust_cfg": (dotconfig.is_line, "lines of a .config (CONFIG_NAME=value, # CONFIG_NAME is not set)"),
}
