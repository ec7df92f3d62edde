"""What of a change matters to a board: `fabbuild.protocol.relevance`."""

import subprocess

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fabbuild.protocol import relevance
from fabbuild.protocol.relevance import ABSENT, Needed, Relevance, TreeChange, TreeEntry
from tests.support.examples import seen
from tests.worker.driver import Repo

_PATHS = [
    "Makefile",
    "README",
    "board/a/MAINTAINERS",
    "build/x.c",
    "configs/a_defconfig",
    "configs/b_defconfig",
    "doc/a.rst",
    "doc/conf.py",
    ".gitattributes",
    "drivers/Kconfig",
    "drivers/a.c",
    "drivers/b.S",
    "include/a.h",
    "scripts/a.c",
    "scripts/README",
    "test/py/a.py",
    "tools/a.h",
]

_entries = st.builds(TreeEntry, st.sampled_from(["100644", "100755", "120000", "160000"]), st.sampled_from("12"))
_listings = st.dictionaries(st.sampled_from(_PATHS), _entries)
_depends = st.sets(st.sampled_from(_PATHS))


@given(_listings, _listings, _depends)
def test_two_trees_have_the_same_digest_exactly_when_nothing_between_them_matters(old, new, depends):
    same = seen(old, depends) == seen(new, depends)
    assert same == (relevance.matters(relevance.changes(old, new), depends) is None)


@given(_listings, _depends, st.sampled_from(_PATHS), _entries | st.none())
def test_one_edit_changes_the_digest_exactly_when_it_matters(old, depends, path, entry):
    new = {name: was for name, was in old.items() if name != path}
    if entry is not None:
        new[path] = entry
    same = seen(old, depends) == seen(new, depends)
    assert same == (relevance.matters(relevance.changes(old, new), depends) is None)


_unsure_depends = _depends | st.none()
_NEEDS = [Needed.NOTHING, Needed.CONFIGURING, Needed.BUILDING]


@given(_listings, _listings, _depends, _depends)
def test_nothing_is_needed_exactly_if_the_digests_over_all_reads_are_the_same(old, new, configure, build):
    same = seen(old, configure | build) == seen(new, configure | build)
    needed, why = relevance.needed([*relevance.changes(old, new)], configure, build)
    assert (needed is Needed.NOTHING) == same
    assert bool(why) != same


@given(_listings, _listings, _depends, _depends)
def test_what_building_read_is_built_and_what_only_configuring_read_is_configured(old, new, configure, build):
    changed = [*relevance.changes(old, new)]
    needed, _ = relevance.needed(changed, configure, build)
    if relevance.matters(changed, build) is not None:
        assert needed is Needed.BUILDING
    elif relevance.matters(changed, configure) is None:
        assert needed is Needed.NOTHING
    else:
        programs = [one.path for one in changed if one.path.startswith(("tools/", "scripts/"))]
        assert needed is (Needed.BUILDING if configure & {*programs} else Needed.CONFIGURING)


@given(_listings, _listings, _unsure_depends, _unsure_depends, _unsure_depends, _unsure_depends)
def test_who_read_more_needs_no_less(old, new, configure, build, more, more_built):
    changed = [*relevance.changes(old, new)]

    def both(one, other):
        return None if one is None or other is None else one | other

    # Where the reads are not known, documentation counts as not read.
    read = set().union(*filter(None, (configure, build)))
    assume(None not in (more, more_built) or not any(map(relevance.is_for_people, read)))

    less, _ = relevance.needed(changed, configure, build)
    needed, _ = relevance.needed(changed, both(configure, more), both(build, more_built))
    assert _NEEDS.index(needed) >= _NEEDS.index(less)


@given(_listings, _listings)
def test_where_reads_are_not_known_all_but_documentation_is_configured_and_built(old, new):
    changed = [*relevance.changes(old, new)]
    links = {one.path for one in changed if {one.old.mode, one.new.mode} & {"120000", "160000"}}
    matter = [one for one in changed if one.path in links or not relevance.is_for_people(one.path)]
    assert relevance.needed(changed, None, None)[0] is (Needed.BUILDING if matter else Needed.NOTHING)
    assert (relevance.matters(changed, None) is None) == (not matter)


@pytest.mark.parametrize(
    ("configure", "build", "path", "expected"),
    [
        ({"Kconfig"}, {"Makefile"}, "Kconfig", Needed.CONFIGURING),
        ({"Kconfig", "Makefile"}, {"Makefile"}, "Makefile", Needed.BUILDING),
        ({"Kconfig"}, {"Makefile"}, "drivers/Kconfig", Needed.NOTHING),
        ({"scripts/kconfig/conf.c"}, {"Makefile"}, "scripts/kconfig/conf.c", Needed.BUILDING),
        ({"tools/mkconfig.sh"}, {"Makefile"}, "tools/mkconfig.sh", Needed.BUILDING),
        ({"scripts/kconfig/conf.c"}, {"Makefile"}, "scripts/checkpatch.pl", Needed.NOTHING),
        (None, {"Makefile"}, "Kconfig", Needed.CONFIGURING),
        (None, {"Makefile"}, "scripts/checkpatch.pl", Needed.BUILDING),
        ({"Kconfig"}, None, "drivers/led.c", Needed.BUILDING),
        (None, None, "configs/one_defconfig", Needed.BUILDING),
        (None, None, "README", Needed.NOTHING),
    ],
)
def test_what_an_edit_needs(configure, build, path, expected):
    needed, why = relevance.needed(_of(path, _ONE, _TWO), configure, build)
    assert (needed, why) == (expected, "" if expected is Needed.NOTHING else path)


