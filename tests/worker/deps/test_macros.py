"""Where macros are said to have no effect, gcc sees the same text and says the same, whatever their values are."""

import itertools
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabbuild.worker.deps.macros import FileMacros, compare_headers, definitions, options, unaffected, values

#: U-Boot's, with all that it takes.
KCONFIG_H = """\
#define __ARG_PLACEHOLDER_1 0,
#define __take_second_arg(__ignored, val, ...) val
#define __is_defined(x) ___is_defined(x)
#define ___is_defined(val) ____is_defined(__ARG_PLACEHOLDER_##val)
#define ____is_defined(arg1_or_junk) __take_second_arg(arg1_or_junk 1, 0)
#define IS_ENABLED(option) __is_defined(option)
#ifdef CONFIG_SPL_BUILD
#define _CONFIG_PREFIX SPL_
#else
#define _CONFIG_PREFIX
#endif
#define config_val(cfg) _config_val(_CONFIG_PREFIX, cfg)
#define _config_val(x, cfg) __config_val(x, cfg)
#define __config_val(x, cfg) CONFIG_ ## x ## cfg
#define CONFIG_VAL(option) config_val(option)
#define CONFIG_IS_ENABLED(option) IS_ENABLED(config_val(option))
"""


def said(files, name, configuration, place, *words):
    """Give what gcc makes of a file, and says, with a configuration that it includes first."""
    place.mkdir(exist_ok=True)
    for other, text in files.items():
        (place / other).write_bytes(text.encode("latin-1") if isinstance(text, str) else text)
    lines = "".join(f"#define {one} {value}\n" for one, value in configuration.items() if value is not None)
    (place / "autoconf.h").write_text(lines)
    how = ["-x", "assembler-with-cpp", "-undef"] if name.endswith(".dts") else []
    command = ["gcc", "-E", "-P", *how, *words, "-include", "autoconf.h", name]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def differ(one, other):
    """Give the macros that two configurations define otherwise, with their values."""
    return {
        name: {way[name] for way in (one, other) if way.get(name) is not None}
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }


def is_unaffected(files, one, other, *words):
    """Whether a compile of all these files is said to be the same with both configurations."""
    read = [FileMacros(text.encode("latin-1") if isinstance(text, str) else text) for text in files.values()]
    read += [options(words), *(values({name: way[name] for name in way}) for way in (one, other))]
    return bool(unaffected({"it": read}, differ(one, other), one.keys() & other.keys()))


def same(files, one, other, place, *words):
    """Whether gcc makes and says the same of the last of some files."""
    return said(files, list(files)[-1], one, place, *words) == said(files, list(files)[-1], other, place, *words)


NOT, ON = {}, {"CONFIG_X": "1"}

HARMLESS = {
    "nobody names it": "int a;\n",
    "the body of a macro nobody uses": "#define M CONFIG_X\nint a;\n",
    "a condition around a definition nobody uses": "#ifdef CONFIG_X\n#define M 1\n#else\n#define M 2\n#endif\nint a;\n",
    "an undef nobody sees": "#ifdef CONFIG_X\n#undef M\n#endif\nint a;\n",
    "macros that lead to others nobody uses": "#define M CONFIG_X\n#define N (M + 1)\n#define O(x) N\nint a;\n",
    "a comment": "/* CONFIG_X\n * CONFIG_X */ int a; // CONFIG_X\n",
    "a string": "char *a = \"CONFIG_X\"; char b = 'CONFIG_X';\n",
    "a string with a quote in it": "char *a = \"\\\"CONFIG_X\"; char b = '\\'';\n",
    "a comment that goes on": "int a; // \\\nCONFIG_X\n",
    "a part of a longer name": "int MY_CONFIG_X, CONFIG_X_Y, CONFIG_XX;\n",
    "a guard": "#ifndef A_H\n#define A_H\n#define M CONFIG_X\nint a;\n#endif\n",
    "a condition that leaves the text alone": "#ifdef CONFIG_X\n#endif\nint a;\n",
    "a number in a condition": "#if CONFIG_X > 2\n#define M 1\n#endif\nint a;\n",
    "a definition under a condition that never holds": (
        "#ifdef CONFIG_X\n#define M 1\n#endif\n#if defined CONFIG_Y || defined(CONFIG_Z)\n#define M 2\n#endif\n"
        "#if defined CONFIG_Y && !defined CONFIG_X\n#define M 3\n#endif\nint a;\n"
    ),
    "a default": "#ifdef CONFIG_X\n#define M 1\n#endif\n#ifndef M\n#define M 2\n#endif\nint a;\n",
    "an apostrophe in skipped text": "#if 0\ndon't\n#endif\n#define M CONFIG_X\nint a;\n",
    "DOS lines": "#define M \\\r\nCONFIG_X\r\n/* CONFIG_X\r\n*/\r\nint a;\r\n",
}

