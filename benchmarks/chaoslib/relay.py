"""The real worker, and between it and the boss somebody who says odd things when the file ``wire`` is there.

    python relay.py STATE [arguments of the worker]

is run in a work directory, where the boss has put the worker. ``STATE/wire`` is JSON: ``mode`` is one of the
methods below, ``count`` says at how many results it is to happen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

#: Some boards of the sample; what a machine was not given of these is somebody else's.
_BOARDS = {"dunlin", "heron", "robin", "sandbox", "tern", "wren"}


class Relay:
    """Passes lines on, and does wrong when it is told to."""

    def __init__(self, state: Path, arguments: list[str]) -> None:
        """Start the worker; it inherits the lock and all else that we did."""
        self._state = state
        program = max(Path("bin").glob("worker-*.pyz"), key=lambda path: path.stat().st_mtime)
        self._worker = subprocess.Popen(
            [sys.executable, "-E", "-s", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            close_fds=False,
        )
        self._given: set[str] = set()
        self._mode = ""
        self._left = 0
        self._later: list[bytes] = []

    def commands(self) -> None:
        """Pass on what the boss says, and remember which boards it gave us."""
        assert self._worker.stdin is not None
        while data := os.read(0, 65536):
            for line in data.split(b"\n"):
                if b'"build_board"' in line and b'"board": "' in line:
                    self._given.add(line.split(b'"board": "')[1].split(b'"')[0].decode())
            try:
                self._worker.stdin.write(data)
                self._worker.stdin.flush()
            except OSError:
                break
        self._worker.stdin.close()

    def answers(self) -> int:
        """Pass on what the worker says until it ends, with what is to be wrong in it; give its exit status."""
        assert self._worker.stdout is not None
        for line in self._worker.stdout:
            self._ask()
            if self._mode and b'"build_result"' in line:
                self._left -= 1
                getattr(self, self._mode)(line)
                if self._left <= 0:
                    self._mode = ""
            else:
                self.say(line)
        return self._worker.wait() % 256

    def _ask(self) -> None:
        """See whether there is something new to do wrong."""
        taken = self._state / "wire.taken"
        try:
            (self._state / "wire").rename(taken)
        except OSError:
            return
        order = json.loads(taken.read_text())
        self._mode, self._left = order["mode"], order["count"]

    def say(self, line: bytes) -> None:
        """Send it to the boss."""
        while line:
            line = line[os.write(1, line) :]

    def _say_as(self, line: bytes, **changed: object) -> None:
        result = json.loads(line[4:])
        self.say(b"BM> " + json.dumps({**result, **changed}).encode() + b"\n")

    # --- the modes ---

    def double(self, line: bytes) -> None:
        """Say it twice, and the one before once more."""
        for each in (line, line, *self._later):
            self.say(each)
        self._later = [line]

    def banner(self, line: bytes) -> None:
        """Say things that are no messages, also such that look like one."""
        self.say(b"chaos: welcome\n\x1b[31mchaos\x1b[0m\n\xff\xfe\0\n" + b"chaos" * 3000 + b"\n")
        for each in (line[4:], b" " + line, line):
            self.say(each)

    def garbage(self, line: bytes) -> None:
        """Say what is a message, but cannot be read."""
        self.say(b"BM> what?\n" + line)

    def foreign(self, line: bytes) -> None:
        """Say that a board is built which was given to nobody here."""
        self._say_as(line, board=min(_BOARDS - self._given, default="../../evil"))
        self.say(line)

    def index(self, line: bytes) -> None:
        """Say that a commit is built which nobody sent."""
        self._say_as(line, commit_upto=77)
        self.say(line)

    def huge(self, line: bytes) -> None:
        """Say a line of 70 MB."""
        self.say(b"BM> ")
        for _ in range(70):
            self.say(b"x" * (1 << 20))
        self.say(b"\n" + line)

    def cut(self, line: bytes) -> None:
        """Die in the middle of a line."""
        self.say(line[: len(line) // 2])
        os._exit(0)


def main() -> None:
    """Be between the two until the worker ends."""
    relay = Relay(Path(sys.argv[1]), sys.argv[2:])
    threading.Thread(target=relay.commands, daemon=True).start()
    sys.exit(relay.answers())


if __name__ == "__main__":
    main()
