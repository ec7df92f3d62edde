"""One round: a plan out of a seed, the faults at their moments, and what came of it."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chaoslib import verdict as verdicts
from chaoslib.faults import KINDS, Fault, MakeHang, describe
from chaoslib.lab import Lab, Machine
from chaoslib.verdict import Results, Verdict
from chaoslib.watch import Watch

#: Seconds that the boss may take in all; far more than any fault can cost.
ROUND_LIMIT = 240.0

#: Seconds between two looks at what goes on.
_LOOK = 0.03

#: Phases in which a machine can be struck while it is brought up.
_PHASES = ("init", "push", "start", "prepare")


@dataclass
class Strike:
    """A fault and its moment: as soon as so many results are in, or a machine is in this phase."""

    fault: Fault
    results: int
    phase: str = ""

    def due(self, watch: Watch) -> bool:
        """Whether it is time."""
        if self.phase:
            return watch.phase(self.fault.machine.name) in (self.phase, "ready", "done")
        return watch.results >= self.results

    def __str__(self) -> str:
        """Name it for a person."""
        return f"{self.fault} @ {self.phase or self.results}"


@dataclass
class Plan:
    """What a seed makes of a round."""

    seed: int
    strikes: list[Strike]
    delay: float
    fresh: bool
    batch: bool

    def __str__(self) -> str:
        """Name it for a person."""
        words = ["; ".join(map(str, self.strikes)), f"make takes {self.delay:g} s more"]
        words += ["fresh work directories"] * self.fresh + ["batch"] * self.batch
        return ", ".join(words)


@dataclass
class Outcome:
    """What came of a round."""

    plan: Plan
    faults: list[dict[str, Any]] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    rebuilt: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether at least one of its faults was felt."""
        return any(fault["observed"] for fault in self.faults)


def make_plan(seed: int, lab: Lab, kinds: Sequence[str]) -> Plan:
    """Make a round of a seed: one to three faults, and at least one machine that will be well in the end.

    Args:
        seed: the same one gives the same plan, for the same kinds and the same lab.
        lab: the machines.
        kinds: which faults may come.
    """
    chance = random.Random(seed)
    possible = [KINDS[kind] for kind in sorted(kinds) if KINDS[kind].needs not in lab.lacking]
    if not possible:
        raise ValueError(f"none of these faults can be made here: {', '.join(kinds)}")
    wanted = chance.choice((1, 2, 2, 3))
    kept = chance.choice(lab.machines)
    strikes: list[Strike] = []
    for _ in range(50):
        if len(strikes) == wanted:
            break
        kind = chance.choice(possible)
        fault = kind(chance.choice(lab.machines), chance)
        results = chance.randrange(45)
        phase = chance.choice(_PHASES) if kind.early and chance.random() < 0.25 else ""
        if fault.machine is kept and fault.permanent:
            continue
        others = [strike.fault for strike in strikes]
        if any(_meet(fault, other) for other in others):
            continue
        strikes.append(Strike(fault, results, phase))
    delay, fresh, batch = chance.choice((0.1, 0.2, 0.35)), chance.random() < 0.4, chance.random() < 0.1
    # In a batch a worker is told no timeout: then it takes minutes until it is clear that a make hangs.
    batch = batch and not any(isinstance(strike.fault, MakeHang) for strike in strikes)
    return Plan(seed, strikes, delay, fresh=fresh, batch=batch)


def _meet(one: Fault, other: Fault) -> bool:
    """Whether two faults would undo each other, or make a result that is not there without anybody's mistake."""
    if one.kind == other.kind == "kill-worker":
        return True  # a board that two workers died of is, as is promised, not built a third time
    if not one.sort or one.sort != other.sort:
        return False
    # A board may hang on two machines, and then it counts as one that hangs.
    everywhere = one.everywhere or other.everywhere or isinstance(one, MakeHang) or isinstance(other, MakeHang)
    return everywhere or one.machine is other.machine


