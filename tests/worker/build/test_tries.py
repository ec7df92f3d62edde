"""Which try follows which: `fabbuild.worker.build.tries`, with makes that end as a test says."""

import os

import pytest

from fabbuild.protocol.build_output import cut_off
from fabbuild.protocol.relevance import TreeChange, TreeEntry
from fabbuild.protocol.wire import TIMEOUT
from fabbuild.worker.base.processes import ProcessResult
from fabbuild.worker.build.output_dir import OutputDir
from fabbuild.worker.build.plan import BuildPlan
from fabbuild.worker.build.retry_policy import KnownFailures
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.build.tries import BoardHistory, Tries

FINE = ProcessResult(0, "", "", "")
#: The source's own failure, and one that what was built before may be the reason of.
BROKEN = ProcessResult(2, "", "main.c:1:1: error: no\n", "")
OTHER = ProcessResult(2, "", "main.c:2:2: error: nor this\n", "")
ODD = ProcessResult(2, "", "make: *** No rule to make target 'x.h'.  Stop.\n", "")
SKEW = ProcessResult(0, "", "make: warning:  Clock skew detected.  Your build may be incomplete.\n", "")
CUT = ProcessResult(2, "", "main.c:1:1: error: no\nmake: *** [Makefile:1: x.bin] Error 137\n", "")
NO_LINE = ProcessResult(2, "", "ld: main.o: in function `f':\n(.text.f+0x4): undefined reference to `g'\n", "")

BUILT_UPON = BuildPlan((), configure=False, configured=True, from_scratch=False, leftovers=False)
CONFIGURED = BUILT_UPON._replace(configure=True)
FROM_SCRATCH = BUILT_UPON._replace(configure=True, configured=False, from_scratch=True)


class Run:
    """Makes that end one after the other as was said, and what was asked of each."""

    def __init__(self, output, *results, bare=False, out_of_time=False):
        self.results = list(results)
        self.bare, self.fault, self.may_retry, self.configuration_changed = bare, "", True, False
        self.asked = []
        self.generates, self.unreadable, self.cut_short = None, False, False
        self.configured = True
        self._output, self._out_of_time = output, out_of_time

    def _next(self, what):
        kept = (self._output / "old.o").exists()
        self.asked.append(what if kept else what + " from scratch")
        if self._out_of_time:
            self.fault, self.may_retry = TIMEOUT, False
        result = self.results.pop(0)
        self.cut_short |= cut_off(result.stderr)
        return result

    def make(self):
        if self.generates:
            self.generates.write_text("another\n")
        return self._next("make")

    def configure_and_make(self, *, mrproper=False):
        return self._next("mrproper" if mrproper else "configure")

    def make_with(self, neighbours):
        neighbours.take()
        return self._next("make with others")


class Tree:
    def __init__(self, path, late):
        self.path, self._late = str(path), late

    def shorten(self, text):
        return text

    def changes(self, _old, _new):
        return [TreeChange("changed.c", TreeEntry("100644", "1"), TreeEntry("100644", "2"))]

    def catch_up(self):
        return self._late

    def note_times(self):
        pass

    def asked_files(self):
        return ""


class Others:
    """The directories of other boards, with or without an object that a compile would make the same."""

    available, may_wait, taken = True, False, False

    def __init__(self, *, same):
        self._same = same

    def take_programs(self):
        pass

    def take(self):
        self.taken = self._same


@pytest.fixture
def tried(tmp_path):
    (tmp_path / "main.c").touch()

    def run(
        plan,
        *results,
        history=None,
        late=True,
        bare=False,
        out_of_time=False,
        leftover=False,
        neighbours=None,
        known=None,
        commit="",
        **settings,
    ):
        """Give what was asked of make, and the last result."""
        output = tmp_path / "build"
        output.mkdir(exist_ok=True)
        (output / "old.o").touch()
        parts = Run(output, *results, bare=bare, out_of_time=out_of_time)
        history = history or BoardHistory()
        directory = OutputDir(str(tmp_path))
        if leftover:
            directory.leftovers = True
            parts.generates = output / "generated.h"
            parts.generates.write_text("left\n")
            os.utime(parts.generates, (1, 1))
        tries = Tries(parts, Tree(tmp_path, late), directory, Settings(settings), history, neighbours, known)
        result = tries.result(plan, commit)
        if known is not None:
            known.flaky.append(tries.flaky)
        if neighbours is None:
            assert tries.from_nothing == (plan.from_scratch or parts.asked[-1].endswith("from scratch"))
        else:
            assert tries.from_nothing != neighbours.taken
        assert not parts.results, "a try that did not happen"
        assert directory.leftovers == (leftover and bool(settings.get("quick") or out_of_time or result.code))
        return parts.asked, result

    return run


