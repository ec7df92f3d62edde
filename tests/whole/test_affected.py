"""Boards that a series cannot reach are left out when asked for, and those of which that is not known are not."""

import pytest

from tests.whole.test_reuse import git, local

__all__ = ["local"]

BOARDS = ("--only", "tern,wren,robin")


@pytest.fixture
def patched(local):
    """A commit on main that changes what one board reads, and the boards wren and tern built before it."""
    git(local, "checkout", "-q", "-f", "main")
    built = local.build("--count", "1", "--only", "tern,wren")
    assert built.status == 0, built
    return local


def change(farm, name, text="/* more */\n"):
    place = farm.source / name
    place.write_text(place.read_text() + text)
    git(farm, "commit", "-q", "-a", "-m", f"Change {name}")


def last(farm):
    """Give the boards that have a result of the last commit."""
    (commit,) = (farm.output / "HEAD~1..HEAD").glob("0*")
    return {place.name for place in commit.iterdir() if (place / "done").exists()}


def test_only_boards_that_a_commit_reaches_or_may_reach_are_built(patched):
    reading = patched.run(
        "boards", "--source", str(patched.source), "--reading", "drivers/led.c", "--fields", "target"
    )
    assert reading.out.split() == ["tern"], "the sample is another one"
    change(patched, "drivers/led.c")
    series = ("--commits", "HEAD~1..HEAD", *BOARDS)
    told = patched.build(*series, "--dry-run")
    for line in ("1 board reached: tern", "1 board perhaps reached", "1 board not reached"):
        assert line in told.out
    assert "3 boards at 1 commit" in told.out
    ended = patched.build(*series, "--affected")
    assert ended.status == 0, ended
    assert "1 board left out, because builds read nothing that changes: wren" in ended.out
    assert last(patched) == {"tern", "robin"}


def test_a_commit_that_reaches_no_board_is_a_success_without_a_build(patched):
    change(patched, "README")
    ended = patched.build("--commits", "HEAD~1..HEAD", "--only", "tern,wren", "--affected")
    assert ended.status == 0, ended
    assert "2 boards left out" in ended.out
    assert "the commits change nothing that builds read" in ended.out


def test_without_results_all_boards_are_built(local):
    git(local, "checkout", "-q", "-f", "main")
    change(local, "README")
    ended = local.build("--commits", "HEAD~1..HEAD", "--only", "wren", "--affected")
    assert ended.status == 0, ended
    assert last(local) == {"wren"}


def test_what_has_nothing_before_it_cannot_be_asked(local):
    git(local, "checkout", "-q", "-f", "--orphan", "alone")
    git(local, "commit", "-q", "-m", "All of it")
    ended = local.build("--count", "1", "--only", "wren", "--affected")
    assert ended.status == 1
    assert "--affected: what the commits reach is not known" in ended.err
