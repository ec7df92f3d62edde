"""The settings beyond the plain protocol, each on a real worker: fragments, adjustments, target, quick."""

import subprocess

import pytest

from fabbuild.protocol import dotconfig
from tests.worker.build.test_builder import build, commits_of, steps
from tests.worker.driver import MAKEFILE

#: As Kconfig has it: what depends on another symbol goes with it, and what is not known is dropped.
KCONFIG = MAKEFILE + (
    "%.config:\n\t@echo fragment $@\n\t@cat configs/$@ >>$(O)/.config\n"
    "olddefconfig:\n\t@echo settle\n\t@sed -i -e '/^CONFIG_NOSUCH=/d' $(O)/.config\n"
    "\t@grep -q '^CONFIG_LED=y' $(O)/.config || sed -i -e '/CONFIG_LED_/d' $(O)/.config\n"
    "only: \n\t@echo only\n\t@cp $(O)/.config $(O)/u-boot\n"
)
ONE = {"Makefile": KCONFIG, "configs/one_defconfig": "CONFIG_LED=y\nCONFIG_LED_PERIOD=5\n"}


def configuration(work):
    return (work / "slots" / "00" / "build" / ".config").read_text().splitlines()


def test_adjustments_come_after_the_fragments_and_stay_at_later_commits(work, source):
    source.commit({**ONE, "configs/slow.config": "CONFIG_LED_PERIOD=900\nCONFIG_SLOW=y\n"})
    commits = commits_of(source, work, {"main.c": "int y;\n"})
    settings = {"fragments": ["slow.config"], "adjust_cfg": ["CONFIG_LED_PERIOD=7", "# CONFIG_SLOW is not set"]}
    results = build(work, commits, settings=settings)
    assert steps(results["one", 0]) == ["configure one_defconfig", "fragment slow.config", "settle", "compile"]
    assert steps(results["one", 1]) == ["compile"]
    assert [results["one", upto]["return_code"] for upto in range(2)] == [0, 0]
    assert configuration(work) == ["CONFIG_LED=y", "CONFIG_LED_PERIOD=7", "# CONFIG_SLOW is not set"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("CONFIG_NOSUCH=y", "CONFIG_NOSUCH did not stick: it was to be y and is not there"),
        ("# CONFIG_LED is not set", None),
        ("CONFIG_LED_PERIOD=0x5", None),
        ('CONFIG_NOSUCH="text"', 'CONFIG_NOSUCH did not stick: it was to be "text" and is not there'),
    ],
)
def test_a_setting_that_did_not_stick_is_an_error_that_names_it(work, source, line, words):
    commits = commits_of(source, work, ONE)
    result = build(work, commits[1:], settings={"adjust_cfg": [line]})["one", 0]
    assert (result["return_code"], result["stderr"]) == ((1, f"error: {words}\n") if words else (0, ""))


def test_what_a_later_step_takes_back_did_not_stick(work, source):
    makefile = KCONFIG.replace('@echo "compile"', "@sed -i -e 's/CONFIG_LED=.*/CONFIG_LED=y/' $(O)/.config")
    commits = commits_of(source, work, {**ONE, "Makefile": makefile})
    adjust = ["CONFIG_LED=m", "CONFIG_LED_PERIOD=6"]
    result = build(work, commits[1:], settings={"adjust_cfg": adjust})["one", 0]
    assert result["return_code"] == 1
    # What stuck is not spoken of. With LED=m its period went, too: Kconfig says so in its own way.
    assert "CONFIG_LED did not stick: it was to be m and is y" in result["stderr"]


def test_the_command_of_a_result_builds_the_same_again(work, source, tmp_path):
    commits = commits_of(source, work, {**ONE, "configs/slow.config": "CONFIG_SLOW=y\n"})
    settings = {
        "fragments": ["slow.config"],
        "adjust_cfg": ['CONFIG_NAME="it\'s a \\\\ $HOME, & more"', "# CONFIG_SLOW is not set"],
        "target": "only",
    }
    result = build(work, commits[1:], settings=settings, features=["details"])["one", 0]
    assert result["return_code"] == 0, result
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(source.path), str(clone)], check=True)
    subprocess.run(["sh", "-e", "-c", result["details"]["command"]], cwd=clone, check=True)
    assert (clone / "build" / "u-boot").read_bytes() == (work / "slots/00/build/u-boot").read_bytes()
    assert "it's a" in (clone / "build" / "u-boot").read_text()


