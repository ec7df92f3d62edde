"""Which files of a tree programs open: `fabbuild.worker.deps.read_watch`, with the kernel's own events."""

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fabbuild.worker.deps import read_watch
from fabbuild.worker.deps.read_watch import ReadWatch
from tests.worker.driver import Worker

#: The number of events that the kernel keeps.
QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

DIRECTORIES = ["a", "a/deep", "out"]


@pytest.fixture
def tree(tmp_path):
    place = tmp_path / "tree"
    for name in DIRECTORIES:
        (place / name).mkdir(parents=True)
    for name in ("top.txt", "a/one.txt", "a/two.txt", "a/deep/three.txt", "a/unread.h"):
        (place / name).write_text("text\n")
    (place / "a" / "run.sh").write_text("#!/bin/sh\ntrue\n")
    (place / "a" / "run.sh").chmod(0o755)
    (place / "a" / "use.c").write_text('#include "deep/three.txt"\n')
    (place / "link").symlink_to("a/two.txt")
    (place / "folder").symlink_to("a/deep")
    return place


@pytest.fixture
def watch(tree):
    found = ReadWatch(str(tree))
    yield found
    found.close()


@contextlib.contextmanager
def observed(watch):
    """Give a list that has what was noted, once the block has ended."""
    noted = []
    with watch.opened(noted.append):
        yield noted
    assert len(noted) == 1