class Round:
    """A plan being carried out."""

    def __init__(self, lab: Lab, plan: Plan, right: Results, options: Sequence[str]) -> None:
        """Name the parts; ``options`` are the boss's."""
        self._lab = lab
        self._right = right
        self.outcome = Outcome(plan)
        self._open = list(plan.strikes)
        self._place = lab.base / f"round-{plan.seed}"
        self._arguments = ["build", *options, "--output", str(self._place)]
        if plan.batch:
            self._arguments.append("--batch")
        self._watch = Watch(self._place / "series" / ".fabbuild" / "journal.ndjson")
        self._boss: subprocess.Popen[bytes] | None = None
        self._begin_at: float | None = 0.0
        self._kills = 0

    @property
    def place(self) -> str:
        """Where the results and the boss's words are."""
        return str(self._place)

    def run(self) -> Outcome:
        """Carry it out and look at what is there afterwards."""
        plan, verdict = self.outcome.plan, self.outcome.verdict
        began = time.monotonic()
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        for machine in self._lab.machines:
            machine.reset(plan.delay, fresh=plan.fresh)
        for strike in plan.strikes:
            strike.fault.prepare(self)
        self._lab.write_machines()
        try:
            status = self._until_the_end(began + ROUND_LIMIT)
        finally:
            for strike in plan.strikes:
                strike.fault.undo()
            if self._boss and self._boss.poll() is None:
                self._boss.kill()
                self._boss.wait()
        self._watch.look()
        if status != verdicts.RIGHT_STATUS:
            verdict.wrong.append(f"the boss ended with {status}")
        verdicts.check_results(verdicts.read_results(self._place / "series"), self._right, verdict, whole=True)
        verdicts.check_sums(self._watch, len(self._right), self._kills, verdict)
        verdict.wrong += self._reasons()
        verdicts.check_gone(self._lab, verdict)
        verdicts.check_kill(self._lab, verdict)
        self.outcome.faults = [describe(strike.fault, self._watch) for strike in plan.strikes]
        self.outcome.rebuilt = sum(event["what"] in ("requeued", "fault") for event in self._watch.events)
        if not verdict.wrong:
            verdicts.check_again(self._lab, self._arguments, self._watch, verdict)
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    # --- while it goes on ---

    def _until_the_end(self, deadline: float) -> int:
        """Start the boss, also again when it is killed, and strike; give its status, -1 when it had to be ended."""
        while True:
            if self._begin_at is not None and time.time() >= self._begin_at:
                self._begin_at = None
                self._boss = self._lab.start(*self._arguments, log=self._place / "boss.out")
            self._watch.look()
            self._strike()
            if self._begin_at is None and self._boss is not None and self._boss.poll() is not None:
                return self._boss.returncode
            if time.monotonic() > deadline:
                self.outcome.verdict.wrong.append(f"the boss did not end within {ROUND_LIMIT:g} s")
                return self._end_with_a_traceback()
            time.sleep(_LOOK)

    def _strike(self) -> None:
        for strike in list(self._open):
            if strike.due(self._watch):
                now = time.time()
                if strike.fault.inject():
                    strike.fault.injected = now
                    self._open.remove(strike)
        for strike in self.outcome.plan.strikes:
            fault = strike.fault
            if (
                fault.injected
                and not fault.undone
                and fault.lasting
                and time.time() >= fault.injected + fault.lasting
            ):
                fault.undone = time.time()
                fault.undo()

    @property
    def machines(self) -> Sequence[Machine]:
        """All machines."""
        return self._lab.machines

    @property
    def boss(self) -> int:
        """The boss's pid; 0 while there is none."""
        there = self._boss is not None and self._begin_at is None and self._boss.poll() is None
        return self._boss.pid if self._boss and there else 0

    def kill_boss(self, pause: float) -> bool | None:
        """Kill the boss and look at what it leaves; see `chaoslib.faults.base.Scene`."""
        if not self.boss or self._boss is None:
            return None
        self._boss.send_signal(signal.SIGKILL)
        if self._boss.wait() != -signal.SIGKILL:
            return None
        self._kills += 1
        self._begin_at = time.time() + pause
        there = verdicts.read_results(self._place / "series")
        verdicts.check_results(there, self._right, self.outcome.verdict, whole=False)
        return len(there) < len(self._right)

    def _end_with_a_traceback(self) -> int:
        if self._boss and self._boss.poll() is None:
            self._boss.send_signal(signal.SIGABRT)  # Python says then where each thread is
            try:
                self._boss.wait(10)
            except subprocess.TimeoutExpired:
                self._boss.kill()
                self._boss.wait()
        return -1

    def _reasons(self) -> list[str]:
        """Say why boards were not built, each reason once."""
        reasons = {event["text"] for event in self._watch.events if event["what"] == "not-built"}
        return [f"not built: {reason}" for reason in sorted(reasons)]
