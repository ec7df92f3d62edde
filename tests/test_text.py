"""Text for people: what is visible, short, and broken into lines."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.reporting.summary.lines import parse
from fabbuild.text import cells, clock, cut, duration, first_error, names, size, visible, wrapped


@given(st.text(st.characters(), max_size=40))
def test_nothing_invisible_is_left(text: str) -> None:
    shown = visible(text)
    assert all(char.isprintable() or char.isspace() for char in shown)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", shown)
    assert visible(shown) == shown
    shown.encode("utf-8")
    assert "\n" not in shown
    assert visible(text, newlines=True).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\x7f\x9b", r"a\x7f\x9b"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("a\tb", "a       b"),
        ("a\nb\r", r"a\nb\r"),
    ],
)
def test_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", ""),
        (" \n\n", ""),
        ("In file included from a.c\na.c:3:1: warning: unused\n", "a.c:3:1: warning: unused"),
        (
            "a.c:3:1: warning: x\na.c:5:1: error: no such thing\nmake: *** [x] Error 1",
            "a.c:5:1: error: no such thing",
        ),
        ("scripts/kconfig: odd\nmake[1]: *** [x] Error 1\nmake: *** [y] Error 2", "make[1]: *** [x] Error 1"),
        (
            "Error: board.dts:12.3-4 syntax error\nFATAL ERROR: Unable to parse",
            "Error: board.dts:12.3-4 syntax error",
        ),
        (
            "ld: a.o: in function `f':\na.c:(.text+0x4): undefined reference to `g'",
            "a.c:(.text+0x4): undefined reference to `g'",
        ),
        (
            "Kconfig:9:warning: odd\ndrivers/Kconfig.soc:7: 'endif' in different file than 'if'\nmake[1]: *** [x] Error 1",
            "drivers/Kconfig.soc:7: 'endif' in different file than 'if'",
        ),
        ("something odd\nmore", "something odd"),
        (
            "a.py:3: DeprecationWarning: Cannot find it\nTraceback:\nModuleNotFoundError: No module named 'b'\nmake: *** [x]",
            "ModuleNotFoundError: No module named 'b'",
        ),
        ("a.c:1: error: \x1b[31mred", r"a.c:1: error: \x1b[31mred"),
        (
            "make[2]: sdl2-config: No such file or directory\narch/sandbox/sdl.c:10:10: fatal error: SDL2/SDL.h: No",
            "arch/sandbox/sdl.c:10:10: fatal error: SDL2/SDL.h: No",
        ),
    ],
)
def test_the_first_error_is_the_line_that_tells(stderr: str, line: str) -> None:
    assert first_error(stderr) == line


def test_the_summary_blames_the_compilers_error_rather_than_a_tool_that_was_looked_for() -> None:
    culprit = parse("make[2]: sdl2-config: No such file or directory\na.c:10:10: fatal error: b.h: No such").culprit
    assert culprit
    assert culprit.text == "a.c:10:10: fatal error: b.h: No such"


def test_an_error_line_of_megabytes_is_cut_quickly() -> None:
    began = time.process_time()
    assert len(first_error("error: " + "x" * 4_000_000)) == 200
    assert time.process_time() - began < 1


def test_lengths_of_time_and_sizes_are_told_in_words() -> None:
    assert [duration(seconds) for seconds in (0, 0.34, 59.6, 230, 7500)] == [
        "0 s",
        "0.3 s",
        "1 min",
        "3 min 50 s",
        "2 h 5 min",
    ]
    assert [clock(seconds) for seconds in (12, 230, 7500)] == ["0:12", "3:50", "2:05:00"]
    assert [size(number) for number in (812, 3400, 123_456_789, 120e9)] == [
        "812 B",
        "3.4 kB",
        "123 MB",
        "120 GB",
    ]


def test_lists_are_shortened_with_a_count() -> None:
    assert names(["a", "b", "c"], 2) == "a b … and 1 more"
    assert cut("abcdef", 4) == "abc…"


#: Of one column, of two, and of none: Latin, Chinese, an accent that stands over the letter before it, a space.
_COLUMNS = st.text(st.sampled_from("abcde \u6f22\u5b57\u0301"), max_size=200)


@given(_COLUMNS | st.text(st.characters(categories=["L", "Zs"]), max_size=200), st.integers(20, 80))
def test_wrapped_lines_fit_and_nothing_is_missing(text: str, width: int) -> None:
    lines = wrapped(text, width, 2, 2)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(_COLUMNS, st.integers(1, 30))
def test_what_is_cut_fits_and_is_whole_where_it_does(text: str, width: int) -> None:
    short = cut(text, width)
    assert cells(short) <= width
    assert short == text or (text.startswith(short[:-1]) and short.endswith("…") and cells(text) > width)


def test_a_line_is_broken_between_words_and_only_a_word_without_room_within() -> None:
    assert wrapped("one two three four five six", 20, 2, 2) == ["  one two three four", "    five six"]
    assert wrapped("a " + "\u6f22" * 20, 20, 0, 2) == ["a " + "\u6f22" * 9, "  " + "\u6f22" * 9, "  \u6f22\u6f22"]
    assert wrapped("x = 'y'   # z" + " w" * 10, 20) == ["x = 'y'   # z w w w", "w w w w w w w"]