# It fails unless it has just been configured, or is as it was at last.
STALE = MAKEFILE.replace("$(O)/main.o: main.c", "$(O)/main.o: main.c check").replace(
    '@echo "configure $@"', '@echo "configure $@"; touch $(O)/fresh'
) + ("check:\n\t@grep -q last main.c || rm $(O)/fresh\n")


def test_a_quick_build_tries_no_failure_again_and_configures_nothing_anew_because_of_it(work, source):
    source.commit({"Makefile": STALE})
    commits = commits_of(source, work, {"main.c": "int y;\n"}, {"main.c": "int last;\n"})
    how = [{"quick": quick, "force_build": True} for quick in (False, True)]
    thorough, quick = (build(work, commits, settings=settings) for settings in how)
    assert [thorough["one", upto]["return_code"] for upto in range(3)] == [0, 0, 0]
    assert [quick["one", upto]["return_code"] for upto in range(3)] == [0, 2, 0]
    assert [steps(quick["one", upto]) for upto in (1, 2)] == [[], ["compile"]]


def test_a_quick_build_configures_again_what_could_not_be_configured(work, source):
    commits = commits_of(
        source,
        work,
        {"Makefile": MAKEFILE.replace('@echo "configure $@"', "@false")},
        {"Makefile": MAKEFILE},
    )
    results = build(work, commits[1:], settings={"quick": True})
    assert [results["one", upto]["return_code"] for upto in range(2)] == [2, 0]
    assert "configure one_defconfig" in steps(results["one", 1])


def test_a_quick_build_repeats_no_warning_and_the_next_thorough_one_does(work, source):
    warns = MAKEFILE.replace('@echo "compile"', '@echo "main.c:1: warning: odd" >&2')
    commits = commits_of(source, work, {"Makefile": warns}, {"README": "x\n"})[1:]
    quick = build(work, commits, settings={"quick": True})
    assert ["odd" in quick["one", upto]["stderr"] for upto in range(2)] == [True, False]
    thorough = build(work, commits[1:])
    assert "odd" in thorough["one", 0]["stderr"]


@pytest.mark.parametrize(
    "text", ["CONFIG_X=y\nCONFIG_Y=y", "CONFIG_X=", "CONFIG_X=a b", 'CONFIG_X="', "CONFIG_X=y # more", "X=y", ""]
)
def test_only_whole_lines_of_a_configuration_are_taken(text):
    assert not dotconfig.is_line(text)


def test_settings_are_written_in_place_of_what_was_there(tmp_path):
    config = tmp_path / ".config"
    config.write_text("# head\nCONFIG_A=y\nCONFIG_AB=y\n# CONFIG_B is not set\n")
    dotconfig.write(str(config), [("A", "n"), ("B", '"x"'), ("C", "3")])
    assert config.read_text().splitlines() == [
        "# head", "CONFIG_AB=y", "# CONFIG_A is not set", 'CONFIG_B="x"', "CONFIG_C=3",
    ]  # fmt: skip
    assert dotconfig.did_not_stick(str(config), [("A", "n"), ("B", '"x"'), ("C", "0x3"), ("D", "n")]) == []
    assert dotconfig.did_not_stick(str(tmp_path / "none"), [("A", "y")]) == [
        "CONFIG_A did not stick: it was to be y and is not there"
    ]


def test_a_reproducible_build_has_no_version_of_its_commit_unless_asked(work, source, tmp_path):
    commits = commits_of(source, work, {**ONE, "configs/one_defconfig": "CONFIG_LOCALVERSION_AUTO=y\n"})
    settings = {"reproducible_builds": True}
    result = build(work, commits[1:], settings=settings, features=["details"])["one", 0]
    assert steps(result) == ["configure one_defconfig", "compile"]
    assert configuration(work) == ["# CONFIG_LOCALVERSION_AUTO is not set"]
    assert "/^CONFIG_LOCALVERSION_AUTO=/d" in result["details"]["command"]
    asked = {**settings, "adjust_cfg": ["CONFIG_LOCALVERSION_AUTO=y"]}
    build(work, commits[1:], settings=asked)
    assert configuration(work) == ["CONFIG_LOCALVERSION_AUTO=y"]
