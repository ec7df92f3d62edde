"""The table of build settings: a row for each setting, from which both ends of the wire handle it.

A setting is a field of ``configure.settings``. To add a setting, add its row here; if users may give it, add an
option that names it in `fabbuild.config.settings`.
"""

from __future__ import annotations

import enum
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from fabbuild.protocol import dotconfig, sizes
from fabbuild.protocol.names import is_fragment, is_goal, is_pattern
from fabbuild.protocol.uboot import TREE


class Effect(enum.Enum):
    """The effect of a setting's value.

    OUTPUT: the outcome of a build. The setting is part of the key of a result, so another value builds again.
    METHOD: how a build is done or reported, and not its outcome.
    SPEED: only how long a build takes. A worker that does not know such a setting is used without it.
    """

    OUTPUT = "output"
    METHOD = "method"
    SPEED = "speed"


class Shortcut(enum.Enum):
    """A way to avoid a build, which a setting can rule out while it is not at its default.

    STORE: take a result from the store of results.
    CARRY: use the result of one commit for another commit whose build cannot differ.
    CARRY_VARYING: the same, unless builds are reproducible, since kept files can name the commit.
    DEPENDS: list the source files that a build depended on, without which no result is carried.
    SHARE: take objects that another board's build made.
    """

    STORE = "store"
    CARRY = "carry"
    CARRY_VARYING = "carry-varying"
    DEPENDS = "depends"
    SHARE = "share"


class TextRule(NamedTuple):
    """A test of a text, or of each text of a list, and the words for a text that passes."""

    passes: Callable[[str], bool]
    words: str


_PRINTABLE = TextRule(str.isprintable, "text without control characters")


class Setting(NamedTuple):
    """One setting of a build.

    Attributes:
        name: the name on the wire, in ``built-from`` and in the keys of the store.
        default: the value where none is given, also of a result in whose ``built-from`` the setting is not named.
            Its type is that of the setting: bool, str, or list for a list of texts. The default of a new setting
            must be what builds did before there was one.
        effect: what another value changes.
        rules_out: the ways to avoid a build that must not be used while the value is not the default.
        make: the words that make is given while a flag is on.
        check: the test of a text, or of each item of a list; an empty text is not tested.
        plain: whether the setting belongs to the plain protocol. Any other one is also a feature of that name, and
            is sent only to a worker that announced it.
    """

    name: str
    default: Any
    effect: Effect = Effect.METHOD
    rules_out: Tuple[Shortcut, ...] = ()
    make: Tuple[str, ...] = ()
    check: TextRule = _PRINTABLE
    plain: bool = False

    def is_set(self, settings: Mapping[str, object]) -> bool:
        """Return whether these settings give this one a value other than its default; None is no value."""
        value = settings.get(self.name)
        return value is not None and value != self.default


_FRAGMENT = TextRule(is_fragment, "the name of a configuration fragment that make finds, such as debug.config")
_PATTERN = TextRule(is_pattern, "a pattern of files below make's output directory, such as spl/*.bin")
_GOAL = TextRule(is_goal, "the name of a make target, such as u-boot.bin")
_SIZE = TextRule(sizes.is_size, "a size: " + sizes.WORDS)
_LINE = TextRule(dotconfig.is_line, "a line of a .config: CONFIG_NAME=value or # CONFIG_NAME is not set")


def _variable(name: str) -> Tuple[str, ...]:
    """Return the words of make for a setting that only some firmware trees know."""
    variable = TREE.make_variables.get(name)
    return (variable,) if variable else ()


_ROWS = (
    # The log is to have the commands that make runs; a log in the store may lack them.
    Setting("verbose_build", False, rules_out=(Shortcut.STORE, Shortcut.SHARE), make=("V=1",), plain=True),
    Setting("allow_missing", False, Effect.OUTPUT, make=_variable("allow_missing"), plain=True),
    Setting("no_lto", False, Effect.OUTPUT, make=_variable("no_lto"), plain=True),
    Setting("reproducible_builds", False, Effect.OUTPUT, make=("SOURCE_DATE_EPOCH=0",), plain=True),
    Setting("warnings_as_errors", False, Effect.OUTPUT, make=("KCFLAGS=-Werror", "HOSTCFLAGS=-Werror"), plain=True),
    # make mrproper, an empty output directory and a new configuration are asked for to see a build.
    Setting("mrproper", False, rules_out=(Shortcut.STORE, Shortcut.CARRY, Shortcut.SHARE), plain=True),
    Setting("fallback_mrproper", False, plain=True),
    # Dependencies are known of a whole build only.
    Setting("config_only", False, Effect.OUTPUT, (Shortcut.DEPENDS, Shortcut.SHARE), plain=True),
    Setting("force_build", False, rules_out=(Shortcut.STORE, Shortcut.CARRY, Shortcut.SHARE), plain=True),
    Setting("kconfig_check", True, plain=True),
    Setting("force_reconfig", False, rules_out=(Shortcut.STORE, Shortcut.CARRY)),
    # A rough build: no failure is tried again, and a warning may be missing, which depends on earlier builds.
    Setting("quick", False, Effect.OUTPUT, (Shortcut.STORE, Shortcut.SHARE)),
    # Names of configuration fragments, made after the defconfig.
    Setting("fragments", [], Effect.OUTPUT, check=_FRAGMENT),
    # Lines of a .config, set after the fragments; the build fails if one is not there at its end.
    Setting("adjust_cfg", [], Effect.OUTPUT, check=_LINE),
    # The goal of make in place of everything.
    Setting("target", "", Effect.OUTPUT, (Shortcut.DEPENDS, Shortcut.SHARE), check=_GOAL),
    # Images, maps and device trees are kept with the result; so are files that match a pattern of the shell, where
    # ** stands for any directories. The store has none of them.
    Setting("keep_outputs", False, rules_out=(Shortcut.STORE, Shortcut.CARRY_VARYING)),
    # Those that a compiler writes beside an object are not taken with it.
    Setting("keep", [], rules_out=(Shortcut.STORE, Shortcut.CARRY_VARYING, Shortcut.SHARE), check=_PATTERN),
    # All makes of a machine share as many jobs as it has threads, by a jobserver.
    Setting("jobserver", True, Effect.SPEED),
    # Compile by way of ccache where it is installed.
    Setting("ccache", False, Effect.SPEED),
    # Have nm and ar load no plugin that does nothing.
    Setting("light_tools", True, Effect.SPEED),
    # Compile with debug information also where nobody can see it.
    Setting("debug_info", False, Effect.SPEED),
    # The most that the kept output directories of boards may take on the disk; empty: a share of the free space.
    Setting("outputs", "", Effect.SPEED, check=_SIZE),
    # Take objects of other boards where a compile would make the same.
    Setting("share_objects", True, Effect.SPEED, (Shortcut.SHARE,)),
)

#: Every setting by its name, in the order in which ``built-from`` has them.
SETTINGS: Dict[str, Setting] = {row.name: row for row in _ROWS}


def ruled_out(shortcut: Shortcut, settings: Mapping[str, object]) -> bool:
    """Return whether one of these settings rules out a way to avoid a build."""
    return any(shortcut in row.rules_out and row.is_set(settings) for row in SETTINGS.values())
