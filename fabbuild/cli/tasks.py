"""The Invoke tasks: each reads its options, calls the library, shows the outcome and sets the exit status.

The tasks work under ``inv``, under ``fab`` and in other collections. ``c`` is a Context, or, under ``fab -H``, a
Connection, and then a task works on that host alone. Fabric stops at the first exception, so an error of a machine
is only printed there, and the exit status is 0.

Fabric and the rest of fabbuild are imported inside functions: shell completion loads this module at each TAB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit

from fabbuild.cli import tasks_local
from fabbuild.cli.options import (
    BISECT,
    BOARDS,
    BUILD,
    CACHE,
    CAPACITY,
    CLEAN,
    COMMITS,
    JSON,
    MACHINES,
    OUTPUT,
    PACK,
    SELECTION,
    SOURCE,
    SUMMARY,
    TOOLCHAINS,
    WAIT,
)
from fabbuild.cli.task_support import (
    answers_shown,
    exit_unless,
    group_for,
    is_connection,
    machines_of,
    make_task,
    on_each,
    plan_of,
    settings_of,
)
from fabbuild.config.invoke_keys import KEY, KEYS, configured

if TYPE_CHECKING:
    from pathlib import Path

    from fabbuild.build.plan import Plan
    from fabbuild.cli.disk_usage import DiskUse
    from fabbuild.config.machines import Machine, Machines
    from fabbuild.events.progress import RunSummary
    from fabbuild.machines.session import Session
    from fabbuild.model import Board
    from fabbuild.reporting.summary.find import Found
    from fabbuild.source.repository import Source


def default_configuration() -> dict[str, str]:
    """Return every key of ``fabbuild`` in Invoke's configuration, each with an empty string, which means unset.

    Environment variables (``INVOKE_FABBUILD_BOARDS``) override declared keys only, so all are declared; they are
    strings, because an environment variable cannot override a list.
    """
    return dict.fromkeys(KEYS, "")


# --- the tasks ----------------------------------------------------------------------------------------------


@make_task({**MACHINES, **JSON})
def probe(c: Any, options: Mapping[str, Any]) -> None:
    """Show each machine's properties and tools, and whether it is fit to build."""
    from fabbuild.cli import ui
    from fabbuild.machines.probe import probe_rows

    _, found, chosen = machines_of(c, options)
    machines = group_for(c, found, chosen)
    with answers_shown(machines, "probe") as told:
        rows = probe_rows(machines, found.fit, told)
    ui.print_probe(rows, json=options["json"])
    exit_unless(c, all(row.fit for row in rows))


@make_task({**MACHINES, **WAIT})
def init(c: Any, options: Mapping[str, Any]) -> None:
    """Take each machine's lock and make or reuse the repository there; held until this process ends."""
    settings, found, chosen = machines_of(c, options)
    on_each(
        c,
        group_for(c, found, chosen),
        "take its lock and make the repository",
        lambda session: f"locked, repository {session.init(wait=settings.wait).git_dir}",
    )


@make_task({**SOURCE, **COMMITS, **OUTPUT, **MACHINES, **WAIT, **PACK})
def push(c: Any, options: Mapping[str, Any]) -> None:
    """Push the source to build to each machine: the commits of a range, or the current source as it is."""
    from fabbuild.build.plan import choose_commits, output_of
    from fabbuild.source.repository import Source
    from fabbuild.text import commit_label, duration, size

    settings, found, chosen = machines_of(c, options)
    source = Source.open(settings.source or ".")
    tip = choose_commits(source, settings, output_of(source, settings)).commits[-1].hash

    def do(session: Session) -> str:
        session.init(wait=settings.wait)
        report = session.push(source, tip, one_pack=settings.one_pack)
        what = f"{report.objects} objects, {size(report.bytes)} in {duration(report.seconds)}"
        return f"{commit_label(tip)} is there: {what}"

    # On an interrupt the gits of the pushes are ended, for which the process would otherwise wait.
    on_each(c, group_for(c, found, chosen), f"push {commit_label(tip)}", do, source.interrupt)


@make_task({**MACHINES, **WAIT, **CAPACITY})
def start(c: Any, options: Mapping[str, Any]) -> None:
    """Send the worker to each machine, start it, and show that it is ready; it ends with this process."""
    from fabbuild.build.bring_up import start_options
    from fabbuild.build.plan import with_options
    from fabbuild.cli import ui
    from fabbuild.machines.session import SessionOptions

    settings, found, chosen = machines_of(c, options)

    def do(session: Session) -> str:
        session.init(SessionOptions(stderr=lambda line: ui.stderr_line(session.name, line)), wait=settings.wait)
        ready = session.start(start_options(session.machine, settings))
        return f"ready: {ready.nthreads} threads, {ready.slots} slots"

    machines = group_for(c, found, [with_options(machine, settings) for machine in chosen])
    on_each(c, machines, "start the worker", do)