HARMFUL = {
    "text": "int a = CONFIG_X;\n",
    "a condition of text": "#ifdef CONFIG_X\nint a;\n#endif\n",
    "an elif after a branch that holds": "#if 0\nint a;\n#elif defined(CONFIG_X)\nint b;\n#endif\n",
    "an else": "#ifdef CONFIG_X\n#else\nint b;\n#endif\n",
    "an else after an elif": "#if 0\n#elif CONFIG_X\n#else\nint b;\n#endif\n",
    "an inner condition": "#if 1\n#ifdef CONFIG_X\n#if 1\nint a;\n#endif\n#endif\n#endif\n",
    "a macro that is used": "#define M CONFIG_X\nint a = M;\n",
    "a macro that is used before its body is defined": "#define N M\n#define M CONFIG_X\nint a = N;\n",
    "a definition under a condition": "#ifdef CONFIG_X\n#define M 1\n#else\n#define M 2\n#endif\nint a = M;\n",
    "an undef under a condition": "#define M 1\n#ifdef CONFIG_X\n#undef M\n#endif\nint a = M;\n",
    "a macro in a condition": "#define M CONFIG_X\n#if M\nint a;\n#endif\n",
    "a condition on whether a macro is defined": "#ifdef CONFIG_X\n#define M\n#endif\n#ifdef M\nint a;\n#endif\n",
    "a macro with arguments": "#define M(x) x\nint a = M(CONFIG_X);\n",
    "a name of two parts": "#define M(x) CONFIG_##x\nint a = M(X);\n",
    "a name of two parts in two steps": "#define C(a, b) a##b\n#define D(a, b) C(a, b)\nint a = D(CONFIG_, X);\n",
    "a name of three parts": "#define M(x, y) CON##x##y\nint a = M(FIG_, X);\n",
    "an include under a condition": "#ifdef CONFIG_X\n#include <limits.h>\nint a = PATH_MAX;\n#endif\n",
    "an include of a macro": '#ifdef CONFIG_X\n#define H "one.h"\n#else\n#define H "two.h"\n#endif\n#include H\n',
    "a guard that is not defined": "#ifdef CONFIG_X\n#define A_H\n#endif\n#ifndef A_H\n#define A_H\nint a;\n#endif\n",
    "an error": "#ifdef CONFIG_X\n#error no\n#endif\n",
    "a line that goes on": "#ifdef CONFIG_\\\nX\nint a;\n#endif\n",
    "a line that goes on after blanks": "#define M \\ \nCONFIG_X\nint a = M;\n",
    "DOS lines": "#define M \\\r\nCONFIG_X\r\nint a = M;\r\n",
    "digraphs": "%:ifdef CONFIG_X\nint a;\n%:endif\n",
    "a directive behind a comment": "/* */ # /* */ ifdef /* */ CONFIG_X\nint a;\n#endif\n",
    "a directive that a comment has go on": "#define M /*\n*/ CONFIG_X\nint a = M;\n",
    "a comment in a string": 'char *b = "/*"; int a = CONFIG_X; char *c = "*/";\n',
    "a comment behind an apostrophe": "#if 0\ndon't /*\n#endif\nint a = CONFIG_X; /* */\n",
    "a comment in a header's name": "#if 0\n#include </*>\n#endif\nint a = CONFIG_X; /* */\n",
    "a comment in a raw string": 'char *b = R"(")"; char *d = "/*"; int a = CONFIG_X; char *c = "*/";\n',
    "a counter that a condition moves": "#ifdef CONFIG_X\n#if __COUNTER__\n#endif\n#endif\nint a = __COUNTER__;\n",
    "a counter that a macro moves": (
        "#define N __COUNTER__\n#ifdef CONFIG_X\n#if N\n#endif\n#endif\nint a = __COUNTER__;\n"
    ),
    "a macro that is defined twice": "#ifdef CONFIG_X\n#define M 1\n#endif\n#define M 2\nint a;\n",
    "a macro that a header defines, too": "#define CONFIG_X 2\nint a;\n",
    "a condition nobody can evaluate": "#ifdef CONFIG_X\n#define M )\n#else\n#define M 1\n#endif\n#if M\n#endif\nint a;\n",
    "a division in a condition": "#define M 4\n#if 1 / (CONFIG_X - 0)\n#define N\n#endif\nint a;\n",
    "a condition that is evaluated under another": (
        "#define M )\n#ifdef CONFIG_X\n#if M\n#define N\n#endif\n#endif\nint a;\n"
    ),
    "lines that end in a carriage return": "int a;\r#ifdef CONFIG_X\rint b;\r#endif\r",
}  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_does_not_come_to_the_text_has_no_effect(text, tmp_path):
    assert same({"a.c": text}, NOT, ON, tmp_path)
    assert is_unaffected({"a.c": text}, NOT, ON)


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_what_comes_to_the_text_or_has_gcc_say_something_has_an_effect(text, tmp_path):
    files = {"one.h": "int one;\n", "two.h": "int two;\n", "a.c": text}
    assert not same(files, NOT, ON, tmp_path)
    assert not is_unaffected({"a.c": text}, NOT, ON)


