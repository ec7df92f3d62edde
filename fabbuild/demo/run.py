"""Run the demonstration: build the sample tree with two local workers, and print what each commit changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fabbuild.build.plan import make_plan
from fabbuild.build.run_plan import run
from fabbuild.cli import ui
from fabbuild.config.machines import Machine, Machines
from fabbuild.config.settings import BuildSettings
from fabbuild.demo.sample import BOARDS, Sample, make_sample
from fabbuild.errors import SetupError
from fabbuild.machines.session import Session
from fabbuild.machines.session_pool import SessionPool, group_of
from fabbuild.machines.transport.local import LocalTransport
from fabbuild.model import SANDBOX
from fabbuild.reporting.summary.changes import CommitChanges, SummaryScope
from fabbuild.reporting.summary.facts import MAIN
from fabbuild.reporting.summary.find import Found
from fabbuild.reporting.summary.reader import open_range
from fabbuild.reporting.summary.summarizer import summarize

#: Names of the two workers.
WORKERS = ("left", "right")


def run_demo(directory: Path) -> int:
    """Build the sample's series in ``directory`` and print what each commit changed.

    Returns:
        The exit status: 0 if all boards that this machine has a compiler for gave the known results; 130 after an
        interrupt; 1 otherwise.

    Raises:
        UsageError: the directory cannot be used.
        SetupError: this machine cannot build.
    """
    sample = make_sample(directory / "source")
    threads = max(len(os.sched_getaffinity(0)) // len(WORKERS), 1)
    machines = Machines(
        {
            name: Machine(name, local=True, threads=threads, work_dir=str(directory / "machines" / name))
            for name in WORKERS
        }
    )
    chosen = list(machines.machines.values())
    pool = SessionPool()
    try:
        archs = _archs(pool.sessions(chosen, machines.toolchains, lambda machine: LocalTransport(machine.name)))
        boards = [board for board, arch in BOARDS.items() if arch in archs]
        settings = BuildSettings(
            only=",".join(boards),
            branch=sample.branch,
            source=str(sample.path),
            output=str(directory / "results"),
            force=True,
        )
        plan = make_plan(settings, machines, chosen)
        ui.say(f"sample source: {sample.path}, branch {sample.branch}: {len(plan.commits)} commits")
        for line in _left_out(archs):
            ui.say(line)
        sessions = pool.sessions(plan.chosen, machines.toolchains, lambda machine: LocalTransport(machine.name))
        with ui.make_display() as display:
            summary = run(plan, sessions, display.listener, display.tick)
            display.finish()
    finally:
        pool.close()
    if summary.interrupted:
        ui.print_end(summary)
        return summary.exit_status
    view = ui.SummaryView(SummaryScope(sizes=True, only=tuple(boards)), detail=True)
    found = Found(open_range(plan.output, plan.name), plan.source)
    told = summarize(found.range, view.wanted)
    ui.print_end(replace(summary, exit_status=0))
    ui.print_summary(told, found, view)
    wrong = differences(sample, boards, told.commits)
    if summary.counts.not_built:
        wrong.append(f"{summary.counts.not_built} results are missing")
    ui.say("\n".join(wrong) if wrong else "Everything went as the sample intends.")
    return 1 if wrong else 0


def _archs(sessions: Sequence[Session]) -> set[str]:
    archs: set[str] = set()
    for facts in group_of(sessions).on_all(Session.probe).values():
        if isinstance(facts, Exception):
            raise facts
        archs |= set(facts.toolchains)
    if SANDBOX not in archs:
        raise SetupError("this machine", "no gcc was found: apt-get install gcc")
    return archs


def _left_out(archs: set[str]) -> list[str]:
    missing: dict[str, list[str]] = {}
    for board, arch in BOARDS.items():
        if arch not in archs:
            missing.setdefault(arch, []).append(board)
    return [
        f"left out, because there is no compiler for {arch}: {', '.join(boards)}"
        for arch, boards in missing.items()
    ]


def differences(sample: Sample, boards: Sequence[str], commits: Sequence[CommitChanges]) -> list[str]:
    """Return a line for each commit that did not change the boards as is known of the sample."""
    wrong = []

    def check(number: int, what: str, expected: Mapping[int, Sequence[str]], seen: Sequence[str]) -> None:
        wanted = sorted(set(expected.get(number, ())) & set(boards))
        if sorted(seen) != wanted:
            wrong.append(
                f"commit {number} should {what} {', '.join(wanted) or 'no board'}, but does so with "
                f"{', '.join(sorted(seen)) or 'no board'}"
            )

    for commit in commits:
        check(commit.number, "break", sample.fails, commit.boards.broke)
        check(commit.number, "mend", sample.mends, commit.boards.mended)
        check(commit.number, "give a warning to", sample.warns, commit.boards.warns)
        resized = [board for board, sizes in (commit.board_sizes or {}).items() if MAIN in sizes.programs]
        check(commit.number, "resize", sample.grows, resized)
    return wrong
