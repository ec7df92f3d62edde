"""Mistakes of a command line or a variable that Invoke by itself does not explain."""

import os
import subprocess
import sys

import pytest

from fabbuild.cli.command_line import misplaced_words, program_name


@pytest.mark.parametrize(
    ("value", "given", "kind"),
    [("[riscv]", "arm", "a list: ['riscv']"), ("4", "many", "a number: 4"), ("{a: 1}", "arm", "")],
)
@pytest.mark.parametrize("program", ["inv", "fab"])
def test_a_variable_in_the_place_of_another_kind_of_value_is_an_error_in_one_line(
    farm, program, value, given, kind
):
    name, file = ("INVOKE", "invoke.yaml") if program == "inv" else ("FABRIC", "fabric.yaml")
    (farm.directory / file).write_text(f"fabbuild:\n  boards: {value}\n")
    ended = farm.run("boards", program=program, **{f"{name}_FABBUILD_BOARDS": given})
    assert ended.status == 1, ended
    (line,) = ended.err.splitlines()
    if kind:
        assert line == (
            f"fabbuild: the variable {name}_FABBUILD_BOARDS is '{given}', but the configuration's fabbuild.boards is "
            f"{kind}; write text there, or unset the variable"
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Match final all\n", "{config}: Match does not allow 'all' mixed with anything but 'canonical'"),
        ("Host m1\n ConnectTimeout 1m\n", "of m1: invalid literal for int() with base 10: '1m'"),
    ],
)
def test_an_ssh_configuration_that_fabric_cannot_use_is_an_error_in_one_line_with_the_way_out(ssh_farm, text, why):
    known = ssh_farm.servers[0].ssh_config.read_text()
    config = ssh_farm.directory / "ssh_config"
    config.write_text(f"{text}{known}")
    ended = ssh_farm.run("-S", str(config), "-H", "m1", "init", program="fab")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == (
        f"fabbuild: Fabric cannot use the ssh configuration {why.format(config=config)}; `fabbuild` and `inv` ask ssh "
        "itself: name the machines by --machines or --hosts there\n"
    )
    ended = ssh_farm.run("init", "--machines", "m1", program="fabbuild", INVOKE_FABBUILD_SSH_CONFIG=str(config))
    assert (ended.status, ended.err) == (0, ""), ended


def test_fab_works_with_such_an_ssh_configuration_if_fabric_is_told_not_to_read_it(ssh_farm):
    known = ssh_farm.servers[0].ssh_config
    config = ssh_farm.directory / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text("Match final all\n")
    assert ssh_farm.run("-H", "m1", "init", program="fab").status == 1
    (ssh_farm.directory / "fabric.yaml").write_text(f"load_ssh_configs: false\nfabbuild: {{ssh_config: {known}}}\n")
    ended = ssh_farm.run("-H", "m1", "init", program="fab", FABRIC_FABBUILD_SSH_CONFIG="")
    assert (ended.status, ended.err) == (0, ""), ended


def test_an_error_of_somebody_elses_stays_a_traceback(farm):
    (farm.directory / "invoke.yaml").write_text("other:\n  list: [riscv]\n")
    ended = farm.run("boards", INVOKE_OTHER_LIST="arm")
    assert ended.status == 1
    assert "Traceback" in ended.err


@pytest.mark.parametrize("program", ["inv", "fab", "fabbuild"])
def test_a_board_without_its_option_is_answered_with_the_command_that_was_meant(farm, program):
    ended = farm.run("build", "--source", str(farm.source), "sandbox", "-n", "tern", program=program)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == (
        "'sandbox', 'tern' name no tasks; to build boards by name, architecture, CPU or vendor: "
        f"{program} build --boards sandbox,tern\n"
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("build tern", "inv build --boards tern"),
        ("-e fabbuild.build -o out tern --quiet", "inv build --boards tern"),
        ("build --only tern", ""),
        ("build --report tern", ""),
        ("build --source=. -f x.yaml tern", "inv build --boards tern"),
        ("build -T 5", ""),
        ("build summary tern", ""),
        ("build deploy", ""),
        ("build -- tern", ""),
        ("summary tern", ""),
        ("--complete -- inv build tern", ""),
    ],
)
def test_what_is_no_board_or_not_behind_build_is_left_to_invoke(tmp_path, words, meant):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tern_defconfig").touch()
    said = misplaced_words(["/usr/bin/inv", *words.split()], tmp_path, {"XDG_CACHE_HOME": str(tmp_path)})
    assert said.partition(": ")[2] == meant


def test_files_that_a_pattern_of_the_shell_stood_for_are_explained(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.patch").touch()
    words = ["inv", "build", "--patches", "a.patch", "b.patch", "c.patch", "--only", "tern"]
    said = misplaced_words(words, tmp_path, {})
    assert said.startswith("--patches takes one file or directory, and 'b.patch' is another; name the directory")
    assert said.endswith("`cat FILES | inv build --patches -`")
    assert not misplaced_words([*words, "nosuch"], tmp_path, {})
    assert not misplaced_words(["inv", "build", "--patches", "a.patch"], tmp_path, {})


def test_in_the_program_of_its_own_any_word_is_meant_for_it(tmp_path):
    assert misplaced_words(["fabbuild", "build", "nosuch"], tmp_path, {}).endswith("fabbuild build --boards nosuch")
    assert not misplaced_words(["mytool", "build", "tern"], tmp_path, {})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/bin/inv", "inv"),
        ("invoke", "inv"),
        ("/venv/lib/fabbuild/__main__.py", "fabbuild"),
        ("/venv/lib/fabric/__main__.py", ""),
        ("", ""),
    ],
)
def test_a_program_is_known_by_its_name(path, name):
    assert program_name([path]) == name


@pytest.mark.parametrize("program", ["invoke", "fabbuild"])
@pytest.mark.parametrize("words", [("--list",), ("build", "--help")])
def test_help_that_nobody_reads_to_its_end_ends_without_a_word(farm, program, words):
    """As with ``| head``."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=farm.directory,
        env={**farm.env, "PYTHONUNBUFFERED": "1"},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert ended.stderr == b""
