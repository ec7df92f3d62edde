"""The search for the first bad commit, on planted histories and against git itself."""

import math
import random
import subprocess

import pytest

from fabbuild.build.bisection import Bisection, Mark


def history(rng, size):
    """A random history with merges: parents by commit, each after its parents; the first commit's is good."""
    parents = {"c0": ["good"]}
    for number in range(1, size):
        first = f"c{rng.randrange(max(0, number - 4), number)}"
        second = f"c{rng.randrange(number)}"
        parents[f"c{number}"] = [first, second] if rng.random() < 0.3 and first != second else [first]
    return parents


def ancestors(parents, commit):
    found, todo = set(), [commit]
    while todo:
        one = todo.pop()
        if one in parents and one not in found:
            found.add(one)
            todo += parents[one]
    return found


def search(parents, bad, judge, width):
    bisection, tested = Bisection(parents, bad), set()
    rounds = 0
    while chosen := bisection.next(width):
        assert len(chosen) <= width
        assert not tested & set(chosen), "no commit is tested twice"
        tested |= set(chosen)
        bisection.mark({one: judge(one) for one in chosen})
        rounds += 1
    return bisection, rounds


@pytest.mark.parametrize("seed", range(150))
def test_the_planted_commit_is_found_in_any_history_whatever_is_skipped(seed):
    rng = random.Random(seed)
    parents = history(rng, rng.randrange(1, 60))
    bad = f"c{len(parents) - 1}"
    inside = sorted(ancestors(parents, bad))
    planted = rng.choice(inside)
    skipped = {one for one in inside if one != bad and rng.random() < rng.choice((0, 0.3))}

    def judge(commit):
        if commit in skipped:
            return Mark.SKIP
        return Mark.BAD if planted in ancestors(parents, commit) else Mark.GOOD

    found, _ = search(parents, bad, judge, rng.randrange(1, 6))
    left = found.candidates
    assert planted in left
    assert set(left) - {found.bad} <= skipped
    if not skipped:
        assert left == [planted]


@pytest.mark.parametrize("seed", range(40))
def test_a_fault_that_comes_and_goes_ends_with_a_bad_commit_of_good_parents(seed):
    rng = random.Random(seed)
    parents = history(rng, 40)
    told = {one: rng.choice((Mark.GOOD, Mark.BAD)) for one in parents} | {"c39": Mark.BAD}
    found, _ = search(parents, "c39", told.__getitem__, rng.randrange(1, 5))
    assert found.candidates == [found.bad]
    assert told[found.bad] is Mark.BAD


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_rounds_are_the_logarithm_to_the_base_of_one_more_than_the_width(width):
    parents = {f"c{n}": [f"c{n - 1}"] for n in range(100)}
    for planted in range(100):
        found, rounds = search(
            parents, "c99", lambda c, p=planted: Mark.BAD if int(c[1:]) >= p else Mark.GOOD, width
        )
        assert found.candidates == [f"c{planted}"]
        assert rounds <= math.ceil(math.log(100, width + 1)) + 1


def test_a_merge_is_tested_before_what_it_merged():
    parents = {"s1": ["good"], "s2": ["s1"], "s3": ["s2"], "m1": ["good"], "merge": ["m1", "s3"], "top": ["merge"]}
    asked = []

    def judge(commit):
        asked.append(commit)
        return Mark.BAD if commit in ("s2", "s3", "merge", "top") else Mark.GOOD

    found, _ = search(parents, "top", judge, 1)
    assert found.bad == "s2"
    assert Bisection(parents, "merge").next(1) == ["m1"]
    assert asked.index("merge") < min(asked.index(one) for one in asked if one.startswith("s"))


def test_a_linear_history_ends_as_with_git(tmp_path):
    def git(*words):
        named = ["-c", "user.name=a", "-c", "user.email=a"]
        ran = subprocess.run(["git", "-C", tmp_path, *named, *words], check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    git("init", "-q")
    for number in range(14):
        (tmp_path / "n").write_text(f"{number}\n")
        git("add", "n")
        git("commit", "-qm", f"{number}")
    commits = git("rev-list", "--reverse", "HEAD").split()
    for planted in (1, 6, 13):
        git("bisect", "start", commits[-1], commits[0])
        git("bisect", "run", "sh", "-c", f'test "$(cat n)" -lt {planted}')
        theirs = git("rev-parse", "refs/bisect/bad")
        git("bisect", "reset")
        parents = {one: [commits[at - 1]] for at, one in enumerate(commits) if at}
        found, _ = search(
            parents, commits[-1], lambda c, p=planted: Mark.BAD if commits.index(c) >= p else Mark.GOOD, 3
        )
        assert found.candidates == [theirs]
