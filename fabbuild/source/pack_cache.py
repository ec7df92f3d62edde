"""Share packs of git objects between machines that lack the same objects.

``git push`` makes a pack for one machine: for ten machines that lack the same objects, it would compress the whole
history ten times. Here each pack is made once, and sent while it grows. A pack is a file without a name, so that no
part of it is left however this program ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from fabbuild.source.git import FIXED_AUTHOR, Git, GitError, end_group, last_words

#: How many git processes pack objects at once.
MAKERS = 4

#: Seconds for which a pack is kept after its last reader: the next machine may be about to ask for it.
LINGER = 30.0

#: Bytes of one read or write.
CHUNK = 1 << 18


class NotMadeError(Exception):
    """A pack could not be made; the message gives the reason."""


class PackContent(NamedTuple):
    """The content of a pack: the objects that ``want`` needs and ``have`` does not, packed with git settings."""

    want: str
    have: frozenset[str]
    config: tuple[str, ...] = ()


class Pack:
    """One pack, perhaps still growing, that any number of threads read from its beginning."""

    def __init__(self, git: Git, what: PackContent, making: threading.BoundedSemaphore) -> None:
        """Begin to make the pack, in a thread of its own.

        Raises:
            OSError: there is no room for a file.
        """
        self._git = git
        self._content = what
        self._making = making
        self._file = tempfile.TemporaryFile(prefix="fabbuild-pack-", buffering=0)  # noqa: SIM115 - see close()
        self._grown = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._size = 0
        self._why_not: str | None = None
        self._left = False
        self.users = 0
        threading.Thread(target=self._make, daemon=True, name=f"pack {what.want[:12]}").start()

    @property
    def whole(self) -> bool:
        """Whether the pack is complete."""
        return self._why_not == ""

    @property
    def failed(self) -> bool:
        """Whether the pack will never be complete."""
        return bool(self._why_not)

    def read(self, offset: int, timeout: float) -> bytes | None:
        """Return the bytes from ``offset`` on, at most `CHUNK`; empty at the end, None if none came in time.

        Raises:
            NotMadeError: the pack will never be complete.
            OSError: the file cannot be read.
        """
        with self._grown:
            self._grown.wait_for(lambda: self._size > offset or self._why_not is not None, timeout)
            if self._why_not:
                raise NotMadeError(self._why_not)
            if self._size <= offset:
                return None if self._why_not is None else b""
        return os.pread(self._file.fileno(), CHUNK, offset)

    def close(self) -> None:
        """End the process that makes the pack, if it runs, and free the file; the pack must have no reader."""
        with self._grown:
            self._left = True
            if self._process is not None:
                end_group(self._process)
            if self._why_not is not None:
                self._file.close()

    def _make(self) -> None:
        why_not = "an error of ours"
        try:
            with self._making:
                self._run()
            why_not = ""
        except (GitError, OSError) as exc:
            why_not = str(exc) or type(exc).__name__
        finally:
            with self._grown:
                self._why_not = why_not
                self._grown.notify_all()
                if self._left:
                    self._file.close()

    def _run(self) -> None:
        arguments = ("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
        revisions = "".join(f"^{name}\n" for name in sorted(self._content.have)) + f"{self._content.want}\n"
        with tempfile.TemporaryFile() as stderr:
            start = partial(self._git.start, *arguments, config=self._content.config, stderr=stderr)
            with self._git.running.started(start) as process:
                with self._grown:
                    self._process = process
                    if self._left:
                        raise GitError("nobody needs it any more")
                self._copy(process, revisions.encode())
                status = process.wait()
                with self._grown:
                    self._process = None
            stderr.seek(0)
            said = stderr.read(CHUNK).decode("utf-8", "replace")
        if status:
            raise GitError(f"git pack-objects: {last_words(said) or f'exit status {status}'}", status, said)

    def _copy(self, process: subprocess.Popen[bytes], revisions: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # its exit status shows the failure
            process.stdin.write(revisions)
            process.stdin.close()
        while data := os.read(process.stdout.fileno(), CHUNK):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            with self._grown:
                self._size += len(data)
                self._grown.notify_all()


class PackCache:
    """The packs of one source that are being read, or were read a moment ago."""

    def __init__(self) -> None:
        #: Held by each thread in which git packs objects, here or in ``git push``.
        self.making = threading.BoundedSemaphore(MAKERS)
        self._packs: dict[PackContent, Pack] = {}
        self._lock = threading.Lock()
        self._ties: dict[tuple[str, str], str] = {}
        self._tying = threading.Lock()

    @contextlib.contextmanager
    def of(self, git: Git, what: PackContent) -> Iterator[Pack]:
        """Share a pack while the block runs; the first caller begins to make it.

        Raises:
            OSError: there is no room for a pack.
        """
        with self._lock:
            pack = self._packs.get(what)
            if pack is None or pack.failed:
                pack = self._packs[what] = Pack(git, what, self.making)
            pack.users += 1
        try:
            yield pack
        finally:
            with self._lock:
                pack.users -= 1
                idle = not pack.users
            if idle and pack.whole:
                later = threading.Timer(LINGER, self._drop, (what, pack))
                later.daemon = True
                later.start()
            elif idle:
                self._drop(what, pack)

    def _drop(self, what: PackContent, pack: Pack) -> None:
        with self._lock:
            if pack.users or (pack.whole and self._packs.get(what) is not pack):
                return
            if self._packs.get(what) is pack:
                del self._packs[what]
        pack.close()

    def with_carrier(self, git: Git, old: str, tip: str) -> str:
        """Return the commit to pack for a machine that has ``old``: ``tip``, or a `carrier` for both.

        Raises:
            GitError: git cannot read or write objects.
        """
        with self._tying:  # the answer is the same for all machines, and may take a walk over the whole history
            key = (old, tip)
            if key not in self._ties:
                self._ties[key] = carrier(git, old, tip) or tip
            return self._ties[key]


def carrier(git: Git, old: str, tip: str) -> str:
    """Make a commit whose parents are the old and the new tip; return "" if that would save nothing.

    A snapshot has no parent, and git looks for similar objects in the trees of parents only: without the carrier it
    would send the whole tree again.

    Raises:
        GitError: git cannot read or write objects.
    """
    if not old or old == tip:
        return ""
    here = git.run("cat-file", "-e", f"{old}^{{commit}}", ok=(0, 1, 128), env={"GIT_NO_LAZY_FETCH": "1"})
    if here.status or git.run("merge-base", old, tip, ok=(0, 1)).text:
        return ""
    return git.run(
        "commit-tree", "-p", old, "-p", tip, f"{tip}^{{tree}}", stdin=b"carrier\n", env=FIXED_AUTHOR
    ).text
