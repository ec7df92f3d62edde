"""What a checkout changes without make's seeing it is made seen."""

import os
import subprocess

import pytest

from fabbuild.worker.base.processes import Processes
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


def test_a_change_of_very_many_files_is_looked_at_whole(processes, work, hidden, monkeypatch):
    # What is kept of a program's words is less than the list, unless more is asked for.
    monkeypatch.setattr(Processes.run, "__defaults__", (None, 4096, None, (), None))
    tree, header = begun(processes, work, hidden[0])
    tree.checkout(hidden[1])
    assert os.stat(header).st_mtime_ns != OLD
    assert os.path.exists(os.path.join(tree.output, "main.o"))


def test_a_commit_that_adds_thousands_of_headers_takes_the_programs_that_one_takes(
    processes, work, source, monkeypatch
):
    first = source.commit({"second/x.h": "#define X 1\n", "second/y.h": "#define Y 1\n"})
    one = source.commit({"first/x.h": "#define X 2\n"})
    thousands = source.commit({f"first/{name}.h": "\n" for name in ("y", *range(1999))})
    push(work, source.path)
    tree, _ = begun(processes, work, first)
    ran = []
    run = Processes.run

    def counting(self, argv, *arguments, **options):
        ran.append([word for word in argv if word not in (first, one, thousands)])
        return run(self, argv, *arguments, **options)

    monkeypatch.setattr(Processes, "run", counting)
    tree.checkout(one)
    few = ran[:]
    ran.clear()
    header = os.path.join(tree.path, "second", "y.h")
    age(tree, header)
    tree.checkout(thousands)
    assert os.stat(header).st_mtime_ns != OLD
    assert os.path.exists(os.path.join(tree.output, "main.o"))
    assert any("ls-files" in argv for argv in few)
    assert ran == few


def test_what_cannot_be_listed_is_not_built_upon(processes, work, hidden, monkeypatch):
    monkeypatch.setattr("fabbuild.worker.source.stale_mtimes.LISTED", 4096)
    tree, _ = begun(processes, work, hidden[0])
    tree.checkout(hidden[1])
    assert os.listdir(tree.output) == []
