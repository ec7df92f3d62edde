"""Real machines: an sshd each on loopback, and `inv build` of the sample tree on all of them."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from comparelib import measure
from comparelib.farm import servers_of

from fabbuild.demo.sample import BOARDS, Sample, make_sample
from tests.support.sshd import Sshd, make_sshd
from tests.support.tree import available_archs

_ROOT = Path(__file__).resolve().parents[2]

#: Words in the command line of the boss's process, and not in those of its children on machines.
_BOSS = "invoke build"

#: Exit statuses of a run that ended: builds that warned or failed are results, too.
_FINE = (0, 100, 101)


@dataclass(frozen=True)
class HostsRun:
    """The figures of one run.

    Attributes:
        figures: those of the command and all processes it started, machines included.
        boss_cpu: user and system seconds of the boss's process and of those it started here.
        first: seconds from the start until a slot began the first board.
        begun_after: seconds from handing out a board until the boss hears that a slot has begun it, median.
        asked: how many results there are to be.
        wrong: errors found in the results, a line each.
        shares: how many results each machine brought.
    """

    figures: measure.Figures
    boss_cpu: float
    first: float
    begun_after: float
    asked: int
    wrong: Sequence[str]
    shares: Sequence[int]


class Hosts:
    """The machines and the sample."""

    def __init__(self, base: Path, count: int, slots: int) -> None:
        """Make them below ``base``, without starting them."""
        self._base = base
        self.sample: Sample = make_sample(base / "source")
        self.servers: list[Sshd] = [
            make_sshd(base, f"m{number}", f"127.0.0.{number + 10}") for number in range(1, count + 1)
        ]
        archs = available_archs()
        self.boards = tuple(board for board, arch in BOARDS.items() if arch in archs)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (base / "tasks.py").write_text("from fabbuild import ns\n")
        machines = {
            one.name: {"host": one.name, "threads": slots, "max_boards": slots, "work_dir": str(one.work_dir)}
            for one in self.servers
        }
        text = yaml.safe_dump({"machines": machines, "fit": {"max_load_per_cpu": 1000}})
        (base / "machines.yaml").write_text(text)

    def build(self, number: int, options: Sequence[str] = ()) -> HostsRun:
        """Build the series on all boards, as a user would; the results go to a directory of this number."""
        output, usage = self._base / f"out{number}", self._base / f"usage{number}"
        argv = [sys.executable, "-m", "invoke", "build", "--source", str(self.sample.path), "--quiet"]
        argv += ["--output", str(output), "--branch", self.sample.branch, "--only", ",".join(self.boards), *options]
        timed = [sys.executable, str(Path(__file__).with_name("timed.py")), str(usage), *argv]
        figures = measure.run(
            timed,
            env=self._environment(),
            cwd=self._base,
            log=self._base / f"log{number}",
            boss=_BOSS,
            servers=servers_of(self.servers),
        )
        place = output / self.sample.branch
        events = [json.loads(line) for line in (place / ".fabbuild" / "journal.ndjson").read_text().splitlines()]
        first = min(event["time"] for event in events if event["what"] == "started") - figures.began
        end = next(event for event in events if event["what"] == "run-end")["data"]
        asked = len(self.boards) * len(self.sample.commits)
        return HostsRun(
            figures,
            boss_cpu=float(usage.read_text()),
            first=first,
            begun_after=_begun_after(events),
            asked=asked,
            wrong=self._wrong(place, asked, figures.status, end["counts"]),
            shares=[share["done"] for share in end["machines"].values()],
        )

    def _wrong(self, place: Path, asked: int, status: int, counts: dict[str, int]) -> list[str]:
        wrong = [] if status in _FINE else [f"the exit status is {status}: see {self._base}"]
        there = {(path.parent.parent.name[:2], path.parent.name): path for path in place.glob("*/*/done")}
        ended = sum(counts[kind] for kind in ("built", "warned", "failed"))
        if len(there) != asked or ended != asked:
            wrong.append(f"{asked} results were asked for, {len(there)} are there and {ended} counted")
        for (number, board), path in there.items():
            failed, warned = path.read_text() != "0\n", (path.parent / "err").exists()
            commit = int(number)
            if failed != (board in self.sample.fails.get(commit, ())):
                wrong.append(f"{board} at commit {commit}: {'failed' if failed else 'built'}")
            elif not failed and warned != (board in self.sample.warns.get(commit, ())):
                wrong.append(f"{board} at commit {commit}: {'with' if warned else 'without'} a warning")
        return wrong

    def _environment(self) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env.pop("SSH_AUTH_SOCK", None)
        return {
            **env,
            "HOME": str(self._base),
            **{f"XDG_{kind}_HOME": str(self._base / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
            "PYTHONPATH": str(_ROOT),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "INVOKE_FABBUILD_SSH_CONFIG": str(self.servers[0].ssh_config),
        }


def _begun_after(events: Sequence[Mapping[str, Any]]) -> float:
    """Give how long a message and its answer take: each machine here has a slot free when it is given a board."""
    given: dict[tuple[str, str], float] = {}
    took = []
    for event in events:
        key = event["machine"], event.get("board", "")
        if event["what"] == "assigned":
            given[key] = event["time"]
        elif event["what"] == "started" and key in given:
            took.append(event["time"] - given.pop(key))
    return statistics.median(took)
