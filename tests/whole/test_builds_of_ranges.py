"""What a build of commits says besides its results: edits that it leaves out, and the command that tells more."""

import shlex

import pytest

from tests.whole.test_bad_input import git

MORE = "what each commit changed: "


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True)
    return farm


def command(ended):
    found = [line for line in ended.out.splitlines() if line.startswith(MORE)]
    return found[0].removeprefix(MORE) if found else ""


def test_a_build_of_commits_says_that_edits_are_left_out(local_farm):
    source = local_farm.source
    (source / "common/main.c").open("a").write("\n/* an edit */\n")
    (source / "notes.txt").write_text("of no concern\n")
    index = (source / ".git/index").read_bytes()
    ended = local_farm.build("--count", "1", "--only", "sandbox")
    assert ended.status == 0, ended
    assert ended.out.count("uncommitted edits in 1 file are not built") == 1, ended
    assert (source / ".git/index").read_bytes() == index
    assert "uncommitted" not in local_farm.build("--only", "sandbox").out, "there they are built"
    git(source, "checkout", "common/main.c")
    assert "uncommitted" not in local_farm.build("--count", "1", "--only", "sandbox").out


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_count_above_the_number_of_commits_is_told(local_farm, dry):
    ended = local_farm.build("--count", "99", "--only", "sandbox", *dry)
    assert " ".join(ended.out.split()).count("--count 99: there is only 1 commit") == 1, ended


@pytest.mark.deep
def test_a_range_that_did_not_go_well_names_the_command_that_tells_more(local_farm):
    build = ["--branch", "series", "--count", "4", "--only", "sandbox_spl"]
    ended = local_farm.build(*build)
    assert ended.status == 100, ended
    told = local_farm.run(*shlex.split(command(ended))[1:])
    assert (told.status, "HANDOFF_MAGIC" in told.out) == (0, True), told
    for other in (["--quiet"], ["--json"], ["--ide"], ["--summary"]):
        assert not command(local_farm.build(*build, *other)), other
    assert not command(local_farm.build("--only", "sandbox"))
    ended = local_farm.build("--commits", "series~4..series~2", "--only", "sandbox_spl")
    assert shlex.split(command(ended))[2:4] == ["--commits", "series~4..series~2"]


def test_a_file_that_passes_through_a_filter_of_git_is_built_from_its_content_or_it_is_said(local_farm, tmp_path):
    source = local_farm.source
    store = tmp_path / "store"
    git(source, "config", "filter.lfsx.clean", f"tee {store} | cksum")
    git(source, "config", "filter.lfsx.smudge", f"cat {store}")
    (source / ".gitattributes").write_text("*.blob filter=lfsx\n")
    (source / "lib/logo.blob").write_text("the content\n")
    rule = "\nall: logo.copy\nlogo.copy: $(srctree)/lib/logo.blob\n\t@cp $< $@\n"
    (source / "lib/Makefile").open("a").write(rule)
    git(source, "add", "-A")
    git(source, "-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "-m", "a blob")
    words = "1 file is built as git stores it"
    build = ["--only", "sandbox", "--keep", "logo.copy"]
    ended = local_farm.build(*build)
    assert ended.status == 0, ended
    assert words not in ended.out
    assert (local_farm.output / "current/sandbox/logo.copy").read_text() == "the content\n"
    ended = local_farm.build(*build, "--count", "1")
    assert (ended.status, ended.out.count(words), "lib/logo.blob" in ended.out) == (0, 1, True), ended
