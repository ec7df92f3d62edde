"""The counts of all rounds, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chaoslib.rounds import Outcome


@dataclass
class Figures:
    """What all rounds came to."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)
    noticed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count a round, also one without effect."""
        verdict = outcome.verdict
        for fault in outcome.faults:
            self.injected[fault["kind"]] += fault["injected"]
            self.observed[fault["kind"]] += fault["observed"]
            if fault["noticed"] is not None:
                self.noticed[fault["group"]].append(fault["noticed"])
        self.totals["rounds"] += outcome.counts
        self.totals["rounds without effect"] += not outcome.counts
        self.totals["boards rebuilt"] += outcome.rebuilt
        self.totals["results lost"] += verdict.lost
        self.totals["results double"] += verdict.double
        self.totals["results differing"] += verdict.differing
        self.totals["left behind"] += verdict.left
        self.seconds.append(outcome.seconds)
        self.gone.append(verdict.gone_after)
        if verdict.wrong:
            self.failed.append(outcome.plan.seed)

    def as_json(self) -> dict[str, Any]:
        """Give everything as plain data."""
        return {
            "seed": self.seed,
            **{name.replace(" ", "_"): count for name, count in self.totals.items()},
            "rounds_failed": self.failed,
            "faults": {
                kind: {"injected": self.injected[kind], "observed": self.observed[kind]}
                for kind in sorted(self.injected)
            },
            "noticed_seconds": {group: _spread(values) for group, values in sorted(self.noticed.items())},
            "gone_after_seconds": _spread(self.gone),
            "seconds_per_round": _spread(self.seconds),
        }

    def table(self) -> str:
        """Give everything as Markdown."""
        lines = ["| fault | injected | observed |", "|---|---|---|"]
        lines += [f"| {kind} | {self.injected[kind]} | {self.observed[kind]} |" for kind in sorted(self.injected)]
        lines.append(f"| **all** | {self.injected.total()} | {self.observed.total()} |")
        lines += ["", "| what | |", "|---|---|"]
        lines += [f"| {name} | {count} |" for name, count in self.totals.items()]
        lines.append(f"| rounds failed | {len(self.failed)} |")
        for group, values in sorted(self.noticed.items()):
            lines.append(f"| time to notice, {group} | {_words(values)} |")
        lines.append(f"| all gone after the end | {_words(self.gone)} |")
        lines.append(f"| a round | {_words(self.seconds)} |")
        return "\n".join(lines)


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50": round(statistics.median(values), 3),
        "p99": round(sorted(values)[max(-(-len(values) * 99 // 100) - 1, 0)], 3),
        "max": round(max(values), 3),
    }


def _words(values: Sequence[float]) -> str:
    spread = _spread(values)
    if not values:
        return "-"
    return f"p50 {spread['p50']:.2f} s, p99 {spread['p99']:.2f} s, most {spread['max']:.2f} s ({len(values)})"
