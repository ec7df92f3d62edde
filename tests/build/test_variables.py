"""Which variables builds get from the user, and which files of his go with them: `fabbuild.build.variables`."""

import tarfile

import pytest

from fabbuild.build.plan import with_options
from fabbuild.build.variables import collect
from fabbuild.config.machines import Machine
from fabbuild.config.settings import BuildSettings, merge
from fabbuild.errors import ConfigError, UsageError
from fabbuild.protocol.environment import SENT_FILES, placed


@pytest.fixture
def place(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "bl31.bin").write_bytes(b"firmware")
    return tmp_path


def packed(variables) -> dict[str, bytes]:
    with tarfile.open(variables.files.path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_a_file_in_the_users_environment_goes_to_the_machines(place):
    found = collect({}, place / "source", {"BL31": str(place / "bl31.bin"), "HOME": "/h", "SECRET": "x"})
    assert found.taken == {"BL31": f"{SENT_FILES}{found.files.name}/BL31/bl31.bin"}
    assert packed(found) == {"BL31/bl31.bin": b"firmware"}
    assert found.notes == ("builds get from your environment: BL31",)
    assert placed(found.taken, "/work/files") == {"BL31": f"/work/files/{found.files.name}/BL31/bl31.bin"}


def test_the_content_of_a_file_is_in_the_variables_value(place):
    def value(path):
        return collect({"BL31": str(path)}, place / "source", {}).given["BL31"]

    first = value(place / "bl31.bin")
    (place / "other").mkdir()
    (place / "other" / "bl31.bin").write_bytes(b"firmware")
    assert value(place / "other" / "bl31.bin") == first
    (place / "bl31.bin").write_bytes(b"another.")
    assert value(place / "bl31.bin") != first


def test_of_a_machines_env_the_users_environment_and_the_option_the_option_wins(place):
    environ = {"ATF_LOAD_ADDR": "1", "TEE_LOAD_ADDR": "1", "BL33_LOAD_ADDR": "1"}
    found = collect({"TEE_LOAD_ADDR": "3", "MINE": "a=b"}, place, environ)
    machine = Machine("m1", env={"ATF_LOAD_ADDR": "2", "TEE_LOAD_ADDR": "2"})
    assert with_options(machine, BuildSettings(), found).env == {
        "ATF_LOAD_ADDR": "2",
        "TEE_LOAD_ADDR": "3",
        "BL33_LOAD_ADDR": "1",
        "MINE": "a=b",
    }


def test_an_empty_option_switches_off_what_the_environment_has(place):
    found = collect({"BL31": ""}, place, {"BL31": str(place / "bl31.bin")})
    assert (found.taken, found.given, found.files, found.notes) == ({}, {"BL31": ""}, None, ())


def test_a_relative_path_belongs_to_the_source_and_what_is_beside_a_file_goes_along(place):
    (place / "bl31.elf").write_bytes(b"elf")
    found = collect({"BL31": "../bl31.bin"}, place / "source", {})
    assert packed(found) == {"BL31/bl31.bin": b"firmware", "BL31/bl31.elf": b"elf"}


def test_directories_go_with_all_files_in_them(place):
    for name in ("one/fw.bin", "one/deep/ddr.bin", "two/fw.bin"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    found = collect({"BINMAN_INDIRS": f"{place}/one ../two"}, place / "source", {})
    top = f"{SENT_FILES}{found.files.name}/BINMAN_INDIRS"
    assert found.given["BINMAN_INDIRS"] == f"{top}/0 {top}/1"
    assert packed(found) == {
        "BINMAN_INDIRS/0/fw.bin": b"one/fw.bin",
        "BINMAN_INDIRS/0/deep/ddr.bin": b"one/deep/ddr.bin",
        "BINMAN_INDIRS/1/fw.bin": b"two/fw.bin",
    }


def test_a_value_that_names_no_file_is_left_as_it_is(place):
    given = {"SCP": "/dev/null", "TEE": "tee.bin", "BINMAN_TOOLPATHS": str(place), "MINE": str(place / "bl31.bin")}
    found = collect(given, place / "source", {})
    assert (found.given, found.files, found.notes) == (given, None, ())


def test_what_is_not_passed_on_or_does_not_exist_is_said(place):
    environ = {"KCFLAGS": "-O1", "DEVICE_TREE": "x", "BL31": "/no/such", "BINMAN_INDIRS": "/nor/this", "TEE": ""}
    found = collect({"DEVICE_TREE": "y"}, place, environ)
    assert found.notes == (
        "builds get from your environment: BL31 BINMAN_INDIRS",
        'BL31 names "/no/such", which does not exist here',
        'BINMAN_INDIRS names "/nor/this", which does not exist here',
        "set in your environment, and not passed on to builds: KCFLAGS; --env NAME=VALUE does",
    )


def test_too_many_files_are_refused_before_anything_is_sent(place, monkeypatch):
    monkeypatch.setattr("fabbuild.build.variables.MOST_BYTES", 4)
    with pytest.raises(UsageError, match="BL31: the files there, 1 with 8 B, are too many"):
        collect({"BL31": str(place / "bl31.bin")}, place, {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("BL31", "must be NAME=VALUE"),
        ("B-31=x", "must be NAME=VALUE"),
        ("X=a\nb", "must be NAME=VALUE"),
        ("CROSS_COMPILE=arm-", "sets itself; name a compiler with --toolchain"),
        ("LC_ALL=de_DE", "LC_ALL, which fabbuild sets itself"),
        ({"X": True}, "must be text"),
    ],
)
def test_what_is_no_variable_or_fabbuilds_own_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        merge([("the command line", {"env": given})])


def test_variables_of_the_file_and_of_the_command_line_add_up():
    settings = merge([("machines.yaml", {"env": {"A": 1, "B": "x"}}), ("the command line", {"env": ["B=y,z"]})])
    assert settings.variables() == {"A": "1", "B": "y,z"}
