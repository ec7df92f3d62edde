"""The table of a build's settings: what names a result, what is reused, what is sent, and a row that is added."""

import dataclasses
import json

import pytest

from fabbuild.cli.options import BUILD
from fabbuild.config import option, settings
from fabbuild.config.settings import BuildSettings
from fabbuild.model import Board, Commit, Result
from fabbuild.protocol.settings import SETTINGS, Effect, Setting, Shortcut, ruled_out
from fabbuild.protocol.wire import FEATURES
from fabbuild.reporting.summary.find import how_built
from fabbuild.results.reuse.keys import BuildTools, family
from fabbuild.results.tree import BuiltFrom, ResultTree, decisive, kept_by
from fabbuild.worker.build.settings import Settings, SettingsError

BOARD = Board("tern", "arm")
TOOLS = BuildTools("gcc 13", "id")

#: Options, what `built-from` has of them, what is kept, whether the store serves, and the beginning of the family's
#: digest in the store's present layout: all as they are on disks. Other values would build all results again.
ON_DISK = [
    ({}, "{}", (), True, "3f28a17686360b2e"),
    ({"no_lto": True}, '{"no_lto": true}', (), True, "aa40490925a9927a"),
    (
        {"reproducible": True, "werror": True, "allow_missing": True},
        '{"allow_missing": true, "reproducible_builds": true, "warnings_as_errors": true}',
        (),
        True,
        "b012b2c958e2e0b0",
    ),
    (
        {"config_only": True, "quick": True, "target": "u-boot.bin"},
        '{"config_only": true, "quick": true, "target": "u-boot.bin"}',
        (),
        False,
        "352994193f260951",
    ),
    (
        {"fragments": "b.config,a.config", "adjust_cfg": ("LED_PERIOD=7", "~SPL")},
        '{"fragments": ["b.config", "a.config"], "adjust_cfg": ["CONFIG_LED_PERIOD=7", "# CONFIG_SPL is not set"]}',
        (),
        True,
        "d95324b482ebf462",
    ),
    (
        {
            "mrproper": True,
            "fallback_mrproper": True,
            "force": True,
            "kconfig_check": False,
            "force_reconfig": True,
            "verbose_build": True,
        },
        "{}",
        (),
        False,
        "3f28a17686360b2e",
    ),
    (
        {
            "keep_outputs": True,
            "keep": "spl/*.bin",
            "jobserver": False,
            "ccache": True,
            "light_tools": False,
            "debug_info": True,
        },
        "{}",
        ("--keep-outputs", "spl/*.bin"),
        False,
        "3f28a17686360b2e",
    ),
    ({"outputs": "20G", "share_objects": False}, "{}", (), True, "3f28a17686360b2e"),
]


@pytest.mark.parametrize(("options", "built_from", "kept", "stored", "digest"), ON_DISK)
def test_what_names_a_result_is_what_is_on_disks(options, built_from, kept, stored, digest):
    wire = BuildSettings(**options).wire_settings()
    assert json.dumps(decisive(wire)) == built_from
    assert kept_by(wire) == kept
    assert ruled_out(Shortcut.STORE, wire) is not stored
    assert family(BOARD, wire, TOOLS).hex().startswith(digest)


@pytest.mark.parametrize(
    ("shortcut", "names"),
    [
        (Shortcut.STORE, "verbose_build mrproper force_build force_reconfig quick keep_outputs keep"),
        (Shortcut.CARRY, "mrproper force_build force_reconfig"),
        (Shortcut.CARRY_VARYING, "keep_outputs keep"),
        (Shortcut.DEPENDS, "config_only target"),
        (Shortcut.SHARE, "verbose_build mrproper config_only force_build quick target keep share_objects"),
    ],
)
def test_what_a_setting_rules_out_it_rules_out_when_it_is_set_and_not_at_its_default(shortcut, names):
    other = {bool: lambda value: not value, str: lambda _: "u-boot.bin", list: lambda _: ["a.config"]}
    found = [
        name
        for name, row in SETTINGS.items()
        if ruled_out(shortcut, {**Settings({})._values, name: other[type(row.default)](row.default)})
    ]
    assert found == names.split()
    assert not ruled_out(shortcut, {})
    assert not ruled_out(shortcut, {name: row.default for name, row in SETTINGS.items()})


def test_the_features_are_those_that_workers_of_before_announced():
    assert FEATURES[9:] == (
        "force_reconfig", "quick", "fragments", "adjust_cfg", "target", "keep_outputs", "keep", "jobserver", "ccache",
        "light_tools", "debug_info", "outputs", "share_objects",
    )  # fmt: skip


