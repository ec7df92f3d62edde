"""Our summary against ``buildman -s``, fact by fact, by `benchmarks/summary_facts.py`; and that it would notice."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from factslib import ours, peer, trees
from factslib.facts import KINDS, Fact
from summary_facts import FULL, KNOWN, Tree, compare, compare_drawn, compare_spoilt, look_at

from fabbuild.reporting.summary.changes import SummaryScope
from fabbuild.reporting.summary.facts import as_json
from fabbuild.reporting.summary.reader import open_range
from fabbuild.reporting.summary.summarizer import summarize
from tests.support.peer import BUILDMAN

with_peer = pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment")

EVERYTHING = SummaryScope(sizes=True, functions=True, config=True)


@pytest.fixture
def series(sample_repo):
    return trees.series_of(sample_repo.path)


def facts(output, name="series"):
    return ours.facts_of(as_json(summarize(open_range(output, name), EVERYTHING)))


@pytest.mark.deep
@with_peer
def test_of_trees_drawn_by_lot_both_say_the_same(tmp_path, capsys):
    found = compare_drawn(BUILDMAN, (2, 4, 5), tmp_path)
    assert not found.wrong, capsys.readouterr().out
    assert all(found.agreed[kind] for kind in KINDS), found.table()


@pytest.mark.deep
@with_peer
def test_we_read_a_tree_that_the_peer_fails_on(tmp_path):
    found = compare_spoilt(BUILDMAN, tmp_path, ["blank sizes", "stderr in another encoding"])
    assert not found.wrong
    assert found.crashes == {"stderr in another encoding": 1}


@pytest.mark.parametrize("name", trees.SPOILT)
def test_what_is_wrong_with_one_board_changes_nothing_of_another(series, tmp_path, name):
    def of_the_other(results):
        found = facts(trees.write(tmp_path / str(len(results)), series, results).parent)
        return {fact for fact in found if fact.where[0] == trees.UNSPOILT}

    well = of_the_other(trees.WELL | {4: {}})
    spoilt = of_the_other(trees.SPOILT[name])
    # Where the other's own results are missing there is nothing to compare.
    missing = any(trees.UNSPOILT not in trees.SPOILT[name].get(number, {}) for number in (1, 2))
    assert spoilt == well or (missing and not {fact.kind for fact in spoilt} - {"state"})
    assert {fact.kind for fact in well} == {"state", "board-size"}


@with_peer
def test_each_kind_of_difference_is_noticed(series, tmp_path):
    root = trees.write(tmp_path / "drawn", series, trees.drawn(["egret", "heron", "tern", "wren"], 6, 2))
    said = peer.run(BUILDMAN, series.source, root.parent, "series", FULL, env={"HOME": str(tmp_path)})
    tree, own = look_at(root, said.facts), facts(root.parent)
    assert not compare(said.facts, own, tree).wrong
    assert {fact.kind for fact in own & said.facts} == set(KINDS)
    for kind in KINDS:
        fact = min(fact for fact in own & said.facts if fact.kind == kind)
        other = fact._replace(what=fact.what + "1")
        assert compare(said.facts, own - {fact} | {other}, Tree()).wrong, fact
        # Nor is a fact that only one of them has passed over.
        assert compare(said.facts - {fact}, own, Tree(resized=tree.resized)).wrong, fact
        assert compare(said.facts, own - {fact}, Tree()).wrong, fact


def test_a_line_of_the_peers_that_nobody_knows_is_not_passed_over():
    text = "Summary of 1 commit\n01: net: Add it\n       arm:  w+   tern +   wren\n  a new kind of line\n"
    found = list(peer.taken_apart(text, with_boards=True))
    assert "  a new kind of line" in found
    assert (False, Fact("state", 1, ("tern",), "warns")) in found
    assert (False, Fact("state", 1, ("wren",), "fails")) in found


def test_each_known_difference_has_its_reason():
    assert all(one.who in ("peer", "ours") and len(one.reason) > 20 for one in KNOWN)
