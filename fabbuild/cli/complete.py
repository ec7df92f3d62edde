"""Complete the values of options in a shell, which Invoke's own completion does not.

The scripts of `fabbuild.cli.completion_scripts` run ``python -m fabbuild.complete SHELL WORD… CURRENT`` at each
TAB. To be quick, the program loads only the table of options, reads existing files, asks git for branches, and
contacts no machine. It prints one candidate a line; exit status 1 means that Invoke is to be asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: The tasks whose options are completed here, by their names without the collection.
TASKS = frozenset({
    "bisect", "boards", "build", "cache", "clean", "completion", "export", "history", "init", "kill",
    "kill-workers", "probe", "push", "reply", "report", "start", "status", "summary", "toolchains", "version",
})  # fmt: skip

#: Most seconds that git may take to list branches or files; after that there are no candidates.
PATIENCE = 0.5

#: Most bytes that are read of a file.
MOST = 16 << 20

# What separates the terms of a list.
_BETWEEN = re.compile(r"(?<!\\),|[\s&|]")

# What bash does not take as it is, outside of quotes.
_SPECIAL = re.compile(r"([^\w@%+=:,./~-])")


class Place:
    """The context of a command line: the directory, the environment, and the options before the cursor."""

    def __init__(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        """Take the words before the cursor, the current directory and the shell's environment."""
        self._given = dict(_options(words))
        self._cwd = cwd
        self._environment = environment

    def _option(self, *names: str, key: str) -> str:
        for name in names:
            if name in self._given:
                return self._given[name]
        return self._environment.get(f"INVOKE_FABBUILD_{key.upper()}", "")

    @property
    def source(self) -> Path:
        """The directory of the source."""
        return self._cwd / os.path.expanduser(self._option("--source", "--git", "-g", key="source"))  # noqa: PTH111

    def boards(self) -> Iterator[str]:
        """Yield the boards of the source, by its defconfigs, as options take them."""
        yield from map(_as_option, self._names())

    def _names(self) -> Iterator[str]:
        from fabbuild.protocol.uboot import DEFCONFIG, TREE

        with contextlib.suppress(OSError):
            for name in os.listdir(self.source / TREE.boards):  # noqa: PTH208 - quicker
                if name.endswith(DEFCONFIG):
                    yield name[: -len(DEFCONFIG)]

    def terms(self) -> Iterator[str]:
        """Yield terms for boards: their names, and the architectures, CPUs, SoCs and vendors in the cache."""
        names = set(self._names())
        for board in self._kept(names):
            names.add(str(board.get("target")))
            names.update(str(board.get(key) or "") for key in ("arch", "cpu", "soc", "vendor"))
        yield from map(_as_option, names)

    def archs(self) -> Iterator[str]:
        """Yield the architectures of the boards in the cache."""
        for board in self._kept(set(self._names())):
            yield str(board.get("arch") or "")

    def _kept(self, there: set[str]) -> Sequence[Mapping[str, Any]]:
        """Return the boards of the newest cache file that has one of these boards."""
        import platformdirs

        directory = platformdirs.user_cache_path("fabbuild", appauthor=False) / "boards"
        newest = sorted(directory.glob("*.json"), key=_written, reverse=True)
        for path in newest[:3]:
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                boards = [one for one in json.loads(_read(path))["boards"] if isinstance(one, dict)]
                if not there or any(one.get("target") in there for one in boards):
                    return boards
        return []

    def machines(self) -> Iterator[str]:
        """Yield the machines and groups of machines.yaml."""
        import yaml

        from fabbuild.config.file_places import places

        named = self._option("--machines-file", key="machines_file")
        paths = [self._cwd / os.path.expanduser(named)] if named else places(self._cwd)  # noqa: PTH111
        for path in paths:
            try:
                text = _read(path)
            except OSError:
                continue
            # The same as safe_load, and ten times as fast where there is libyaml.
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
                content = yaml.load(text, Loader=loader)  # noqa: S506 - it is a safe loader
                yield from _machines(content)
            return

    def branches(self) -> Iterator[str]:
        """Yield the branches of the source."""
        yield from self._refs("refs/heads")

    def ranges(self) -> Iterator[str]:
        """Yield the branches and tags of the source, for ranges."""
        yield from self._refs("refs/heads", "refs/tags", "refs/remotes")

    def files(self) -> Iterator[str]:
        """Yield the files of the source that git tracks."""
        yield from self._git("ls-files", "-z").split("\0")

    def _refs(self, *kinds: str) -> Sequence[str]:
        return self._git("for-each-ref", "--format=%(refname:short)", *kinds).splitlines()

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.source), *arguments]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
            )
            return os.fsdecode(done.stdout)
        return ""