@make_task(BUILD)
def build(c: Any, options: Mapping[str, Any]) -> None:
    """Build boards at commits on all machines, and report failures.

    Exit status: 0 success; 100 a board failed; 101 warnings only; 102 not every board got a result; 130
    interrupted; 1 wrong usage or set-up. With Invoke's --dry it prints what it would do. For users of buildman,
    docs/moving-from-buildman.md lists the options of both.
    """
    from fabbuild.build.run_plan import run
    from fabbuild.cli import ui
    from fabbuild.config.conflicts import check_archs, check_options
    from fabbuild.errors import UsageError
    from fabbuild.reporting import export
    from fabbuild.results.tree import ResultTree

    if is_connection(c):
        raise UsageError("build works on all machines at once: use `inv build --hosts h1,h2`, not `fab -H`")
    files = export.chosen(options)
    page = export.target("--report", options["report"])
    answer = export.target("--reply", options["reply"])
    settings, found, chosen = machines_of(c, options)
    dry = c.config.run.dry or options["dry_run"]
    check_options(settings, options, dry=dry)
    writes = [*files.values(), *filter(None, [page, answer])]
    plan, probes = plan_of(c, settings, found, chosen, contact=not dry, files=writes)
    check_archs(options, plan.chosen, plan.archs)
    if dry:
        reach = plan.reach.words(left_out=settings.affected) if plan.reach else ()
        fewer = plan.source.fewer(settings.count, len(plan.commits))
        notes = [*filter(None, [fewer]), *reach]
        chosen_names = [machine.name for machine in plan.chosen]
        ui.print_plan(plan.boards, plan.commits, chosen_names, str(plan.output / plan.name), notes=notes)
        return
    machines = group_for(c, found, plan.chosen, settings)
    tree = ResultTree(plan.output, plan.name, plan.commits)
    if options["ide"]:
        made = ui.ide_display(tree, [board.target for board in plan.boards])
    else:
        made = ui.make_display(quiet=settings.quiet, json=settings.json)
    with made as display:
        ended = run(plan, machines.sessions, display.listener, display.tick, probes)
        display.finish()
    told = settings.quiet or options["summary"]
    silent = settings.json or options["ide"]
    early = ended.interrupted or ended.stopped
    unread = [] if silent or options["summary"] or early else _unread(plan)
    ui.print_end(ended, json=silent, unread=unread, more="" if told else _tells_more(plan, ended))
    if options["summary"] and not options["ide"]:
        ui.print_summary_of(plan, json=settings.json)
    if files:
        export.write(files, export.planned(plan), plan)
    if options["report"]:
        _report_of(plan, page, quiet=settings.json or options["ide"])
    if answer and (found_results := _results_of(plan)):
        tasks_local.write_reply(found_results, answer, trailer="")
    if ended.exit_status:
        raise Exit(code=ended.exit_status)


@make_task(BISECT)
def bisect(c: Any, options: Mapping[str, Any]) -> None:
    """Find the commit that brought a fault to boards, by building several commits at a time on all machines.

    Without --error, --warning, --grows or --run the fault is that a board fails to build. What is built already is
    used, so that the same command goes on after an interrupt.

    Exit status: 0 it was found; 102 only commits that cannot be judged are left; 130 interrupted; 1 wrong usage or
    set-up.
    """
    from fabbuild.cli.bisect import bisect_with
    from fabbuild.errors import UsageError

    if is_connection(c):
        raise UsageError("bisect works on all machines at once: use `inv bisect --hosts h1,h2`, not `fab -H`")
    status = bisect_with(c, options)
    if status:
        raise Exit(code=status)


def _unread(plan: Plan) -> list[str]:
    """Return in words what the commits of a run change and no board read; nothing for the current source."""
    from fabbuild.reporting.summary.reader import read_range
    from fabbuild.reporting.summary.unread import more_words, unread_files, words

    made = read_range(plan.output, plan.name) if plan.commits[0].number else None
    found = unread_files(made, plan.source) if made else None
    return [*filter(None, [words(found)]), *more_words(found)]