@pytest.mark.parametrize(
    ("plan", "results", "asked"),
    [
        (BUILT_UPON, [FINE], ["make"]),
        (CONFIGURED, [FINE], ["configure"]),
        (BUILT_UPON, [BROKEN, FINE], ["make", "configure"]),
        (BUILT_UPON, [BROKEN, BROKEN], ["make", "configure"]),
        (CONFIGURED, [BROKEN, BROKEN], ["configure", "make"]),
        (CONFIGURED, [ODD, FINE], ["configure", "configure from scratch"]),
        (BUILT_UPON, [ODD, ODD, BROKEN], ["make", "configure", "configure from scratch"]),
        (FROM_SCRATCH, [ODD, ODD], ["configure", "make"]),
        (FROM_SCRATCH, [BROKEN, FINE, FINE], ["configure", "make", "configure from scratch"]),
        (FROM_SCRATCH, [BROKEN, FINE, BROKEN, FINE], ["configure", "make", *["configure from scratch"] * 2]),
        (FROM_SCRATCH, [BROKEN, FINE, BROKEN, BROKEN], ["configure", "make", *["configure from scratch"] * 2]),
        # Another error came first this time.
        (FROM_SCRATCH, [BROKEN, OTHER], ["configure", "make"]),
        # What the first make left may be the reason of the second's failure.
        (FROM_SCRATCH, [BROKEN, ODD, FINE], ["configure", "make", "configure from scratch"]),
        (BUILT_UPON, [SKEW, FINE], ["make", "configure from scratch"]),
        (BUILT_UPON, [SKEW, ODD], ["make", "configure from scratch"]),
        (BUILT_UPON, [CUT, CUT], ["make", "configure from scratch"]),
        (FROM_SCRATCH, [CUT], ["configure"]),
    ],
)
def test_a_try_follows_for_one_reason(tried, plan, results, asked):
    last = results[0] if asked[-1:] == ["make"] and len(asked) == 2 else results[-1]
    assert tried(plan, *results) == (asked, last)


@pytest.mark.parametrize("same", [False, True])
def test_what_takes_objects_of_others_is_not_from_nothing(tried, same):
    assert tried(FROM_SCRATCH, FINE, neighbours=Others(same=same)) == (["make with others"], FINE)


@pytest.mark.parametrize(
    ("settings", "results", "asked"),
    [
        ({"fallback_mrproper": True}, [BROKEN, BROKEN, FINE], ["make", "configure", "mrproper"]),
        ({"fallback_mrproper": True, "mrproper": True}, [BROKEN, BROKEN], ["make", "mrproper"]),
        ({"quick": True}, [ODD], ["make"]),
        ({"quick": True, "fallback_mrproper": True}, [ODD, FINE], ["make", "mrproper"]),
    ],
)
def test_settings_that_say_which_tries_there_are(tried, settings, results, asked):
    assert tried(BUILT_UPON, *results, **settings) == (asked, results[-1])


@pytest.mark.parametrize("result", [ODD, BROKEN, SKEW, NO_LINE])
def test_nothing_follows_once_the_time_is_up(tried, result):
    assert tried(BUILT_UPON, result, bare=True, out_of_time=True, fallback_mrproper=True) == (["make"], result)


@pytest.mark.parametrize(
    ("how", "results", "asked"),
    [
        ({}, [FINE, FINE, FINE], ["configure", "make", "configure from scratch"]),
        ({}, [BROKEN, BROKEN], ["configure", "make"]),
        ({"quick": True}, [FINE], ["configure"]),
    ],
)
def test_generated_source_that_make_makes_otherwise_has_all_built_from_scratch(tried, how, results, asked):
    assert tried(CONFIGURED, *results, leftover=True, **how) == (asked, results[-1])


