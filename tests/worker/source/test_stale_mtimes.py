"""What a checkout changes without make's seeing it is made seen, also when that checkout did not come to its end."""

import os
import subprocess

import pytest

from fabbuild.worker.base.processes import Processes
from fabbuild.worker.source.git import GitError
from tests.worker.driver import push
from tests.worker.fixtures import make_slots

#: Long before anything here is touched, in ns.
OLD = 10**18


@pytest.fixture
def hidden(work, source):
    """Two commits; the second has a header that comes before one of the same name, and many other files."""
    first = source.commit({"second/x.h": "#define X 1\n"})
    many = {f"{'d' * number}/{number}.dts": "x\n" for number in range(1, 100)}
    second = source.commit({"first/x.h": "#define X 2\n", **many})
    push(work, source.path)
    return first, second


def age(tree, header):
    """Make the header look old, and git know it."""
    os.utime(header, ns=(OLD, OLD))
    subprocess.run(["git", "-C", tree.path, "update-index", "-q", "--refresh"], check=True)


def begun(processes, work, commit):
    """Give a worktree at a commit in which something was built."""
    (tree,) = make_slots(processes, work, 1, commit)
    os.makedirs(tree.output)
    with open(os.path.join(tree.output, "main.o"), "w", encoding="utf-8"):
        pass
    header = os.path.join(tree.path, "second", "x.h")
    age(tree, header)
    return tree, header


def seen(tree, header):
    """Whether make cannot take what includes the header for up to date: it is newer, or nothing is there."""
    return os.stat(header).st_mtime_ns != OLD or not os.path.exists(os.path.join(tree.output, "main.o"))


def test_a_change_of_very_many_files_is_looked_at_whole(processes, work, hidden, monkeypatch):
    # What is kept of a program's words is less than the list, unless more is asked for.
    monkeypatch.setattr(Processes.run, "__defaults__", (None, 4096, None, (), None))
    tree, header = begun(processes, work, hidden[0])
    tree.checkout(hidden[1])
    assert os.stat(header).st_mtime_ns != OLD
    assert os.path.exists(os.path.join(tree.output, "main.o"))


def test_what_cannot_be_listed_is_not_built_upon(processes, work, hidden, monkeypatch):
    monkeypatch.setattr("fabbuild.worker.source.stale_mtimes.LISTED", 4096)
    tree, _ = begun(processes, work, hidden[0])
    tree.checkout(hidden[1])
    assert os.listdir(tree.output) == []


@pytest.mark.parametrize("again", ["another worker", "the same", "back and forth"])
@pytest.mark.parametrize("end", ["checkout", "clean"])
def test_a_checkout_that_ended_halfway_is_ended_by_the_next_one(processes, work, hidden, monkeypatch, again, end):
    tree, header = begun(processes, work, hidden[0])
    run = tree._repository.run

    def ended(*arguments, **where):
        words = run(*arguments, **where)
        if arguments[0] == end:
            raise GitError("killed")
        return words

    with monkeypatch.context() as patch:
        patch.setattr(tree._repository, "run", ended)
        with pytest.raises(GitError, match="killed"):
            tree.checkout(hidden[1])
    if again == "another worker":
        (tree,) = make_slots(processes, work, 1, hidden[1])
    elif again == "the same":
        tree.checkout(hidden[1])
    else:
        tree.checkout(hidden[0])
        age(tree, header)
        tree.checkout(hidden[1])
    assert seen(tree, header)
    age(tree, header)
    tree.checkout(hidden[1])
    assert os.stat(header).st_mtime_ns == OLD


def test_a_commit_that_was_left_and_is_no_more_is_not_asked_about(processes, work, hidden):
    tree, header = begun(processes, work, hidden[0])
    with open(os.path.join(tree.output, ".fabbuild-left"), "w", encoding="utf-8") as mark:
        mark.write("1" * 40)
    tree.bring_to(hidden[1])
    assert os.listdir(tree.output) == []
    assert os.path.exists(header)
