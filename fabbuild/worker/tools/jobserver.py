"""One GNU make jobserver for all builds of a machine, so that no processor is idle while a board has work.

The pipe holds as many tokens as there are threads. A make runs one job without a token of the pipe, so a token is
taken out when a make begins, and put back when it ends. A make that begins while the pipe is empty does not wait:
the next token that is put back is taken for it, and until then one job more than threads may run. So no board waits
for another board's make.

Every program of a build has the pipe's ends. A program that keeps tokens slows the others down to the one job that
each make always has; tokens that a program adds are taken out within `LOOK` seconds. Whenever no make runs, the
number of tokens is corrected. A make that was killed takes an unknown number of tokens with it; makes that begin
after that use a new pipe.

The protocol is that of the GNU make manual, "Sharing Job Slots with GNU make", with a pipe.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import re
import select
import termios
import threading
from typing import List, NamedTuple, Optional, Sequence, Tuple

#: Seconds between two looks for tokens that are too many.
LOOK = 1.0

#: The first version of make with ``--jobserver-auth``.
_FIRST = (4, 2)

_VERSION = re.compile(r"GNU Make (\d+)\.(\d+)")

_TOKEN = b"+"


def understood_by(version: str) -> bool:
    """Whether a make with this ``--version`` can use the jobserver of another program."""
    found = _VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= _FIRST


def _ready(wait: Optional[float], read: Sequence[int], write: Sequence[int]) -> List[int]:
    """Return the descriptors that can be read or written, once there is one or ``wait`` seconds are over."""
    poll = select.poll()
    for fd in read:
        poll.register(fd, select.POLLIN)
    for fd in write:
        poll.register(fd, select.POLLOUT)
    return [fd for fd, _ in poll.poll(None if wait is None else wait * 1000)]


def _own(fd: int, how: int) -> int:
    """Open one end of a pipe again, non-blocking and not inherited; return ``fd`` itself if that fails."""
    try:
        return os.open("/proc/self/fd/%d" % fd, how | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd


class _Pipe:
    """A pipe with tokens.

    Attributes:
        read: the end that makes read.
        write: the end that makes write.
        makes: how many makes have it.
    """

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        # Builds change the flags of the ends that they share with us; no read or write of ours must ever wait.
        self._ours_in = _own(self.read, os.O_RDONLY)
        self._ours_out = _own(self.write, os.O_WRONLY)
        os.set_blocking(self.read, False)
        self.makes = 0

    def count(self) -> int:
        """Return how many tokens are in it."""
        size = array.array("i", [0])
        fcntl.ioctl(self.read, termios.FIONREAD, size)
        return size[0]

    def take(self, most: int) -> int:
        """Take out at most ``most`` tokens; return the number taken."""
        taken = 0
        while taken < most:
            if self._ours_in == self.read:
                # Not ours alone: a build may have cleared the flag, and may take the tokens before us.
                os.set_blocking(self.read, False)
            try:
                got = os.read(self._ours_in, min(most - taken, 65536))
            except BlockingIOError:
                break
            taken += len(got)
        return taken

    def put(self, tokens: int) -> None:
        """Put tokens in; they are dropped when a build has filled the pipe."""
        if tokens > 0 and _ready(0, [], [self._ours_out]):
            with contextlib.suppress(BlockingIOError):
                os.write(self._ours_out, _TOKEN * tokens)

    def close(self) -> None:
        for fd in {self.read, self.write, self._ours_in, self._ours_out}:
            os.close(fd)


class Grant(NamedTuple):
    """One make's access to the jobserver, from `JobServer.begin` to `JobServer.end`.

    Attributes:
        flags: for its ``MAKEFLAGS``; with ``-j`` on its command line make would leave the jobserver.
        fds: descriptors that it inherits.
        pipe: the pipe that they belong to.
    """

    flags: str
    fds: Tuple[int, int]
    pipe: _Pipe


class JobServer:
    """The tokens of one machine. All methods may be called from any thread."""

    def __init__(self, tokens: int, makes: int = 1) -> None:
        """Begin with all tokens in the pipe.

        Args:
            tokens: how many jobs all makes together may run.
            makes: how many makes usually run at once.

        Raises:
            OSError: no pipe can be made.
        """
        self.tokens = tokens
        #: The jobs that one make can expect while all are at work.
        self.share = max(1, tokens // max(1, makes))
        self._lock = threading.Lock()
        self._makes = 0
        self._owed = 0
        self._pipe = _Pipe()
        self._pipe.put(tokens)
        self._old: List[_Pipe] = []
        self._closed = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._keeper: Optional[threading.Thread] = None

    def begin(self) -> Grant:
        """Grant a make access: take out a token for its first job, or record that one is owed."""
        with self._lock:
            self._makes += 1
            pipe = self._pipe
            pipe.makes += 1
            if not pipe.take(1):
                self._owed += 1
            self._keep()
            flags = " -j%d --jobserver-auth=%d,%d" % (self.tokens, pipe.read, pipe.write)
            return Grant(flags, (pipe.read, pipe.write), pipe)

    def end(self, grant: Grant, *, whole: bool) -> None:
        """Take back the token of a make that has ended.

        Args:
            grant: the make's grant, from `begin`.
            whole: whether the make ended by itself, and so put back all other tokens.
        """
        with self._lock:
            self._makes -= 1
            grant.pipe.makes -= 1
            if not self._makes:
                self._owed = 0
                self._forget_old()
                self._trim(self._pipe, 0)
                self._pipe.put(self.tokens)
                return
            if self._owed:
                self._owed -= 1
            elif self._pipe.count() < self._due():
                self._pipe.put(1)
            if not whole and grant.pipe is self._pipe:
                self._renew()
            self._forget_old()

    def close(self) -> None:
        """Close the pipes; no make runs any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.write(self._waker, b"x")
            keeper = self._keeper
        if keeper is not None:
            keeper.join()
        with self._lock:
            for pipe in (self._pipe, *self._old):
                pipe.close()
            os.close(self._wake)
            os.close(self._waker)

    # --- with the lock held ---

    def _due(self) -> int:
        """Return the number of tokens in the pipe when no make has more than its first job."""
        return max(self.tokens - self._makes + self._owed, 0)

    def _renew(self) -> None:
        """Begin a new pipe; makes that run put the tokens that they hold back into the old one."""
        with contextlib.suppress(OSError):  # no more descriptors: then the old pipe has to serve
            pipe = _Pipe()
            self._pipe.take(self.tokens)
            self._old.append(self._pipe)
            self._pipe = pipe
            self._owed = max(self._makes - self.tokens, 0)
            pipe.put(self._due())

    def _forget_old(self) -> None:
        for pipe in [pipe for pipe in self._old if not pipe.makes]:
            self._old.remove(pipe)
            pipe.close()

    @staticmethod
    def _trim(pipe: _Pipe, most: int) -> None:
        """Take out the tokens beyond ``most``."""
        excess = pipe.count() - most
        if excess > 0:
            pipe.take(excess)

    def _keep(self) -> None:
        """Start or wake the thread that takes owed and surplus tokens out while makes run."""
        if self._keeper is None:
            keeper = threading.Thread(target=self._look, name="jobserver", daemon=True)
            try:
                keeper.start()
            except RuntimeError:  # no more threads: what is owed is taken when a make ends
                return
            self._keeper = keeper
        elif self._owed or self._makes == 1:
            with contextlib.suppress(BlockingIOError):
                os.write(self._waker, b"x")

    # --- the keeper's thread ---

    def _look(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                fds = [self._wake, *([self._pipe.read] if self._owed else [])]
                wait = LOOK if self._makes else None
            ready = _ready(wait, fds, [])
            with self._lock:
                if self._closed:
                    return
                if self._wake in ready:
                    os.read(self._wake, 4096)
                if self._owed:
                    self._owed -= self._pipe.take(self._owed)
                if self._makes:
                    self._trim(self._pipe, self._due())
                    for pipe in self._old:
                        self._trim(pipe, self.tokens)