@pytest.mark.parametrize(
    ("text", "symbol", "words", "effect"),
    [
        ("int a = IS_ENABLED(CONFIG_NET);\n", "CONFIG_NET", (), True),
        ("int a = CONFIG_IS_ENABLED(NET);\n", "CONFIG_NET", (), True),
        ("int a = CONFIG_IS_ENABLED(NET);\n", "CONFIG_SPL_NET", ("-DCONFIG_SPL_BUILD",), True),
        ("int a = CONFIG_VAL(SIZE);\n", "CONFIG_SPL_SIZE", ("-DCONFIG_SPL_BUILD",), True),
        ("#if CONFIG_IS_ENABLED(NET)\nint a;\n#endif\n", "CONFIG_SPL_NET", ("-DCONFIG_SPL_BUILD",), True),
        ("int a = CONFIG_IS_ENABLED(NET);\n", "CONFIG_SPL_SIZE", ("-DCONFIG_SPL_BUILD",), False),
        ("#if IS_ENABLED(CONFIG_NET)\n#define M 1\n#endif\nint a;\n", "CONFIG_NET", (), False),
        ("#if CONFIG_IS_ENABLED(NET)\n#define M 1\n#endif\nint a = CONFIG_VAL(NET);\n", "CONFIG_NET", (), True),
    ],
)
def test_symbols_by_the_macros_of_kconfig(text, symbol, words, effect, tmp_path):
    files = {"kconfig.h": KCONFIG_H, "a.c": '#include "kconfig.h"\n' + text}
    assert same(files, {}, {symbol: "1"}, tmp_path, *words) is not effect
    assert is_unaffected(files, {}, {symbol: "1"}, *words) is not effect


