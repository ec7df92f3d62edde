"""The makes of one board at one commit: configured, built, and the command that does the same anywhere."""

from __future__ import annotations

import os
import shlex
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from fabbuild.protocol import dotconfig
from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.uboot import DEFCONFIG, TREE
from fabbuild.protocol.wire import MAX_TEXT, START, TIMED_OUT, TIMEOUT
from fabbuild.worker.base.processes import Processes, ProcessResult, QuestionLoop, TimeIsUp
from fabbuild.worker.build import artifacts
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.build.stopwatch import Stopwatch
from fabbuild.worker.tools.jobserver import JobServer
from fabbuild.worker.tools.toolchains import Toolchain

#: make's own status for a failure.
MAKE_FAILED = 2

#: The return code of a build whose configuration is not what was asked for.
NOT_AS_ASKED = 1

#: What settles a configuration that was changed, without a question.
_SETTLE = "olddefconfig"

#: The status of a make that a signal ended is at least this.
KILLED = 128

#: git shortens a hash by how many objects a repository has, and Kbuild puts it into the image; this way every
#: machine shortens it alike.
_SAME_ABBREVIATION = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.abbrev",
    "GIT_CONFIG_VALUE_0": "12",
}

#: A version with the commit's hash in it makes images of the same source differ; the peer leaves it out, too.
_SAME_VERSION = [("LOCALVERSION_AUTO", dotconfig.OFF)]

#: Kbuild puts it behind its own flags, and compiles again what was compiled with others.
_BARE = "-g0"


