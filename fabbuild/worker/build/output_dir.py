"""A slot's output directory, and whether make may build upon what is in it.

make only compares times. What it leaves alone must be what a build from scratch would make, the warnings included;
so what make cannot know is seen to here:

* A make that was killed leaves files cut short, and newer than their sources. A clock that went back leaves files
  newer than sources that change after them. A compiler replaced by another of the same name has its objects there.
  Where make finds files that are newer than its clock, it says itself that it may have left something out.
  In these cases all is built anew. To tell, the directory holds a file, `STATE`, except while make is at work.
* Objects without debug information are no good where it may be looked at: all is built anew, too.
* It is known for which board and commit it was built last, and whether generated source may be there that nothing
  makes any more (`fabbuild.worker.build.stale_generated`).
* A file that was compiled with a warning, or of which a compiler remarked something, is compiled again at each
  commit, so that the words stay until somebody mends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import Any, Collection, Dict, Iterator, Set

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.worker.base.directories import clear_away, remove_tree
from fabbuild.worker.base.workdir import STATE
from fabbuild.worker.build import diagnostics
from fabbuild.worker.tools.toolchains import Toolchain

#: How far the clock may go back without harm, in seconds: less than any make and git between two times compared.
_CLOCK_SLACK = 0.05

#: The most files whose warnings are remembered.
_MANY = 10000

_WORD = re.compile(r"[\w./+@~-]+")


class OutputDir:
    """The output directory of a source tree.

    Attributes:
        board: for which board it was built last; empty: for none.
        commit: and at which commit.
        gcc: and by which compiler, as `Toolchain.gcc` has it.
        leftovers: whether generated source may be in it that no rule makes any more.
    """

    def __init__(self, tree: str) -> None:
        """Name the tree."""
        self.path = os.path.join(tree, BUILD_DIR)
        self._tree = tree
        self._state = os.path.join(self.path, STATE)
        self._compilers: Dict[str, str] = {}
        self._identities: Dict[str, str] = {}
        self._warned: Set[str] = set()
        self._clock = 0.0
        self._bare = False
        self.board = ""
        self.commit = ""
        self.gcc = ""
        self.leftovers = False

    @property
    def compilers(self) -> Collection[str]:
        """The gcc of each compiler that made what is in it."""
        return tuple(self._compilers)

    @property
    def empty(self) -> bool:
        """Whether nothing is in it, or it is not even there."""
        return not os.path.isdir(self.path) or not os.listdir(self.path)

    def open(self, compiler: Toolchain, identity: str = "", debug_info: bool = True) -> bool:
        """Begin to change it; gives False when it could not be built upon, and is empty now.

        Args:
            compiler: what is to build in it.
            identity: stands for all else of the machine that can change the output (`fingerprint`); empty:
                not known, and not asked for.
            debug_info: whether what is built may be seen to lack debug information.

        Raises:
            OSError: something in it cannot be removed.
        """
        state = self._take_state()
        compilers = state.get("compilers", {})
        identities = state.get("identities", {})
        self._clock = _clock()
        trusted = bool(state) and compilers.get(compiler.gcc, compiler.version) == compiler.version
        if identity:
            # One that is not known may have been another: what is there was not made by this compiler alone.
            trusted = trusted and all(identities.get(gcc) for gcc in compilers)
            trusted = trusted and identities.get(compiler.gcc, identity) == identity
        trusted = trusted and not (debug_info and state.get("bare"))
        if not trusted:
            fresh = self.empty
            if not fresh:
                clear_away(self.path, os.path.dirname(self._tree))
            os.makedirs(self.path, exist_ok=True)
            trusted, compilers, identities, state = fresh, {}, {}, {}
        self._bare = not debug_info or bool(state.get("bare"))
        self._compilers = dict(compilers, **{compiler.gcc: compiler.version})
        self._identities = dict(identities, **{compiler.gcc: identity})
        self._warned = set(state.get("warned", []))
        self.board, self.commit, self.gcc = (state.get(name, "") for name in ("board", "commit", "gcc"))
        self.leftovers = bool(state) and state.get("unsure", True)
        return trusted

    def note_build(self, board: str, commit: str, gcc: str, *, leftovers: bool) -> None:
        """Say what is built in it from now on."""
        self.board, self.commit, self.gcc, self.leftovers = board, commit, gcc, leftovers

    def renew(self) -> None:
        """Empty it while it is open.

        Raises:
            OSError: something in it cannot be removed.
        """
        remove_tree(self.path)
        os.makedirs(self.path, exist_ok=True)
        self.leftovers = False

    def repeat_warnings(self) -> None:
        """Make what warned last be made again; once the tree is as it is to be built."""
        for name in self._warned:
            inside = os.path.join(self.path, name)
            with contextlib.suppress(OSError):
                if os.path.isfile(os.path.join(self._tree, name)):
                    os.utime(os.path.join(self._tree, name))
                elif name.endswith(diagnostics.REMADE):
                    os.unlink(inside)
                else:
                    os.utime(inside)
        self._warned = set()

    def note_warnings(self, stderr: str) -> None:
        """Remember what the words of a make name, paths relative to the tree."""
        self._warned.update(self._named(stderr))

    def close(self) -> None:
        """Say that it can be built upon: each make since `open` came to its end by itself.

        Raises:
            OSError: the disk is full, or the like.
        """
        if _clock() < self._clock - _CLOCK_SLACK:
            return
        state = {
            "compilers": self._compilers,
            "identities": self._identities,
            "bare": self._bare,
            "warned": sorted(self._warned)[:_MANY],
            "board": self.board,
            "commit": self.commit,
            "gcc": self.gcc,
            "unsure": self.leftovers,
        }
        with open(self._state, "w", encoding="utf-8") as file:
            json.dump(state, file)

    def _take_state(self) -> Dict[str, Any]:
        """Read the state and remove it; empty when there is none, or when it is of a time still to come."""
        try:
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
            then = os.stat(self._state).st_mtime
            # The time of the file system that holds the objects, which may be another machine's.
            os.utime(self._state)
            now = os.stat(self._state).st_mtime
        except (OSError, ValueError):
            state, then, now = {}, 0.0, 0.0
        try:
            os.unlink(self._state)
        except FileNotFoundError:
            pass
        except OSError:
            return {}  # what cannot be removed goes with all that is there
        return state if isinstance(state, dict) and now >= then - _CLOCK_SLACK else {}

    def _named(self, stderr: str) -> Iterator[str]:
        for line in stderr.splitlines():
            yield from diagnostics.files(line, self._tree, self.path)
            if "warning" not in line.lower():
                continue
            for word in _WORD.findall(line[:4096]):
                name = os.path.normpath(word.strip(".") if "/" not in word else word)
                if name.startswith(("/", "..")) or name == STATE:
                    continue
                if any(os.path.isfile(os.path.join(place, name)) for place in (self._tree, self.path)):
                    yield name


def _clock() -> float:
    """Give what only changes when the clock is set."""
    return time.time() - time.monotonic()
