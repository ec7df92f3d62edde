"""Make results of many boards at many commits, and the journal of their run, from a seed, without building."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ARCHS = {"arm": 40, "aarch64": 25, "powerpc": 10, "riscv64": 8, "mips": 8, "x86": 4, "m68k": 3, "sandbox": 2}
SUBJECTS = [
    "net: phy: Reset the bus first",
    "dm: core: Probe in order",
    "spl: Load from the second bank",
    "mmc: Retry",
]
VENDORS = ["kestrel", "falcon", "osprey", "merlin", "harrier", "goshawk", "buzzard", "hobby"]


@dataclass(frozen=True)
class One:
    """One result."""

    board: str
    arch: str
    number: int
    return_code: int
    stderr: str
    sizes: str
    seconds: float


class ManyResults:
    """``worst`` of the results warn or fail, each board in words of its own."""

    def __init__(self, boards: int, commits: int, worst: float = 0.98, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        archs = self.chance.choices(list(ARCHS), list(ARCHS.values()), k=boards)
        self.boards = {f"{VENDORS[n % len(VENDORS)]}_{archs[n]}_{n:04}": archs[n] for n in range(boards)}
        self.commits = commits
        self.worst = worst

    def hash(self, number: int) -> str:
        return f"{number * 7919:08x}" * 5

    def subject(self, number: int) -> str:
        return f"{SUBJECTS[number % len(SUBJECTS)]}, step {number}"

    def name(self, number: int) -> str:
        return f"{number:02}_g{self.hash(number)}_{self.subject(number)[:20].replace(':', '-').replace(' ', '-')}"

    def results(self) -> Iterator[One]:
        chance = self.chance
        for board, arch in self.boards.items():
            text = 300_000 + chance.randrange(200_000)
            bad = chance.random() < self.worst
            broken_at = chance.choice([0] * 12 + list(range(2, self.commits + 1)))
            for number in range(1, self.commits + 1):
                text += chance.choice([0, 0, 0, 16, 64, -32]) + (400 if number == 5 and arch == "arm" else 0)
                stderr, code = "", 0
                if bad:
                    line = 100 + number * 3
                    stderr = (
                        f"board/{board}/board.c: In function 'board_init':\n"
                        f"board/{board}/board.c:{line}:9: warning: unused variable 'ret' [-Wunused-variable]\n"
                        f"  {line} |     int ret;\n      |         ^~~\n"
                        f"drivers/net/phy_{arch}.c:{line}:5: warning: 'speed' may be used uninitialized\n"
                    )
                    if number % 7 == 0:
                        stderr += f"drivers/mmc/{arch}_{number}.c:12:3: warning: 'retry' defined but not used\n"
                if broken_at and broken_at <= number < broken_at + 4:
                    code = 2
                    stderr += (
                        f"drivers/{arch}/serial.c:{number}:14: error: 'struct udevice' has no member named 'port{broken_at}'\n"
                        f"   {number} |     dev->port{broken_at} = 1;\n      |        ^~\n"
                        "make[2]: *** [scripts/Makefile.build:256: serial.o] Error 1\n"
                        "make: *** [Makefile:177: sub-make] Error 2\n"
                    )
                sizes = "" if code else (
                    f"{text}\t1000\t5000\t{text + 6000}\t{text + 6000:x}\tu-boot\t{text // 8:08x}\n"
                    f"{text // 9}\t300\t200\t{text // 9 + 500}\t{text // 9 + 500:x}\tspl/u-boot-spl\t{text // 80:08x}\n"
                )  # fmt: skip
                seconds = (30 if number == 1 else 4) * chance.uniform(0.6, 1.6)
                yield One(board, arch, number, code, stderr, sizes, seconds)

    def write(self, output: Path, machines: int = 6, slots: int = 8) -> Path:
        """Write all of it as a result tree; give its directory."""
        root = output / "series"
        own = root / ".fabbuild"
        own.mkdir(parents=True)
        listed = [
            {"number": n, "hash": self.hash(n), "subject": self.subject(n)} for n in range(1, self.commits + 1)
        ]
        own.joinpath("commits.json").write_text(json.dumps({"commits": listed, "boards": self.boards}))
        by_board: dict[str, list[One]] = {}
        for one in self.results():
            by_board.setdefault(one.board, []).append(one)
        with own.joinpath("journal.ndjson").open("w") as journal:
            hosts = self.journal(by_board, journal, machines, slots)
        for board, those in by_board.items():
            for one in those:
                place = root / self.name(one.number) / board
                place.mkdir(parents=True)
                place.joinpath("done").write_text(f"{one.return_code}\n")
                place.joinpath("log").write_text("  UPD     include/config.h\n")
                if one.stderr:
                    place.joinpath("err").write_text(one.stderr)
                if one.sizes:
                    place.joinpath("sizes").write_text(one.sizes)
                place.joinpath("built-from").write_text(
                    json.dumps({"tree": "", "arch": one.arch, "toolchain": "gcc 12", "settings": {},
                                "machine": hosts[board], "seconds": round(one.seconds, 2)})
                )  # fmt: skip
        return root

    def journal(self, by_board, file, machines: int, slots: int) -> dict[str, str]:
        """Write who built what, by turns; give who built each board."""
        begin = 1_790_000_000.0
        names = [f"m{n}" for n in range(1, machines + 1)]
        events = [(begin, {"what": "run-start", "data": {
            "boards": len(by_board), "commits": self.commits, "results": len(by_board) * self.commits,
            "skipped": 0, "machines": names}})]  # fmt: skip
        free = []
        for at, name in enumerate(names):
            ready = begin + 20 + 9 * at
            events.append((begin + 1, {"what": "phase", "machine": name, "data": {"phase": "init"}}))
            events.append(
                (
                    ready,
                    {
                        "what": "phase",
                        "machine": name,
                        "data": {"phase": "ready", "slots": slots, "threads": 2 * slots},
                    },
                )
            )
            free += [(ready, name, slot) for slot in range(slots)]
        heapq.heapify(free)
        hosts = {}
        for board, those in by_board.items():
            when, name, slot = heapq.heappop(free)
            hosts[board] = name
            place = {"machine": name, "slot": slot, "board": board}
            if self.chance.random() < 0.01:
                events.append((when, {"what": "started", **place}))
                when += 25
                events.append(
                    (
                        when - 1,
                        {"what": "fault", **place, "text": "no space left on device", "data": {"kind": "disk"}},
                    )
                )
                events.append((when, {"what": "requeued", **place, "text": "no space left on device"}))
            events.append((when, {"what": "started", **place}))
            for one in those:
                when += one.seconds
                verdict = "failed" if one.return_code else "warned" if one.stderr else "built"
                events.append((when, {"what": "result", **place, "commit": self.hash(one.number), "attempt": 1, "data": {
                    "verdict": verdict, "return_code": one.return_code, "load_avg": self.chance.uniform(1, 2.2) * slots,
                    "number": one.number}}))  # fmt: skip
            events.append((when, {"what": "board-done", **place}))
            heapq.heappush(free, (when, name, slot))
        end = max(when for when, _, _ in free) + 2
        events.append((end, {"what": "run-end", "data": {"exit_status": 100, "seconds": end - begin}}))
        for when, event in sorted(events, key=lambda item: item[0]):
            file.write(json.dumps({"time": when, **event}) + "\n")
        return hosts