def test_clock_skew_of_a_tree_without_such_files_is_left_alone(tried):
    assert tried(BUILT_UPON, SKEW, late=False)[0] == ["make"]


def test_a_failure_from_scratch_is_believed_at_the_next_commit_until_one_builds(tried):
    history = BoardHistory()
    assert tried(CONFIGURED, ODD, ODD, history=history)[0] == ["configure", "configure from scratch"]
    assert tried(CONFIGURED, ODD, history=history)[0] == ["configure"]
    assert tried(CONFIGURED, FINE, history=history)[0] == ["configure"]
    assert tried(CONFIGURED, ODD, ODD, history=history)[0] == ["configure", "configure from scratch"]


@pytest.mark.parametrize(
    ("settings", "again"),
    [({}, "configure"), ({"mrproper": True}, "mrproper"), ({"fallback_mrproper": True}, "mrproper")],
)
def test_a_linker_that_names_no_lines_is_asked_again_with_debug_information(tried, settings, again):
    history = BoardHistory()
    warned = NO_LINE._replace(code=0)
    asked, result = tried(CONFIGURED, warned, BROKEN, history=history, bare=True, **settings)
    assert (asked[1:], result) == ([again], BROKEN)
    assert history.lines_matter
    assert len(tried(CONFIGURED, warned, bare=False, **settings)[0]) == 1


# --- a failure that does not come again is none ---


class Known(KnownFailures):
    """What slots know of failures, and what each board's tries call flaky."""

    def __init__(self):
        super().__init__()
        self.flaky = []


def test_a_failure_that_does_not_come_again_is_none_and_is_told(tried):
    known, history = Known(), BoardHistory()
    assert tried(FROM_SCRATCH, BROKEN, FINE, FINE, known=known, history=history)[1] == FINE
    assert known.flaky == [BROKEN.stderr]
    assert history.failure == frozenset()
    assert tried(FROM_SCRATCH, FINE, known=known)[0] == ["configure"]
    assert known.flaky[1:] == [""]


def test_what_came_again_for_one_board_counts_at_once_for_the_others(tried):
    known = Known()
    assert tried(FROM_SCRATCH, BROKEN, BROKEN, known=known)[0] == ["configure", "make"]
    assert tried(FROM_SCRATCH, BROKEN, known=known) == (["configure"], BROKEN)
    assert tried(FROM_SCRATCH, OTHER, OTHER, known=known)[0] == ["configure", "make"]


def test_what_once_did_not_come_again_is_always_made_again(tried):
    known = Known()
    tried(FROM_SCRATCH, BROKEN, FINE, FINE, known=known)
    tried(FROM_SCRATCH, BROKEN, BROKEN, known=known)
    assert tried(FROM_SCRATCH, BROKEN, BROKEN, known=known)[0] == ["configure", "make"]


def test_an_error_of_a_compiler_in_what_the_commit_changes_counts_at_once(tried):
    changed = BROKEN._replace(stderr="changed.c:1:1: error: no\n")
    assert tried(FROM_SCRATCH, changed, commit="abc") == (["configure"], changed)
    assert tried(FROM_SCRATCH, BROKEN, BROKEN, commit="abc")[0] == ["configure", "make"]


def test_a_failure_that_the_board_had_at_the_commit_before_counts_at_once(tried):
    history = BoardHistory()
    assert tried(CONFIGURED, BROKEN, BROKEN, history=history)[0] == ["configure", "make"]
    assert tried(CONFIGURED, BROKEN, history=history)[0] == ["configure"]


def test_a_make_that_was_ended_for_its_behaviour_is_not_made_again(tried):
    ended = BROKEN._replace(stopped="it asks questions")
    assert tried(FROM_SCRATCH, ended)[0] == ["configure"]


@pytest.mark.parametrize(
    "said", ["make: *** [Makefile:4: u-boot] Error 1\n", "as: a.o: error: No space left on device\n"]
)
def test_a_failure_without_a_reason_or_with_a_machines_is_the_bosss_to_try_again(tried, said):
    failed = BROKEN._replace(stderr=said)
    assert tried(FROM_SCRATCH, failed) == (["configure"], failed)
