"""Events for the tests of displays, and a stream that is a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from fabbuild.cli.ui.ide import IdeDisplay
from fabbuild.cli.ui.output import Output
from fabbuild.event_types import Event
from fabbuild.events.progress import Failure, MachineShare, ResultCounts, RunSummary, Unbuilt
from fabbuild.model import Board
from tests.support.events import event_of

NASTY = "a.c:1: error: \x1b[31mred\x1b[0m \x07\u202egnp\x9b2J"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def start(
    boards: int = 2, commits: int = 1, machines: Iterable[str] = ("local", "ruru"), time: float = 0.0
) -> Event:
    data = {"boards": boards, "commits": commits, "results": boards * commits, "machines": list(machines)}
    return event_of(time, "run-start", data=data)


def result(
    board: str, verdict: str = "built", *, machine: str = "ruru", error: str = "", time: float = 1.0
) -> Event:
    return event_of(
        time, "result", machine, 0, board, "c" * 40, 1, data={"verdict": verdict, "error": error, "number": 2}
    )


def done(board: str, machine: str = "ruru", time: float = 2.0) -> Event:
    return event_of(time, "board-done", machine, 0, board)


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def fault(board: str, machine: str = "m1", time: float = 2.0, kind: str = "disk") -> Event:
    text = f"{board}.o: No space left on device"
    return event_of(time, "fault", machine, None, board, "c" * 40, 1, text, {"kind": kind, "number": 3})


def ide(*events: Event) -> list[str]:
    err = io.StringIO()
    with IdeDisplay(Output(io.StringIO()), Output(err), [], lambda _board, _commit: "") as display:
        for event in events:
            display.listener(event)
    return err.getvalue().splitlines()


def board(target: str = "rpi_4", arch: str = "aarch64") -> Board:
    return Board(target, arch, "armv8", "bcm283x", "raspberrypi")


def printed(function: object, *args: object, terminal: bool = False, **options: object) -> str:
    out = Terminal() if terminal else io.StringIO()
    function(*args, stream=out, **options)  # type: ignore[operator]
    return out.getvalue()


FACTS = {
    "resp": "facts",
    "arch": "x86_64",
    "threads": 16,
    "bogomips": 4800.5,
    "load_avg": 0.25,
    "mem_mb": 12_000,
    "mem_total_mb": 16_000,
    "disk_mb": 250_000,
    "python": "3.11.7",
    "git": "2.39.5",
    "make": "4.3",
    "dtc": "",
    "swig": "4.1.0",
    "toolchains": {
        "arm": {
            "gcc": "/usr/bin/arm-linux-gnueabihf-gcc",
            "version": "arm-linux-gnueabihf-gcc (Debian 12.2.0-14) 12.2.0",
        }
    },
    "tried": [{"path": "/opt/x-gcc", "arch": "x", "ok": False, "why": "not executable\n"}],
    "lock": None,
}


def ended(**changes: object) -> RunSummary:
    values: dict[str, object] = {
        "counts": ResultCounts(total=10, built=5, warned=1, failed=2, not_built=2, skipped=3),
        "seconds": 80.0,
        "output": "/out/main",
        "exit_status": 102,
        "machines": [
            MachineShare("local", 6, 0.75),
            MachineShare("ruru", 2, 0.25, 123_456, 7_654_321, "failed", "its worker died"),
        ],
        "failing": [
            Failure("rpi_4", "01 aaaaaaaaaa", "local", "a.c:1: error: no"),
            Failure("rpi_4", "02 bbbbbbbbbb", "ruru", "another"),
        ],
        "not_built": [Unbuilt("m1", "", "no toolchain for mips"), Unbuilt("m2", "", "no toolchain for mips")],
    }
    return RunSummary(**{**values, **changes})  # type: ignore[arg-type]
