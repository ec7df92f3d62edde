"""Run the makes of one board at one commit."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from typing import Callable, ContextManager, List, Mapping, Optional, Sequence

from fabbuild.protocol import dotconfig
from fabbuild.protocol.build_output import BUILD_DIR, cut_off
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import MAX_TEXT, START, TIMED_OUT, TIMEOUT
from fabbuild.worker.base.processes import Processes, ProcessResult, QuestionLoop, TimeIsUp
from fabbuild.worker.build import artifacts
from fabbuild.worker.build.make_command import GENERATED_CONFIGURATION, PREPARED, SETTLE, MakeCommand
from fabbuild.worker.build.neighbours import Neighbours
from fabbuild.worker.build.stopwatch import Stopwatch
from fabbuild.worker.tools.jobserver import JobServer

#: A line before a compiler's diagnostic that says by which files its file is included.
_INCLUDED = re.compile(r"In file included from |\s+from ")

#: make's words about a tree without the goal.
_NO_GOAL = "No rule to make target '%s'" % GENERATED_CONFIGURATION

#: Observes the source while a make configures (False) or builds (True).
Observe = Callable[[bool], ContextManager[None]]

#: make's exit status for a failure.
MAKE_FAILED = 2

#: The return code of a build whose configuration is not the one that was asked for.
NOT_AS_ASKED = 1

#: The status of a make that a signal ended is at least this.
KILLED = 128


class MakeRunner:
    """Runs the makes of one board at one commit, and keeps their common state.

    Attributes:
        command: the command lines and the environment.
        configured: whether the last ``make NAME_defconfig`` succeeded, now or at an earlier commit.
        configuration_said: whether that make wrote to stderr, at this commit.
        configuration_changed: whether configuring changed anything that building may read, or nothing was there.
        generated: whether the last configuring also made what Kbuild's make reads of the configuration.
        unreadable: whether it failed to make that, in a tree that has a goal for it.
        stopwatch: the time by phase.
        bare: whether to compile without debug information.
        cut_short: whether a make or one of its programs was killed, or could not write, since the output directory
            was empty, and so may have left incomplete files.
        fault: the fault for which the last make did not end by itself (`TIMEOUT`, `START`); empty for none.
    """

    def __init__(
        self,
        processes: Processes,
        tree: str,
        command: MakeCommand,
        jobs: Callable[[], int],
        tokens: Optional[JobServer] = None,
        observe: Optional[Observe] = None,
    ) -> None:
        """Prepare the makes; nothing is run yet.

        Args:
            processes: the owner of each make.
            tree: the source, in which make runs.
            command: the command lines.
            jobs: returns the most jobs of make; called before each make.
            tokens: the jobserver that makes share; None: each make runs the jobs that ``jobs`` returns.
            observe: observes the source during each make; None: nobody does.
        """
        self.command = command
        self.configured = False
        self.configuration_said = False
        self.configuration_changed = False
        self.generated = self.unreadable = False
        self.stopwatch = Stopwatch()
        self.bare = False
        self.cut_short = False
        self.fault = ""
        self._processes = processes
        self._tree = tree
        self._config = os.path.join(tree, BUILD_DIR, ".config")
        self._jobs = jobs
        self._last_jobs = 1
        self._tokens = tokens
        self._observe = observe

    @property
    def may_retry(self) -> bool:
        """Return whether another try may follow a failure: not when the board's time is up."""
        return self.fault != TIMEOUT

    def time_is_up(self, exc: TimeIsUp) -> ProcessResult:
        """Return the result of a program, make or git, that was ended because the board's time is up."""
        self.cut_short = True
        self.fault = TIMEOUT
        return exc.outcome._replace(code=TIMED_OUT)

    def configure_and_make(self, *, mrproper: bool = False) -> ProcessResult:
        """Configure the board again, after ``make mrproper`` if requested, then build it."""
        done = self.configure(mrproper=mrproper)
        return done if done.code else _joined(done, self.make())

    def make_with(self, neighbours: Neighbours) -> Optional[ProcessResult]:
        """Configure the board, make the generated headers, take objects of neighbours, and build the others.

        Returns:
            The result; None if the first steps failed, and perhaps because of what was taken for them.
        """
        done = self.configure()
        if done.code:
            return None if neighbours.taken else done
        if not neighbours.expected():
            return _joined(done, self.make())
        prepared = self._one(PREPARED, builds=True)
        if prepared.code:
            return None
        done = _joined(done, prepared)
        neighbours.wait()
        with self.stopwatch.on("build"):
            neighbours.take()
        result = self.make()
        return _joined(done, result._replace(stderr=_without_repeated(prepared.stderr, result.stderr)))

    def configure(self, *, mrproper: bool = False) -> ProcessResult:
        """Configure the board again, after ``make mrproper`` if requested."""
        done = ProcessResult(0, "", "", "")
        output = os.path.join(self._tree, BUILD_DIR)
        before = artifacts.file_states(output)
        artifacts.remove_configuration(output)
        if mrproper:
            done = self._one("mrproper")
        for goal in self.command.config_goals:
            if not done.code:
                done = _joined(done, self._one(goal))
        if not done.code and self.command.written:
            done = _joined(done, self._adjust())
        self.configured = not done.code
        self.generated = self.unreadable = False
        if not done.code:
            generated = self._one(GENERATED_CONFIGURATION)
            # If it fails, the make that builds fails for the same reason, or this tree has no such goal.
            self.generated = not generated.code
            self.unreadable = bool(generated.code) and _NO_GOAL not in generated.stderr
            done = done if generated.code and self.may_retry else _joined(done, generated)
        self.configuration_said = bool(done.stderr)
        self.configuration_changed = not artifacts.states_alike(before, artifacts.file_states(output))
        return done

    def _adjust(self) -> ProcessResult:
        """Set the requested symbols in ``.config``, and have Kconfig update the symbols that depend on them."""
        asked = bool(self.command.adjustments)
        try:
            dotconfig.write(self._config, self.command.written)
        except OSError as exc:
            # Without a request, a goal that makes no .config is none of our business.
            if asked or not isinstance(exc, FileNotFoundError):
                return ProcessResult(1, "", "error: cannot adjust the configuration: %s\n" % exc, "")
        return self._one(SETTLE) if asked else ProcessResult(0, "", "", "")

    def check_configuration(self, result: ProcessResult) -> ProcessResult:
        """Fail a build whose ``.config`` lacks a requested setting, and list such settings on stderr."""
        if not self.configured or (self.cut_short and result.code):
            return result
        wrong = dotconfig.did_not_stick(self._config, self.command.adjustments)
        if not wrong:
            return result
        said = "".join("error: %s\n" % words for words in wrong)
        return result._replace(code=result.code or NOT_AS_ASKED, stderr=result.stderr + said)

    def make(self) -> ProcessResult:
        """Run make to build everything that is out of date."""
        result = self._one(*self.command.goals)
        if result.code == MAKE_FAILED and not result.stopped and TREE.images_invalid in result.stderr:
            return result._replace(code=0)
        return result

    def shell_lines(self, commit: str) -> str:
        """Return the shell lines that build a commit as the last make did."""
        return self.command.shell_lines(commit, self._jobs_words())

    def _one(self, *goals: str, builds: bool = False) -> ProcessResult:
        self._last_jobs = self._tokens.tokens if self._tokens else max(1, self._jobs())
        argv = self.command.argv(goals, self._jobs_words())
        builds = builds or list(goals) == self.command.goals
        # Whether link-time optimization makes the same code of objects without debug information is not known.
        if self.bare and builds and not dotconfig.says(self._config, "LTO", "y"):
            argv.append(self.command.without_debug_info())
        self.fault = ""
        try:
            observed = self._observe(builds) if self._observe else contextlib.nullcontext()
            with observed, self.stopwatch.on("build" if builds else "configure"):
                result = self._shared(argv) if self._tokens else self._run(argv, self.command.env)
        except TimeIsUp as exc:
            return self.time_is_up(exc)
        except OSError as exc:
            self.fault = START
            return ProcessResult(1, "", "make failed to start: %s\n" % exc, "")
        if result.stopped or result.code >= KILLED or cut_off(result.stderr):
            self.cut_short = True
        if result.stopped and not result.code:
            return result._replace(code=1)
        return result

    def _run(self, argv: List[str], env: Mapping[str, str], fds: Sequence[int] = ()) -> ProcessResult:
        return self._processes.run(argv, self._tree, env, limit=MAX_TEXT, watch=QuestionLoop(), pass_fds=fds)

    def _shared(self, argv: List[str]) -> ProcessResult:
        """Run a make that shares its jobs with all others; ``-j`` on its command line would prevent this."""
        assert self._tokens is not None
        argv = [word for word in argv if not word.startswith("-j")]
        grant = self._tokens.begin()
        whole = False
        try:
            env = dict(self.command.env, MAKEFLAGS=self.command.env.get("MAKEFLAGS", "") + grant.flags)
            result = self._run(argv, env, grant.fds)
            whole = not result.stopped and result.code < KILLED
        finally:
            self._tokens.end(grant, whole=whole)
        return result

    def _jobs_words(self) -> List[str]:
        # NPROC gets into the command lines of link-time optimization; when it changes, everything is compiled anew.
        nproc = self._tokens.share if self._tokens else self._last_jobs
        return ["-j%d" % self._last_jobs, "NPROC=%d" % nproc]


def _joined(first: ProcessResult, second: ProcessResult) -> ProcessResult:
    return second._replace(stdout=first.stdout + second.stdout, stderr=first.stderr + second.stderr)


def _without_repeated(first: str, second: str) -> str:
    """Return what a make said without the beginning that one before it said: of a Makefile each make warns anew."""
    lines = second.splitlines(keepends=True)
    pairs = zip(first.splitlines(keepends=True), lines)
    repeated = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    # Diagnostics about two files may begin with the same includes.
    while repeated and _INCLUDED.match(lines[repeated - 1]):
        repeated -= 1
    return "".join(lines[repeated:])
