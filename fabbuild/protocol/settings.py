"""The table of a build's settings: one row each, from which both ends of the wire take all they know of it.

A setting is a field of ``configure.settings``. To add one, add its row here; if users are to give it, add an option
that names it in `fabbuild.config.settings`.
"""

from __future__ import annotations

import enum
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from fabbuild.protocol import dotconfig
from fabbuild.protocol.names import is_fragment, is_goal, is_pattern
from fabbuild.protocol.uboot import TREE


class Effect(enum.Enum):
    """What another value of a setting changes.

    OUTPUT: what a build gives. The setting is part of what names a result, and another value builds again.
    METHOD: how a build is done or what is told of it, and not what it gives.
    SPEED: how long a build takes, and nothing else. A worker that does not know such a setting is used without it.
    """

    OUTPUT = "output"
    METHOD = "method"
    SPEED = "speed"


class Shortcut(enum.Enum):
    """What saves a build, and what a setting can rule out while it is not at its default.

    STORE: taking a result from the store of results.
    CARRY: giving the result of one commit for another one that cannot differ.
    CARRY_VARYING: that too, unless builds are reproducible, since files of the result name the commit.
    DEPENDS: listing what of the source a build depended on, without which nothing is carried, either.
    """

    STORE = "store"
    CARRY = "carry"
    CARRY_VARYING = "carry-varying"
    DEPENDS = "depends"


class Check(NamedTuple):
    """What a text, or each text of a list, must be: a test, and the words for what passes it."""

    passes: Callable[[str], bool]
    words: str


_PRINTABLE = Check(str.isprintable, "text without control characters")


class Setting(NamedTuple):
    """One setting of a build.

    Attributes:
        name: its name on the wire, in ``built-from`` and in the keys of the store.
        default: the value where none is given, and so of every result that names none. Its type is the setting's:
            bool, str, or list for a list of texts. The default of a new setting must be what builds did before.
        effect: what another value changes.
        rules_out: what must not be done while the value is not the default.
        make: the words that make is given while a flag is on.
        check: what a text, or each item of a list, must be; an empty text passes.
        plain: whether the setting belongs to the plain protocol. Any other one is also a feature of that name, and
            is sent only to a worker that announced it.
    """

    name: str
    default: Any
    effect: Effect = Effect.METHOD
    rules_out: Tuple[Shortcut, ...] = ()
    make: Tuple[str, ...] = ()
    check: Check = _PRINTABLE
    plain: bool = False

    def is_set(self, settings: Mapping[str, object]) -> bool:
        """Whether settings give this one a value, and that is not its default; None is no value."""
        value = settings.get(self.name)
        return value is not None and value != self.default


_FRAGMENT = Check(is_fragment, "the name of a configuration fragment that make finds, such as debug.config")
_PATTERN = Check(is_pattern, "a pattern of files below make's output directory, such as spl/*.bin")
_GOAL = Check(is_goal, "the name of a make target, such as u-boot.bin")
_LINE = Check(dotconfig.is_line, "a line of a .config: CONFIG_NAME=value or # CONFIG_NAME is not set")


def _variable(name: str) -> Tuple[str, ...]:
    """Return what make is given for a setting that only some firmware trees know."""
    variable = TREE.make_variables.get(name)
    return (variable,) if variable else ()


_ROWS = (
    # The log has the commands that make ran, and those of the store have not.
    Setting("verbose_build", False, rules_out=(Shortcut.STORE,), make=("V=1",), plain=True),
    Setting("allow_missing", False, Effect.OUTPUT, make=_variable("allow_missing"), plain=True),
    Setting("no_lto", False, Effect.OUTPUT, make=_variable("no_lto"), plain=True),
    Setting("reproducible_builds", False, Effect.OUTPUT, make=("SOURCE_DATE_EPOCH=0",), plain=True),
    Setting("warnings_as_errors", False, Effect.OUTPUT, make=("KCFLAGS=-Werror", "HOSTCFLAGS=-Werror"), plain=True),
    # Who asks for make mrproper, an empty output directory or a new configuration asks for a build.
    Setting("mrproper", False, rules_out=(Shortcut.STORE, Shortcut.CARRY), plain=True),
    Setting("fallback_mrproper", False, plain=True),
    # What the commands of a build depend on is known for a whole build only.
    Setting("config_only", False, Effect.OUTPUT, (Shortcut.DEPENDS,), plain=True),
    Setting("force_build", False, rules_out=(Shortcut.STORE, Shortcut.CARRY), plain=True),
    Setting("kconfig_check", True, plain=True),
    Setting("force_reconfig", False, rules_out=(Shortcut.STORE, Shortcut.CARRY)),
    # A rough build: no failure is tried again, and a warning may be missing, as what was built before has it.
    Setting("quick", False, Effect.OUTPUT, (Shortcut.STORE,)),
    # Made after the defconfig.
    Setting("fragments", [], Effect.OUTPUT, check=_FRAGMENT),
    # Set after the fragments; a line that is not in the .config after the build fails it.
    Setting("adjust_cfg", [], Effect.OUTPUT, check=_LINE),
    # Made in place of everything.
    Setting("target", "", Effect.OUTPUT, (Shortcut.DEPENDS,), check=_GOAL),
    # Images, maps and device trees are files of the result; so are those that match a pattern, where ** stands for
    # any directories. The store has none of them.
    Setting("keep_outputs", False, rules_out=(Shortcut.STORE, Shortcut.CARRY_VARYING)),
    Setting("keep", [], rules_out=(Shortcut.STORE, Shortcut.CARRY_VARYING), check=_PATTERN),
    # All makes of a machine share as many jobs as it has threads.
    Setting("jobserver", True, Effect.SPEED),
    # Compile by way of ccache where it is installed.
    Setting("ccache", False, Effect.SPEED),
    # Have nm and ar load no plugin that does nothing.
    Setting("light_tools", True, Effect.SPEED),
    # Make debug information also where nobody can see it.
    Setting("debug_info", False, Effect.SPEED),
)

#: Every setting by its name, in the order in which ``built-from`` has them.
SETTINGS: Dict[str, Setting] = {row.name: row for row in _ROWS}


def ruled_out(shortcut: Shortcut, settings: Mapping[str, object]) -> bool:
    """Return whether one of these settings rules this out."""
    return any(shortcut in row.rules_out and row.is_set(settings) for row in SETTINGS.values())