def test_flags_are_words_of_make_in_the_order_that_commands_show():
    on = ("warnings_as_errors", "reproducible_builds", "no_lto", "allow_missing", "verbose_build")
    assert Settings(dict.fromkeys(on, True)).make_flags() == [
        "V=1", "BINMAN_ALLOW_MISSING=1", "NO_LTO=1", "SOURCE_DATE_EPOCH=0", "KCFLAGS=-Werror", "HOSTCFLAGS=-Werror",
    ]  # fmt: skip
    assert Settings(dict.fromkeys(on, 0)).make_flags() == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("no_lto", 2, "must be true or false, not 2"),
        ("no_lto", [], "must be true or false"),
        ("target", "a b", "must be the name of a make target, such as u-boot.bin, not 'a b'"),
        ("target", ["u-boot"], "must be the name of a make target"),
        ("fragments", "a.config", "must be a list, each item the name of a configuration fragment"),
        ("fragments", ["a.config", 3], "must be a list, each item the name of a configuration fragment"),
        ("keep", ["../x"], "must be a list, each item a pattern of files below make's output directory"),
        ("adjust_cfg", ["FOO=y"], "must be a list, each item a line of a .config"),
        ("outputs", "much", "must be a size: a number, with k, M, G or T behind it, such as 500M, not 'much'"),
        ("outputs", 0, "must be a size"),
        ("lines", 1, "lines is not supported"),
    ],
)
def test_a_worker_names_the_setting_that_it_does_not_take(name, value, words):
    with pytest.raises(SettingsError, match=f"setting {name} ") as caught:
        Settings({name: value})
    assert words in str(caught.value)


@pytest.fixture
def added(monkeypatch):
    """Add a setting that changes the build and is on by default, and its option."""
    row = Setting("unwind", True, Effect.OUTPUT, make=("UNWIND=1",))
    monkeypatch.setitem(SETTINGS, row.name, row)
    more = dataclasses.make_dataclass(
        "More",
        [("unwind_tables", bool, option.setting("unwind", "Keep unwind tables"))],
        bases=(BuildSettings,),
        frozen=True,
        kw_only=True,
    )
    rows = {field.name: field.metadata["option"] for field in dataclasses.fields(more)}
    monkeypatch.setattr(settings, "OPTIONS", rows)
    return more


def test_off_is_told_from_not_given_where_on_is_the_default(added, tmp_path):
    not_given = {name: value for name, value in added().wire_settings().items() if name != "unwind"}
    on, off = (added(unwind_tables=value).wire_settings() for value in (True, False))
    assert decisive(not_given) == decisive(on) == decisive({"unwind": None}) == {}
    assert decisive(off) == {"unwind": False}
    assert family(BOARD, not_given, TOOLS) == family(BOARD, on, TOOLS) != family(BOARD, off, TOOLS)
    # The same through a result tree: of each result, which of the three need not be built again.
    for number, (built, serves) in enumerate(
        [(not_given, [True, True, False]), (on, [True, True, False]), (off, [False, False, True])]
    ):
        tree = ResultTree(tmp_path / str(number), "current", [Commit("", "t", "")])
        result = Result(BOARD.target, 0, 0)
        tree.record(result, BuiltFrom("t", BOARD.arch, "gcc", decisive(built)), toolchain={})
        found = [tree.current_result(BOARD, 0, wanted, frozenset({"gcc"})) for wanted in (not_given, on, off)]
        assert [one is not None for one in found] == serves


def test_an_added_row_is_known_to_make_to_the_command_line_and_to_the_command_that_builds_again(added):
    assert Settings({}).make_flags() == ["UNWIND=1"]
    assert Settings({"unwind": False}).make_flags() == []
    assert settings.OPTIONS["unwind_tables"].shown == option.Option(default=True, help="Keep unwind tables")
    assert how_built({"unwind": False, "no_lto": True}) == ["--no-lto", "--no-unwind-tables"]
    assert settings.check_option("unwind_tables", "off", texts=True) is False


def test_the_command_that_builds_a_result_again_has_each_setting_that_names_it():
    everything = {
        "allow_missing": True,
        "no_lto": True,
        "reproducible_builds": True,
        "warnings_as_errors": True,
        "config_only": True,
        "quick": True,
        "fragments": ["a.config", "b.config"],
        "adjust_cfg": ["CONFIG_FOO=y", "# CONFIG_BAR is not set"],
        "target": "u-boot.bin",
    }
    assert decisive(everything) == everything
    assert how_built(everything) == [
        "--allow-missing", "--no-lto", "--reproducible", "--werror", "--config-only", "--quick",
        "--fragments=a.config,b.config", "--adjust-cfg=FOO=y,BAR=n", "--target=u-boot.bin",
    ]  # fmt: skip
    assert how_built(None) == how_built({}) == how_built({"no_lto": False, "target": "", "fragments": []}) == []
    assert {word.partition("=")[0] for word in how_built(everything)} <= {
        word for name, one in BUILD.items() for word in one.words(name)
    }