def _tells_more(plan: Plan, ended: RunSummary) -> str:
    """Return the command that shows more about a failed run of several commits; empty for any other run."""
    import shlex

    from fabbuild.build.run_plan import EXIT_FAILED, EXIT_NOT_BUILT, EXIT_WARNED
    from fabbuild.cli import ui
    from fabbuild.reporting.summary.find import Found, where
    from fabbuild.reporting.summary.reader import read_range

    if len(plan.commits) < 2 or ended.exit_status not in (EXIT_FAILED, EXIT_WARNED, EXIT_NOT_BUILT):
        return ""
    made = read_range(plan.output, plan.name)
    if made is None:
        return ""
    which = "--commits" if plan.settings.commits else "--branch"
    # The name of the directory, which is a text in any case, names the results as well.
    text = plan.range_text if plan.range_text.isprintable() else plan.name
    return shlex.join([ui.called(), "summary", which, text, "--errors", *where(Found(made, plan.source))])


@make_task(SUMMARY)
def summary(c: Any, options: Mapping[str, Any]) -> None:
    """Show what each commit changed, from the existing results of fabbuild or buildman."""
    from fabbuild.cli import ui
    from fabbuild.reporting.summary.find import archs_of, find
    from fabbuild.reporting.summary.summarizer import summarize

    settings = settings_of(c, None, {name: options[name] for name in ("source", "output")})
    named = {name: options[name] or "" for name in ("branch", "commits")}
    if not any(named.values()):
        named = {"branch": settings.branch, "commits": settings.commits}
    found = find(output=settings.output, source=settings.source, **named)
    view = ui.SummaryView.chosen(options)
    told = summarize(found.range, view.wanted, archs=lambda: archs_of(found), source=found.source)
    ui.print_summary(told, found, view)


def _results_of(plan: Plan) -> Found | None:
    """Return the results of a run's range; None if there are none."""
    from fabbuild.reporting.summary.find import Found
    from fabbuild.reporting.summary.reader import read_range

    made = read_range(plan.output, plan.name)
    return Found(made, plan.source) if made else None


def _report_of(plan: Plan, page: Path | None, *, quiet: bool) -> None:
    """Write the report of a run, unless it has no result."""
    from fabbuild.reporting.html.report import write_report
    from fabbuild.reporting.summary.changes import SummaryScope

    found = _results_of(plan)
    if found is None:
        return
    only = tuple(board.target for board in plan.boards)
    written = write_report(found, page, SummaryScope(only=only))
    if not quiet:
        tasks_local.say_report(written)


@make_task(MACHINES, aliases=["kill-workers"])
def kill(c: Any, options: Mapping[str, Any]) -> None:
    """End the processes that fabbuild started on the machines, whole process groups, and no others."""
    _, found, chosen = machines_of(c, options)

    def do(session: Session) -> str:
        from fabbuild.errors import MachineError

        try:
            killed = session.kill()
        finally:
            session.close()  # the processes that this one started there were ended, too
        said = "killed " + " ".join(map(str, killed.pids)) if killed.pids else "no workers"
        if killed.left:
            left = "; ".join(f"{item.get('pid', '?')}: {item.get('why', '?')}" for item in killed.left)
            raise MachineError(session.name, f"{said}; still there: {left}")
        return said

    on_each(c, group_for(c, found, chosen), "end what fabbuild started", do)


@make_task({**SELECTION, **SOURCE, **OUTPUT, **BOARDS, **JSON})
def boards(c: Any, options: Mapping[str, Any]) -> None:
    """List the selected boards with arch, cpu, soc and vendor; with --reading those that read a file.

    With --check or --full-check list mistakes in their files, and exit with 1 if there are any.
    """
    from fabbuild.build.plan import output_of, snapshot
    from fabbuild.cli import ui
    from fabbuild.errors import UsageError
    from fabbuild.source.boards.catalogue import load_boards
    from fabbuild.source.boards.check import check_boards
    from fabbuild.source.boards.selection import select_boards
    from fabbuild.source.repository import Source
    from fabbuild.text import count

    if options["json"] and options["fields"]:
        raise UsageError("--json gives all fields of a board; leave --fields out, or --json")
    reading = options["reading"]
    if reading is not None and (options["check"] or options["full_check"]):
        raise UsageError("--reading lists boards, --check their mistakes; leave one of them out")
    settings = settings_of(c, None, options)
    source = Source.open(settings.source or ".")
    tree = snapshot(source, output_of(source, settings)).tree
    every = load_boards(source, tree)
    taken = select_boards(every, settings.boards, exclude=settings.exclude, only=settings.only)
    if options["check"] or options["full_check"]:
        wrong = check_boards(source, tree, taken, full=options["full_check"])
        ui.print_wrong(wrong, f"{count(len(taken), 'board')}, nothing wrong", json=options["json"])
        exit_unless(c, not wrong)
        return
    if reading is not None:  # an empty one names no file, and must not list all boards
        taken = _reading(source, tree, taken, reading)
    if options["fields"]:
        ui.print_fields(taken, options["fields"])
    else:
        ui.print_boards(taken, json=options["json"])


