"""Which boards a series can reach, told from what their builds read before; in doubt a board is reached."""

import hashlib
import itertools
import json
import random

import pytest

from fabbuild.protocol import relevance
from fabbuild.results.reuse.keys import Views
from fabbuild.results.reuse.reach import NO_RESULT, OTHER_SETTINGS, OTHER_SOURCE, SINCE, find_reach
from fabbuild.results.reuse.store import Store, StoreEntry
from fabbuild.source.changed_files import tree_changes
from fabbuild.source.git import Git, GitError
from tests.worker.driver import Repo

START = {"Makefile": "", "net/a.c": "1", "net/b.c": "1", "README": "1", "configs/tern_defconfig": "", "Kconfig": ""}


@pytest.fixture
def repo(tmp_path):
    repo = Repo(tmp_path / "source")
    repo.commit(START)
    return repo


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite3"


def keep(path, board, commit, *files, **more):
    """Store a result of a board, built at a commit, whose build read these files."""
    depends = "".join(f"{file}\n" for file in sorted(files)).encode()
    digest = hashlib.sha256(depends).digest()
    document = json.dumps({"commit": commit, "settings": {}, **more}).encode()
    with Store.open(path) as store:
        name = f"{board} {random.random()}".encode()
        store.put([StoreEntry((name,), document, {digest: depends}, b"", digest, board)])


def reach(repo, path, *commits, boards=("tern", "wren"), settings=None):
    return find_reach(Git(repo.path), commits, boards, settings or {}, path)


def head(repo):
    return repo.git("rev-parse", "HEAD")


def test_boards_that_read_a_changed_file_are_reached_and_those_that_do_not_are_not(repo, path):
    base = head(repo)
    keep(path, "tern", base, "Makefile", "net/a.c")
    keep(path, "wren", base, "Makefile", "net/b.c")
    found = reach(repo, path, base, repo.commit({"net/a.c": "2", "README": "2"}))
    assert found.files == ("net/a.c",)
    assert (found.reached, found.unknown, found.beyond) == ({"tern": "net/a.c"}, {}, {"wren"})
    assert found.unread == ()
    told = found.words(left_out=True)
    assert told[1:] == ["1 board reached: tern", "1 board left out, because builds read nothing that changes: wren"]


def test_a_file_that_the_next_commit_changes_back_reaches_as_well(repo, path):
    base = head(repo)
    keep(path, "tern", base, "net/a.c")
    commits = [repo.commit({"net/a.c": "2"}), repo.commit({"net/a.c": "1"})]
    assert reach(repo, path, base, *commits).reached == {"tern": "net/a.c"}


@pytest.mark.parametrize("files", [{"net/new.c": ""}, {"net/b.c": None}, {".gitattributes": "* text\n"}])
def test_what_may_be_found_without_being_read_reaches_every_board(repo, path, files):
    base = head(repo)
    keep(path, "tern", base, "net/a.c")
    assert reach(repo, path, base, repo.commit(files)).reached == {"tern": next(iter(files))}


def test_documents_and_configurations_of_other_boards_reach_no_board(repo, path):
    base = head(repo)
    keep(path, "tern", base, "net/a.c")
    found = reach(repo, path, base, repo.commit({"README": "2", "configs/wren_defconfig": "x"}), boards=["tern"])
    assert (found.beyond, found.files) == ({"tern"}, ())
    assert found.words(left_out=False)[0] == "the commits change nothing that builds read"


def test_a_file_that_no_board_reads_is_named(repo, path):
    base = head(repo)
    keep(path, "tern", base, "Makefile")
    found = reach(repo, path, base, repo.commit({"net/a.c": "2"}), boards=["tern"])
    assert found.unread == ("net/a.c",)
    assert "no board whose reads are known reads net/a.c" in found.words(left_out=True)


def test_what_is_not_known_is_said_with_its_reason(repo, path):
    old = head(repo)
    base = repo.commit({"net/b.c": "2"})
    after = repo.commit({"net/a.c": "2"})
    assert reach(repo, path, base, after, boards=["tern"]).unknown == {"tern": NO_RESULT}
    keep(path, "tern", old, "net/b.c")
    keep(path, "wren", "1" * 40, "net/b.c")
    keep(path, "robin", base, "net/b.c", settings={"fragments": "a.config"})
    keep(path, "older", base, "net/b.c", settings=None)
    found = reach(repo, path, base, after, boards=["none", "tern", "wren", "robin", "older"])
    assert found.unknown == {
        "none": NO_RESULT,
        "tern": SINCE + "net/b.c",
        "wren": OTHER_SOURCE,
        "robin": OTHER_SETTINGS,
        "older": OTHER_SETTINGS,
    }
    assert not found.beyond
    told = "\n".join(found.words(left_out=True))
    assert "1 board perhaps reached, because what they read changed since they were built (net/b.c): tern" in told


def test_an_earlier_result_counts_where_the_last_one_tells_nothing(repo, path):
    base = head(repo)
    keep(path, "tern", base, "net/b.c")
    keep(path, "tern", "1" * 40, "net/a.c")
    assert reach(repo, path, base, repo.commit({"net/a.c": "2"}), boards=["tern"]).beyond == {"tern"}


def test_a_result_of_a_commit_without_a_difference_that_the_board_reads_counts(repo, path):
    keep(path, "tern", head(repo), "net/b.c")
    base = repo.commit({"net/a.c": "2"})
    found = reach(repo, path, base, repo.commit({"net/a.c": "3"}), boards=["tern"])
    assert found.beyond == {"tern"}


def test_a_commit_that_is_not_there_is_an_error(repo, path):
    keep(path, "tern", head(repo), "net/b.c")
    with pytest.raises(GitError):
        reach(repo, path, "1" * 40, head(repo))


@pytest.mark.parametrize("seed", range(4))
def test_a_board_beyond_reach_sees_the_same_tree_at_every_commit(repo, path, seed):
    """As the store's keys have it, by which its results are reused."""
    pick = random.Random(seed)
    names = [*START, "net/new.h", "doc/x.rst", "scripts/run.sh"]
    commits = [head(repo)]
    for _ in range(8):
        name = pick.choice(names)
        there = (repo.path / name).exists()
        gone = there and pick.random() < 0.3
        commits.append(repo.commit({name: None if gone else str(pick.randrange(5))}))
    lists = {f"board{n}": sorted(pick.sample(names, pick.randint(1, 5))) for n in range(12)}
    for board, files in lists.items():
        keep(path, board, pick.choice(commits), *files)
    git, beyond = Git(repo.path), 0
    for at in range(len(commits) - 2):
        series = commits[at : at + 3]
        found = reach(repo, path, *series, boards=list(lists))
        views = Views(git, [repo.git("rev-parse", commit + "^{tree}") for commit in series])
        for board in found.beyond:
            depends = [name.encode() for name in lists[board]]
            assert len(set(views.of(depends, range(3)).values())) == 1
        beyond += len(found.beyond)
        for board in found.reached:
            assert relevance.matters(
                [one for old, new in itertools.pairwise(series) for one in tree_changes(git, old, new)],
                lists[board],
            )
    assert beyond, "a seed that holds nothing"
