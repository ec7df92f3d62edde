"""Mistakes of a command line or a variable that Invoke by itself does not explain."""

import pytest

from fabbuild.cli.command_line import misplaced_boards, program_name


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
    said = misplaced_boards(["/usr/bin/inv", *words.split()], tmp_path, {"XDG_CACHE_HOME": str(tmp_path)})
    assert said.partition(": ")[2] == meant


def test_in_the_program_of_its_own_any_word_is_meant_for_it(tmp_path):
    assert misplaced_boards(["fabbuild", "build", "nosuch"], tmp_path, {}).endswith(
        "fabbuild build --boards nosuch"
    )
    assert not misplaced_boards(["mytool", "build", "tern"], tmp_path, {})


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