def _as_option(name: str) -> str:
    if "," not in name:
        return name
    from fabbuild.source.boards.selection import quoted  # which takes long to load, for few names

    return quoted(name)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if word.startswith("-"):
            yield option, value if equals else following


def _machines(content: Any) -> Iterator[str]:
    machines = content.get("machines") if isinstance(content, dict) else None
    for name, entry in machines.items() if isinstance(machines, dict) else ():
        yield str(name)
        groups = entry.get("groups") if isinstance(entry, dict) else None
        for group in groups if isinstance(groups, list) else ():
            yield str(group)
    if machines:
        yield "all"


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MOST)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def candidates(shell: str, words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> list[str] | None:
    """Return the candidates at the cursor, sorted; None if Invoke is to be asked.

    Args:
        shell: ``bash``, which splits ``--option=value`` and ``a@b`` into three words, ``zsh`` or ``fish``.
        words: the command line after the program's name; the last word is the one at the cursor, and may be empty.
        cwd: the current directory of the shell.
        environment: the environment of the shell.
    """
    *before, current = words or [""]
    if shell == "bash":
        before, current = _joined(before, current)
        if current == "=":
            before, current = [*before, "="], ""
        if before[-1:] == ["="]:
            before = before[:-1]
        before = [word for word in before if word != "="]
    front = ""
    if current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        front = f"{option}="
    else:
        option = before[-1] if before else ""
    if not any(word.rpartition(".")[2] in TASKS for word in before):
        return None
    kind = _completes(option) if option.startswith("-") else ""
    if not kind:
        return None
    find, several = KINDS[kind]
    values = find(Place(before, cwd, environment))
    in_quotes = current.startswith(("'", '"'))
    current = current.lstrip("'\"")
    if shell != "zsh" and not in_quotes:  # zsh's script gives words without their quotes
        current = re.sub(r"\\(.)", r"\1", current)
    cut = max((match.end() for match in _BETWEEN.finditer(current)), default=0) if several else 0
    if kind == "ranges" and ".." in current:
        cut = current.rindex("..") + 2
    there = set(_BETWEEN.split(current[:cut]))
    begin = current[cut:]
    names = {name for name in values if name.startswith(begin) and name not in there}
    found = [current[:cut] + name for name in sorted(names) if name and name.isprintable() and " " not in name]
    if shell == "bash" and not in_quotes:  # the others quote what they insert
        found = [_SPECIAL.sub(r"\\\1", one) for one in found]
    if shell == "bash":  # which inserts in the place of what stands after the last @
        found = [one.split("@", current.count("@"))[-1] for one in found]
    return [front + one for one in found]


def _joined(before: list[str], current: str) -> tuple[list[str], str]:
    """Return bash's words, of which the last is the one at the cursor, with the parts around ``@`` as one."""
    words = [*before, current, ""] if current == "@" else [*before, current]
    while len(words) > 2 and words[-2] == "@" and not words[-3].startswith("-"):
        words[-3:] = ["".join(words[-3:])]
    return words[:-1], words[-1]


def _shells(_place: Place) -> Iterable[str]:
    from fabbuild.cli.completion_scripts import SCRIPTS

    return SCRIPTS


#: The kinds of values, by `Option.completes`: their generator, and whether an option may have several.
KINDS: Mapping[str, tuple[Callable[[Place], Iterable[str]], bool]] = {
    "terms": (Place.terms, True),
    "boards": (Place.boards, True),
    "board": (Place.boards, False),
    "machines": (Place.machines, True),
    "branches": (Place.branches, False),
    "ranges": (Place.ranges, False),
    "archs": (Place.archs, True),
    "files": (Place.files, False),
    "shells": (_shells, False),
}


def _completes(word: str) -> str:
    """Return the kind of values of an option as written on the command line; empty for none."""
    from fabbuild.cli.options import BISECT, BOARDS, BUILD, COMPLETION, SUMMARY, TOOLCHAINS

    for task in (BUILD, SUMMARY, TOOLCHAINS, COMPLETION, BOARDS, BISECT):
        for name, option in task.items():
            if option.completes and word in option.words(name):
                return option.completes
    return ""


def main(arguments: Sequence[str]) -> int:
    """Print the candidates and return the exit status."""
    # No module is loaded from the directory that the user is in.
    here = os.getcwd()  # noqa: PTH109
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    shell, *words = arguments or ["bash"]
    found = candidates(shell, words, Path(here), os.environ)
    if found is None:
        return 1
    sys.stdout.write("".join(f"{one}\n" for one in found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
