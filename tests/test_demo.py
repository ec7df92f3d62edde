"""The demonstration: the whole job from nothing, and what it says when something is not as intended."""

import subprocess
from dataclasses import replace

import pytest

from fabbuild.demo import differences
from fabbuild.results import ResultTree
from fabbuild.sample import Sample
from fabbuild.source import Source
from fabbuild.summary import SeriesRow, image_size, series
from tests.support.farm import ROOT


def demo(farm, *arguments):
    return farm.run("-r", str(ROOT), "demo", "--directory", str(farm.directory / "place"), *arguments)


def test_the_demo_builds_the_sample_twice_and_says_what_each_commit_changed(farm):
    for _ in range(2):
        ended = demo(farm)
        assert ended.status == 0, ended
        assert "Everything went as the sample intends." in ended.out
        for words in ("fixed: sandbox_spl", "w+ ", "HANDOFF_MAGIC", "sandbox +", "place/results/series"):
            assert words in ended.out, (words, ended.out)
    hosts = {path.read_text().strip() for path in (farm.directory / "place/results/series").glob("*/*/host")}
    assert hosts == {"left", "right"}


def test_the_demo_fails_when_the_tree_does_not_do_what_it_is_known_to(farm):
    demo(farm)
    source = farm.directory / "place/source"
    (source / "configs/sandbox_defconfig").write_text("# nothing is what it was\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", source, "checkout", "-q", "series"], check=True)
    (source / "drivers/serial_sunfish.c").write_text("#error broken\n")
    subprocess.run(["git", "-C", source, *identity, "commit", "-qam", "break it"], check=True)
    ended = demo(farm)
    assert ended.status == 1, ended
    assert "was to break nothing" in ended.out


def test_the_demo_refuses_a_directory_with_something_else_in_it(farm):
    (farm.directory / "place/source").mkdir(parents=True)
    (farm.directory / "place/source/precious").write_text("")
    ended = demo(farm)
    assert ended.status == 1
    assert "is not empty" in ended.err


ROWS = [
    SeriesRow(1, "base"),
    SeriesRow(2, "harmless"),
    SeriesRow(3, "break", failing={"sandbox_spl": "error"}),
    SeriesRow(4, "mend", fixed=("sandbox_spl",)),
    SeriesRow(5, "grow", grown={"sandbox": 10}),
    SeriesRow(6, "warn", warned={"sandbox": "warning", "sandbox_spl": "warning"}),
]


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (3, {"failing": {}}, "commit 3 was to break sandbox_spl, but it did so to nothing"),
        (4, {"fixed": ()}, "commit 4 was to mend sandbox_spl"),
        (5, {"grown": {}}, "commit 5 was to resize sandbox"),
        (6, {"warned": {"sandbox": "x"}}, "commit 6 was to give a warning to sandbox, sandbox_spl"),
        (2, {"failing": {"sandbox": "x"}}, "commit 2 was to break nothing, but it did so to sandbox"),
    ],
)
def test_any_difference_from_the_sample_is_told(tmp_path, number, change, words):
    sample = Sample(tmp_path)
    boards = ["sandbox", "sandbox_spl"]
    assert differences(sample, boards, ROWS) == []
    rows = [replace(row, **change) if row.number == number else row for row in ROWS]
    (told,) = differences(sample, boards, rows)
    assert told.startswith(words)


def test_a_series_tells_what_each_commit_changed_from_the_tree_alone(farm):
    farm.machines(local=True)
    ended = farm.build("--branch", "series", "--boards", "sandbox", "--summary")
    assert ended.status == 100
    commits = Source.open(farm.source).branch("series")
    rows = series(ResultTree(farm.output, "series", commits), ["sandbox", "sandbox_spl"])
    assert [set(row.failing) for row in rows] == [set(), set(), {"sandbox_spl"}, set(), set(), set()]
    assert rows[3].fixed == ("sandbox_spl",)
    assert set(rows[4].grown) == {"sandbox"}
    assert set(rows[5].warned) == {"sandbox", "sandbox_spl"}
    assert "fixed: sandbox_spl" in ended.out


def test_a_size_that_cannot_be_read_is_no_size(tmp_path):
    sizes = tmp_path / "sizes"
    assert image_size(sizes) is None
    sizes.write_text("\xff\n1 2\n 1 2 3 six 5 u-boot\n")
    assert image_size(sizes) is None
    sizes.write_text(" 1 2 3 4 5 spl/u-boot-spl 0\n 10 20 30 60 3c u-boot 1f\n")
    assert image_size(sizes) == 60