def test_a_macro_of_one_header_is_used_by_another_file(tmp_path):
    files = {
        "a.h": "#define M CONFIG_X\n",
        "b.h": "#define N M\n",
        "a.c": '#include "a.h"\n#include "b.h"\nint a = N;\n',
    }
    assert not same(files, NOT, ON, tmp_path)
    assert not is_unaffected(files, NOT, ON)
    files["a.c"] = files["a.c"].replace("= N", "= 1")
    assert is_unaffected(files, NOT, ON)


def test_a_macro_of_the_command_line_names_a_symbol(tmp_path):
    files = {"a.c": "int a = M;\n"}
    for words in (["-DM=CONFIG_X"], ["-D", "M=CONFIG_X"]):
        assert not same(files, NOT, ON, tmp_path, *words)
        assert not is_unaffected(files, NOT, ON, *words)


def test_a_name_of_which_another_symbols_value_is_a_part(tmp_path):
    files = {"a.c": "#define C(a, b) a##b\n#define D(a, b) C(a, b)\nint a = D(CONFIG_, CONFIG_WHICH);\n"}
    for which in ("0x1", "7", "0x123456789"):
        one, other = {"CONFIG_WHICH": which}, {"CONFIG_WHICH": which, f"CONFIG_{which}": "1"}
        assert not same(files, one, other, tmp_path)
        assert not is_unaffected(files, one, other)


def test_values_that_differ_and_nobody_names(tmp_path):
    assert is_unaffected({"a.c": "int a;\n"}, {"CONFIG_X": "0x1"}, {"CONFIG_X": "0x2"})


@pytest.mark.parametrize("number", ["__COUNTER__", "__LINE__"])
def test_a_name_that_ends_in_a_number_of_the_compilers_own(number, tmp_path):
    text = (
        f"#define C(a, b) a##b\n#define D(a, b) C(a, b)\nint a = D(CONFIG_, {number}), b = D(CONFIG_, {number});\n"
    )
    configuration = {"CONFIG_1": "1"} if number == "__COUNTER__" else {"CONFIG_3": "1"}
    assert not same({"a.c": text}, {}, configuration, tmp_path)
    assert not is_unaffected({"a.c": text}, {}, configuration)


def test_a_name_whose_rarest_part_nobody_uses(tmp_path):
    files = {
        "one.h": "#define F(x) CONFIG_##x\n",
        "two.h": "#define G(x) CONFIG_##x\n",
        "a.c": "#define M F(X)\nint a = G(Y);\n",
    }
    lines = "".join(files.values())
    assert same({"a.c": lines}, NOT, ON, tmp_path)
    assert is_unaffected(files, NOT, ON)


def test_a_name_of_four_parts(tmp_path):
    files = {"a.c": "#define M(a, b) CONFIG_##a##_##b\nint a = M(SPL, NET);\n"}
    assert not same(files, {}, {"CONFIG_SPL_NET": "1"}, tmp_path)
    assert not is_unaffected(files, {}, {"CONFIG_SPL_NET": "1"})


def test_a_string_in_a_condition_nobody_can_evaluate(tmp_path):
    files = {"a.c": "#if CONFIG_X\n#define M\n#endif\nint a;\n"}
    assert not same(files, NOT, {"CONFIG_X": '"x"'}, tmp_path)
    assert not is_unaffected(files, NOT, {"CONFIG_X": '"x"'})


def test_a_device_tree(tmp_path):
    text = "/dts-v1/;\n/ {\n\t#address-cells = <1>;\n\t#size-cells = <1>;\n\t/* it's */ it = <%s>; /* CONFIG_X */\n};\n"
    for name, effect in (("M", False), ("CONFIG_X", True), ("N", True)):
        files = {"a.dts": "#define N CONFIG_X\n" + text % name}
        assert same(files, NOT, ON, tmp_path) is not effect
        assert is_unaffected(files, NOT, ON) is not effect


