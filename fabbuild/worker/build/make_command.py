"""Compose the command lines and the environment of a board's makes, and the shell lines that repeat a build."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from typing import Dict, List, Mapping, Sequence

from fabbuild.protocol import dotconfig
from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.environment import LOCALE
from fabbuild.protocol.uboot import DEFCONFIG
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.tools.toolchains import Toolchain

#: The goal that gives new symbols their defaults without asking, after ``.config`` was changed.
SETTLE = "olddefconfig"

#: What Kbuild's make makes of ``.config`` before it builds anything else. Made by a make of its own, so that the
#: files that only Kconfig reads are not among those that building reads.
GENERATED_CONFIGURATION = "include/config/auto.conf"

#: The goal that makes the generated headers, before any object of the target.
PREPARED = "prepare"

#: git abbreviates a hash by how many objects a repository has, and Kbuild puts it into the image; this way every
#: machine abbreviates it alike.
_SAME_ABBREVIATION = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.abbrev",
    "GIT_CONFIG_VALUE_0": "12",
}

#: Of a module with bytecode Python does not read the source, so that the read could not be observed.
_NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}

#: A version with the commit's hash in it makes images of the same source differ; buildman leaves it out, too.
_SAME_VERSION = [("LOCALVERSION_AUTO", dotconfig.OFF)]

#: Kbuild puts KCFLAGS behind its own flags, and compiles again what was compiled with other flags.
_NO_DEBUG_INFO = "-g0"


class MakeCommand:
    """The command lines and the environment by which one compiler builds one board.

    Attributes:
        compiler: the compiler that the board is built with.
        env: the environment of each make.
        goals: the goals after the configuration; none means everything.
        config_goals: the goals that configure the board, each with its own make, because a fragment extends the
            configuration of the defconfig.
        adjustments: the requested symbols of ``.config``, with values.
        written: the lines to write into ``.config``: `adjustments`, and those that make builds reproducible.
    """

    def __init__(
        self,
        settings: Settings,
        board: str,
        compiler: Toolchain,
        environment: Mapping[str, str],
        tools: str = "",
        temporary: str = "",
    ) -> None:
        """Compose them.

        Args:
            settings: of the build.
            board: its name.
            compiler: what to build with.
            environment: the variables that `base_environment` picked.
            tools: a directory that PATH begins with, for the makes alone; empty: none.
            temporary: where the makes put temporary files, unless the environment says that; empty: not said.
        """
        self.compiler = compiler
        self._settings = settings
        self._own_env = {**LOCALE, "CROSS_COMPILE": compiler.prefix}
        if settings["reproducible_builds"]:
            self._own_env.update(_SAME_ABBREVIATION)
        self.env = dict(environment, **_NO_BYTECODE, **self._own_env)
        self.env["PATH"] = compiler.path(self.env["PATH"])
        self._shown = dict(self.env)
        if tools:
            self.env["PATH"] = os.pathsep.join((tools, self.env["PATH"]))
        if temporary and not self.env.get("TMPDIR"):
            self.env["TMPDIR"] = temporary
        self._compilers = []
        name = os.path.basename(compiler.gcc)
        if not compiler.prefix and name != "gcc":
            # CROSS_COMPILE can only name a gcc.
            self._compilers = ["CC=" + name, "HOSTCC=" + name]
        self.goals = settings.goals()
        self.config_goals = [board + DEFCONFIG, *settings["fragments"]]
        self.adjustments = settings.adjustments()
        asked = {name for name, _ in self.adjustments}
        reproducible = [one for one in _SAME_VERSION if settings["reproducible_builds"] and one[0] not in asked]
        self.written = reproducible + self.adjustments

    def argv(self, goals: Sequence[str], jobs: Sequence[str]) -> List[str]:
        """Return the command line of make for some goals.

        Args:
            goals: the goals; none means everything.
            jobs: make's options for the number of jobs.
        """
        silent = [] if self._settings["verbose_build"] else ["-s"]
        flags = [*self._compilers, *self._settings.make_flags()]
        return ["make", "O=" + BUILD_DIR, *silent, *jobs, *flags, *goals]

    def configures_by(self) -> str:
        """Return a digest of everything but the source and the compiler that a configuration follows from."""
        # Without a check the configuration may be another commit's, and a quick one's warnings are not repeated.
        how = [self._settings[name] for name in ("kconfig_check", "quick")]
        words = [self.argv(self.config_goals, []), self.written, sorted(self._shown.items()), how]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()

    def without_debug_info(self) -> str:
        """Return the variable that has make compile without debug information; the code is the same."""
        flags = "-Werror" if self._settings["warnings_as_errors"] else self.env.get("KCFLAGS", "")
        return "KCFLAGS=%s" % (flags and flags + " ") + _NO_DEBUG_INFO

    def shown_environment(self) -> Dict[str, str]:
        """Return the environment for the shell lines, without variables that only name the machine's user."""
        return {
            name: value
            for name, value in sorted(self._shown.items())
            if name not in ("HOME", "USER", "LOGNAME", "SHELL")
        }

    def shell_lines(self, commit: str, jobs: Sequence[str]) -> str:
        """Return the shell lines that build a commit in the same way in any clone of the source.

        Args:
            commit: its hash.
            jobs: as for `argv`.
        """
        start = ["env", *("%s=%s" % item for item in self._own_env.items())]
        makes = [[*start, *self.argv([goal], jobs)] for goal in self.config_goals]
        if self.written:
            makes += self._adjusting()
        if self.adjustments:
            makes.append([*start, *self.argv([SETTLE], jobs)])
        makes.append([*start, *self.argv(self.goals, jobs)])
        lines = [["git", "checkout", "--detach", commit], *makes]
        text = "\n".join(" ".join(shlex.quote(word) for word in line) for line in lines) + "\n"
        if self.compiler.path_dir:
            quoted = self.compiler._replace(path_dir=shlex.quote(self.compiler.path_dir))
            text = "export PATH=%s\n%s" % (quoted.path('"$PATH"'), text)
        return text

    def _adjusting(self) -> List[List[str]]:
        """Return the words of the shell lines that put `written` into ``.config``."""
        config = BUILD_DIR + "/.config"
        drop = ["sed", "-i"]
        for name, _ in self.written:
            drop += ["-e", "/^CONFIG_%s=/d" % name, "-e", "/^# CONFIG_%s is not set$/d" % name]
        add = ["sed", "-i", "-e", "$a\\\n" + "\\\n".join(_literal(dotconfig.line(*one)) for one in self.written)]
        return [[*drop, config], [*add, config]]


def _literal(text: str) -> str:
    """Escape a line for sed's ``a`` command."""
    return text.replace("\\", "\\\\")