def opens(watch, tree, words):
    """Give what a shell's words open."""
    with observed(watch) as noted:
        subprocess.run(["sh", "-ec", words], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return noted[0]


READS = {
    "a program": ("cat top.txt", {"top.txt"}),
    "a shell": ("read x <a/one.txt", {"a/one.txt"}),
    "two programs at once": ("cat a/one.txt & cat top.txt; wait", {"a/one.txt", "top.txt"}),
    "by another spelling": ("cd a/deep; cat ..//deep/../one.txt", {"a/one.txt"}),
    "by a link": ("cat link", {"a/two.txt"}),
    "in a directory behind a link": ("cat folder/three.txt", {"a/deep/three.txt"}),
    "an executed script": ("a/run.sh", {"a/run.sh"}),
    "a walk": ("find a -name '*.txt' | xargs cat", {"a/one.txt", "a/two.txt", "a/deep/three.txt"}),
    "a wildcard": ("cat a/*.txt", {"a/one.txt", "a/two.txt"}),
    "a compiler": ("gcc -E a/use.c", {"a/use.c", "a/deep/three.txt"}),
    "an assembler": ("echo '.incbin \"a/one.txt\"' | as -o ../x.o -", {"a/one.txt"}),
    "make": ("echo 'x := $(shell cat top.txt)\nall:' | make -f - all", {"top.txt"}),
    "a copy": ("cp a/two.txt out/copy; cat out/copy", {"a/two.txt", "out/copy"}),
    "a mapping": (
        f"{sys.executable} -c 'import mmap, os; mmap.mmap(os.open(\"top.txt\", 0), 0, access=mmap.ACCESS_READ)'",
        {"top.txt"},
    ),
    "nothing": ("ls -lR; test -e top.txt -a -x a/run.sh; readlink link; stat a/one.txt", set()),
}


@pytest.mark.parametrize("how", READS)
def test_a_file_is_seen_whoever_opens_it(watch, tree, how):
    words, expected = READS[how]
    watch.cover(DIRECTORIES)
    assert (watch.why, opens(watch, tree, words)) == ("", expected)


def test_only_what_is_opened_within_the_block_is_seen(watch, tree):
    watch.cover(DIRECTORIES)
    (tree / "a" / "one.txt").read_text()
    assert opens(watch, tree, "cat a/two.txt") == {"a/two.txt"}
    (tree / "a" / "one.txt").read_text()
    assert opens(watch, tree, "true") == set()


def test_names_that_are_no_text_are_those_of_the_file_system(watch, tree):
    name = os.fsdecode(b"a/\xff and a space\n")
    (tree / name).write_text("")
    watch.cover(DIRECTORIES)
    assert opens(watch, tree, "cat a/*space*") == {name}


def test_directories_are_covered_as_they_are_after_each_checkout(watch, tree):
    watch.cover(DIRECTORIES)
    shutil.rmtree(tree / "a")
    (tree / "a").mkdir()
    (tree / "a" / "one.txt").write_text("")
    (tree / "new").mkdir()
    (tree / "new" / "four.txt").write_text("")
    watch.cover(["a", "new"])
    (tree / "out" / "left.txt").write_text("")
    assert opens(watch, tree, "cat a/one.txt new/four.txt out/left.txt") == {"a/one.txt", "new/four.txt"}


def test_what_is_read_is_noted_also_if_the_block_raises(watch, tree):
    watch.cover(DIRECTORIES)
    noted = []
    with contextlib.suppress(ZeroDivisionError), watch.opened(noted.append):
        (tree / "top.txt").read_text()
        raise ZeroDivisionError
    assert noted == [{"top.txt"}]


def no_thread(_thread):
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_the_kernels_queue_serves(watch, tree, monkeypatch):
    watch.cover(DIRECTORIES)
    monkeypatch.setattr("threading.Thread.start", no_thread)
    with observed(watch) as noted:
        (tree / "a" / "one.txt").read_text()
    assert noted == [{"a/one.txt"}]


@pytest.mark.skipif(QUEUE > 100_000, reason="this kernel keeps more events than a test may make")
def test_reads_that_the_kernel_forgot_are_not_known_and_the_next_ones_are(watch, tree, monkeypatch):
    watch.cover(DIRECTORIES)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", no_thread)
        with observed(watch) as noted:
            # The kernel keeps one of two like events in a row.
            for number in range(QUEUE + 1):
                os.close(os.open(tree / "a" / ("one.txt", "two.txt")[number % 2], os.O_RDONLY))
    assert noted == [None]
    assert "more files were opened" in watch.why
    watch.cover(DIRECTORIES)
    assert (opens(watch, tree, "cat top.txt"), watch.why) == ({"top.txt"}, "")


def test_events_that_were_lost_before_the_block_are_no_matter(watch, tree, monkeypatch):
    watch.cover(DIRECTORIES)
    waiting = [[(-1, read_watch._Q_OVERFLOW, b"")], []]
    real = watch._waiting
    monkeypatch.setattr(watch, "_waiting", lambda: [*real(), *(waiting.pop(0) if waiting else ())])
    assert opens(watch, tree, "cat top.txt") == {"top.txt"}


# --- where nothing can be observed ---


def without_ctypes(patch):
    patch.setitem(sys.modules, "ctypes", None)


class Library:
    """The C library, with fewer watches or instances than are asked for."""

    def __init__(self, instances=1, watches=100):
        self._real, self._instances, self._watches = ctypes.CDLL(None, use_errno=True), instances, watches

    def inotify_init1(self, flags):
        if self._instances:
            return self._real.inotify_init1(flags)
        ctypes.set_errno(errno.EMFILE)
        return -1

    def inotify_add_watch(self, fd, path, mask):
        self._watches -= 1
        if self._watches >= 0:
            return self._real.inotify_add_watch(fd, path, mask)
        ctypes.set_errno(errno.ENOSPC)
        return -1


LACKS = {
    "Python has no ctypes": (without_ctypes, "ctypes"),
    "the library has no inotify": (lambda patch: patch.setattr(read_watch, "_library", object), "inotify_init1"),
    "no instance is left": (
        lambda patch: patch.setattr(read_watch, "_library", lambda: Library(instances=0)),
        "max_user_instances",
    ),
    "too few watches are left": (
        lambda patch: patch.setattr(read_watch, "_library", lambda: Library(watches=2)),
        "max_user_watches",
    ),
}


def instances(pid="self"):
    """Return how many instances of inotify a process has."""
    found = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(entry.path) == "anon_inode:inotify"
    return found


@pytest.mark.parametrize("how", LACKS)
def test_where_directories_cannot_be_watched_reads_are_not_known(watch, tree, monkeypatch, how):
    lacks, words = LACKS[how]
    had = instances()
    with monkeypatch.context() as patch:
        lacks(patch)
        watch.cover(DIRECTORIES)
        assert words in watch.why
        assert opens(watch, tree, "cat top.txt") is None
        assert instances() == had
    watch.cover(DIRECTORIES)
    assert (opens(watch, tree, "cat top.txt"), watch.why) == ({"top.txt"}, "")


def test_once_too_few_watches_are_left_reads_are_no_longer_known(watch, tree, monkeypatch):
    watch.cover(DIRECTORIES)
    monkeypatch.setattr(read_watch, "_library", lambda: Library(watches=2))
    watch.cover(DIRECTORIES)
    assert opens(watch, tree, "cat top.txt") is None


def test_a_directory_that_is_not_there_leaves_reads_unknown(watch, tree):
    watch.cover([*DIRECTORIES, "gone"])
    assert "No such file" in watch.why
    assert opens(watch, tree, "cat top.txt") is None


def test_before_anything_is_covered_reads_are_not_known(watch, tree):
    assert opens(watch, tree, "cat top.txt") is None
    assert watch.why


def test_a_worker_has_an_instance_for_each_slot_however_often_it_is_prepared(work):
    with Worker(work) as worker:
        worker.start(None, 2)
        worker.build("one", "two")
        for _ in range(2):
            worker.send("build_prepare", commits=None, max_boards=2)
            worker.until("build_prepare_done")
            worker.build("one", "two")
        assert instances(worker.process.pid) <= 2
