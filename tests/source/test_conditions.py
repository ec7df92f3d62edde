"""Which lines a configuration has the preprocessor drop: the same as a real one drops, where that can be told."""

import random
import subprocess

import pytest

from fabbuild.source.conditions import conditional_lines, is_dropped, symbols, truth


@pytest.mark.parametrize(
    ("expression", "values", "wanted"),
    [
        ("defined(CONFIG_A)", {"A": "y"}, True),
        ("defined CONFIG_A", {}, False),
        ("!defined(CONFIG_A) && CONFIG_B", {"B": "y"}, True),
        ("CONFIG_LEVEL >= 0x10", {"LEVEL": "16"}, True),
        ("CONFIG_LEVEL > 3", {}, False),
        ("IS_ENABLED(CONFIG_A)", {"A_MODULE": "m"}, True),
        ("defined(__UBOOT__)", {}, None),
        ("defined(__UBOOT__) && defined(CONFIG_A)", {}, False),
        ("defined(__UBOOT__) || defined(CONFIG_A)", {"A": "y"}, True),
        ("CONFIG_NAME == 1", {"NAME": '"x"'}, None),
        ("CONFIG_A + 1 > 2", {"A": "y"}, None),
        ("VERSION(2, 3) > CONFIG_A", {}, None),
        ("CONFIG_IS_ENABLED(A)", {}, False),
        ("CONFIG_IS_ENABLED(A)", {"A": "y"}, True),
        ("CONFIG_IS_ENABLED(A)", {"A": "y", "SPL": "y"}, None),
        ("CONFIG_IS_ENABLED(A)", {"SPL_A": "y", "SPL": "y"}, None),
        ("defined(CONFIG_SPL_BUILD)", {}, False),
        ("defined(CONFIG_XPL_BUILD)", {"SPL": "y"}, None),
        ("(", {}, None),
        ("", {}, None),
        ("0", {}, False),
    ],
)
def test_an_expression_holds_or_not_or_is_not_known(expression, values, wanted):
    assert truth(expression, {f"CONFIG_{name}": value for name, value in values.items()}) is wanted


def dropped(text, **values):
    known = {f"CONFIG_{name}": value for name, value in values.items()}
    return [line.number for line in conditional_lines(text) if is_dropped(line.conditions, known)]


def test_lines_are_dropped_by_all_conditions_around_them():
    text = """\
a
#ifdef CONFIG_A /* why
#endif */
b
# if CONFIG_B > 1 && \\
     defined(CONFIG_C)
c
# elif 0
d
# else
e
# endif

#else
char *s = "/*"; // #endif
#endif
f
"""
    assert dropped(text) == [4, 7, 9, 11]
    assert dropped(text, A="y") == [7, 9, 15]
    assert dropped(text, A="y", B="2", C="y") == [9, 11, 15]


def test_a_symbol_that_the_file_defines_itself_tells_nothing():
    assert dropped("#ifndef CONFIG_A\n#define CONFIG_A 1\n#endif\n#ifdef CONFIG_A\na\n#endif\n") == []


def test_a_file_whose_directives_do_not_fit_has_no_lines_from_there():
    assert [line.number for line in conditional_lines("a\n#endif\nb\n")] == [1]


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("#ifdef CONFIG_A", "A"),
        ("#if defined(CONFIG_A)", "A"),
        ("#if CONFIG_IS_ENABLED(A)", "A"),
        ("#if IS_ENABLED(CONFIG_A)", "A"),
        ("#if CONFIG_A", "A"),
        ("#ifndef CONFIG_A", ""),
        ("#if CONFIG_A > 1", ""),
        ("#if defined(CONFIG_A) || defined(CONFIG_B)", ""),
        ("#ifdef __KERNEL__", ""),
    ],
)
def test_a_condition_that_one_symbol_decides_names_it(text, symbol):
    ((_, (condition,)),) = conditional_lines(f"{text}\na\n#endif\n")
    assert condition.symbol == symbol
    assert condition.directive == text


def test_the_symbols_that_conditions_ask_for_are_those_of_stages_as_well():
    (line,) = conditional_lines("#if CONFIG_IS_ENABLED(A) && IS_ENABLED(CONFIG_B)\na\n#endif\n")
    assert {"CONFIG_A", "CONFIG_SPL_A", "CONFIG_SPL", "CONFIG_B", "CONFIG_B_MODULE"} <= symbols(line.conditions)


def made(pick, depth=0):
    """Give random text of lines, each with its own name, and conditions around them."""
    for _ in range(pick.randint(1, 4)):
        if depth < 3 and pick.random() < 0.6:
            yield (
                f"#if {expression(pick)}"
                if pick.random() < 0.6
                else f"#{pick.choice(('ifdef', 'ifndef'))} {name(pick)}"
            )
            yield from made(pick, depth + 1)
            if pick.random() < 0.4:
                yield f"#elif {expression(pick)}"
                yield from made(pick, depth + 1)
            if pick.random() < 0.6:
                yield "#else"
                yield from made(pick, depth + 1)
            yield "#endif"
        else:
            yield f"line{pick.randrange(10**9)}"


def name(pick):
    return pick.choice(("CONFIG_A", "CONFIG_B", "CONFIG_N", pick.other))


def expression(pick, depth=0):
    kind = pick.randrange(6 if depth < 3 else 4)
    if kind == 0:
        return f"defined({name(pick)})"
    if kind == 1:
        return (
            f"{name(pick)} {pick.choice(('<', '>', '<=', '>=', '==', '!='))} {pick.choice(('0', '1', '2', '0x2'))}"
        )
    if kind == 2:
        return name(pick)
    if kind == 3:
        return f"!{name(pick)}"
    inner = expression(pick, depth + 1), expression(pick, depth + 1)
    return f"({pick.choice((' && ', ' || ')).join(inner)})"


@pytest.mark.parametrize("seed", range(40))
def test_what_is_dropped_is_what_a_preprocessor_drops_whatever_other_macros_are(tmp_path, seed):
    pick = random.Random(seed)
    pick.other = "OTHER" if seed % 2 else "CONFIG_A"
    text = "\n".join(made(pick)) + "\n"
    values = {f"CONFIG_{one}": pick.choice(("y", "2")) for one in "ABN" if pick.random() < 0.5}
    lines = list(conditional_lines(text))
    gone = {line.number for line in lines if is_dropped(line.conditions, values)}
    place = tmp_path / "a.c"
    place.write_text(text)
    left = []
    for other in ([], ["-DOTHER=0"], ["-DOTHER=1"], ["-DOTHER=2"]):
        defines = [f"-D{one}={'1' if value == 'y' else value}" for one, value in values.items()]
        ran = subprocess.run(["cpp", "-P", *defines, *other, place], capture_output=True, text=True, check=True)
        left.append(set(ran.stdout.split()))
    named = {number: words for number, words in enumerate(text.splitlines(), 1) if words.startswith("line")}
    assert {line.number for line in lines} == set(named)
    for number, words in named.items():
        assert (number in gone) <= all(words not in one for one in left)
        if "OTHER" not in text:
            assert (number in gone) == (words not in left[0])
