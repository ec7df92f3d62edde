"""Render the report as one self-contained HTML file, with the templates in ``templates/``.

The page loads nothing from the network, and its Content-Security-Policy allows only its own script. The templates
escape all text from results, whose control characters were made visible before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from fabbuild.event_types import RunInterrupted, RunStoppedEarly
from fabbuild.events.timeline import Timeline
from fabbuild.reporting.html import estimate, pictures
from fabbuild.reporting.html.cells import Gatherer
from fabbuild.reporting.html.commits import Group, Growth, Problem, growth, label, sentence
from fabbuild.reporting.html.document import PROBLEMS, document, groups_by_commit, results_of
from fabbuild.reporting.html.journal_facts import JournalFacts
from fabbuild.reporting.summary.changes import CommitChanges, Summary
from fabbuild.reporting.summary.find import Found, how_built, where, which_commit
from fabbuild.reporting.summary.unread import FILES, more_words, words
from fabbuild.reporting.summary.wording import many, who
from fabbuild.source.boards.selection import quoted
from fabbuild.text import clock, cut, duration, names, one_line, visible

#: Problems of each sort that are shown for all commits together; the script has more of them.
_SHOWN = 240
_MOST, _LEAST = 12, 3

#: Boards that are named below a problem.
_NAMED = 24

#: Rows of the tables that replace the matrix and the timeline without a script.
_ROWS = 400
_SPANS = 400

#: Letters of results in the matrix without a script.
MARKS = {"b": "·", "w": "w", "f": "F", "n": "-", "x": "", ".": ""}


@dataclass(frozen=True)
class ShownProblem:
    """A problem as the page shows it; ``number`` is its index in the data."""

    problem: Problem
    number: int
    who: str
    names: str


@dataclass(frozen=True)
class ShownGroup:
    """A group as the page shows it; ``more`` problems are not shown."""

    group: Group
    who: str
    problems: tuple[ShownProblem, ...]
    more: int


@dataclass(frozen=True)
class ShownCommit:
    """A commit as the page shows it."""

    commit: CommitChanges
    label: str
    subject: str
    groups: tuple[ShownGroup, ...]
    growth: tuple[Growth, ...]

    @property
    def quiet(self) -> bool:
        """Whether the commit changed nothing."""
        return not self.groups and not self.growth


def render(
    found: Found,
    summary: Summary,
    gatherer: Gatherer,
    journal: JournalFacts,
    *,
    base: str = "./",
    made: float = 0.0,
) -> str:
    """Return the page.

    Args:
        found: the results.
        summary: the summary of the results, with sizes.
        gatherer: the reader of the range.
        journal: facts from the range's journal.
        base: relative URL from the page to the range's directory; ends with ``/``.
        made: time of the report, in seconds since the epoch; 0: now.
    """
    made = made or time.time()
    by_commit = groups_by_commit(summary, going=journal.going)
    by_commit = _with_commands(found, summary, gatherer, by_commit)
    dirs = {(commit.number, commit.hash): commit.name for commit in gatherer.range.commits}
    places = [dirs[commit.number, commit.hash] for commit in summary.commits]
    verdicts = {
        board: "".join(cell.verdict if (cell := gatherer.cells.get((place, board))) else "." for place in places)
        for board in summary.archs
    }
    wanted = journal.run.wanted if journal.run else 0
    verdict = sentence(summary, verdicts, going=journal.going, wanted=wanted)
    facts = document(summary, gatherer, journal, by_commit, sentence=verdict, made=made, where=where(found))
    facts["base"] = base
    text = script_json(facts)
    unread = words(summary.unread)
    environment = _environment()
    css, script = _read("report.css"), _read("report.js")
    return environment.get_template("report.html").render(
        css=css,
        script=script,
        policy=policy(css, script),
        facts=text,
        title=visible(summary.name),
        output=facts["output"],
        note=visible(found.note),
        sentence=verdict,
        made=time.strftime("%Y-%m-%d %H:%M", time.localtime(made)),
        going=journal.going,
        complaints=[visible(one) for one in summary.complaints],
        unread=unread[:1].upper() + unread[1:],
        unread_more=more_words(summary.unread),
        unread_files=summary.unread.files if summary.unread and len(summary.unread.files) > FILES else (),
        commits=_commits(summary, by_commit),
        archs=facts["archs"],
        table=_table(facts),
        marks=MARKS,
        columns=[label(commit).split(" ")[0] if commit.number else "now" for commit in summary.commits],
        arch_charts=pictures.arch_charts(summary),
        board_charts=pictures.board_charts(summary, gatherer.cells, places),
        chart=pictures,
        last=summary.commits[-1],
        boards=len(summary.archs),
        **(_machines(journal.run, summary.archs, journal.runs) if journal.run else {"run": None}),
    )


def script_json(value: object) -> str:
    """Return JSON for a script element, without text that could end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def policy(css: str, script: str) -> str:
    """Return the Content-Security-Policy that allows this style and script and nothing else."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return (
        f"default-src 'none'; script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(css)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def base_of(range_path: Path, target: Path) -> str:
    """Return the relative URL from the page to the range's directory."""
    way = os.path.relpath(range_path, target.parent)
    return "./" if way == "." else f"./{quote(way, errors='surrogateescape')}/"