def test_in_a_device_tree_a_property_under_a_condition(tmp_path):
    files = {"a.dts": "/ {\n#ifdef CONFIG_X\n\t#address-cells = <1>;\n#endif\n};\n"}
    assert not is_unaffected(files, NOT, ON)


def test_the_definitions_of_a_header_with_their_values():
    header = '#define CONFIG_A 1\n#define CONFIG_B "a \xc5b"\n#define\tCONFIG_C\t0x10\n#define CONFIG_D\n/* no */\n'
    found = definitions(header.encode())
    assert found == {"CONFIG_A": "1", "CONFIG_B": '"a \xc3\x85b"', "CONFIG_C": "0x10", "CONFIG_D": ""}


# --- whatever the files are ---------------------------------------------------------------------------------------

SYMBOLS = ("CONFIG_A", "CONFIG_B", "CONFIG_SPL_A", "CONFIG_AB", "CONFIG_1")
MACROS = ("M", "N", "SPL_", "A", "B", "CONFIG_", "M1")
CALLS = ("F", "G", "JOIN", "JOIN_", "CONFIG_IS_ENABLED", "IS_ENABLED", "CONFIG_VAL")

CALLED = "".join(
    f"#define {name}(x, y) {body}\n"
    for name, body in zip(CALLS[:4], ("x + y", "x##y", "F(x, y)", "1"), strict=True)
)

names = st.sampled_from((*SYMBOLS, *MACROS))
words = st.one_of(
    names, names, st.sampled_from(["1", "2", "+", "x", '"CONFIG_A"', "/* CONFIG_A */", "'", "__COUNTER__"])
)
calls = st.builds("{}({}, {})".format, st.sampled_from(CALLS[:4]), words, names) | st.builds(
    "{}({})".format, st.sampled_from(CALLS[4:]), names
)
text = st.lists(st.one_of(words, words, calls), min_size=1, max_size=3).map(" ".join)
bodies = st.one_of(
    text,
    st.sampled_from(
        ["", "x", "x##y", "CONFIG_##x", "CONFIG_##x##y", "x ## y ## B", "x y", "#x", "SPL_##x", "1##x"]
    ),
)
expressions = st.one_of(
    st.builds("{} > 1".format, names),
    st.builds("{}defined({}) {} defined {}".format, st.sampled_from(["", "!"]), names, st.sampled_from(["||", "&&"]), names),
    st.builds("{}".format, calls),
    st.builds("{} == {}".format, names, names),
    st.builds("1 / {}".format, names),
    st.builds("{} {} {}".format, names, st.sampled_from(["!=", "<", ">"]), st.sampled_from(["-1", "1U", "9223372036854775808"])),
)  # fmt: skip
conditions = st.one_of(
    st.builds("ifdef {}".format, names),
    st.builds("ifndef {}".format, names),
    st.builds("if {}".format, expressions),
    st.builds("if defined {} || defined({})".format, names, names),
    st.builds(
        "if {}defined {} && defined({}) && {}".format,
        st.sampled_from(["", "!", "!("]),
        names,
        names,
        st.sampled_from(["1", "1)"]),
    ),
)
quiet = st.one_of(
    st.builds("#define {} {}".format, names, bodies),
    st.builds("#define {} {}".format, st.sampled_from(MACROS), bodies),
    st.builds("#undef {0}\n#define {0}(x, y) {1}".format, st.sampled_from(CALLS[:4]), bodies),
    st.builds("#undef {}".format, names),
)
loud = st.one_of(
    quiet,
    text,
    text.map(lambda line: line + " /* CONFIG_B\n*/ x"),
    text.map(lambda line: line + " \\\nx"),
    st.builds('#include "{}.h"'.format, st.integers(0, 2)),
)


def several(line):
    return st.lists(line, max_size=2).map("\n".join)


