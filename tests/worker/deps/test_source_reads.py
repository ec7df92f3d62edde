"""The files that builds read since their output directory was empty: `fabbuild.worker.deps.source_reads`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.worker.deps.source_reads import SourceReads

_PATHS = ["Kconfig", "Makefile", "a b.c", "b\udcff.h", ".gitignore"]

#: What makes read: whether each builds, and its files, or None; None in place of a make: the worker is started anew.
_makes = st.lists(st.none() | st.tuples(st.booleans(), st.none() | st.sets(st.sampled_from(_PATHS))), max_size=8)


def again(reads):
    """Return the reads as another worker finds them."""
    return SourceReads(json.loads(json.dumps(reads.state())))


@given(_makes)
def test_reads_add_up_and_once_unknown_stay_so_also_for_the_next_worker(makes):
    reads = SourceReads()
    for make in makes:
        if make is None:
            reads = again(reads)
        else:
            reads.note(make[1], "lost", building=make[0])
    for building, found in ((False, reads.configure), (True, reads.build)):
        noted = [paths for one in makes if one for builds, paths in [one] if builds is building]
        assert found == (None if None in noted else frozenset().union(*noted))
    known = reads.configure is not None and reads.build is not None
    assert reads.all == (reads.configure | reads.build if known else None)


def test_the_latest_are_those_that_this_worker_saw_building():
    reads = SourceReads()
    reads.note({"Makefile"}, "", building=True)
    reads = again(reads)
    reads.note({"Kconfig"}, "", building=False)
    reads.note({"main.c"}, "", building=True)
    reads.note(None, "lost", building=True)
    assert reads.latest == {"main.c"}


def test_the_link_of_a_worktree_to_its_repository_is_no_source():
    reads = SourceReads()
    reads.note({".git", "a/.git", ".gitattributes"}, "", building=True)
    assert reads.build == {"a/.git", ".gitattributes"}


def test_the_first_reason_why_reads_are_not_known_is_told():
    reads = SourceReads()
    reads.note(None, "no watches", building=True)
    reads.note(None, "another", building=True)
    assert reads.why == "no watches"
    assert again(reads).why == "an earlier build was not observed"


@pytest.mark.parametrize(
    "state", ["", [], {}, 7, {"configure": {}, "build": {}}, {"configure": [1], "build": ["a", None]}]
)
def test_a_state_of_an_output_directory_that_lists_no_reads_means_that_they_are_not_known(state):
    reads = SourceReads(state)
    assert (reads.configure, reads.build, reads.all) == (None, None, None)
    reads.note({"Makefile"}, "", building=True)
    assert (reads.build, reads.all) == (None, None)


def test_what_is_known_of_one_kind_is_kept_if_the_other_is_not():
    reads = SourceReads({"configure": ["Kconfig"], "build": None})
    assert (reads.configure, reads.build, reads.all) == ({"Kconfig"}, None, None)
