"""Builds boards in one slot, one board after another, each at several commits.

At a board's first commit it is configured and built; at the later ones make does what the change needs. It is
configured again when a Kconfig file or its own defconfig changed, after a failure, when the configuration
had something to say, and when that is asked for; an incremental build that fails is configured and built once more
before it counts as failed.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from fabbuild.worker import files, images, kconfig
from fabbuild.worker.carry import Carrier
from fabbuild.worker.files import File
from fabbuild.worker.jobserver import JobServer
from fabbuild.worker.outcome import Built, failed
from fabbuild.worker.output import Output
from fabbuild.worker.phases import Stopwatch
from fabbuild.worker.protocol import CHECKOUT, MAX_TEXT, START, TIMED_OUT, TIMEOUT
from fabbuild.worker.runner import Outcome, Processes, QuestionLoop, TimeIsUp
from fabbuild.worker.settings import Settings
from fabbuild.worker.text import BUILD_DIR, decode
from fabbuild.worker.toolchain import Toolchain
from fabbuild.worker.tooldir import ToolDirs
from fabbuild.worker.worktree import GitError, Worktree, remove_tree

#: What stderr says when an image lacks a blob that may be missing; such a build counts as a success.
BLOBS_MISSING = "Some images are invalid"

#: make's own status for a failure.
MAKE_FAILED = 2

#: The return code of a build whose configuration is not what was asked for.
NOT_AS_ASKED = 1

#: What settles a configuration that was changed, without a question.
_SETTLE = "olddefconfig"

#: The status of a make that a signal ended is at least this.
KILLED = 128

#: What of the environment a build sees; the machine's own entries come on top.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "LD_LIBRARY_PATH",
)

#: Prefixes of names that are passed on, too.
PASSED_ON_PREFIXES = ("CCACHE_",)

#: Names, separated by commas, of what else is passed on: the machine's ``env`` in machines.yaml.
ENV_NAMES = "FABBUILD_ENV"

#: git shortens a hash by how many objects a repository has, and Kbuild puts it into the image; this way every
#: machine shortens it alike.
_SAME_ABBREVIATION = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "core.abbrev",
    "GIT_CONFIG_VALUE_0": "12",
}

#: A version with the commit's hash in it makes images of the same source differ; the peer leaves it out, too.
_SAME_VERSION = [("LOCALVERSION_AUTO", kconfig.OFF)]

#: Kbuild puts it behind its own flags, and compiles again what was compiled with others.
_BARE = "-g0"

#: How a linker names a place where it has no debug information to tell the line: ``(.text.main+0x12)``.
_PLACE = re.compile(r"\([^\s()]+\+0x[0-9a-f]+\)|^>>> (?:referenced|defined) ", re.MULTILINE)

_BOARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def base_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """Pick what a build sees of the worker's own environment: the same on every machine, nothing by accident."""
    named = [name.strip() for name in environ.get(ENV_NAMES, "").split(",")]
    picked = {
        name: value
        for name, value in environ.items()
        if name in PASSED_ON or name in named or name.startswith(PASSED_ON_PREFIXES)
    }
    # Relative to what? To the source tree, whose files are no tools.
    path = [entry for entry in picked.get("PATH", "").split(os.pathsep) if entry.startswith("/")]
    picked["PATH"] = os.pathsep.join(path) or os.defpath
    picked["LC_ALL"] = "C"
    return picked


def _names_places(stderr: str) -> bool:
    return _PLACE.search(stderr) is not None


def is_board(name: str) -> bool:
    """Whether this can be the name of a board: what stands before ``_defconfig``, no path and no option."""
    return _BOARD.fullmatch(name) is not None


