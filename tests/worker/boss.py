"""Replay a recorded boss to a worker, and say what is wrong with an answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.worker.driver import Worker

DATA = Path(__file__).parent / "data"

_SIZE_LINE = re.compile(r" *(\d+)\t *(\d+)\t *(\d+)\t *(\d+)\t *([0-9a-f]+)\t([\w./-]+) ([0-9a-f]{8})")

#: What a plain boss does not know: the extensions a worker announces.
_EXTENSIONS = {"protocol", "features"}


class Wrong(AssertionError):  # noqa: N818 - it reads as what the boss says
    """An answer is not the one the boss waits for."""


class Recording:
    """What a real boss sent, and, where that was kept, what a real worker answered.

    The paths and hashes of the machine it was made on are placeholders, which `place` fills in.
    """

    def __init__(self, name: str) -> None:
        text = (DATA / name).read_text(encoding="utf-8")
        self.lines = [json.loads(line) for line in text.splitlines()]

    def place(self, commits: list[str], compilers: dict[str, str]) -> Recording:
        """Fill in this machine's compilers and the hashes of the commits."""

        def fill(value):
            if isinstance(value, dict):
                return {key: fill(item) for key, item in value.items()}
            if isinstance(value, list):
                return [fill(item) for item in value]
            if isinstance(value, str) and value.startswith("{commit:"):
                return commits[int(value[len("{commit:") : -1])]
            if isinstance(value, str) and value.startswith("{gcc:"):
                return compilers[value[len("{gcc:") : -1]]
            return value

        self.lines = fill(self.lines)
        return self

    @property
    def commands(self) -> list[dict]:
        return [line["boss"] for line in self.lines if "boss" in line]

    @property
    def answers(self) -> list[dict]:
        return [line["worker"] for line in self.lines if "worker" in line]

    @property
    def archs(self) -> set[str]:
        return {command["arch"] for command in self.commands if "arch" in command}


def replay(recording: Recording, worker: Worker) -> list[dict]:
    """Send the commands as the boss did: a board more each time one is through. Give all answers."""
    taken: list[dict] = []
    commits = slots = building = 0

    def take():
        message = worker.get()
        if message is None:
            raise Wrong(f"the worker ended: {worker.stderr!r}")
        if message["resp"] == "error":
            raise Wrong(message["msg"])
        taken.append(message)
        return message

    take()
    for command in recording.commands:
        if command["cmd"] == "build_board":
            while building >= slots:
                message = take()
                if message["resp"] == "build_result" and message["commit_upto"] == commits - 1:
                    building -= 1
            building += 1
        worker.send(**command)
        if command["cmd"] == "build_prepare":
            commits, slots = len(command["commits"]), command["max_boards"]
        last = {"configure": "configure_done", "build_prepare": "build_prepare_done", "quit": "quit_ack"}
        last["build_done"] = "build_done"
        if command["cmd"] in last:
            while take()["resp"] != last[command["cmd"]]:
                pass
    return taken


def check(recording: Recording, answers: list[dict], reference: list[dict]) -> None:
    """Say whether these are the answers the boss waits for.

    The order and the fields are the recorded worker's; what a compiler decides (sizes) must be what a second worker
    here got, the reference.

    Raises:
        Wrong: one is not; says which and why.
    """
    waiting = iter(answers)
    known = {(m["board"], m["commit_upto"]): m for m in recording.answers if m["resp"] == "build_result"}
    again = {(m["board"], m["commit_upto"]): m for m in reference if m["resp"] == "build_result"}
    boards: list[str] = []
    commits = slots = 0

    def take(resp, **fields):
        message = next(waiting, None)
        if message is None:
            raise Wrong(f"no {resp}")
        wanted = {"resp": resp, **fields}
        if resp == "ready":
            message = {key: value for key, value in message.items() if key not in _EXTENSIONS}
        if message != wanted or _kinds(message) != _kinds(wanted):
            raise Wrong(f"{message} is not {wanted}")

    take("ready", **{key: value for key, value in reference[0].items() if key in ("nthreads", "slots")})
    if set(reference[0]) - _EXTENSIONS != {"resp", "nthreads", "slots"}:
        raise Wrong(f"ready has other fields: {reference[0]}")
    for command in recording.commands:
        if command["cmd"] == "configure":
            take("configure_done")
        elif command["cmd"] == "build_prepare":
            commits, slots = len(command["commits"]), command["max_boards"]
            take("build_started", num_threads=slots)
            for thread in range(slots):
                take("worktree_created", thread=thread)
            take("build_prepare_done")
        elif command["cmd"] == "build_board":
            boards.append(command["board"])
        elif command["cmd"] == "build_done":
            _check_results(waiting, boards, commits, slots, known, again)
            # The loop above ate what ended it.
        elif command["cmd"] == "quit":
            take("quit_ack")
    if (extra := next(waiting, None)) is not None:
        raise Wrong(f"unasked: {extra}")


