"""The digests of trees as a board sees them: `fabbuild.results.reuse.keys`."""

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabbuild.protocol import relevance
from fabbuild.results.reuse.keys import Views
from fabbuild.source.git import Git
from tests.support.examples import at_most, seen

_PATHS = [
    b"Kconfig",
    b"README",
    b"a.c",
    b"a.h",
    b"a.h/b",
    b"doc/a.rst",
    b"x.S",
    b"\xc3\xa4.c",
    b"\xff.h",
    b"not/there.h",
]

# Each is a whole tree: files are edited, removed, come back, become executable, a link, or a directory.
_TREES = [
    {b"Kconfig": b"1", b"README": b"1", b"a.c": b"1", b"a.h": b"1", b"\xff.h": b"1"},
    {b"Kconfig": b"1", b"README": b"2", b"a.c": b"1", b"a.h": b"1", b"\xff.h": b"1", b"doc/a.rst": b"1"},
    {b"Kconfig": b"1", b"README": b"2", b"a.c": b"2", b"a.h": b"1", b"\xff.h": b"2"},
    {b"Kconfig": b"1", b"README": b"2", b"a.c": b"2", b"x.S": b"1", b"\xc3\xa4.c": b"1"},
    {b"Kconfig": b"1", b"README": b"2", b"a.c": b"+2", b"a.h/b": b"1", b"x.S": b"1", b"\xc3\xa4.c": b"2"},
    {b"Kconfig": b"1", b"README": b"1", b"a.c": b"@2", b"a.h": b"1", b"x.S": b"2"},
    {b"a.c": b"1"},
]
_MODES = {b"+": b"100755", b"@": b"120000"}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The repository, and the listings of its trees by their ids."""
    path = tmp_path_factory.mktemp("trees")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    orders = b"".join(
        b"commit refs/heads/t%d\ncommitter a <b> 0 +0000\ndata 0\n" % number
        + b"".join(
            b'M %b inline "%b"\ndata %d\n%b\n' % (_MODES.get(text[:1], b"100644"), name, len(text), text)
            for name, text in tree.items()
        )
        for number, tree in enumerate(_TREES)
    )
    subprocess.run(["git", "-C", str(path), "fast-import", "--quiet"], input=orders, check=True)
    git = Git(path)
    found = {}
    for number in range(len(_TREES)):
        tree = git.run("rev-parse", f"t{number}^{{tree}}").stdout.decode().strip()
        found[tree] = relevance.parse_listing(git.run("ls-tree", "-r", "-z", "--full-tree", tree).stdout)
    return git, found


@settings(max_examples=at_most(60))
@given(st.data())
def test_views_are_those_of_each_tree_by_itself_whichever_were_asked_for_before(trees, data):
    """Also the keys in the stores of users hold to this."""
    git, listings = trees
    order = data.draw(st.lists(st.sampled_from(sorted(listings)), min_size=1, max_size=6))
    views = Views(git, order)
    places = st.sets(st.sampled_from(range(len(order))))
    for _ in range(data.draw(st.integers(1, 3))):
        depends = sorted(data.draw(st.sets(st.sampled_from(_PATHS))))
        wanted = data.draw(places)
        plain = [os.fsdecode(path) for path in depends]
        assert views.of(depends, wanted) == {
            place: seen(listings[order[place]], plain).encode() for place in wanted
        }