class Builder:
    """One slot."""

    def __init__(
        self,
        processes: Processes,
        worktree: Worktree,
        settings: Settings,
        environment: Mapping[str, str],
        details: bool = False,
        send_files: bool = False,
        carrier: Optional[Carrier] = None,
        tools: Optional[ToolDirs] = None,
    ) -> None:
        """Name the parts.

        Args:
            processes: owns each make.
            worktree: where it builds.
            settings: how.
            environment: what `base_environment` picked.
            details: whether results carry `Built.details`.
            send_files: whether they carry `Built.files`, and so no `Built.config`.
            carrier: remembers what was built, when it may answer for other commits.
            tools: gives what PATH begins with; None: nothing.
        """
        self._processes = processes
        self._worktree = worktree
        self._settings = settings
        self._environment = dict(environment)
        self._details = details
        self._files = send_files
        self._carrier = carrier
        self._tools = tools
        self._lines_matter = False
        self._output = Output(worktree.path)
        self._scratch = settings["force_build"]
        self._board = ""
        self._configured = ""

    @property
    def slot(self) -> int:
        """The slot's number."""
        return self._worktree.slot

    def begin(self, board: str) -> None:
        """Turn to another board: nothing of the one before may be taken for its own.

        Raises:
            OSError: what the board before left cannot be removed.
        """
        self._board = board
        self._configured = ""
        if self._carrier:
            self._carrier.forget()
        self._lines_matter = False
        if self._scratch:
            remove_tree(self._worktree.output)
            self._scratch = False
        os.makedirs(self._worktree.output, exist_ok=True)
        images.remove_stale(self._worktree.output)

    def carried(self, commit: str) -> Optional[Built]:
        """Give the answer for a commit if it is that of the commit built last; None when it must be built."""
        began = time.monotonic()
        answer = self._carrier.answer(commit) if self._carrier else None
        return answer(time.monotonic() - began) if answer else None

    def build(
        self,
        commit: str,
        compiler: Toolchain,
        jobs: Callable[[], int],
        limit: float = 0.0,
        tokens: Optional[JobServer] = None,
    ) -> Built:
        """Build the board at a commit.

        Args:
            commit: its hash.
            compiler: what to build with.
            jobs: gives how many jobs make may run; asked before each make.
            limit: seconds for all of it, the checkout and each make; 0: any.
            tokens: what the makes share their jobs by; None: each runs as many as ``jobs`` gives.

        Raises:
            Stopped: the worker ends.
            OSError: the disk or the like.
        """
        began = time.monotonic()
        if self._carrier:
            self._carrier.forget()
        run = _Run(
            self._processes,
            self._settings,
            self._worktree.path,
            self._board,
            compiler,
            self._environment,
            jobs,
            tokens,
            self._tools.path(compiler) if self._tools else "",
        )
        run.bare = self._settings.unseen_debug_info() and not self._lines_matter
        try:
            with self._processes.within(limit):
                outcome = self._check_out_and_make(commit, run)
        except GitError as exc:
            # What is in the tree now is not known, so nothing is taken for configured.
            self._configured = ""
            return failed("cannot check out %s: %s" % (commit, exc), CHECKOUT)
        except TimeIsUp as exc:
            outcome = run.time_is_up(exc)
        outcome = run.check_configuration(outcome)
        # What the configuration warns of is to be said of the next commit, too.
        doubtful = outcome.code or run.configuration_said
        if self._settings["quick"]:
            doubtful = not run.configured
        self._configured = "" if doubtful else commit
        if not run.cut_short:
            self._output.close()
        result = self._result(commit, run, outcome, time.monotonic() - began)
        if self._carrier and not run.cut_short:
            result = self._carrier.note(self._board, commit, result, compiler, run.command)
        return result

    def _check_out_and_make(self, commit: str, run: _Run) -> Outcome:
        identity = self._carrier.identity(run.compiler) if self._carrier else ""
        if not self._output.open(run.compiler, identity, not self._settings.unseen_debug_info()):
            self._configured = ""
        with run.stopwatch.on("checkout"):
            self._worktree.bring_to(commit)
        images.remove_programs(self._output.path)
        files.remove_kept(self._output.path, self._settings.kept())
        run.configured = bool(self._configured)
        fresh = self._must_configure(commit)
        outcome = self._try(run.configure_and_make if fresh else run.make)
        if outcome.code and not fresh and run.may_retry and not self._settings["quick"]:
            outcome = self._try(run.configure_and_make)
        mrproper = self._settings["fallback_mrproper"] and not self._settings["mrproper"]
        if outcome.code and mrproper and run.may_retry:
            outcome = self._try(lambda: run.configure_and_make(mrproper=True))
        if run.bare and run.may_retry and _names_places(outcome.stderr):
            # With debug information the linker names lines.
            run.bare, self._lines_matter = False, True
            outcome = self._try(lambda: run.configure_and_make(mrproper=mrproper))
        return outcome

    def _try(self, make: Callable[[], Outcome]) -> Outcome:
        """Make it so that all that warned before warns again: the words of a try are those of its commit."""
        if not self._settings["quick"]:
            self._output.repeat_warnings()
        outcome = make()
        self._output.note_warnings(self._worktree.shorten(outcome.stderr))
        return outcome

    def _must_configure(self, commit: str) -> bool:
        if not self._configured or self._settings["force_reconfig"] or self._settings["mrproper"]:
            return True
        if not self._settings["kconfig_check"] or commit == self._configured:
            return False
        return self._worktree.differs(self._configured, commit, self._kconfig_patterns())

    def _kconfig_patterns(self) -> List[str]:
        """Name what decides the configuration: Kconfig files, the defconfig, and others that it includes."""
        defconfig = "configs/%s_defconfig" % self._board
        patterns = [":(top,glob)**/Kconfig*", ":(top,literal)" + defconfig]
        try:
            with open(os.path.join(self._worktree.path, defconfig), "rb") as file:
                if b"#include" in file.read(MAX_TEXT):
                    patterns += [":(top,glob)configs/**", ":(top,glob)**/*.config"]
        except OSError:
            pass
        if self._settings["fragments"]:
            patterns.append(":(top,glob)**/*.config")
        return patterns

    def _result(self, commit: str, run: _Run, outcome: Outcome, seconds: float) -> Built:
        output = self._worktree.output
        stderr = self._worktree.shorten(outcome.stderr)
        if outcome.stopped:
            stderr += "\nmake was ended: %s\n" % outcome.stopped
        result = Built(
            outcome.code,
            stdout=decode(outcome.stdout.encode(), MAX_TEXT),
            stderr=decode(stderr.encode(), MAX_TEXT),
            fault=run.fault,
        )
        with run.stopwatch.on("collect"):
            if outcome.code:
                if run.configured and not self._files:
                    result = result._replace(config=images.config_files(output))
            elif not self._settings["config_only"]:
                result = result._replace(sizes=images.sizes(self._processes, output, run.prefix, run.env))
            if self._files and run.configured:
                result = result._replace(files=self._files_of(run, built=not outcome.code))
        if self._details:
            details: Dict[str, Any] = {
                "seconds": round(seconds, 2),
                "toolchain": run.compiler.version,
                "command": run.command(commit),
                "environment": run.shown_environment(),
                "slot": self.slot,
                "phases": run.stopwatch.told(),
            }
            digest = None if outcome.code else images.checksum(output)
            if digest:
                details["sha256"] = digest
            result = result._replace(details=details)
        return result

    def _files_of(self, run: _Run, *, built: bool) -> List[File]:
        output = self._worktree.output
        found = files.configuration(output)
        if built and not self._settings["config_only"]:
            listed = images.functions(self._processes, output, run.prefix, run.env)
            found += [File(name, "", data) for name, data in listed.items()]
        return [*found, *files.kept(output, self._settings.kept())]