def _reading(source: Source, tree: str, boards: Sequence[Board], name: str) -> list[Board]:
    """Return the boards that read what the name stands for; say if there is none, or if some are not known."""
    from pathlib import Path

    from fabbuild.cli import ui
    from fabbuild.results.reuse.readers import readers
    from fabbuild.source.boards.tree_files import TreeFiles
    from fabbuild.source.named_files import named_files
    from fabbuild.text import count

    files = named_files(TreeFiles.read(source.git, tree).entries, name, source.path, Path.cwd())
    found = readers(files, {board.target for board in boards})
    if found.known and not found.boards:
        known = " whose reads are known" if len(found.known) < len(boards) else ""
        ui.note(f"none of {count(len(found.known), 'board')}{known} reads {name}")
    unknown = len(boards) - len(found.known)
    if unknown:
        ui.note(f"of {count(unknown, 'board')} nothing is known: build {'them' if unknown > 1 else 'it'} first")
    return [board for board in boards if board.target in found.boards]


@make_task(TOOLCHAINS)
def toolchains(c: Any, options: Mapping[str, Any]) -> None:
    """Show which toolchain each machine has for which architecture, or fetch some."""
    from fabbuild.build.plan import one_board
    from fabbuild.cli import ui
    from fabbuild.machines.probe import prefix_for, probe_rows

    settings, found, chosen = machines_of(c, options)
    if options["prefix"]:
        board = one_board(settings, options["prefix"])
        local = [machine for machine in chosen if machine.local]
        (session,) = group_for(c, found, (local or chosen)[:1]).sessions
        ui.say(prefix_for(session, board))
        return
    if options["fetch"]:
        _fetch(c, options, found, chosen)
        return
    machines = group_for(c, found, chosen)
    with answers_shown(machines, "look for toolchains") as told:
        rows = probe_rows(machines, found.fit, told)
    ui.print_toolchains(rows, tried=options["tried"], json=options["json"])
    exit_unless(c, all(row.facts for row in rows))


def _fetch(c: Any, options: Mapping[str, Any], found: Machines, chosen: Sequence[Machine]) -> None:
    """Carry out ``toolchains --fetch``."""
    from fabbuild.cli import ui
    from fabbuild.errors import FabbuildError
    from fabbuild.machines.toolchains.archives import DEFAULT_URL, SHOW, split_archs
    from fabbuild.machines.toolchains.install import ToolchainRequest, fetch_for, listed

    archs = split_archs(options["fetch"])
    own = str(configured(c.config).get("toolchain_url") or "")
    url = options["toolchain_url"] or own or found.toolchains.url or DEFAULT_URL
    wanted = ToolchainRequest(archs, url, options["toolchain_version"] or "", options["unchecked"])
    machines = group_for(c, found, chosen)
    if archs == [SHOW]:
        ui.print_archives(listed(machines, wanted), json=options["json"])
        return
    if c.config.run.dry:
        on_each(c, machines, f"fetch {', '.join(archs)} from {url}", lambda _session: "")
        return
    with ui.show_transfers() as transfers:
        outcomes = fetch_for(machines, wanted, transfers)
    rows = [
        ui.MachineOutcome(name, not isinstance(done, FabbuildError), str(done)) for name, done in outcomes.items()
    ]
    ui.print_outcomes(rows)
    exit_unless(c, all(row.ok for row in rows))


@make_task(CACHE)
def cache(c: Any, options: Mapping[str, Any]) -> None:
    """Show the store of earlier results, or remove it or a part; with Invoke's --dry only show it."""
    from fabbuild.cli import ui
    from fabbuild.errors import UsageError
    from fabbuild.protocol.sizes import parse_size
    from fabbuild.results.reuse.store import Store, clear, store_path
    from fabbuild.text import count, size

    try:
        limit = parse_size(options["trim"]) if options["trim"] else None
    except ValueError as exc:
        raise UsageError(f"--trim: {exc}") from None
    if limit is not None and options["clear"]:
        raise UsageError("--clear removes the whole store; leave --trim out")
    path = store_path()
    dry = c.config.run.dry
    if options["clear"]:
        freed = size(clear(path, only_look=dry))
        if not options["json"]:
            ui.say(f"{path}: {freed} would be freed" if dry else f"{path}: {freed} freed")
            return
    if not path.exists():
        ui.print_cache(None, str(path), json=options["json"])
        return
    with Store.open(path, make=False) as store:
        if limit is not None and not dry:
            removed = store.trim(limit)
            if not options["json"]:
                ui.say(f"{count(removed, 'result')} removed")
        ui.print_cache(store.usage(), str(path), json=options["json"])