def _check_results(waiting, boards, commits, slots, known, again):
    """Take heartbeats and results up to build_done: a board stays in one thread, its commits in order."""
    begun: dict[str, int] = {}
    next_upto: dict[str, int] = {}
    order = list(boards)
    for message in waiting:
        resp = message.get("resp")
        if resp == "build_done":
            if message != {"resp": "build_done", "exceptions": 0} or type(message["exceptions"]) is not int:
                raise Wrong(f"{message}")
            missing = [board for board in boards if next_upto.get(board) != commits]
            if missing:
                raise Wrong(f"not all results of {missing}")
            return
        if resp == "heartbeat":
            if set(message) != {"resp", "board", "thread"} or type(message["thread"]) is not int:
                raise Wrong(f"not a heartbeat: {message}")
            board, thread = message["board"], message["thread"]
            if not order or board not in order[:slots]:
                raise Wrong(f"heartbeat of a board that is not next: {message}")
            order.remove(board)
            busy = {t for b, t in begun.items() if next_upto[b] < commits}
            if not 0 <= thread < slots or thread in busy:
                raise Wrong(f"heartbeat of a thread that is not free: {message}")
            begun[board], next_upto[board] = thread, 0
        elif resp == "build_result":
            _check_result(message, begun, next_upto, commits, known, again)
        else:
            raise Wrong(f"in the middle of a build: {message}")
    raise Wrong("no build_done")


def _check_result(message, begun, next_upto, commits, known, again):
    board, upto = message.get("board"), message.get("commit_upto")
    if type(upto) is not int or board not in begun or next_upto[board] != upto or upto >= commits:
        raise Wrong(f"a result that is not next: {message}")
    next_upto[board] += 1
    recorded, second = known.get((board, upto)), again[board, upto]
    fields = set(recorded or second)
    if set(message) != fields:
        raise Wrong(f"fields {sorted(message)} are not {sorted(fields)}")
    load = message["load_avg"]
    if type(load) is not float or not 0 <= load < 10_000 or round(load, 2) != load:
        raise Wrong(f"load_avg {load!r}")
    for field in sorted(fields - {"load_avg", "sizes"}):
        wanted = second[field]
        if _calm(message[field]) != _calm(wanted) or type(message[field]) is not type(wanted):
            raise Wrong(f"{field} {message[field]!r} is not {wanted!r}")
        if recorded and field != "stderr" and message[field] != recorded[field]:
            raise Wrong(f"{field} {message[field]!r} was {recorded[field]!r}")
    if recorded and _warnings(message["stderr"]) != _warnings(recorded["stderr"]):
        raise Wrong(f"stderr {message['stderr']!r} was {recorded['stderr']!r}")
    if "sizes" in fields:
        if message["sizes"] != second["sizes"] or set(message["sizes"]) != {"raw"}:
            raise Wrong(f"sizes {message['sizes']} are not {second['sizes']}")
        for line in message["sizes"]["raw"].split("\n"):
            _check_size(line)
        if recorded and _programs(message) != _programs(recorded):
            raise Wrong(f"sizes of {_programs(message)} were of {_programs(recorded)}")


def _calm(value):
    """Leave out what make says only when another of its jobs happens to run just then."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(?m)^make(?:\[\d+\])?: \*\*\* Waiting for unfinished jobs\.\.\.\.\n", "", value)


def _check_size(line):
    found = _SIZE_LINE.fullmatch(line)
    if not found:
        raise Wrong(f"not a line of size: {line!r}")
    text, data, bss, total = (int(found[number]) for number in range(1, 5))
    if text + data + bss != total or int(found[5], 16) != total or int(found[7], 16) > text:
        raise Wrong(f"sizes do not add up: {line!r}")


def _warnings(stderr):
    """Keep which warnings there are: another compiler words them otherwise, another worker writes ../ before them."""
    return [
        (found[1], found[2])
        for found in re.finditer(r"^(?:\.\./)?([\w./-]+\.[chS]):\d+:\d+: (warning|error):", stderr, re.MULTILINE)
    ]


def _programs(message):
    return [line.split()[5] for line in message["sizes"]["raw"].split("\n")]


def _kinds(message):
    return {key: type(value) for key, value in message.items()}
