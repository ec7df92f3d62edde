"""The tasks that use no machine: export, status, report and history of runs, shell completion, version.

`fabbuild.cli.tasks` adds them to the collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fabbuild.cli.options import COMPLETION, EXPORT, FOLLOW, HISTORY, JSON, REPLY, REPORT, RESULTS, TRAILER
from fabbuild.cli.task_support import exit_unless, make_task, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from fabbuild.reporting.html.report import Written
    from fabbuild.reporting.summary.find import Found


#: For `select_boards`: the boards that `history` knows, and the command that lists them.
LISTED = " that were built here; `inv history --boards .` lists them"


def _named(c: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Return output, source, branch and commits from the options, by default from the configuration."""
    settings = settings_of(c, None, {name: options[name] for name in ("source", "output")})
    named = {name: options[name] or "" for name in ("branch", "commits")}
    if not any(named.values()):
        named = {"branch": settings.branch, "commits": settings.commits}
    return {"output": settings.output, "source": settings.source, **named}


@make_task({**RESULTS, **EXPORT})
def export(c: Any, options: Mapping[str, Any]) -> None:
    """Write results or the last run for other programs: JUnit XML, trace events.

    JUnit has all results that exist, whichever run built them; a trace is of the last run.
    """
    from fabbuild.cli import ui
    from fabbuild.errors import UsageError
    from fabbuild.reporting import export as files
    from fabbuild.reporting.summary.find import find
    from fabbuild.text import visible

    wanted = files.chosen(options)
    if not wanted:
        raise UsageError("nothing to write; give --junit FILE, --trace FILE, or both")
    for path in files.write(wanted, find(**_named(c, options))):
        ui.say(f"written: {visible(str(path))}")


@make_task({**RESULTS, **FOLLOW, **JSON})
def status(c: Any, options: Mapping[str, Any]) -> None:
    """Show the progress of a build that runs in another terminal or on another machine, or how it ended.

    The progress is read from the run's journal in the output directory, without disturbing the run. The default is
    the run with the latest event. With --follow the exit status is 1 if the boss ends before the run does.
    """
    from fabbuild.cli import ui
    from fabbuild.reporting.status import Watcher, find_run

    watcher = Watcher(find_run(**_named(c, options)))
    watcher.look()
    if options["follow"]:
        exit_unless(c, ui.follow(watcher, json=options["json"]))
    else:
        ui.print_status(watcher.status(), json=options["json"])


@make_task(REPORT)
def report(c: Any, options: Mapping[str, Any]) -> None:
    """Write an HTML page with what each commit changed for each board, and with what the machines did.

    It is made from the results and the journal, also while a build runs: --watch keeps it up to date.
    """
    from fabbuild.cli import ui
    from fabbuild.reporting.export import target as target_of
    from fabbuild.reporting.html.report import watch, watch_seconds, write_report
    from fabbuild.reporting.summary.find import find

    named = _named(c, options)
    target = target_of("--output-file", options["output_file"])
    if options["watch"]:
        seconds = watch_seconds(options["watch"])
        watch(lambda: find(**named), target, seconds, say_report, waiting=ui.say)
    else:
        say_report(write_report(find(**named), target))


@make_task(REPLY)
def reply(c: Any, options: Mapping[str, Any]) -> None:
    """Write a reply to a series of patches that was built: what it breaks, new warnings, sizes, how to see it.

    The mail has the headers of a reply to what `build --patches` read, so that `git send-email` or a mail program
    can send it; nothing is sent. It goes to standard output, or to --file.
    """
    from fabbuild.reporting.export import target as target_of
    from fabbuild.reporting.summary.find import find

    target = target_of("--file", options["file"])
    write_reply(find(**_named(c, options)), target, options["trailer"])


def write_reply(found: Found, target: Path | None, trailer: object) -> None:
    """Write a reply to a file, or to standard output without one.

    Args:
        found: the results.
        target: the file.
        trailer: the value of ``--trailer``: a name, True for the usual one, or nothing.
    """
    import sys

    from fabbuild.cli import ui
    from fabbuild.files import whole_file
    from fabbuild.reporting.reply import make_reply, sender
    from fabbuild.results.tree import not_writable
    from fabbuild.text import visible

    name = trailer if isinstance(trailer, str) else TRAILER if trailer else ""
    made = make_reply(found, trailer=name, me=sender(found))
    for lack in made.lacks:
        ui.note(lack)
    data = made.mail.as_bytes()
    if target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        with whole_file(target) as file:
            file.write(data)
    except OSError as exc:
        raise not_writable(target, exc) from exc
    ui.note(f"reply: {visible(str(target))}; `git send-email {visible(str(target))}` sends it")


def say_report(written: Written) -> None:
    """Print where a report was written."""
    from fabbuild.cli import ui
    from fabbuild.text import size, visible

    on = "; the run goes on" if written.going else ""
    ui.say(f"report: {visible(str(written.path))} ({size(written.bytes)}){on}")


@make_task({**HISTORY, **JSON})
def history(c: Any, options: Mapping[str, Any]) -> None:
    """List the runs on this machine with date, duration and outcome, or how long boards take on each machine.

    A run is added when it ends, also after an interrupt.
    """
    from fabbuild.cli import ui
    from fabbuild.config.settings import read_count
    from fabbuild.events.durations import History
    from fabbuild.events.run_log import KEPT, as_json, durations, last_runs
    from fabbuild.model import Board
    from fabbuild.source.boards.selection import select_boards

    del c
    limit = read_count("--limit", options["limit"], 20) or KEPT
    kept = History()
    took = []
    if options["boards"]:
        took = durations(kept)
        known = {one.board: Board(one.board, one.arch) for one in took}
        taken = (
            {board.target for board in select_boards(known.values(), options["boards"], listed=LISTED)}
            if known
            else set()
        )
        took = [one for one in took if one.board in taken]
    if options["json"]:
        ui.print_json(as_json(last_runs(kept, limit), took, kept.path))
    elif options["boards"]:
        ui.print_durations(took)
    else:
        ui.print_runs(last_runs(kept, limit))


@make_task(COMPLETION)
def completion(c: Any, options: Mapping[str, Any]) -> None:
    """Print the script with which a shell completes tasks, options, and machines, boards and branches as values.

    It completes `inv`, `invoke`, `fab` and `fabbuild`, and tasks of other collections as Invoke's own script does.
    """
    from fabbuild.cli import ui
    from fabbuild.cli.completion_scripts import script

    del c
    ui.say(script(options["shell"] or "").rstrip())


@make_task({})
def version(c: Any, options: Mapping[str, Any]) -> None:
    """Print the versions of fabbuild, Python, Invoke, Fabric and Paramiko, and the directory of fabbuild."""
    import platform
    from importlib import metadata
    from pathlib import Path

    from fabbuild.cli import ui

    del c, options
    for name in ("fabbuild", "invoke", "fabric", "paramiko"):
        try:
            told = metadata.version(name)
        except metadata.PackageNotFoundError:
            told = "of a version that is not known"  # imported from a directory, and not installed
        if name == "fabbuild":
            ui.say(f"fabbuild {told} ({Path(__file__).parents[1]})")
            ui.say(f"Python {platform.python_version()}")
        else:
            ui.say(f"{name} {told}")


#: The tasks of this module.
TASKS = (completion, export, history, reply, report, status, version)
