"""From a result tree into the store and back into another one: what names a result, and what is never brought."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from fabbuild.model import Board, Job, Result
from fabbuild.protocol import relevance
from fabbuild.results.reuse.audit import compare
from fabbuild.results.reuse.keys import BuildTools, StoredDocument, Views
from fabbuild.results.reuse.lookup import StoreLookup
from fabbuild.results.reuse.readers import Readers, readers
from fabbuild.results.reuse.store import Store
from fabbuild.results.reuse.writer import StoreWriter
from fabbuild.results.tree import BuiltFrom, ResultTree, decisive
from fabbuild.source.repository import Source
from tests.support.examples import seen

BOARD = Board("wren", "riscv64")
TOOLS = BuildTools("gcc 12.2.0", "identity 1")
DEPENDS = ["arch/riscv/cpu/generic/cpu.c", "common/main.c", "configs/wren_defconfig", "include/common.h"]


class Place:
    """A source, a store, and a run's way into it and out of it."""

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.source = source
        self.store_path = path / "store.sqlite3"
        self.settings: dict[str, object] = {"reproducible_builds": True}
        self.runs = 0

    def tree(self, name, commits):
        return ResultTree(self.path / "out", name, commits)

    def keep(self, commits, results, *, tools=TOOLS, files=None, name="first"):
        """Write results down as a run does, and have them kept."""
        tree = self.tree(name, commits)
        files = {"depends": relevance.format_depends(DEPENDS), **(files or {})}
        keeper = StoreWriter(self.views(commits), commits, self.settings, self.store_path)
        for result in results:
            staged = {}
            for name_, data in files.items():
                staged[name_] = self.path / f"staged-{name_}"
                staged[name_].write_bytes(data)
            built = BuiltFrom(commits[result.upto].tree, BOARD.arch, tools.toolchain, decisive(self.settings))
            place = tree.record(result, built, toolchain={"arch": BOARD.arch}, files=staged)
            keeper.keep(BOARD, result, tools, {"arch": BOARD.arch}, place, list(files))
        keeper.close(20)
        assert not keeper.trouble
        return tree

    def views(self, commits):
        return Views(self.source.git, [commit.tree for commit in commits])

    def restore(self, commits, *, build_tools=(TOOLS,), board=BOARD, failures=True, name="second"):
        """Bring what there is into another tree; give the indices of the commits, and the tree."""
        tree = self.tree(name, commits)
        with Store.open(self.store_path) as store:
            lookup = StoreLookup(store, self.views(commits), commits, self.settings)
            hits = lookup.find(Job(board, tuple(range(len(commits)))), build_tools)
            return [hit.upto for hit, _, _ in lookup.restore(board, hits, tree, failures=failures)], tree

    def change(self, message, **files):
        """Make a commit upon the tip with these contents; "__" in a name is "/", and "_dot_" a dot."""
        for name, text in files.items():
            path = self.source.path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", message]):
            subprocess.run(["git", "-C", str(self.source.path), *command], check=True)
        return self.source.range("HEAD")


@pytest.fixture
def place(tmp_path, sample_repo):
    return Place(tmp_path, Source.open(sample_repo.path))


def result(upto=0, **told):
    details = {"seconds": 2.5, "sha256": "ab" * 32, "environment": {"LC_ALL": "C"}}
    return Result(
        BOARD.target,
        upto,
        **{"return_code": 0, "sizes": "1 2 3 6 6 u-boot\n", "machine": "m1", "details": details, **told},
    )


def commanded(commits, upto=0, **told):
    made = result(upto, **told)
    command = f"git checkout --detach {commits[upto].hash}\nmake\n"
    return dataclasses.replace(made, details={**made.details, "command": command})


def test_a_result_comes_back_as_it_was_but_for_what_tells_where_it_came_from(place):
    commits = place.source.branch("series")
    first = place.keep(
        commits, [commanded(commits, 1, stdout="said", stderr="warned: x\n")], files={".config": b"A=y\n"}
    )
    brought, second = place.restore(commits)
    assert 1 in brought
    one, other = first.place("wren", 1), second.place("wren", 1)
    names = {path.name for path in one.iterdir()}
    assert names == {path.name for path in other.iterdir()}
    assert {"done", "err", "log", "sizes", "host", "toolchain", "out-env", "out-cmd", ".config", "depends"} <= names
    for name in names - {"built-from"}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    told, before = (json.loads((path / "built-from").read_text()) for path in (other, one))
    origin = told.pop("reused")
    assert told == before
    assert origin["commit"] == commits[1].hash
    assert origin["machine"] == "m1"
    assert origin["output"] == str(one)
    assert compare(one, other, reproducible=True) == []


