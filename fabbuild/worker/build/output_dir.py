"""Keep the state of a slot's output directory, which decides whether make may reuse the directory's contents.

make only compares modification times. Files that make does not build again must be those that a build from scratch
would make, warnings included. Where modification times do not show that, the state does:

* A killed make leaves incomplete files that are newer than their sources. A clock that was set back leaves files
  that are newer than sources which change later. A compiler that was replaced by another of the same name left its
  objects. A program that was killed, or found no room, left a part of a file. make itself warns of files that are
  newer than its clock. In these cases everything is built again. The state is a file in the directory, `STATE`,
  which is removed before a build and only written after all its makes ended by themselves.
* With the setting ``quick`` less is checked: what it left is not built upon without it.
* Another compiler, or another of the settings that change the output, begins from nothing.
* Objects without debug information may not be used where it can be seen: everything is built again as well.
* The state has the board and commit of the last build, and whether the directory may have generated
  source without a rule (`fabbuild.worker.build.stale_generated`).
* The state lists the source files that builds in the directory read (`fabbuild.worker.deps.source_reads`).
* The state lists files with compiler diagnostics. These are compiled again at each commit, so that the diagnostics
  are repeated until their cause is fixed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import Any, Collection, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from fabbuild.protocol.build_output import BUILD_DIR
from fabbuild.protocol.uboot import TREE
from fabbuild.protocol.wire import MAX_TEXT
from fabbuild.worker.base.directories import clear_away, remove_tree
from fabbuild.worker.base.workdir import STATE
from fabbuild.worker.build import diagnostics
from fabbuild.worker.deps import macros, reverse_deps
from fabbuild.worker.deps.source_reads import SourceReads
from fabbuild.worker.tools.toolchains import Toolchain

#: How far the clock may be set back without harm, in seconds: less than a make or git takes between two such times.
CLOCK_SLACK = 0.05

#: Tells this process from others, also those of another start of the machine.
_RUN = os.urandom(8).hex()

#: The most files with diagnostics that are remembered.
_MANY = 10000

#: The most commits for which a directory that is moved is compared with the source.
_MANY_COMMITS = 100

#: Kbuild's headers of all symbols. fixdep names the symbols in their place, so that dependency files lack them.
SYMBOLS = tuple(place for name, place in TREE.config_files if name.endswith(".h"))

#: Lines with warnings that name no file and yet are said again: a linker's and those of Makefiles by each make, and
#: the line of source that a diagnostic is about.
_REPEATED = re.compile(r"(\S*[-/])?ld(\.\w+)?: |=+ .* =+$|\s+\d+ \| ")


class NeighbourState(NamedTuple):
    """What is known of another board's output directory, made by the same host tools.

    Attributes:
        commits: those that were built in it.
        diagnosed: the files that any of its builds had a diagnostic about.
        tree: the worktree that it was built in last.
        compilers: the gcc of each of its compilers, if these are not the board's own: then only what no cross
            compiler made is the same.
        varied: the macros of the configuration that had different values there.
        reads: the files of the source that building read there; None if they are not known.
    """

    commits: Tuple[str, ...]
    diagnosed: FrozenSet[str]
    tree: str
    compilers: Tuple[str, ...] = ()
    varied: FrozenSet[str] = frozenset()
    reads: Optional[FrozenSet[str]] = frozenset()


class OutputDir:
    """The output directory of a source tree.

    Attributes:
        board: the board that was built in the directory last; empty for none.
        commit: the commit of that build.
        leftovers: whether the directory may have generated source that no rule makes any more.
        reads: the source files that were read since the directory was empty.
        configured: the commit whose configuration the directory has, and how it was configured; empty for none.
        moved: whether the directory was built in another worktree, whose times mean nothing here.
        commits: those that were built in the directory since it was empty; its objects may be of any of them.
        unsettled: the commit of the last success, and those that were built since then; make may have come to none
            of the files that they changed.
        asked_files: a digest of the files that the source asked about at the last build, see `asked_names`; None if
            that failed, so that this is not known.
        trees: the worktrees that it was built in, which messages about its objects may name.
    """

    def __init__(self, tree: str) -> None:
        """Take the path of the source tree."""
        self.path = os.path.join(tree, BUILD_DIR)
        self._tree = tree
        self._state = os.path.join(self.path, STATE)
        #: The versions of the compilers that made the contents, and their identities, by the path of each gcc.
        self._made_by: Dict[str, Dict[str, str]] = {}
        self._host = ""
        self._warned: Set[str] = set()
        self._diagnosed: Set[str] = set()
        self._unnamed = False
        # The macros that had different values since the directory was empty; None if they are not known.
        self._varied: Optional[Set[str]] = set()
        self._symbols: Set[Tuple[str, str, str]] = set()
        self._renewed = True
        self._clock = 0.0
        self._bare = self._quick = False
        self._flags: List[str] = []
        self.board = ""
        self.commit = ""
        self.leftovers = False
        self.reads = SourceReads()
        self.configured = ("", "")
        self.moved = False
        self.commits: Tuple[str, ...] = ()
        self.unsettled: Tuple[str, ...] = ()
        self.asked_files: Optional[str] = None
        self.trees: Tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the directory has no files, or does not exist."""
        return not os.path.isdir(self.path) or not os.listdir(self.path)

    def open(
        self,
        compiler: Toolchain,
        identity: str,
        host: str,
        *,
        debug_info: bool,
        quick: bool = False,
        flags: Sequence[str] = (),
    ) -> bool:
        """Begin a build in the directory: read its state, and empty it if its contents cannot be reused.

        Args:
            compiler: the compiler of the build.
            identity: the compiler's identity (`fingerprint`); empty if not known.
            host: the part of the identity that all compilers share; host tools depend on it.
            debug_info: whether objects need debug information.
            quick: whether contents may be reused of which not everything was checked.
            flags: words of make's command line that the output follows from; make compares none of them.

        Returns:
            Whether the contents can be reused.

        Raises:
            OSError: a file cannot be removed.
        """
        state = self._take_state()
        self._clock = _clock()
        self._made_by = {
            "compilers": {compiler.gcc: compiler.version},
            "identities": {compiler.gcc: identity},
        }
        trusted = (
            # In a command that is not stored make sees no other compiler.
            all(state.get(name) == made_by for name, made_by in self._made_by.items())
            # Where no identity is known, a compiler that was replaced may still call itself by the same version.
            and (bool(identity) or state.get("run") == _RUN)
            and not (debug_info and state.get("bare"))
            and (quick or not state.get("quick"))
            and state.get("flags", []) == [*flags]
            and self._is_here(state)
        )
        if not trusted:
            fresh = self.empty
            if not fresh:
                clear_away(self.path, os.path.dirname(self._tree))
            os.makedirs(self.path, exist_ok=True)
            trusted, state = fresh, {}
        self._bare = not debug_info or bool(state.get("bare"))
        self._quick = quick or bool(state.get("quick"))
        self._flags = [*flags]
        self._host = host
        self._warned = set(state.get("warned", []))
        self._diagnosed = set(state.get("diagnosed", []))
        varied = state.get("varied", ()) if state else ()
        self._varied = None if varied is None else set(varied)
        self._symbols, self._renewed = symbols(self.path), not state
        self._unnamed = bool(state.get("unnamed"))
        self.board, self.commit = (state.get(name, "") for name in ("board", "commit"))
        self.leftovers = bool(state) and state.get("unsure", True)
        self.reads = SourceReads(state.get("reads", "") if state else None)
        self.configured = (state.get("configured", ""), state.get("how", ""))
        self.moved = state.get("tree", self._tree) != self._tree
        self.commits = tuple(state.get("commits", ()))
        self.unsettled = tuple(state.get("unsettled", self.commits))
        self.asked_files = state.get("asked")
        self.trees = tuple({*state.get("trees", ()), self._tree})
        return trusted

    def _is_here(self, state: Dict[str, Any]) -> bool:
        """Have the directory name this worktree; return whether it can be built upon here."""
        tree = state.get("tree")
        if not isinstance(tree, str) or not tree:
            return False
        if tree == self._tree:
            return True
        if not 0 < len(state.get("commits", ())) <= _MANY_COMMITS:
            return False
        try:
            reverse_deps.rename(self.path, tree, self._tree)
        except OSError:
            return False
        return True

    def note_build(self, board: str, commit: str, *, leftovers: bool) -> None:
        """Note the board and commit of the build that begins."""
        self.board, self.commit, self.leftovers = board, commit, leftovers
        self.commits += (commit,) if commit not in self.commits else ()
        self.unsettled += (commit,) if commit not in self.unsettled else ()

    def note_success(self) -> None:
        """Note that the build succeeded, so that nothing is left of commits before."""
        self.unsettled = (self.commit,)

    def note_taken(self, read: Collection[str], tree: str, *, building: bool) -> None:
        """Note that objects were taken which were made of these files of the source in another worktree.

        Args:
            read: the files.
            tree: the worktree.
            building: whether building would have read them, or configuring.
        """
        self.reads.note(read, "", building=building)
        self.trees = tuple({*self.trees, tree})

    def renew(self) -> None:
        """Empty the directory during a build.

        Raises:
            OSError: a file cannot be removed.
        """
        remove_tree(self.path)
        os.makedirs(self.path, exist_ok=True)
        self.leftovers = self._unnamed = False
        self._diagnosed = set()
        self._varied, self._symbols, self._renewed = set(), set(), True
        self.reads = SourceReads()
        self.configured = ("", "")
        self.commits = self.unsettled = (self.commit,) if self.commit else ()
        self.trees = (self._tree,)

    def clear(self) -> None:
        """Remove the directory, or put it aside: first the state, so that no part of it is built upon.

        Raises:
            OSError: neither is possible.
        """
        with contextlib.suppress(OSError):
            os.unlink(self._state)
        clear_away(self.path, os.path.dirname(self._tree))

    def built(self) -> str:
        """Return the board whose build ended in the directory; empty if it cannot be built upon."""
        try:
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
        except (OSError, ValueError):
            return ""
        board = state.get("board", "") if isinstance(state, dict) else ""
        return board if isinstance(board, str) and not board.startswith(".") and "/" not in board else ""

    @staticmethod
    def built_at(path: str) -> float:
        """Return when a build ended in an output directory, in seconds since the epoch; 0 if that is not known."""
        try:
            return os.stat(os.path.join(path, STATE)).st_mtime
        except OSError:
            return 0.0

    def neighbour(self, path: str) -> Optional[NeighbourState]:
        """Return the state of another output directory; None if its objects are not to be used in this one.

        Args:
            path: the other directory; this one is open.
        """
        try:
            with open(os.path.join(path, STATE), encoding="utf-8") as file:
                state = json.load(file)
            theirs, ours = ((one["compilers"], one["identities"]) for one in (state, self._made_by))
            known = all((*theirs[1].values(), *ours[1].values())) and not state["unnamed"]
            usable = known and state["host"] == self._host and not state["quick"]
            found = NeighbourState(
                tuple(state["commits"]),
                frozenset(state["diagnosed"]),
                state["tree"],
                () if theirs == ours else (*theirs[0], *ours[0]),
                frozenset(state["varied"]),
                SourceReads(state["reads"]).build,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if usable and 0 < len(found.commits) <= _MANY_COMMITS else None

    def repeat_warnings(self) -> bool:
        """Have make compile the files with diagnostics again; call this once the tree is at its commit.

        Returns:
            Whether files of the tree got new times.
        """
        touched = False
        for name in self._warned:
            inside = os.path.join(self.path, name)
            with contextlib.suppress(OSError):
                if os.path.isfile(os.path.join(self._tree, name)):
                    os.utime(os.path.join(self._tree, name))
                    touched = True
                elif name.endswith(diagnostics.REMADE):
                    os.unlink(inside)
                else:
                    os.utime(inside)
        return touched

    def note_warnings(self, stderr: str, *, whole: bool) -> None:
        """Remember the files that the diagnostics of a make are about.

        Args:
            stderr: the stderr of make, with paths relative to the tree.
            whole: whether make built everything; else it may not have come to a file that was to be compiled again.
        """
        if whole:
            self._warned = set()
        for line in stderr.splitlines():
            files = set(diagnostics.files(line, self._tree, self.path)) - {STATE}
            self._warned.update(files)
            self._diagnosed.update(files)
            self._unnamed |= not files and "warning" in line.lower() and not _REPEATED.match(line)
        # Of a text that is too long the middle is missing.
        self._unnamed |= len(stderr) >= MAX_TEXT

    def close(self) -> None:
        """End a build whose makes all ended by themselves: write the state, so that the contents can be reused.

        Raises:
            OSError: the state cannot be written, as on a full disk.
        """
        if _clock() < self._clock - CLOCK_SLACK:
            return
        self._note_symbols()
        state = {
            **self._made_by,
            "host": self._host,
            "bare": self._bare,
            "quick": self._quick,
            "flags": self._flags,
            "run": _RUN,
            "warned": sorted(self._warned)[:_MANY],
            "diagnosed": sorted(self._diagnosed)[:_MANY],
            "unnamed": self._unnamed or len(self._diagnosed) > _MANY,
            "board": self.board,
            "commit": self.commit,
            "unsure": self.leftovers,
            "reads": self.reads.state(),
            "configured": self.configured[0],
            "how": self.configured[1],
            "tree": self._tree,
            "trees": self.trees,
            "commits": self.commits,
            "unsettled": self.unsettled,
            "asked": self.asked_files,
            "varied": None if self._varied is None else sorted(self._varied),
        }
        with open(self._state, "w", encoding="utf-8") as file:
            json.dump(state, file)

    def _note_symbols(self) -> None:
        """Note which macros of the configuration have other values than before."""
        now = symbols(self.path)
        if not self._renewed and not (self._symbols and now):
            self._varied = None
        elif not self._renewed and self._varied is not None:
            self._varied.update(name for _, name, _ in self._symbols ^ now)
        self._symbols, self._renewed = now, False

    def _take_state(self) -> Dict[str, Any]:
        """Read the state and remove its file; return an empty state for no file, or one with a future time."""
        try:
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
            then = os.stat(self._state).st_mtime
            # By the clock of the file system that holds the objects, which may be another machine's.
            os.utime(self._state)
            now = os.stat(self._state).st_mtime
        except (OSError, ValueError):
            state, then, now = {}, 0.0, 0.0
        try:
            os.unlink(self._state)
        except FileNotFoundError:
            pass
        except OSError:
            return {}  # then the whole directory is emptied
        return state if isinstance(state, dict) and now >= then - CLOCK_SLACK else {}


def symbols(output: str) -> Set[Tuple[str, str, str]]:
    """Return the macros of the configuration in an output directory: their header, name and value.

    Raises:
        OSError: a header cannot be read.
    """
    found: Set[Tuple[str, str, str]] = set()
    for place in SYMBOLS:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(output, place), "rb") as file:
            found.update((place, *item) for item in macros.definitions(file.read()).items())
    return found


def _clock() -> float:
    """Return a number of seconds that changes only when the clock is set."""
    return time.time() - time.monotonic()
