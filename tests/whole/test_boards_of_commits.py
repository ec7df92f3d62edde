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


@pytest.fixture
def strict_farm(local_farm):
    """A source whose ``conf`` minds an ``if`` without ``endif``, as Kbuild's does."""
    conf = local_farm.source / "scripts/kconfig/conf.c"
    text = conf.read_text()
    for old, new in (
        ("help = 0, i;", "help = 0, begun = depth, i;"),
        (
            "\tfinish(&def);\n\tfclose(file);",
            '\tif (depth != begun)\n\t\tdie("missing end statement for this entry", "");\n\tfinish(&def);\n\tfclose(file);',
        ),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    conf.write_text(text)
    change(local_farm.source, "let conf mind an if without endif")
    return local_farm


def break_kconfig(source):
    """Commit a Kconfig that does not parse; give the hash."""
    with (source / "Kconfig").open("a") as file:
        file.write("\nif SYS_ARCH\n")
    change(source, "break Kconfig")
    return git(source, "rev-parse", "HEAD").strip()


@pytest.mark.deep
def test_the_last_commit_breaks_kconfig_and_the_one_before_is_built(strict_farm):
    broken = break_kconfig(strict_farm.source)
    ended = strict_farm.build("--commits", "HEAD~2..", "--only", "sandbox")
    assert codes(strict_farm, "HEAD~2..") == {("01", "sandbox"): 0, ("02", "sandbox"): 2}
    assert ended.status == 100, ended
    failed = f"  sandbox @ 02 {broken[:10]} on local: Kconfig:35: missing end statement for this entry"
    assert failed in ended.out.splitlines(), ended


@pytest.mark.deep
def test_a_commit_between_breaks_kconfig_and_those_around_it_are_built(strict_farm):
    source = strict_farm.source
    broken = break_kconfig(source)
    (source / "Kconfig").write_text((source / "Kconfig").read_text().removesuffix("\nif SYS_ARCH\n"))
    (source / "configs/new_defconfig").write_text((source / "configs/sandbox_defconfig").read_text())
    change(source, "mend Kconfig, and add a board")
    ended = strict_farm.build("--commits", "HEAD~3..", "--only", "sandbox,new")
    assert codes(strict_farm, "HEAD~3..") == {
        ("01", "sandbox"): 0, ("02", "sandbox"): 2, ("03", "sandbox"): 0, ("03", "new"): 0
    }  # fmt: skip
    assert ended.status == 100, ended
    failed = f"  sandbox @ 02 {broken[:10]} on local: Kconfig:35: missing end statement for this entry"
    assert failed in ended.out.splitlines(), ended
    told = json.loads(
        strict_farm.run("summary", "--commits", "HEAD~3..", "--output", str(strict_farm.output), "--json").out
    )
    assert [(one["boards"]["broke"], one["boards"]["mended"]) for one in told["commits"]] == [
        ([], []), (["sandbox"], []), ([], ["sandbox"])
    ]  # fmt: skip


def codes(farm, name):
    """Give the return codes of the results by number of the commit and board."""
    return {
        (commit[:2], board): int((path / "done").read_text())
        for (commit, board), path in farm.results(name).items()
    }


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