def test_a_script_that_nobody_reads_has_nothing_built_beside_a_change_that_is_configured():
    changed = _of("Kconfig", _ONE, _TWO) + _of("scripts/checkpatch.pl", _ONE, _TWO)
    assert relevance.needed(changed, {"Kconfig"}, {"Makefile"}) == (Needed.CONFIGURING, "Kconfig")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("doc/usage/index.rst", Relevance.NEVER),
        ("doc/sphinx/kernel_include.py", Relevance.IF_READ),
        ("board/acme/MAINTAINERS", Relevance.NEVER),
        ("board/acme/README.plover", Relevance.NEVER),
        ("test/py/tests/test_fit.py", Relevance.NEVER),
        ("test/overlay/base.dts", Relevance.IF_READ),
        ("test/Makefile", Relevance.IF_READ),
        ("tools/binman/README.rst", Relevance.NEVER),
        ("tools/mkimage.c", Relevance.IF_READ),
        ("Licenses/gpl-2.0.txt", Relevance.IF_READ),
        ("configs/plover_defconfig", Relevance.NEVER),
        ("configs/plover.config", Relevance.IF_READ),
        ("configs/more/plover_defconfig", Relevance.IF_READ),
        ("board/acme/plover_defconfig", Relevance.IF_READ),
        ("board/acme/Kconfig", Relevance.IF_READ),
        (".gitignore", Relevance.NEVER),
        ("drivers/.gitignore", Relevance.NEVER),
        (".gitattributes", Relevance.ALWAYS),
        ("board/acme/.gitattributes", Relevance.ALWAYS),
        ("board/acme/old.gitattributes", Relevance.IF_READ),
        ("arch/arm/dts/plover-u-boot.dtsi", Relevance.IF_READ),
        ("build/doc/index.rst", Relevance.ALWAYS),
    ],
)
def test_each_path_is_of_one_kind(path, expected):
    assert relevance.relevance_of(path, "100644") is expected


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_links_and_submodules_always_matter_wherever_they_are(mode):
    assert relevance.relevance_of("doc/index.rst", mode) is Relevance.ALWAYS
    assert relevance.relevance_of("drivers/led.c", mode) is Relevance.ALWAYS


def _of(path, old, new):
    return [TreeChange(path, old, new)]


_ONE, _TWO, _GONE = TreeEntry("100644", "1"), TreeEntry("100644", "2"), TreeEntry(ABSENT, "")


def test_content_matters_only_to_who_reads_it():
    edited = _of("drivers/led.c", _ONE, _TWO)
    assert relevance.matters(edited, {"drivers/led.c"}) == "drivers/led.c"
    assert relevance.matters(edited, {"drivers/serial.c"}) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [(_GONE, _ONE), (_ONE, _GONE), (_ONE, TreeEntry("100755", "1")), (_ONE, TreeEntry("120000", "1"))],
)
def test_a_header_that_comes_or_goes_or_changes_its_mode_matters_to_all(old, new):
    assert relevance.matters(_of("include/new.h", old, new), set()) == "include/new.h"


def test_documentation_matters_to_no_board_but_one_that_names_it():
    added = _of("doc/index.rst", _GONE, _ONE)
    assert relevance.matters(added, set()) is None
    assert relevance.matters(added, {"doc/index.rst"}) == "doc/index.rst"


def _git(repo, *command):
    return subprocess.run(["git", *command], cwd=repo.path, capture_output=True, check=True).stdout


def test_git_is_read_as_it_prints(source: Repo):
    odd = "a b\n\u00e9.c"
    (source.path / "link").symlink_to("Makefile")
    old = source.commit({odd: "1"})
    new = source.commit({odd: "2", "link": None})
    trees = [relevance.parse_listing(_git(source, "ls-tree", "-r", "-z", "--full-tree", one)) for one in (old, new)]
    listing = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index")
    between = relevance.parse_changes(_git(source, *listing, old, new))
    assert trees[0]["link"].mode == "120000"
    assert [change.path for change in between] == [odd, "link"]
    assert [(one.path, one.old.mode, one.new.mode) for one in relevance.changes(*trees)] == [
        (one.path, one.old.mode, one.new.mode) for one in between
    ]
    assert relevance.matters(between, set()) == "link"
    assert relevance.matters(between, {odd}) == odd


@pytest.mark.parametrize("data", [b"nonsense\0", b":100644 100644 1 2 M\0", b":100644 100644 1 2 M\0a"])
def test_what_git_did_not_print_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        relevance.parse_changes(data)


def test_the_list_of_dependencies_comes_back_as_it_was_written():
    paths = ["a b.c", "b\udcff.h", "c/d.dts"]
    assert relevance.parse_depends(relevance.format_depends(reversed(paths))) == paths


@pytest.mark.parametrize("data", [b"", b"\n", b"a", b"b\na\n", b"a\na\n", b"/etc/passwd\n", b"../a\n", b"a\0\n"])
def test_a_list_of_dependencies_that_is_none_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        relevance.parse_depends(data)
