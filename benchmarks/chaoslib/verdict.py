"""What must hold when a round is over: the results, the run's own sums, and that nothing is left anywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaoslib.lab import Lab
from chaoslib.watch import Watch

#: Seconds in which all of ours must be gone after the boss has ended.
GONE_WITHIN = 60.0

#: What a build of the sample's series ends with: one board fails at one commit.
RIGHT_STATUS = 100

#: What of a result must be the same, byte for byte, whatever happened meanwhile.
COMPARED = ("done", "err", "sizes")

#: (directory of the commit, board) → the files of `COMPARED`, None for one that is not there.
Results = dict[tuple[str, str], tuple[bytes | None, ...]]


@dataclass
class Verdict:
    """What was found wrong, and what was counted."""

    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    double: int = 0
    differing: int = 0
    left: int = 0
    gone_after: float = 0.0


def read_results(root: Path) -> Results:
    """Read all results that have a ``done``."""

    def content(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    return {
        (done.parent.parent.name, done.parent.name): tuple(content(done.parent / name) for name in COMPARED)
        for done in root.glob("*/*/done")
    }


def check_results(found: Results, right: Results, verdict: Verdict, *, whole: bool) -> None:
    """Compare results with those of a run without faults; ``whole``: none may be missing."""
    differing = []
    for key in sorted(found):
        theirs = right.get(key)
        if found[key] != theirs:
            ours = dict(zip(COMPARED, found[key], strict=True))
            names = [name for name in COMPARED if not theirs or ours[name] != theirs[COMPARED.index(name)]]
            differing.append(f"{_name(key)} ({', '.join(f'{name} is {_shown(ours[name])}' for name in names)})")
    if differing:
        verdict.wrong.append(f"{len(differing)} results are not what they should be: {_some(differing, 3)}")
        verdict.differing += len(differing)
    missing = sorted(set(right) - set(found)) if whole else []
    if missing:
        verdict.wrong.append(f"{len(missing)} results are missing: {_some(list(map(_name, missing)), 8)}")
        verdict.lost += len(missing)


def check_sums(watch: Watch, asked: int, kills: int, verdict: Verdict) -> None:
    """Check what the journal says of each run against itself."""
    wrong = verdict.wrong
    runs = watch.runs()
    ended = [run for run in runs if any(event["what"] == "run-end" for event in run)]
    if len(ended) != 1:
        wrong.append(f"{len(ended)} runs of {len(runs)} have an end; one must have")
    if watch.torn > kills:
        wrong.append(f"{watch.torn} lines of the journal are torn")
    recorded: set[tuple[str, str]] = set()
    for number, run in enumerate(runs, 1):
        results = [event for event in run if event["what"] == "result"]
        not_built = [event for event in run if event["what"] == "not-built"]
        times = Counter((event["board"], event["commit"]) for event in results + not_built)
        for (board, commit), count in times.items():
            if count > 1:
                wrong.append(f"run {number}: {board} @ {commit[:10]} ended {count} times")
                verdict.double += count - 1
        again = recorded & {(event["board"], event["commit"]) for event in results}
        if again:
            wrong.append(f"run {number} built again what was there: {sorted(again)[:3]}")
            verdict.double += len(again)
        recorded |= {(event["board"], event["commit"]) for event in results}
        if run in ended:
            _check_end(run, number, asked, wrong)


def _check_end(run: list[dict[str, Any]], number: int, asked: int, wrong: list[str]) -> None:
    (start,) = (event["data"] for event in run if event["what"] == "run-start")
    (end,) = (event["data"] for event in run if event["what"] == "run-end")
    counts = end["counts"]
    verdicts = Counter(event["data"]["verdict"] for event in run if event["what"] == "result")
    verdicts["not_built"] = sum(event["what"] == "not-built" for event in run)
    told = {name: counts[name] for name in ("built", "warned", "failed", "not_built")}
    if told != {name: verdicts[name] for name in told}:
        wrong.append(f"run {number}: its end tells {told}, its events are {dict(verdicts)}")
    if sum(told.values()) != start["results"]:
        wrong.append(f"run {number}: {start['results']} were asked for, {told} ended")
    if start["results"] + counts["skipped"] != asked:
        wrong.append(f"run {number}: {start['results']} asked for and {counts['skipped']} there make no {asked}")


def check_gone(lab: Lab, verdict: Verdict) -> None:
    """Wait until nothing of ours is left anywhere and no lock is held; say what is left after `GONE_WITHIN`."""
    began = time.monotonic()
    while left := _left(lab):
        if time.monotonic() - began > GONE_WITHIN:
            verdict.wrong.append(f"left behind: {'; '.join(left)}")
            verdict.left += len(left)
            break
        time.sleep(0.05)
    verdict.gone_after = time.monotonic() - began


def check_kill(lab: Lab, verdict: Verdict) -> None:
    """See that ``inv kill`` finds nothing to end."""
    status, said = lab.run("kill")
    if status or said.count("no workers") != len(lab.machines):
        verdict.wrong.append(f"`inv kill` ended with {status} and says: {said.strip()}")


def check_again(lab: Lab, arguments: Sequence[str], watch: Watch, verdict: Verdict) -> None:
    """See that the same command now finds everything there, and builds nothing."""
    status, said = lab.run(*arguments)
    watch.look()
    start = next(event["data"] for event in reversed(watch.events) if event["what"] == "run-start")
    if status != RIGHT_STATUS or start["results"]:
        words = said.strip().splitlines()[-1:]
        verdict.wrong.append(f"the same again builds {start['results']} results and ends with {status}: {words}")


def _left(lab: Lab) -> list[str]:
    left = [f"boss: {pid} {words}" for pid, words in lab.bosses().items()]
    for machine in lab.machines:
        left += [f"{machine.name}: {pid} {words}" for pid, words in machine.processes().items()]
        if machine.locked():
            left.append(f"{machine.name}: its lock is held")
    return left


def _name(key: tuple[str, str]) -> str:
    """Name a result by the number of its commit and its board."""
    return f"{key[0].partition('_')[0]}/{key[1]}"


def _some(words: list[str], most: int) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _shown(text: bytes | None) -> str:
    return "not there" if text is None else repr(text[:120].decode(errors="replace"))
