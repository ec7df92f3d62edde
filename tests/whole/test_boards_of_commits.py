"""Builds of a series that changes which boards there are."""

import json
import os

import pytest

from tests.whole.test_bad_input import git

AS = ("-c", "user.name=a", "-c", "user.email=a@b.example")


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True)
    return farm


def change(source, subject):
    git(source, "add", "-A")
    git(source, *AS, "commit", "-q", "--allow-empty", "-m", subject)


@pytest.mark.deep
def test_a_series_that_adds_and_renames_boards_ends_well(local_farm):
    source = local_farm.source
    change(source, "nothing")
    text = (source / "configs/sandbox_defconfig").read_text()
    (source / "configs/a@b,c_defconfig").write_text(text)
    change(source, "add a board")
    git(source, "mv", "configs/a@b,c_defconfig", "configs/ä_defconfig")
    change(source, "rename it")
    ended = local_farm.build("--commits", "HEAD~3..", "--only", "sandbox ä", "--junit", "junit.xml")
    assert ended.status == 0, ended
    assert "a@b,c is called ä" in ended.out, ended
    (run,) = [event for event in local_farm.journal("HEAD~3..") if event["what"] == "run-start"]
    assert (run["data"]["boards"], run["data"]["results"], run["data"]["not_there"]) == (3, 5, 4)
    told = json.loads(
        local_farm.run("summary", "--commits", "HEAD~3..", "--output", str(local_farm.output), "--json").out
    )
    assert [one["counts"]["not_there"] for one in told["commits"]] == [2, 1, 1]
    assert [one["counts"]["not_built"] + one["counts"]["failed"] for one in told["commits"]] == [0, 0, 0]


@pytest.mark.deep
def test_a_commit_that_breaks_kconfig_keeps_no_other_from_being_built(local_farm):
    source = local_farm.source
    change(source, "nothing")
    with (source / "Kconfig").open("a") as file:
        file.write("\nif SYS_ARCH\n")
    change(source, "break Kconfig")
    ended = local_farm.build("--commits", "HEAD~2..", "--only", "sandbox")
    assert ended.status in (0, 100), ended  # the sample's own conf does not mind
    assert len(list((local_farm.output / "HEAD~2..").glob("*/sandbox/done"))) == 2


@pytest.mark.deep
def test_a_board_and_branches_whose_names_are_not_ascii_are_built_as_others(local_farm):
    source = local_farm.source
    git(source, "checkout", "-q", "-b", "feature/ä", "--track", "main")
    (source / "configs/ä_defconfig").write_text((source / "configs/sandbox_defconfig").read_text())
    (source / os.fsdecode(b"configs/l\xe4t_defconfig")).write_text("")
    change(source, "add boards")
    latin = os.fsdecode(b"feature/\xe4")
    git(source, "branch", "-q", latin)
    git(source, "branch", "-q", "-u", "main", latin)
    for name in ("feature/ä", latin):
        for there in ("1 result ", "(1 more was there already)"):
            ended = local_farm.build("--branch", name, "--only", "ä", LC_ALL="C")
            assert ended.status == 0, ended
            assert there in ended.out, ended
        told = local_farm.run("summary", "--branch", name, "--output", str(local_farm.output), LC_ALL="C")
        assert told.out.splitlines()[-1] == "at 2/2: 1 built", told
    assert len([path for path in local_farm.output.iterdir() if (path / ".fabbuild").is_dir()]) == 2
    refused = local_farm.build("--branch", latin, "--only", os.fsdecode(b"l\xe4t"), LC_ALL="C")
    assert (refused.status, "its bytes are not utf-8" in refused.err) == (1, True), refused
    listed = local_farm.run("boards", "--source", str(source), LC_ALL="C")
    assert r"configs/l\udce4t_defconfig is left out: its name is not UTF-8" in listed.err, listed
