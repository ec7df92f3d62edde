"""Selection of boards by terms: what is taken, in which order, and what is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.errors import SelectionError
from fabbuild.model import Board
from fabbuild.source.boards.selection import parse_terms, quoted, select_boards, unmatched_terms

SNOW = Board("snow", "arm", "armv7", "exynos", "samsung", "smdk5250", "snow")
PEACH = Board("peach-pi", "arm", "armv7", "exynos", "samsung", "peach-pi", "peach_pi")
TRATS = Board("trats", "arm", "armv7", "exynos", "samsung", "trats", "trats")
JUNO = Board("vexpress_juno", "aarch64", "armv8", "", "armltd", "vexpress64", "vexpress_aemv8")
ARMADILLO = Board("armadillo", "powerpc", "mpc85xx", "", "freescale", "p1010rdb", "P1010RDB")
SANDBOX = Board("sandbox", "sandbox", "sandbox", "", "", "sandbox", "sandbox")
SPL = Board("sandbox_spl", "sandbox", "sandbox", "", "", "sandbox", "sandbox")
TOOLS = Board("tools-only", "sandbox", "sandbox", "", "", "sandbox", "sandbox")
ALL = [SNOW, PEACH, TRATS, JUNO, ARMADILLO, SANDBOX, SPL, TOOLS]


def names(terms="", exclude="", only="") -> str:
    return " ".join(board.target for board in select_boards(ALL, terms, exclude, only))


@pytest.mark.parametrize(
    ("terms", "taken"),
    [
        ("arm", "armadillo peach-pi snow trats vexpress_juno"),  # target, arch, and cpu armv8
        ("aarch64", "vexpress_juno"),
        ("sandbox", "sandbox sandbox_spl tools-only"),
        ("samsung", "peach-pi snow trats"),
        ("exynos", "peach-pi snow trats"),
        ("smdk", "snow"),
        ("P1010", "armadillo"),
        ("box", None),  # only the start of a field counts
        ("SNOW", None),
        ("snow trats", "snow trats"),
        ("snow,trats", "snow trats"),
        (" snow ,, trats ,", "snow trats"),
        ("snow & exynos", "snow"),
        ("snow&exynos", "snow"),
        ("snow &exynos sandbox", "sandbox sandbox_spl snow tools-only"),
        ("arm & samsung & peach", "peach-pi"),
        ("snow & sandbox", None),
        ("(snow|peach)", "peach-pi snow"),
        (".*_spl$", "sandbox_spl"),
        ("^snow$", "snow"),
        ("x?", "armadillo peach-pi sandbox sandbox_spl snow tools-only trats vexpress_juno"),
        ("", "armadillo peach-pi sandbox sandbox_spl snow tools-only trats vexpress_juno"),
        (" , ", "armadillo peach-pi sandbox sandbox_spl snow tools-only trats vexpress_juno"),
        (["snow", "&", "exynos"], "snow"),
        (["snow & exynos", "trats"], "snow trats"),
        ([], "armadillo peach-pi sandbox sandbox_spl snow tools-only trats vexpress_juno"),
    ],
)
def test_terms(terms, taken):
    if taken is None:
        with pytest.raises(SelectionError, match="takes none of the 8 boards"):
            names(terms)
    else:
        assert names(terms) == taken


def test_an_excluded_board_is_out_even_when_it_is_named():
    assert names("snow trats", exclude="snow") == "trats"
    assert names(only="snow trats", exclude="snow") == "trats"


def test_exclude_is_a_list_of_terms():
    assert names("sandbox", exclude="sandbox_,tools") == "sandbox"
    assert names("samsung", exclude="exynos & snow") == "peach-pi trats"


def test_only_takes_exact_names():
    assert names(only="sandbox") == "sandbox"
    assert names(only="sandbox,snow") == "sandbox snow"


def test_only_and_terms_must_both_hold():
    assert names("samsung", only="snow sandbox") == "snow"


def test_only_names_what_is_no_board_and_what_is_like_it():
    with pytest.raises(SelectionError, match=r"no such board: snw \(did you mean snow\?\), zzz$"):
        names(only="snw trats zzz")
    with pytest.raises(SelectionError, match=r"^no such board: snwo_defconfig \(did you mean snow\?\)$"):
        names(only="snwo_defconfig")
    with pytest.raises(SelectionError, match=r"^no such board: nsuch$"):
        names(only="nsuch")


def test_only_says_how_a_name_with_a_comma_is_given():
    boards = [Board("e,f", "arm"), Board("snow", "arm")]
    with pytest.raises(
        SelectionError, match=r"no such board: e \(did you mean e\\,f\?\), f \(did you mean e\\,f\?\)$"
    ):
        select_boards(boards, only="e,f")


@pytest.mark.parametrize("only", ["snow_defconfig", "configs/snow_defconfig", "configs/snow"])
def test_only_takes_the_name_of_a_defconfig(only):
    assert names(only=f"sandbox,{only}") == "sandbox snow"


@pytest.mark.parametrize("bad", ["*", "(", "[a", "a**", "arm (", "arm & [", r"\Z(?P<"])
def test_a_bad_expression_is_named(bad):
    word = next(word for word in bad.replace("&", " ").split() if word != "arm")
    with pytest.raises(SelectionError) as caught:
        names(bad)
    assert repr(word) in str(caught.value)
    with pytest.raises(SelectionError, match="not a regular expression"):
        names("snow", exclude=bad)


@pytest.mark.parametrize("bad", ["&", "& snow", "snow &", "snow & & trats"])
def test_and_needs_two_sides(bad):
    with pytest.raises(SelectionError, match="both sides"):
        names(bad)


def test_nothing_left_says_what_was_asked_for():
    with pytest.raises(SelectionError, match="--boards 'sandbox'; --exclude 'san' takes none"):
        names("sandbox", exclude="san")
    with pytest.raises(SelectionError, match="did you mean samsung"):
        names("samsnug")
    with pytest.raises(SelectionError, match=r"did you mean arm\?$"):
        names("amr")
    with pytest.raises(SelectionError, match=r"boards: 'samsnug' matches nothing; did you mean samsung\?$"):
        names("arm & samsnug")
    with pytest.raises(SelectionError, match=r"boards: 'zzz', 'yyy' match nothing; `boards` lists them$"):
        names("arm & zzz, yyy")
    with pytest.raises(SelectionError, match=r"boards; `boards` lists them$"):
        names("sandbox & snow")
    with pytest.raises(SelectionError, match="the tree has no boards"):
        select_boards([])


def test_every_error_is_one_line():
    for bad in ("(\n", "nosuch\nterm", "&\n&"):
        with pytest.raises(SelectionError) as caught:
            names(bad)
        assert "\n" not in str(caught.value)


def test_terms_that_match_nothing_are_told():
    assert unmatched_terms(ALL, "snow nosuch arm & nothing, trats") == ["nosuch", "arm & nothing"]


# Whatever the terms are:

fields = st.sampled_from(["arm", "armv7", "armv8", "aarch64", "mips", "sandbox", "snow", "acme", ""])
boards = st.lists(
    st.builds(Board, st.text("abs", min_size=1, max_size=3), *[fields] * 6),
    unique_by=lambda b: b.target,
    max_size=12,
)
term = st.sampled_from(["a", "arm", "arm.*", "mips", "s", "snow", ".*a$", "b", "(ac|mi)", "x"])


def taken(all_boards, *args, **kwargs) -> set[Board]:
    try:
        return set(select_boards(all_boards, *args, **kwargs))
    except SelectionError:
        return set()


@given(boards, term, term)
def test_or_is_the_union_and_and_the_intersection(known, one, two):
    assert taken(known, f"{one} {two}") == taken(known, one) | taken(known, two)
    assert taken(known, f"{one},{two}") == taken(known, f"{one} {two}") == taken(known, [one, two])
    assert taken(known, f"{one} & {two}") == taken(known, one) & taken(known, two) == taken(known, f"{two}&{one}")


@given(boards, st.lists(term, max_size=3), st.lists(term, max_size=3))
def test_exclude_wins(known, terms, excluded):
    out = taken(known, excluded) if excluded else set()
    assert taken(known, terms, exclude=excluded) == taken(known, terms) - out


@given(boards, st.lists(term, max_size=4), st.randoms())
def test_order_of_boards_and_terms_is_no_matter(known, terms, random):
    other_boards, other_terms = list(known), list(terms)
    random.shuffle(other_boards)
    random.shuffle(other_terms)
    try:
        once = select_boards(known, terms)
    except SelectionError:
        with pytest.raises(SelectionError):
            select_boards(other_boards, other_terms)
    else:
        assert once == select_boards(other_boards, other_terms) == sorted(once, key=lambda b: b.target)


@given(boards, st.data())
def test_only_takes_just_the_named(known, data):
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True) if known else st.just([]))
    expected = set(chosen) or set(known)
    assert taken(known, only=[board.target for board in chosen]) == expected


@given(st.text(max_size=30))
def test_any_text_is_terms_or_a_selection_error(text):
    with contextlib.suppress(SelectionError):
        parse_terms(text)


def test_a_comma_after_a_backslash_is_part_of_a_name():
    boards = [Board("e,f", "arm"), Board("e", "arm"), Board("f", "arm")]
    for only, terms in ((quoted("e,f"), ""), ("", r"e\,f")):
        assert [board.target for board in select_boards(boards, terms, only=only)] == ["e,f"]
    assert [board.target for board in select_boards(boards, only="e,f")] == ["e", "f"]
    assert [board.target for board in select_boards(boards, only=r"f e\,f")] == ["e,f", "f"]