def nested(line):
    """Lines, some of them in conditions."""
    branch = st.one_of(st.just(""), st.just("#else"), st.builds("#elif {}".format, expressions))
    block = st.builds("#{}\n{}\n{}\n{}\n#endif".format, conditions, several(line), branch, several(line))
    return st.one_of(line, block, block)


def contents(line):
    return st.lists(nested(nested(line)), max_size=4).map(lambda found: "\n".join(found) + "\n")


QUIET, LOUD = contents(quiet), contents(loud)


def guarded(number, content):
    return f"#ifndef H{number}\n#define H{number}\n{content}#endif\n"


@st.composite
def sources(draw):
    """Headers that include those after them, and a file that includes some."""
    content = draw(st.sampled_from([QUIET, QUIET, LOUD]))
    files = {"kconfig.h": KCONFIG_H + CALLED}
    for number in (2, 1, 0):
        found = draw(content)
        for other in range(number + 1):
            found = found.replace(f'#include "{other}.h"', "")
        files[f"{number}.h"] = guarded(number, found) if draw(st.booleans()) else found
    included = draw(st.lists(st.integers(0, 2), max_size=3, unique=True))
    start = '#include "kconfig.h"\n' + "".join(f'#include "{number}.h"\n' for number in included)
    return {**files, "a.c": start + draw(content) + draw(st.one_of(st.just("int a;"), text)) + "\n"}


configurations = st.dictionaries(
    st.sampled_from(SYMBOLS), st.sampled_from(["1", "1", "0", "2", "-1", "08", "0x10", '"s"', "M"]), max_size=4
)


def test_what_is_said_to_have_no_effect_has_none(tmp_path):
    harmless = []

    @example({"kconfig.h": KCONFIG_H, "a.c": "int a;\n"}, {}, {"CONFIG_A": "1"})
    @given(sources(), configurations, configurations)
    def check(files, one, other):
        other = {**one, **dict(list(other.items())[:2])}
        before = said(files, "a.c", one, tmp_path, "-MD", "-MF", "read")
        listed = (tmp_path / "read").read_text().split()
        read = {name: content for name, content in files.items() if name in listed or name == "a.c"}
        # What a compile that fails did not come to read is not listed; nothing is taken of one.
        if before[0] == 0 and is_unaffected(read, one, other):
            assert said(files, "a.c", other, tmp_path) == before
            harmless.append(one != other)

    check()
    assert any(harmless)


# --- headers ------------------------------------------------------------------------------------------------------


def compared(one, other, files, configuration):
    """Whether files after a header are said to be the same with another in its place; None if it is not known."""
    found = compare_headers(one.encode(), other.encode(), configuration.keys())
    if found is None or found.included:
        return None
    read = [FileMacros(text.encode()) for text in files.values()]
    changed = {name: {""} for name in found.changed}
    return bool(
        unaffected(
            {"it": [*read, found.common, found.values, values(configuration)]}, changed, configuration.keys()
        )
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("#define N 1\n", "#define N 2\n"),
        ("#define N 1\n", ""),
        ("/* N */\n", "// N\n#define N \\\n1\n"),
        ("#ifndef A_H\n#define A_H\n#define M 1\n#endif\n", "#ifndef B_H\n#define B_H\n#define M 1\n#endif\n"),
        ("#ifdef CONFIG_X\n#define N\n#endif\n#define M 1\n", "#define M 1\n"),
        ("#ifdef CONFIG_X\n#define N\n#else\n#define N 1\n#endif\n", ""),
        ('#define N "a"\n#define M 1\n', '#define M 1\n#define N "b"\n'),
    ],
)
def test_headers_that_differ_by_what_nobody_uses(one, other, tmp_path):
    text = "#ifdef M\nint a = M;\n#endif\n"
    assert same({"a.c": one + text}, NOT, NOT, tmp_path)
    assert said({"a.c": one + text}, "a.c", NOT, tmp_path) == said({"a.c": other + text}, "a.c", NOT, tmp_path)
    assert compared(one, other, {"a.c": text}, NOT)