def test_commits_that_are_the_same_to_the_board_get_one_result_each_with_its_own_command(place):
    """Several commits had one name, and only the last of them was found."""
    commits = place.source.branch("series")
    place.keep(commits, [commanded(commits, 0)], files={".config": b"A=y\n"})
    brought, tree = place.restore(commits)
    assert brought == [0, 1, 2, 3, 4, 5], "nothing that this list names changes in the series"
    for upto in brought:
        assert commits[upto].hash in (tree.place("wren", upto) / "out-cmd").read_text()
        assert json.loads((tree.place("wren", upto) / "built-from").read_text())["tree"] == commits[upto].tree
    assert len({(tree.place("wren", upto) / ".config").stat().st_ino for upto in brought}) == 1
    assert not (tree.own / "incoming" / "reused").exists()


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"README": "other words\n"}, True),
        ({"doc__new_dot_rst": "words\n"}, True),
        ({"lib__string_dot_c": "/* not read, says the list */\n"}, True),
        ({"include__common_dot_h": "#define OTHER 1\n"}, False),
        ({"common__common_dot_h": "/* is found before include/common.h */\n"}, False),
        ({"Makefile": "all:\n"}, True),
        ({"lib__Kconfig": "config NEW\n"}, False),
        ({"configs__wren_defconfig": "CONFIG_OTHER=y\n"}, False),
    ],
    ids=str,
)
def test_another_tree_is_the_same_to_the_board_when_nothing_that_matters_differs(place, changed, same):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)])
    after = place.change("change it", **changed)
    assert place.restore(after)[0] == ([0] if same else [])


def test_a_failure_is_brought_for_the_very_tree_only_and_not_where_failures_are_to_be_built(place):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits, return_code=2, stderr="x.c:1: error: no\n")])
    assert place.restore(commits)[0] == [0]
    assert place.restore(commits, failures=False)[0] == []
    assert place.restore(place.change("words", README="other\n"))[0] == []


def test_another_compiler_identity_setting_or_board_is_another_result(place):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)])
    for build_tools in ([BuildTools("gcc 13", TOOLS.identity)], [BuildTools(TOOLS.toolchain, "identity 2")], []):
        assert place.restore(commits, build_tools=build_tools)[0] == []
    assert place.restore(commits, build_tools=[BuildTools("gcc 13", "x"), TOOLS])[0] == [0], "any machine's will do"
    for other in (Board("wren", "riscv32"), Board("robin", "riscv64")):
        assert place.restore(commits, board=other)[0] == []
    place.settings = {"reproducible_builds": True, "no_lto": True}
    assert place.restore(commits)[0] == []
    place.settings = {}
    assert place.restore(commits)[0] == []


def test_without_reproducible_builds_there_is_no_checksum(place):
    place.settings = {}
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)])
    brought, tree = place.restore(commits)
    assert brought == [0]
    assert "sha256" not in json.loads((tree.place("wren", 0) / "built-from").read_text())


@pytest.mark.parametrize("return_code", [0, 2])
def test_a_stored_result_tells_which_board_read_what_also_where_it_failed(place, return_code):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits, return_code=return_code)])
    found = [
        readers(frozenset({file}), {BOARD.target, "tern"}, place.store_path) for file in (b"common/main.c", b"x")
    ]
    assert found == [Readers(frozenset({"wren"}), frozenset({"wren"})), Readers(frozenset(), frozenset({"wren"}))]


@pytest.mark.parametrize("name", ["../../escaped", "done", ".", "a/b", "err"])
def test_what_the_store_calls_a_file_is_no_path(place, name):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)], files={"u-boot.cfg": b"x"})
    rewrite(place, lambda document: {**document, "files": {name: document["files"]["u-boot.cfg"]}})
    brought, _ = place.restore(commits)
    assert brought == []
    assert not (place.path / "out" / "escaped").exists()


