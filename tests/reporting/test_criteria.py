"""What a result says of its commit, by each criterion of a bisection."""

import pytest

from fabbuild.build.bisection import Mark
from fabbuild.errors import UsageError
from fabbuild.reporting.criteria import BoardResult, Judgement, criterion_of, of_boards

NONE = dict.fromkeys(("error", "warning", "grows", "run"))


@pytest.fixture
def result(tmp_path):
    def make(code=0, stderr="", sizes=""):
        place = tmp_path / f"{code} {len(stderr)} {sizes}"
        place.mkdir(exist_ok=True)
        if sizes:
            (place / "sizes").write_text(sizes)
        return BoardResult("tern", "1" * 40, code, stderr, place)

    return make


def judged(result, good=None, **options):
    return criterion_of({**NONE, **options}).judge(result, good)


def test_an_error_must_fail_the_build_and_a_warning_need_not(result):
    line = "a.c:1:1: warning: unused 'x'\n"
    assert judged(result(0, line)).mark is Mark.GOOD
    assert judged(result(2, line)).mark is Mark.BAD
    for code, mark in ((0, Mark.BAD), (2, Mark.BAD)):
        assert judged(result(code, line), warning="unused").mark is mark
    assert judged(result(0, line), error="unused").mark is Mark.GOOD
    assert judged(result(2, line), error="unused") == Judgement(Mark.BAD, line.strip())
    assert judged(result(2, line), error="undefined").mark is Mark.SKIP
    assert judged(result(0, line), warning="undefined").mark is Mark.GOOD


def test_growth_counts_from_the_good_commit_and_in_its_region(result):
    before, now = result(sizes="1000 20 8 1028 404 u-boot 0\n"), result(sizes="1100 20 8 1128 468 u-boot 0\n")
    for text, mark in (("100", Mark.BAD), ("101", Mark.GOOD), ("text:100", Mark.BAD), ("data:1", Mark.GOOD)):
        assert judged(now, before, grows=text).mark is mark, text
    assert judged(result(2), before, grows="1").mark is Mark.SKIP
    assert judged(result(), before, grows="1").mark is Mark.SKIP
    for text in ("heap:1", "text:", "0", "many"):
        with pytest.raises(UsageError, match="--grows"):
            criterion_of({**NONE, "grows": text})


def test_a_command_says_by_its_status_what_git_takes_it_for(result):
    for status, mark in ((0, Mark.GOOD), (1, Mark.BAD), (127, Mark.BAD), (125, Mark.SKIP)):
        assert judged(result(), run=f"exit {status}").mark is mark
    for command in ("exit 128", "kill -9 $$"):
        with pytest.raises(UsageError, match="--run"):
            judged(result(), run=command)
    assert judged(result(2), run="exit 0").mark is Mark.SKIP
    assert judged(result(), run="test $FABBUILD_BOARD = tern").mark is Mark.GOOD


def test_a_commit_is_bad_by_one_board_and_good_by_all():
    good, bad, skip = Judgement(Mark.GOOD), Judgement(Mark.BAD, "no"), Judgement(Mark.SKIP, "other")
    assert of_boards({"a": skip, "b": bad}, ["a", "b", "c"]) == Judgement(Mark.BAD, "b: no")
    assert of_boards({"a": skip, "b": good}, ["a", "b"]) == Judgement(Mark.SKIP, "a: other")
    assert of_boards({"a": good}, ["a", "b"]).mark is Mark.SKIP
    assert of_boards({"a": good, "b": good}, ["a", "b"]).mark is Mark.GOOD