@make_task(CLEAN)
def clean(c: Any, options: Mapping[str, Any]) -> None:
    """Remove the work directories on the machines, or results here, or old parts of these; show sizes first.

    Fetched toolchains stay unless --toolchains is given. With Invoke's --dry only show what would be removed.
    """
    from fabbuild.cli.disk_usage import parse_age
    from fabbuild.errors import UsageError

    older = parse_age(options["older_than"]) if options["older_than"] else 0.0
    if options["results"]:
        if options["toolchains"]:
            raise UsageError("--results removes nothing on machines; --toolchains goes without it")
        _clean_results(c, options, older)
        return
    if options["branch"]:
        raise UsageError("--branch names results: it goes with --results")
    _clean_machines(c, options, older)


def _confirmed(c: Any, options: Mapping[str, Any], usages: Sequence[DiskUse]) -> bool:
    """Show what exists and what would be removed; return whether to continue.

    Raises:
        UsageError: the user said no, or could not be asked.
    """
    from fabbuild.cli import ui
    from fabbuild.errors import UsageError
    from fabbuild.text import size

    ui.print_usage(usages)
    going = [usage for usage in usages if usage.goes]
    if c.config.run.dry or not usages:
        return False
    amount = size(sum(usage.bytes for usage in going))
    if going and not options["yes"] and not ui.confirm(f"Remove what goes, {amount}?"):
        raise UsageError("nothing was removed; answer y, or give --yes")
    return True


def _clean_results(c: Any, options: Mapping[str, Any], older: float) -> None:
    from pathlib import Path

    from fabbuild.build.plan import output_of
    from fabbuild.cli import ui
    from fabbuild.cli.disk_usage import remove_tree, result_trees
    from fabbuild.errors import OutputError
    from fabbuild.results.tree import output_directory
    from fabbuild.source.repository import Source
    from fabbuild.text import size

    settings = settings_of(c, None, {name: value for name, value in options.items() if name != "branch"})
    if settings.output:
        output = output_directory(settings.output)
    else:
        output = output_of(Source.open(settings.source or "."), settings)
    name = Source.range_name(options["branch"]) if options["branch"] else ""
    usages = result_trees(output, name, older=older)
    if not _confirmed(c, options, usages):
        return
    rows = []
    for usage in usages:
        if usage.goes:
            try:
                freed = remove_tree(Path(usage.path))
            except OutputError as exc:
                rows.append(ui.MachineOutcome(Path(usage.path).name, ok=False, text=str(exc)))
            else:
                rows.append(ui.MachineOutcome(Path(usage.path).name, ok=True, text=f"{size(freed)} freed"))
    ui.print_outcomes(rows)
    exit_unless(c, all(row.ok for row in rows))


def _clean_machines(c: Any, options: Mapping[str, Any], older: float) -> None:
    from fabbuild.cli import ui
    from fabbuild.cli.disk_usage import archives, on_machines, remove_archive
    from fabbuild.errors import FabbuildError

    _, found, chosen = machines_of(c, options)
    machines = group_for(c, found, chosen)
    toolchains = bool(options["toolchains"])
    with answers_shown(machines, "look at what is there") as told:
        looked = machines.on_all(lambda session: session.usage(older=older, toolchains=toolchains), told=told)
    failed = {name: answer for name, answer in looked.items() if isinstance(answer, Exception)}
    for exc in failed.values():
        if not isinstance(exc, FabbuildError):
            raise exc
        ui.error(exc)
    usages = [*on_machines(looked), *(archives(older) if toolchains else ())]
    if _confirmed(c, options, usages):
        for usage in usages:
            if usage.goes and not usage.where:
                remove_archive(usage)

        def do(session: Session) -> str:
            cleaned = session.clean(older=older, toolchains=toolchains)
            return f"{cleaned.work_dir}: {cleaned.freed_mb:g} MB freed, {cleaned.left_mb:g} MB left"

        on_each(c, machines.without(failed), "clean", do)
    exit_unless(c, not failed)


def collection() -> Collection:
    """Return a collection of all tasks, in which every configuration key is declared."""
    made = Collection(KEY)
    for one in (
        probe,
        init,
        push,
        start,
        build,
        bisect,
        summary,
        kill,
        boards,
        toolchains,
        cache,
        clean,
        *tasks_local.TASKS,
    ):
        made.add_task(one)
    made.configure({KEY: default_configuration()})
    return made
