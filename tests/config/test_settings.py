"""Options of a build: what is taken from each layer, and that every mistake is named by its place."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.config.settings import OPTIONS, BuildSettings, check_option, merge
from fabbuild.errors import ConfigError
from fabbuild.protocol.settings import SETTINGS


def test_defaults_mean_the_current_source_on_all_machines():
    assert merge([]) == BuildSettings()
    assert BuildSettings().wire_settings() == {name: row.default for name, row in SETTINGS.items()}


def test_later_layers_win_and_what_is_not_given_does_not():
    merged = merge(
        [
            (
                "file",
                {
                    "count": 3,
                    "no_lto": True,
                    "kconfig_check": False,
                    "boards": "arm",
                    "toolchain": ("arm=a-", "x=x-"),
                },
            ),
            ("key", {"count": "4", "no_lto": "", "boards": None, "werror": "1", "branch": "", "step": ""}),
            (
                "options",
                {
                    "boards": ["a", "b & c"],
                    "toolchain": ["arm=/opt/gcc"],
                    "wait": "1.5",
                    "werror": False,
                    "only": [],
                },
            ),
        ]
    )
    assert merged == BuildSettings(
        count=4,
        no_lto=True,
        kconfig_check=False,
        boards="a,b & c",
        toolchain=("arm=a-", "x=x-", "arm=/opt/gcc"),
        wait=1.5,
    )
    assert merged.toolchains() == {"arm": "/opt/gcc", "x": "x-"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("force", "1", True),
        ("force", "true", True),
        ("force", "On", True),
        ("force", 1, True),
        ("kconfig_check", "0", False),
        ("kconfig_check", " no ", False),
        ("threads", "4", 4),
        ("step", "0", 0),
        ("stop_at", "2", 2),
        ("stop_at", "", None),
        ("wait", "30", 30.0),
        ("wait", 30, 30.0),
        ("timeout", "1800", 1800.0),
        ("timeout", 0, 0.0),
        ("silence", "2.5", 2.5),
        ("silence", 3600, 3600.0),
        ("patience", "0", 0.0),
        ("restarts", "0", 0),
        ("toolchain", "arm=a-, aarch64=/with space/gcc", ("arm=a-", "aarch64=/with space/gcc")),
        ("toolchain", {"arm": "a-"}, ("arm=a-",)),
        ("toolchain", ["sandbox="], ("sandbox=",)),
        ("toolchain", ["arm=a=b"], ("arm=a=b",)),
        ("hosts", ("a", "b"), "a,b"),
        ("branch", "fix/ünder", "fix/ünder"),
        ("branch", "fix/\udce4nder", "fix/\udce4nder"),
        ("source", "/home/\udce4", "/home/\udce4"),
    ],
)
def test_option_is_taken(name, text, value):
    assert getattr(merge([("x", {name: text})]), name) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bords": 1}, 'X: there is no option "bords"; did you mean boards or max_boards or order?'),
        ({"no-lto": 1}, "did you mean no_lto"),
        ({"qqqqqq": 1}, "; there are: adjust_cfg, affected,"),
        ({3: 1}, 'there is no option "3"'),
        ({"force": "maybe"}, 'X: force is the text "maybe"; it must be true or false (or 1 or 0)'),
        ({"force": 2}, "X: force is the number 2"),
        ({"force": [1]}, "X: force is a list"),
        ({"count": "x"}, 'X: count is the text "x"; it must be a whole number from 0 to 1000000'),
        ({"count": "-1"}, 'count is the text "-1"'),
        ({"count": -1}, "count is the number -1"),
        ({"count": True}, "count is true"),
        ({"count": 1.0}, "count is the number 1.0"),
        ({"count": "٣"}, "count is the text"),
        ({"count": 10**400}, "count is a far too large number"),
        ({"max_boards": 5000}, "from 0 to 1024"),
        ({"stop_at": 0}, "X: stop_at is the number 0; it must be a whole number from 1 to 1000000"),
        ({"stop_at": "0"}, 'X: stop_at is the text "0"; it must be a whole number from 1 to'),
        ({"stop_at": "-2"}, 'X: stop_at is the text "-2"; it must be a whole number from 1 to'),
        ({"stop_at": "two"}, 'X: stop_at is the text "two"; it must be a whole number from 1 to'),
        ({"wait": "soon"}, 'wait is the text "soon"; it must be a number of seconds'),
        ({"wait": float("nan")}, "wait is the number nan"),
        ({"wait": "inf"}, "wait is the text"),
        ({"wait": True}, "wait is true"),
        ({"timeout": -1}, "timeout is the number -1; it must be a number of seconds from 0 to 604800"),
        ({"silence": 0}, "silence is the number 0; it must be a number of seconds from 1 to 3600"),
        ({"silence": "0.5"}, 'silence is the text "0.5"; it must be a number of seconds from 1 to 3600'),
        ({"silence": 3601}, "silence is the number 3601"),
        ({"silence": "nan"}, 'silence is the text "nan"'),
        ({"patience": "long"}, 'patience is the text "long"'),
        ({"restarts": 1001}, "restarts is the number 1001; it must be a whole number from 0 to 1000"),
        ({"toolchain": ["arm"]}, 'toolchain has the text "arm"; it must be ARCH=PREFIX, such as'),
        ({"toolchain": [3]}, "toolchain has the number 3"),
        ({"toolchain": 3}, "toolchain is the number 3"),
        ({"toolchain": ["arm=a-", "arm=b-"]}, 'toolchain names arm twice: "a-" and "b-"'),
        ({"toolchain": ["a b=c-"]}, 'toolchain is for "a b"; an architecture is like'),
        ({"toolchain": ["arm="]}, 'toolchain is the text ""'),
        ({"branch": 3}, "branch is the number 3; it must be text"),
        ({"branch": ["a"]}, "branch is a list; it must be text"),
        ({"boards": ["a", 3]}, "boards is a list; it must be text or a list of texts"),
        ({"source": "a\nb"}, r'source is "a\nb"; it must not have control characters'),
        ({"source": "a\udce4\nb"}, "it must not have control characters"),
        ({"branch": "a\ud800"}, "it must not have control characters"),
        ({"only": "\udce4"}, r'only is "\udce4"; its bytes are not utf-8'),
        ({"boards": object()}, "boards is a object"),
    ],
)
def test_option_is_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        merge([("file", {"boards": "arm"}), ("X", given)])
    assert words in str(caught.value)
    assert str(caught.value).startswith("X: ")
    assert str(caught.value).isprintable()


def test_a_layer_that_is_none():
    with pytest.raises(ConfigError, match="X: is a list; it must be a mapping of options"):
        merge([("X", ["a"])])


_anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just("1"), st.just("arm=x")
    ),
    lambda below: st.one_of(st.lists(below), st.dictionaries(st.text(), below), st.tuples(below)),
    max_leaves=5,
)


@given(st.dictionaries(st.one_of(st.sampled_from(list(OPTIONS)), st.text()), _anything, max_size=3))
def test_any_options_are_settings_or_a_config_error(layer):
    try:
        merged = merge([("X", layer)])
    except ConfigError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - either is right
        return
    for field in dataclasses.fields(BuildSettings):
        value = getattr(merged, field.name)
        assert value is field.default or type(value) is (int if field.default is None else type(field.default))
        # What was taken once is taken again: the file's options are checked when it is read, and then merged.
        assert check_option(field.name, value, texts=False) in (value, None)
    assert all(isinstance(prefix, str) for prefix in merged.toolchains().values())


def test_wire_settings_have_the_wires_names():
    merged = BuildSettings(
        reproducible=True,
        werror=True,
        force=True,
        kconfig_check=False,
        no_lto=True,
        quick=True,
        fragments="a.config, b.config",
        adjust_cfg=("FOO,~CONFIG_BAR", "FOO=0x10", 'NAME="a,b",OTHER=text'),
        target="u-boot.bin",
    )
    changed = {name: value for name, value in merged.wire_settings().items() if value != SETTINGS[name].default}
    assert changed == {
        "reproducible_builds": True,
        "warnings_as_errors": True,
        "force_build": True,
        "kconfig_check": False,
        "no_lto": True,
        "quick": True,
        "fragments": ["a.config", "b.config"],
        "adjust_cfg": ["# CONFIG_BAR is not set", "CONFIG_FOO=0x10", 'CONFIG_NAME="a,b"', 'CONFIG_OTHER="text"'],
        "target": "u-boot.bin",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adjust_cfg", "FOO-BAR"),
        ("adjust_cfg", "~FOO=y"),
        ("adjust_cfg", "FOO=a\nCONFIG_BAR=y"),
        ("adjust_cfg", 'FOO="a'),
        ("adjust_cfg", ["FOO", 3]),
        ("fragments", "debug"),
        ("fragments", "-f.config"),
        ("fragments", "../x.config"),
        ("fragments", "/etc/x.config"),
        ("fragments", "A=b.config"),
        ("target", "-C/tmp"),
        ("target", "A=b"),
        ("target", "a b"),
    ],
)
def test_what_make_must_not_be_given_is_refused_in_one_line(name, value):
    with pytest.raises(ConfigError) as caught:
        merge([("the command line", {name: value})])
    assert f"the command line: {name} " in str(caught.value)
    assert str(caught.value).isprintable()


def test_adjustments_of_a_file_may_be_a_mapping():
    merged = merge(
        [("file", {"adjust_cfg": {"LED": False, "SPL": True, "LED_PERIOD": 7}}), ("line", {"adjust_cfg": "LED"})]
    )
    assert merged.adjustments() == {"LED": "y", "SPL": "y", "LED_PERIOD": "7"}


def test_every_setting_of_a_build_has_one_option():
    given = [row.setting for row in OPTIONS.values() if row.setting]
    assert sorted(given) == sorted(SETTINGS)


def test_the_help_of_an_option_tells_its_default():
    for name, row in OPTIONS.items():
        default = getattr(BuildSettings(), name)
        if not isinstance(default, bool) and default:
            assert row.shown.help.endswith(
                f" (default: {default:g})" if default != "longest" else "(default: longest)"
            )
