"""Options that leave each other without effect, and values that name nothing, are refused before anything is built."""

import json

import pytest

from tests.whole.test_bad_input import one_line_error


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True)
    return farm


def refused(farm, *arguments, words):
    ended = farm.build(*arguments)
    assert one_line_error(ended, words) == [ended.err.strip()], ended
    assert not farm.output.exists(), "nothing is begun"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--toolchain", "aarch46=aarch64-linux-gnu-"], "no board is of architecture aarch46; did you mean aarch64"),
        (["--toolchain", "z80=z80-"], "no board is of architecture z80; there are: aarch64, arm, powerpc, riscv64"),
        (["--audit-reuse", "3", "--force"], "--audit-reuse compares what would be reused, and with --force nothing is"),
        (["--audit-reuse", "3", "--no-reuse"], "with --no-reuse nothing is; leave one of them out"),
        (["--step", "2"], "--step 2 takes some commits of a range, and none was named; give --branch"),
        (["--json", "--dry-run"], "--json prints the events of a build, and a dry run has none"),
    ],
)  # fmt: skip
def test_it_is_refused_in_one_line(local_farm, arguments, words):
    refused(local_farm, *arguments, words=words)


def test_a_step_of_the_configuration_is_for_the_builds_that_have_a_range(local_farm):
    assert local_farm.build("--only", "sandbox", "--dry-run", INVOKE_FABBUILD_STEP="2").status == 0
    ended = local_farm.build("--only", "sandbox", "--dry-run", "--branch", "series", "--step", "2")
    assert "1 board at 3 commits" in ended.out, ended


def test_a_compiler_may_be_named_for_one_of_the_family(local_farm):
    ended = local_farm.build("--only", "robin", "--dry-run", "--toolchain", "riscv=riscv64-linux-gnu-")
    assert (ended.status, ended.err) == (0, ""), ended


def test_a_machines_file_may_serve_other_sources_but_a_typo_is_named(farm):
    farm.machines(local=True, toolchains={"aarch46": "aarch64-linux-gnu-", "mips": "mips-linux-gnu-"})
    ended = farm.build("--only", "sandbox", "--dry-run")
    words = "toolchains of local: no board is of architecture aarch46; did you mean aarch64?"
    assert (ended.status, ended.err) == (0, f"fabbuild: {words}\n"), ended


def test_lists_are_json_where_it_was_asked_for_or_refused(farm):
    farm.env["INVOKE_FABBUILD_SOURCE"] = str(farm.source)
    ended = farm.run("boards", "--json", "--fields", "target")
    assert one_line_error(ended, "--json gives all fields of a board; leave --fields out") == [ended.err.strip()]
    farm.machines(local=True)
    assert farm.build("--only", "sandbox").status == 0
    before = json.loads(farm.run("--dry", "cache", "--json", "--clear").out)
    assert before["results"] == 1
    after = json.loads(farm.run("cache", "--json", "--clear").out)
    assert (after["results"], after["path"]) == (0, before["path"])
