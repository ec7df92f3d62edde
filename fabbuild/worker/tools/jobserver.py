"""One GNU make jobserver for all builds of a machine, so that no processor idles while any board has work for it.

There are as many tokens as threads. A make runs one job without a token of the pipe, so each make that begins takes
one out, and gives it back when it ends. One that finds none does not wait: what it owes is paid with the next token
that comes, and until then there is a job more than threads. So no board's time is spent waiting for another's.

Whatever runs in a build has the pipe's ends. One that takes tokens out slows others down to the job that each has
in any case; one that puts some in is bounded, for what is too much is taken out within `LOOK` seconds. Whenever no
make runs, the pipe gets exactly what belongs in it. A make that was killed takes with it the tokens that it held,
nobody knows how many; makes that begin after that have a new pipe.
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

#: Seconds between two looks whether there are too many tokens.
LOOK = 1.0

#: The first make that knows ``--jobserver-auth``.
_FIRST = (4, 2)

_VERSION = re.compile(r"GNU Make (\d+)\.(\d+)")

_TOKEN = b"+"


def understood_by(version: str) -> bool:
    """Whether a make can be given the jobserver of another program, by what its ``--version`` says."""
    found = _VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= _FIRST


def _ready(wait: Optional[float], read: Sequence[int], write: Sequence[int]) -> List[int]:
    """Give the descriptors that can be read or written, once there is one or ``wait`` seconds are over."""
    poll = select.poll()
    for fd in read:
        poll.register(fd, select.POLLIN)
    for fd in write:
        poll.register(fd, select.POLLOUT)
    return [fd for fd, _ in poll.poll(None if wait is None else wait * 1000)]


def _own(fd: int, how: int) -> int:
    """Open one end of a pipe once more: not to wait, not to be inherited. Where that cannot be, give it itself."""
    try:
        return os.open("/proc/self/fd/%d" % fd, how | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd


class _Pipe:
    """A pipe with tokens, as long as a make has it."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        # Builds set the ends that they share with us as they like; no read or write of ours must ever wait.
        self._ours_in = _own(self.read, os.O_RDONLY)
        self._ours_out = _own(self.write, os.O_WRONLY)
        os.set_blocking(self.read, False)
        self.makes = 0

    def count(self) -> int:
        """Give how many tokens are in it."""
        size = array.array("i", [0])
        fcntl.ioctl(self.read, termios.FIONREAD, size)
        return size[0]

    def take(self, most: int) -> int:
        """Take out so many tokens, or what there are; gives how many."""
        taken = 0
        while taken < most:
            if self._ours_in == self.read:
                # Not ours alone: a build may have cleared the flag, and may take what is there before us.
                os.set_blocking(self.read, False)
            try:
                got = os.read(self._ours_in, min(most - taken, 65536))
            except BlockingIOError:
                break
            taken += len(got)
        return taken

    def put(self, tokens: int) -> None:
        """Put tokens in; where the pipe is full of what does not belong there, they are not missed."""
        if tokens > 0 and _ready(0, [], [self._ours_out]):
            with contextlib.suppress(BlockingIOError):
                os.write(self._ours_out, _TOKEN * tokens)

    def close(self) -> None:
        for fd in {self.read, self.write, self._ours_in, self._ours_out}:
            os.close(fd)


class Grant(NamedTuple):
    """What one make is given, from `JobServer.begin` to `JobServer.end`.

    Attributes:
        flags: its ``MAKEFLAGS``; ``-j`` on its command line would make it leave the jobserver.
        fds: what it inherits.
    """

    flags: str
    fds: Tuple[int, int]
    pipe: _Pipe


class JobServer:
    """The tokens of one machine. All of it may be called from any thread."""

    def __init__(self, tokens: int, makes: int = 1) -> None:
        """Begin with all tokens in the pipe.

        Args:
            tokens: how many jobs all makes together may run.
            makes: how many makes there will mostly be.

        Raises:
            OSError: no pipe can be made.
        """
        self.tokens = tokens
        #: What of the tokens one make gets while all are at work.
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
        """Let a make begin: take the token of its first job, or owe it."""
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
            grant: what `begin` gave for it.
            whole: whether it ended by itself, and so gave back all others.
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
        """Let go of the pipes; no make runs any more."""
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
        """Give how many tokens the pipe has when no make has more than its first job."""
        return max(self.tokens - self._makes + self._owed, 0)

    def _renew(self) -> None:
        """Begin a new pipe; makes that run keep what they hold, and give it back to the old one."""
        with contextlib.suppress(OSError):  # no more descriptors: then the old one has to do
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
        """Take out what is too much."""
        excess = pipe.count() - most
        if excess > 0:
            pipe.take(excess)

    def _keep(self) -> None:
        """See to it that somebody pays what is owed, and looks for too many tokens, while makes run."""
        if self._keeper is None:
            keeper = threading.Thread(target=self._look, name="jobserver", daemon=True)
            try:
                keeper.start()
            except RuntimeError:  # no more threads: it is paid when a make ends
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