class Makes:
    """The makes of one board at one commit.

    Attributes:
        configured: whether the last ``make NAME_defconfig`` went well, now or at an earlier commit.
        configuration_said: whether it wrote to stderr, now.
        stopwatch: what the time goes into.
        bare: whether to compile without debug information.
        cut_short: whether a make was killed, and so may have left files that are not whole.
        fault: what is known to be no doing of the board's, as of the last make.
    """

    def __init__(
        self,
        processes: Processes,
        settings: Settings,
        tree: str,
        board: str,
        compiler: Toolchain,
        environment: Mapping[str, str],
        jobs: Callable[[], int],
        tokens: Optional[JobServer] = None,
        tools: str = "",
    ) -> None:
        self.compiler = compiler
        self.prefix = compiler.prefix
        self._own_env = {"LC_ALL": "C", "CROSS_COMPILE": compiler.prefix}
        if settings["reproducible_builds"]:
            self._own_env.update(_SAME_ABBREVIATION)
        self.env = dict(environment, **self._own_env)
        self.env["PATH"] = compiler.path(self.env["PATH"])
        self._shown_path = self.env["PATH"]
        if tools:
            self.env["PATH"] = os.pathsep.join((tools, self.env["PATH"]))
        self.configured = False
        self.configuration_said = False
        self.stopwatch = Stopwatch()
        self.bare = False
        self.cut_short = False
        self.fault = ""
        self._processes = processes
        self._settings = settings
        self._tree = tree
        self._compilers = []
        name = os.path.basename(compiler.gcc)
        if not compiler.prefix and name != "gcc":
            # CROSS_COMPILE names a gcc only.
            self._compilers = ["CC=" + name, "HOSTCC=" + name]
        self._goals = settings.goals()
        # One make each: a fragment goes on top of what the defconfig made.
        self._config_goals = [board + DEFCONFIG, *settings["fragments"]]
        self._config = os.path.join(tree, BUILD_DIR, ".config")
        self._adjustments = settings.adjustments()
        asked = {name for name, _ in self._adjustments}
        by_itself = [one for one in _SAME_VERSION if settings["reproducible_builds"] and one[0] not in asked]
        self._written = by_itself + self._adjustments
        self._jobs = jobs
        self._last_jobs = 1
        self._tokens = tokens

    @property
    def may_retry(self) -> bool:
        """Whether a failure is worth another try."""
        return self.fault != TIMEOUT

    def time_is_up(self, exc: TimeIsUp) -> ProcessResult:
        """Give the outcome of a program, make or git, that was ended because the board's time is over."""
        self.cut_short = True
        self.fault = TIMEOUT
        return exc.outcome._replace(code=TIMED_OUT)

    def configure_and_make(self, mrproper: bool = False) -> ProcessResult:
        """Configure the board anew, then build it; mrproper first when the settings or the caller want it."""
        done = ProcessResult(0, "", "", "")
        artifacts.remove_configuration(os.path.join(self._tree, BUILD_DIR))
        if mrproper or self._settings["mrproper"]:
            done = self._one("mrproper")
        for goal in self._config_goals:
            if not done.code:
                done = _joined(done, self._one(goal))
        if not done.code and self._written:
            done = _joined(done, self._adjust())
        self.configured = not done.code
        self.configuration_said = bool(done.stderr)
        if not done.code:
            done = _joined(done, self.make())
        return done

    def _adjust(self) -> ProcessResult:
        """Change what the configuration says; what depends on what was asked for is settled without a question."""
        try:
            dotconfig.write(self._config, self._written)
        except FileNotFoundError as exc:
            if self._adjustments:
                return _not_adjusted(exc)
        except OSError as exc:
            return _not_adjusted(exc)
        return self._one(_SETTLE) if self._adjustments else ProcessResult(0, "", "", "")

    def check_configuration(self, outcome: ProcessResult) -> ProcessResult:
        """Add to the words of the build what did not stick of the settings that were asked for; that fails it."""
        if not self.configured or self.cut_short:
            return outcome
        wrong = dotconfig.did_not_stick(self._config, self._adjustments)
        if not wrong:
            return outcome
        said = "".join("error: %s\n" % words for words in wrong)
        return outcome._replace(code=outcome.code or NOT_AS_ASKED, stderr=outcome.stderr + said)

    def make(self) -> ProcessResult:
        """Build what is out of date."""
        outcome = self._one(*self._goals)
        if outcome.code == MAKE_FAILED and not outcome.stopped and TREE.images_invalid in outcome.stderr:
            return outcome._replace(code=0)
        return outcome

    def command(self, commit: str) -> str:
        """Give the shell lines that build the same in any clone of the source."""
        start = ["env", *("%s=%s" % item for item in self._own_env.items())]
        makes = [start + self._argv(goal) for goal in self._config_goals] + [start + self._argv(*self._goals)]
        lines = [["git", "checkout", "--detach", commit], *makes]
        if self._written:
            lines[-1:-1] = self._adjusting(start)
        text = "\n".join(" ".join(shlex.quote(word) for word in line) for line in lines) + "\n"
        if self.compiler.path_dir:
            quoted = self.compiler._replace(path_dir=shlex.quote(self.compiler.path_dir))
            text = "export PATH=%s\n%s" % (quoted.path('"$PATH"'), text)
        return text

    def _adjusting(self, start: List[str]) -> List[List[str]]:
        """Give the words of the lines that do what `_adjust` does."""
        config = BUILD_DIR + "/.config"
        drop = ["sed", "-i"]
        for name, _ in self._written:
            drop += ["-e", "/^CONFIG_%s=/d" % name, "-e", "/^# CONFIG_%s is not set$/d" % name]
        add = ["sed", "-i", "-e", "$a\\\n" + "\\\n".join(_literal(dotconfig.line(*one)) for one in self._written)]
        settle = [start + self._argv(_SETTLE)] if self._adjustments else []
        return [[*drop, config], [*add, config], *settle]

    def shown_environment(self) -> Dict[str, str]:
        """Give the environment that matters to others: not what only names the machine's user."""
        return {
            name: value
            for name, value in sorted({**self.env, "PATH": self._shown_path}.items())
            if name not in ("HOME", "USER", "LOGNAME", "SHELL")
        }

    def _one(self, *goals: str) -> ProcessResult:
        self._last_jobs = self._tokens.tokens if self._tokens else max(1, self._jobs())
        argv = self._argv(*goals)
        # That link-time optimisation makes the same code of such objects is not known.
        if self.bare and list(goals) == list(self._goals) and not dotconfig.says(self._config, "LTO", "y"):
            argv.append(self._without_debug_info())
        self.fault = ""
        try:
            with self.stopwatch.on("build" if list(goals) == list(self._goals) else "configure"):
                outcome = self._shared(argv) if self._tokens else self._run(argv, self.env)
        except TimeIsUp as exc:
            return self.time_is_up(exc)
        except OSError as exc:
            self.fault = START
            return ProcessResult(1, "", "make failed to start: %s\n" % exc, "")
        if outcome.stopped or outcome.code >= KILLED:
            self.cut_short = True
        if outcome.stopped and not outcome.code:
            return outcome._replace(code=1)
        return outcome

    def _run(self, argv: List[str], env: Mapping[str, str], fds: Sequence[int] = ()) -> ProcessResult:
        return self._processes.run(argv, self._tree, env, limit=MAX_TEXT, watch=QuestionLoop(), pass_fds=fds)

    def _shared(self, argv: List[str]) -> ProcessResult:
        """Run a make that shares its jobs with all others; on its command line ``-j`` would keep it from that."""
        assert self._tokens is not None
        argv = [word for word in argv if not word.startswith("-j")]
        grant = self._tokens.begin()
        whole = False
        try:
            env = dict(self.env, MAKEFLAGS=self.env.get("MAKEFLAGS", "") + grant.flags)
            outcome = self._run(argv, env, grant.fds)
            whole = not outcome.stopped and outcome.code < KILLED
        finally:
            self._tokens.end(grant, whole=whole)
        return outcome

    def _without_debug_info(self) -> str:
        """Give what make is told so that nothing is compiled with debug information; the code is the same."""
        flags = "-Werror" if self._settings["warnings_as_errors"] else self.env.get("KCFLAGS", "")
        return "KCFLAGS=%s" % (flags and flags + " ") + _BARE

    def _argv(self, *goals: str) -> List[str]:
        argv = ["make", "O=" + BUILD_DIR]
        if not self._settings["verbose_build"]:
            argv.append("-s")
        # NPROC gets into the command lines of link-time optimization; when it changes, all is compiled anew.
        nproc = self._tokens.share if self._tokens else self._last_jobs
        argv += ["-j%d" % self._last_jobs, "NPROC=%d" % nproc]
        return argv + self._compilers + self._settings.make_flags() + list(goals)


def _not_adjusted(exc: OSError) -> ProcessResult:
    return ProcessResult(1, "", "error: cannot adjust the configuration: %s\n" % exc, "")


def _literal(text: str) -> str:
    """Give a line as sed's ``a`` command takes it."""
    return text.replace("\\", "\\\\")


def _joined(first: ProcessResult, second: ProcessResult) -> ProcessResult:
    return second._replace(stdout=first.stdout + second.stdout, stderr=first.stderr + second.stderr)