@pytest.mark.parametrize(
    "wrong", [{"family": "00" * 32}, {"return_code": "0"}, {"files": ["x"]}, {"files": {"a": "zz"}}]
)
def test_a_document_that_is_none_of_this_board_is_not_brought(place, wrong):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)])
    rewrite(place, lambda document: {**document, **wrong})
    assert place.restore(commits)[0] == []


def test_a_result_that_lacks_a_content_is_not_brought(place):
    commits = place.source.range("HEAD")
    place.keep(commits, [commanded(commits)], files={"u-boot.cfg": b"x"})
    with Store.open(place.store_path) as store:
        store._db.execute("UPDATE content SET data = x'00' WHERE id = 1")
    brought, tree = place.restore(commits)
    assert brought == []
    assert not (tree.place("wren", 0) / "done").exists()


def rewrite(place, change):
    """Have the store say something else of its one result, with a digest that is right."""
    with Store.open(place.store_path) as store:
        ((number,),) = store._db.execute("SELECT id FROM result").fetchall()
        document = change(msgspec.json.decode(store.document(number)))
        names = [name for (name,) in store._db.execute("SELECT key FROM name")]
        contents = {
            bytes(digest): store.content(digest) for (digest,) in store._db.execute("SELECT digest FROM content")
        }
        from fabbuild.results.reuse.store import StoreEntry

        store.put([StoreEntry(tuple(names), msgspec.json.encode(document), contents)])


def test_views_are_the_same_however_they_are_found_out(place):
    """Tree by tree from what differs, or each from its own listing."""
    commits = place.source.branch("series")
    place.change("remove and add", lib__new_dot_c="int a;\n")
    (place.source.path / "lib" / "string.c").unlink()
    commits += place.change("remove")
    depends = [*DEPENDS, "lib/string.c", "not/there.h"]
    together = place.views(commits).of([os.fsencode(path) for path in depends], range(len(commits)))
    for upto, commit in enumerate(commits):
        out = place.source.git.run("ls-tree", "-r", "-z", "--full-tree", commit.tree).stdout
        assert together[upto] == seen(relevance.parse_listing(out), depends).encode(), upto


def test_kept_is_read_back_as_it_was_written():
    document = StoredDocument("f", "m", "c", 1.0, "o", 0, environment={"a": "b"}, files={"x": "00"})
    assert msgspec.json.decode(msgspec.json.encode(document), type=StoredDocument) == document


def test_one_list_of_two_compilers_brings_the_results_of_either(place):
    other = BuildTools("gcc 13", TOOLS.identity)
    first = place.source.range("HEAD")
    place.keep(first, [commanded(first)])
    like_first = place.change("words", README="other\n")
    second = place.change("what is read", include__common_dot_h="#define OTHER 1\n")
    place.keep(second, [commanded(second)], tools=other)
    commits = [*like_first, *place.change("more words", README="more\n")]
    for tools, brought in [((TOOLS,), [0]), ((other,), [1]), ((TOOLS, other), [0, 1]), ((other, TOOLS), [0, 1])]:
        assert place.restore(commits, build_tools=tools)[0] == brought


def test_a_board_that_is_not_found_and_read_a_changed_file_is_affected(place):
    place.keep(place.source.branch("series"), [commanded(place.source.branch("series"), 0)])
    commits = place.change("other", Makefile="# other\n", **{DEPENDS[0].replace("/", "__"): "/* other */\n"})

    def affected(*changed, commits=commits):
        with Store.open(place.store_path) as store:
            lookup = StoreLookup(store, place.views(commits), commits, place.settings, frozenset(changed))
            lookup.find(Job(BOARD, (0,)), [TOOLS])
            lookup.find(Job(dataclasses.replace(BOARD, target="unknown"), (0,)), [TOOLS])
            return lookup.affected

    assert affected(DEPENDS[0], "odd.c") == {BOARD.target}
    assert affected("odd.c") == affected() == set()
    found = place.source.branch("series")[:1]
    assert affected(DEPENDS[0], commits=found) == set(), "it need not be built"
