"""The demonstration: the whole job from nothing, and what it says when something is not as intended."""

import subprocess
from dataclasses import replace

import pytest

from fabbuild.demo.run import differences
from fabbuild.demo.sample import Sample
from fabbuild.reporting.summary.changes import BoardChanges, BoardCounts, BoardSizes, CommitChanges
from fabbuild.reporting.summary.sizes import Size
from tests.support.farm import ROOT

pytestmark = pytest.mark.deep


def demo(farm, *arguments):
    return farm.run("-r", str(ROOT), "demo", "--directory", str(farm.directory / "place"), *arguments)


def test_the_demo_says_what_each_commit_changed_and_fails_when_that_is_not_what_is_known(farm):
    ended = demo(farm)
    assert ended.status == 0, ended
    assert "Everything went as the sample intends." in ended.out
    for words in (
        "fixes sandbox_spl",
        "new warning on",
        "HANDOFF_MAGIC",
        "sandbox: all +",
        "place/results/series",
    ):
        assert words in ended.out, (words, ended.out)
    hosts = {path.read_text().strip() for path in (farm.directory / "place/results/series").glob("*/*/host")}
    assert hosts == {"left", "right"}

    # And it is no use if it says so whatever comes of it.
    source = farm.directory / "place/source"
    (source / "configs/sandbox_defconfig").write_text("# nothing is what it was\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", source, "checkout", "-q", "series"], check=True)
    (source / "drivers/serial_sunfish.c").write_text("#error broken\n")
    subprocess.run(["git", "-C", source, *identity, "commit", "-qam", "break it"], check=True)
    ended = demo(farm)
    assert ended.status == 1, ended
    assert "should break no board" in ended.out


def test_the_demo_refuses_a_directory_with_something_else_in_it(farm):
    (farm.directory / "place/source").mkdir(parents=True)
    (farm.directory / "place/source/precious").write_text("")
    ended = demo(farm)
    assert ended.status == 1
    assert "is not empty" in ended.err


def changes(number, **boards):
    return CommitChanges(number, "", "", first=number == 1, counts=BoardCounts(), boards=BoardChanges(**boards))


COMMITS = [
    changes(1),
    changes(2),
    changes(3, broke=("sandbox_spl",)),
    changes(4, mended=("sandbox_spl",)),
    replace(changes(5), board_sizes={"sandbox": BoardSizes("sandbox", {"u-boot": Size(10, 10, 0, 0, 0)})}),
    changes(6, warns=("sandbox", "sandbox_spl")),
]


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (3, changes(3), "commit 3 should break sandbox_spl, but does so with no board"),
        (4, changes(4), "commit 4 should mend sandbox_spl"),
        (5, changes(5), "commit 5 should resize sandbox"),
        (6, changes(6, warns=("x",)), "commit 6 should give a warning to sandbox, sandbox_spl"),
        (2, changes(2, broke=("sandbox",)), "commit 2 should break no board, but does so with sandbox"),
    ],
)
def test_any_difference_from_the_sample_is_told(tmp_path, number, change, words):
    sample = Sample(tmp_path)
    boards = ["sandbox", "sandbox_spl"]
    assert differences(sample, boards, COMMITS) == []
    (told,) = differences(sample, boards, [change if one.number == number else one for one in COMMITS])
    assert told.startswith(words)