@pytest.mark.parametrize(
    ("one", "other", "known"),
    [
        ("#define M 1\n", "#define M 2\n", True),
        ('#define M "1"\n', '#define M "2"\n', True),
        ("#define M 1\n", "", True),
        ("#define N M\n#define M 2\n", "#define N 3\n#define M 1\n", True),
        ("#undef M\n#define M 1\n", "#define M 1\n#undef M\n", False),
        ("int b;\n", "", False),
        ("#define M 1\n#define M 1\n", "#define M 1\n#define M 2\n", False),
        ("#if M\n#error no\n#endif\n", "#if M\n#warning no\n#endif\n", False),
        ("#define M 1\n#ifdef M\n#undef N\n#endif\n", "#ifdef M\n#undef N\n#endif\n#define M 1\n", False),
    ],
)
def test_headers_that_differ_by_what_may_be_seen(one, other, known, tmp_path):
    text = "#ifdef M\nint a = M;\n#endif\n#ifdef N\nint c = N;\n#endif\n"
    assert compared(one, other, {"a.c": text}, NOT) is (False if known else None)


def test_the_headers_that_two_headers_include_are_named_in_pairs():
    one, other = b"#include <a/x.h>\n#include <b.h>\n", b'#define N 1\n#include "a/y.h"\n#include <b.h>\n'
    found = compare_headers(one, other, set())
    assert found
    assert found.included == (("a/x.h", "a/y.h"),)
    assert found.changed == {"N"}
    assert found.common.includes == {"b.h"}
    assert compare_headers(one, other, {"N"}) is None
    assert compare_headers(b"#include <b.h>\n", b"", set()) is None
    assert compare_headers(b"#include <b.h>\n", b"#include B\n", set()) is None


def test_headers_that_are_said_to_differ_by_what_nobody_sees_are_not_told_apart(tmp_path):
    harmless = []

    @example("#define M 1\n", [("#define M 1", "#define N 1")], "int a;\n", {}, False)
    @given(
        contents(quiet),
        st.lists(st.tuples(quiet, st.one_of(st.just(""), quiet)), min_size=1, max_size=2),
        st.one_of(QUIET, LOUD).map(lambda text: text.replace("#include", "")),
        configurations,
        st.booleans(),
    )
    def check(header, edits, text, configuration, guard):
        one = other = header
        for old, new in edits:
            one, other = f"{old}\n{one}", f"{new}\n{other}" if guard else f"{other}{new}\n"
        if guard:
            one, other = guarded(1, one), guarded(2, other)
        files = {"kconfig.h": KCONFIG_H + CALLED, "a.c": text + "int a;\n"}
        start = '#include "kconfig.h"\n#include "board.h"\n'
        before = said({**files, "board.h": one, "a.c": start + files["a.c"]}, "a.c", configuration, tmp_path)
        if before[0] == 0 and not before[2] and compared(one, other, files, configuration):
            after = said({**files, "board.h": other, "a.c": start + files["a.c"]}, "a.c", configuration, tmp_path)
            assert after == before
            harmless.append(one != other)

    check()
    assert any(harmless)


def test_of_what_has_no_effect_much_is_said_to_have_none():
    """Each symbol alone, in definitions that others use and that no text does."""
    files = {
        "kconfig.h": KCONFIG_H,
        "a.c": "#define M CONFIG_A\n#if IS_ENABLED(CONFIG_B)\n#define N M\n#else\n#define N 1\n#endif\nint a = CONFIG_C;\n",
    }
    found = [
        is_unaffected(files, {}, dict.fromkeys(chosen, "1"))
        for chosen in itertools.combinations(["CONFIG_A", "CONFIG_B", "CONFIG_C", "CONFIG_D"], 2)
    ]
    assert found.count(True) == 3