def _read(name: str) -> str:
    return (files("fabbuild.reporting.html") / "templates" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": duration, "clock": clock, "visible": visible, "many": many}
    return environment


def _with_commands(
    found: Found, summary: Summary, gatherer: Gatherer, by_commit: Sequence[Sequence[Group]]
) -> list[list[Group]]:
    """Add to each new problem the command that builds one of its boards again."""
    place = where(found)
    dirs = {(commit.number, commit.hash): commit.name for commit in gatherer.range.commits}

    def command(commit: CommitChanges, board: str) -> str:
        cell = gatherer.cells.get((dirs[commit.number, commit.hash], board))
        words = [*which_commit(commit), *how_built(cell.settings if cell else {}), *place]
        return visible(shlex.join(["inv", "build", "--only", quoted(board), *words]))

    return [
        [
            replace(
                group,
                problems=tuple(
                    replace(problem, command=command(commit, problem.boards[0])) for problem in group.problems
                ),
            )
            if group.sort in ("broke", "errors", "warned")
            else group
            for group in those
        ]
        for commit, those in zip(summary.commits, by_commit, strict=True)
    ]


def _commits(summary: Summary, by_commit: Sequence[Sequence[Group]]) -> list[ShownCommit]:
    most = min(max(_SHOWN // len(summary.commits), _LEAST), _MOST)
    number = 0
    shown = []
    for commit, those in zip(summary.commits, by_commit, strict=True):
        listed = []
        for group in those:
            problems = tuple(
                ShownProblem(
                    problem, number + at, who(problem.boards, summary.archs), names(problem.boards, _NAMED)
                )
                for at, problem in enumerate(group.problems[:most])
            )
            listed.append(
                ShownGroup(group, who(group.boards, summary.archs), problems, len(group.problems) - len(problems))
            )
            number += len(group.problems[:PROBLEMS])
        subject = cut(visible(commit.subject), 300)
        shown.append(ShownCommit(commit, label(commit), subject, tuple(listed), tuple(growth(commit))))
    return shown


def _table(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table that replaces the matrix without a script."""
    rows = [
        (name[0], facts["archs"][name[1]], list(zip(row["v"], row["c"], strict=True)))
        for name, row in zip(facts["boards"], facts["cells"], strict=True)
        if len(facts["commits"]) == 1 or set(row["c"]) - {"."}
    ]
    return {"rows": rows[:_ROWS], "more": max(len(rows) - _ROWS, 0)}


def _machines(run: Timeline, archs: Mapping[str, str], runs: int) -> dict[str, Any]:
    tail = estimate.tail(run) if run.ended else None
    base, others = estimate.what_if(run, archs)
    spans = run.boards
    built = sum(machine.finished for machine in run.machines.values())
    building = max((span.end for span in spans), default=run.end) - run.began
    return {
        "run": run,
        "runs": runs,
        "results": results_of(run),
        "interrupted": bool(run.of(RunInterrupted)),
        "stopped": [cut(one_line(event.text), 200) for event in run.of(RunStoppedEarly)],
        "began": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began)),
        "picture": pictures.run_picture(run, tail),
        "tail": tail,
        "rate": estimate.boards_an_hour(built, building) if built else None,
        "machines": [
            {
                "one": machine,
                "share": estimate.share(machine, run),
                "slots_busy": estimate.slots_busy(machine, run),
                "rate": estimate.boards_an_hour(machine.finished, run.end - (machine.ready or run.end)),
                "away": sum(absence.seconds for absence in machine.absences),
            }
            for machine in run.machines.values()
        ],
        "fault_words": pictures.fault_words,
        "estimate": base,
        "what_if": others,
        "spans": sorted(spans, key=lambda span: -span.seconds)[:_SPANS],
        "spans_more": max(len(spans) - _SPANS, 0),
        "unfinished": pictures.UNFINISHED,
    }
