"""Explain mistakes that Invoke and Fabric do not: boards without their option, configurations they cannot use."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fabbuild.cli.options import BUILD
from fabbuild.config.invoke_keys import KEY

#: The programs whose command lines are read; one that embeds Invoke may have another command line.
PROGRAMS = {"inv": "inv", "invoke": "inv", "fab": "fab", "fabbuild": "fabbuild"}

#: Invoke's own options with a value, which may stand behind a task, too.
_WITH_VALUE = frozenset({"-f", "--config", "-T", "--command-timeout", "--hide", "-F", "--list-format"})

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def program_name(argv: Sequence[str]) -> str:
    """Return the name by which the user called the program: inv, fab or fabbuild; empty for any other program."""
    path = Path(argv[0] if argv else "")
    return PROGRAMS.get(path.parent.name if path.name == "__main__.py" else path.name, "")


def misplaced_words(argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> str:
    """Return what was meant by words behind ``build`` that are no values of an option; empty if that is not known.

    They are boards, or the other files where a pattern of the shell stands for several.

    Args:
        argv: the command line.
        cwd: the current directory, for the boards of the source.
        environment: the environment, likewise.
    """
    from fabbuild.cli.complete import TASKS, Place

    program, words = program_name(argv), list(argv[1:])
    begin = next((at for at, word in enumerate(words) if word.rpartition(".")[2] == "build"), None)
    if not program or begin is None or "--complete" in words:
        return ""
    values = {
        word
        for name, option in BUILD.items()
        if not isinstance(option.default, bool)
        for word in option.words(name)
    }
    stray: list[str] = []
    waits = False
    for word in words[begin + 1 :]:
        if word == "--" or (word.rpartition(".")[2] in TASKS and not waits):
            break
        if word.startswith("-") and not waits:
            waits = word in values or word in _WITH_VALUE
            continue
        if not waits:
            stray.append(word)
        waits = False
    if "--patches" in words and stray and all((cwd / word).is_file() for word in stray):
        return (
            f"--patches takes one file or directory, and {stray[0]!r} is another; name the directory of the files, "
            f"or give them by `cat FILES | {program} build --patches -`"
        )
    # Of another task of the user's own nothing is known here.
    if not stray or (program != "fabbuild" and stray[0] not in set(Place(words, cwd, environment).terms())):
        return ""
    what = "names no task" if len(stray) == 1 else "name no tasks"
    shown = ", ".join(map(repr, stray))
    meant = shlex.join([program, "build", "--boards", ",".join(stray)])
    return f"{shown} {what}; to build boards by name, architecture, CPU or vendor: {meant}"


def explain_configurations() -> None:
    """Have a configuration that Invoke or Fabric cannot use reported in one line; a second call changes nothing."""
    if not isinstance(sys.excepthook, _ConfigurationHook):
        sys.excepthook = _ConfigurationHook(sys.excepthook)


class _ConfigurationHook:
    """An exception hook: these errors are raised before a task is called, and no program catches them."""

    def __init__(self, otherwise: _Hook) -> None:
        self._otherwise = otherwise

    def __call__(self, kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        if _reader_gone(exc, trace):
            # What is still to be written at exit goes nowhere, too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        why = _cast_error(trace) or _merge_error(trace) or _ssh_error(exc, trace)
        if why:
            from fabbuild.cli.ui.output import error

            error(why)
        else:
            self._otherwise(kind, exc, trace)


def _reader_gone(exc: BaseException, trace: TracebackType | None) -> bool:
    """Whether nobody reads help or a list of tasks any more, as with ``| head``: Invoke prints them itself."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    return isinstance(exc, BrokenPipeError) and any(
        frame.f_globals.get("__name__") == "invoke.program" for frame in frames[-2:]
    )


def _cast_error(trace: TracebackType | None) -> str:
    """Describe an error of Invoke's that a variable for fabbuild caused; return an empty text for other errors."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    if not frames or frames[-1].f_globals.get("__name__") != "invoke.env":
        return ""
    for frame in frames:
        known = frame.f_locals
        path = known.get("key_path")
        if frame.f_code.co_name == "_path_set" and isinstance(path, list) and path[:1] == [KEY]:
            name = f"{getattr(known.get('self'), '_prefix', '')}{'_'.join(path)}".upper()
            value = known.get("old")
            kind = {list: "a list", tuple: "a list", int: "a number", float: "a number"}
            return (
                f"the variable {name} is {known.get('value')!r}, but the configuration's {'.'.join(path)} is "
                f"{kind.get(type(value), 'of another kind')}: {value!r}; write text there, or unset the variable"
            )
    return ""


def _merge_error(trace: TracebackType | None) -> str:
    """Describe an error of Invoke's that a mapping for fabbuild in a file caused; empty text for other errors."""
    frames = [frame for frame, _ in traceback.walk_tb(trace) if frame.f_code.co_name == "merge_dicts"]
    path = [frame.f_locals.get("key") for frame in frames]
    if path[:1] != [KEY] or frames[-1].f_globals.get("__name__") != "invoke.config":
        return ""
    value = frames[-1].f_locals.get("value")
    return (
        f"the configuration's {'.'.join(map(str, path))} is {value!r}, of another kind than this key has; "
        f"`{program_name(sys.argv) or 'inv'} build --help` says what the option takes"
    )


def _ssh_error(exc: BaseException, trace: TracebackType | None) -> str:
    """Describe an error that ``fab`` made of the ssh configuration; return an empty text for other errors.

    Fabric reads it by itself, before a task is called.
    """
    known = {
        (frame.f_globals.get("__name__"), frame.f_code.co_name): frame.f_locals
        for frame, _ in traceback.walk_tb(trace)
    }
    reading, connecting = ("fabric.config", "load_ssh_config"), ("fabric.connection", "__init__")
    if ("fabric.main", "update_config") in known and reading in known:
        what = known[reading]["self"]._runtime_ssh_path or ""  # noqa: SLF001 - Fabric keeps it nowhere else
        what = str(known.get(("fabric.config", "_load_ssh_file"), {}).get("path", what))
    elif ("fabric.tasks", "make_context") in known and connecting in known:
        what = f"of {known[connecting].get('host')}"
    else:
        return ""
    return (
        f"Fabric cannot use the ssh configuration {what}: {exc}; `fabbuild` and `inv` ask ssh itself: "
        "name the machines by --machines or --hosts there"
    )