class _Run:
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
        self._config_goals = ["%s_defconfig" % board, *settings["fragments"]]
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

    def time_is_up(self, exc: TimeIsUp) -> Outcome:
        """Give the outcome of a program, make or git, that was ended because the board's time is over."""
        self.cut_short = True
        self.fault = TIMEOUT
        return exc.outcome._replace(code=TIMED_OUT)

    def configure_and_make(self, mrproper: bool = False) -> Outcome:
        """Configure the board anew, then build it; mrproper first when the settings or the caller want it."""
        done = Outcome(0, "", "", "")
        images.remove_configuration(os.path.join(self._tree, BUILD_DIR))
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

    def _adjust(self) -> Outcome:
        """Change what the configuration says; what depends on what was asked for is settled without a question."""
        try:
            kconfig.write(self._config, self._written)
        except FileNotFoundError as exc:
            if self._adjustments:
                return _not_adjusted(exc)
        except OSError as exc:
            return _not_adjusted(exc)
        return self._one(_SETTLE) if self._adjustments else Outcome(0, "", "", "")

    def check_configuration(self, outcome: Outcome) -> Outcome:
        """Add to the words of the build what did not stick of the settings that were asked for; that fails it."""
        if not self.configured or self.cut_short:
            return outcome
        wrong = kconfig.did_not_stick(self._config, self._adjustments)
        if not wrong:
            return outcome
        said = "".join("error: %s\n" % words for words in wrong)
        return outcome._replace(code=outcome.code or NOT_AS_ASKED, stderr=outcome.stderr + said)

    def make(self) -> Outcome:
        """Build what is out of date."""
        outcome = self._one(*self._goals)
        if outcome.code == MAKE_FAILED and not outcome.stopped and BLOBS_MISSING in outcome.stderr:
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
        add = ["sed", "-i", "-e", "$a\\\n" + "\\\n".join(_literal(kconfig.line(*one)) for one in self._written)]
        settle = [start + self._argv(_SETTLE)] if self._adjustments else []
        return [[*drop, config], [*add, config], *settle]

    def shown_environment(self) -> Dict[str, str]:
        """Give the environment that matters to others: not what only names the machine's user."""
        return {
            name: value
            for name, value in sorted({**self.env, "PATH": self._shown_path}.items())
            if name not in ("HOME", "USER", "LOGNAME", "SHELL")
        }

    def _one(self, *goals: str) -> Outcome:
        self._last_jobs = self._tokens.tokens if self._tokens else max(1, self._jobs())
        argv = self._argv(*goals)
        # That link-time optimisation makes the same code of such objects is not known.
        if self.bare and list(goals) == list(self._goals) and not kconfig.says(self._config, "LTO", "y"):
            argv.append(self._without_debug_info())
        self.fault = ""
        try:
            with self.stopwatch.on("build" if list(goals) == list(self._goals) else "configure"):
                outcome = self._shared(argv) if self._tokens else self._run(argv, self.env)
        except TimeIsUp as exc:
            return self.time_is_up(exc)
        except OSError as exc:
            self.fault = START
            return Outcome(1, "", "make failed to start: %s\n" % exc, "")
        if outcome.stopped or outcome.code >= KILLED:
            self.cut_short = True
        if outcome.stopped and not outcome.code:
            return outcome._replace(code=1)
        return outcome

    def _run(self, argv: List[str], env: Mapping[str, str], fds: Sequence[int] = ()) -> Outcome:
        return self._processes.run(argv, self._tree, env, limit=MAX_TEXT, watch=QuestionLoop(), pass_fds=fds)

    def _shared(self, argv: List[str]) -> Outcome:
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


def _not_adjusted(exc: OSError) -> Outcome:
    return Outcome(1, "", "error: cannot adjust the configuration: %s\n" % exc, "")


def _literal(text: str) -> str:
    """Give a line as sed's ``a`` command takes it."""
    return text.replace("\\", "\\\\")


def _joined(first: Outcome, second: Outcome) -> Outcome:
    return second._replace(stdout=first.stdout + second.stdout, stderr=first.stderr + second.stderr)
