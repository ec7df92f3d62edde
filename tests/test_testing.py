"""The fakes that ship: they answer as the real worker does, keep the transport's promises, and misbehave on command."""

import contextlib
import json
import threading

import pytest

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import ConnectError, WireClosed
from fabbuild.machines.session import Session
from fabbuild.machines.transport.base import NO_STATUS, Completed, Transport
from fabbuild.machines.transport.local import LocalTransport
from fabbuild.machines.worker_link import WorkerLink
from fabbuild.machines.worker_zip import on_its_own_line, shell_memory, shell_place, shell_run, worker_program
from fabbuild.protocol.wire import FEATURES, PREFIX, encode_command
from fabbuild.source.git import Remote
from fabbuild.testing import FakeSource, FakeTransport, FakeWorker, busy, die, ignore, later, refuse, write
from tests.support.census import HANG_LIMIT
from tests.worker.driver import push, toy


class Script:
    """One far side, driven line by line; ``answers`` are its lines, decoded."""

    def __init__(self, transport: Transport, work: str, *options: str) -> None:
        bundle = worker_program()
        transport.run(shell_place(work, bundle), stdin=bundle.data, timeout=HANG_LIMIT)
        arguments = ["supervise", "--work-dir", work, "--who", "me", "--from", "here", "--boss-pid", "1", *options]
        self.channel = transport.spawn(on_its_own_line(shell_run(work, bundle, arguments)))
        self.answers: list[dict] = []
        self.link = WorkerLink(self.channel, "m", observer=lambda: self, stderr=lambda _line: None)

    def sent(self, line: bytes) -> None:
        """Part of `WireObserver`."""

    def note(self, text: str) -> None:
        """Part of `WireObserver`."""

    def received(self, line: bytes) -> None:
        if line.startswith(PREFIX):
            with contextlib.suppress(ValueError):
                self.answers.append(json.loads(line[len(PREFIX) :]))

    def until(self, *kinds: str) -> None:
        """Take answers up to and including one of each of these kinds, in order."""
        for kind in kinds:
            while type(answer := self.link.receive(HANG_LIMIT)).__struct_config__.tag != kind:
                assert answer

    def ask(self, cmd: str, *kinds: str, **fields: object) -> None:
        self.link.send(encode_command(cmd, **fields))
        self.until(*kinds)

    def end(self) -> int | None:
        self.link.end_input()
        while not isinstance(self.link.receive(HANG_LIMIT), WireClosed):
            pass
        return self.channel.exit_status(HANG_LIMIT)


def shape(answer: dict) -> dict:
    """What must be the same on both sides: an error's words, else the fields and the type of each."""
    if answer["resp"] == "error":
        return answer
    return {"resp": answer["resp"], **{name: type(value) for name, value in answer.items() if name != "resp"}}


def play(one: Script, hashes: list[str], features: list[str]) -> list[dict]:
    """The whole life of a worker, with what a boss gets wrong in it."""
    result = ("build_result", "build_result")
    one.until("held")
    one.ask("start", "ready", args=["--threads", "2", "--max-boards", "1"])
    one.ask("dance", "error")
    one.ask("start", "error")
    one.link.send(b"what?\n")
    one.until("error")
    one.ask("build_board", "error", board="one", arch="sandbox")
    one.ask("configure", "error", settings={"nonsense": True})
    one.ask("configure", "configure_done", settings={"no_lto": False}, features=features)
    one.ask("build_boards", "error", boards=[], commits=hashes)
    one.ask("build_prepare", "build_prepare_done", commits=hashes, max_boards=1)
    one.ask("build_board", "error", board="one")
    one.ask("build_board", *result, board="one", arch="sandbox", attempt=3, commits=[0, 1])
    one.ask("build_board", *result, board="two", arch="nonsense", attempt=1, commits=[0, 1])
    trims = "trimmed" if "trim" in features else "error"
    one.ask("trim_board", trims, board="one", attempt=3, commits=[0])
    one.ask("trim_board", "error", attempt=3)
    one.ask("build_done", "build_done")
    one.ask("build_done", "build_done")
    one.ask("build_boards", *result, "build_done", boards=[{"board": "one", "arch": "sandbox"}], commits=hashes)
    one.ask("quit", "quit_ack")
    return one.answers


def build(asked):
    """Give what the toy tree gives: the second commit does not compile."""
    files = {".config": b"CONFIG_ONE=y\n"}
    if asked.upto:
        return {"return_code": 2, "stderr": "main.c:1:2: error: no", "config": {".config": ""}, "files": files}
    return {"files": {**files, "u-boot.functions": b"x"}}


@pytest.mark.parametrize("features", [[], list(FEATURES)], ids=["plain", "all features"])
def test_it_answers_as_the_real_worker_does(tmp_path, census, features):
    source = toy(tmp_path / "source")
    hashes = [source.git("rev-parse", "HEAD"), source.commit({"main.c": "#error no\n"})]
    work = tmp_path / "work"
    real_way, fake_way = LocalTransport("real"), FakeTransport("fake", FakeWorker(build))
    try:
        real = Script(real_way, str(work))
        real.until("held")
        push(work, source.path)
        real.link.end_input()  # who holds it may leave without a word, too
        while not isinstance(real.link.receive(HANG_LIMIT), WireClosed):
            pass
        real = Script(real_way, str(work))
        fake = Script(fake_way, str(work))
        told, faked = play(real, hashes, features), play(fake, hashes, features)
        # How many pieces and files there are is the tree's business, and which functions are in it.
        once = [[a for i, a in enumerate(all_) if not is_again(all_, i)] for all_ in (told, faked)]
        assert [a["resp"] for a in once[1]] == [a["resp"] for a in once[0]]
        for ours, theirs in zip(*reversed(once), strict=True):
            assert shape(ours) == shape(theirs)
            assert set(ours.get("details", {})) <= set(theirs.get("details", {}))
        assert fake.end() == real.end()
    finally:
        real_way.close()
        fake_way.close()


def is_again(answers, number):
    return number and answers[number]["resp"] == answers[number - 1]["resp"] == "build_file"


def test_its_supervisor_answers_as_the_real_one_does(tmp_path, census):
    """What is there before a worker runs: the lock, a wrong start, a boss that leaves, and signs of life."""
    work = str(tmp_path / "work")
    found = []
    for way in (LocalTransport("real"), FakeTransport("fake", FakeWorker(), FakeWorker(on={"supervise": busy}))):
        holder = Script(way, work, "--silence", "600")
        holder.until("held")
        second = Script(way, work)
        second.until("busy")
        ended = [second.end()]
        holder.ask("configure", "error")
        ended.append(holder.end())
        answers = [shape(a) for a in (*holder.answers, *second.answers) if a["resp"] != "alive"]
        found.append((ended, answers))
        way.close()
    assert found[1] == found[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["facts", "--json", "{}"], ["check", "--json", "{}"], ["kill", "--work-dir", "WORK"],
        ["clean", "--look", "--work-dir", "WORK"], ["clean", "--work-dir", "WORK"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_its_one_shot_commands_answer_as_the_real_ones_do(tmp_path, census, arguments):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/repo.git").mkdir()
    given = [str(tmp_path / "work") if word == "WORK" else word for word in arguments]
    answers = []
    for way in (LocalTransport("real"), FakeTransport("fake")):
        done = way.run(on_its_own_line(shell_memory(given)), stdin=worker_program().data, timeout=HANG_LIMIT)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(PREFIX)]
        answers.append(json.loads(line[len(PREFIX) :]))
        way.close()
    real, fake = answers
    if real["resp"] == "error":  # nothing of ours was ever there
        pytest.fail(real["msg"])
    assert shape(fake).keys() == shape(real).keys()
    if arguments[0] == "facts":
        (tool, *_), (real_tool, *_) = fake["toolchains"].values(), real["toolchains"].values()
        assert tool.keys() == real_tool.keys()


# --- the transport -----------------------------------------------------------------------------------------------


def supervise(transport):
    return transport.spawn(shell_run("", worker_program(), ["supervise"]))


def test_it_counts_the_bytes_of_commands_and_channels():
    transport = FakeTransport("m")
    transport.run(shell_place("", worker_program()), stdin=b"12345", timeout=1)
    assert (transport.bytes_sent, transport.bytes_received) == (5, len(b"\nhave\n"))
    channel = supervise(transport)
    data = channel.recv()
    channel.send(b"1234567\n")
    assert (transport.bytes_sent, transport.bytes_received) == (13, 6 + len(data))


def test_opening_it_can_fail():
    transport = FakeTransport("m")
    transport.open()
    transport.refusal = ConnectError("m", "refused")
    with pytest.raises(ConnectError, match="refused"):
        Session(Machine("m"), transport, ToolchainSearch()).probe()


def test_closing_it_frees_who_waits_in_a_channel_and_it_may_be_used_again():
    transport = FakeTransport("m", FakeWorker(on={"supervise": ignore}))
    channel = supervise(transport)
    reader = threading.Thread(target=channel.recv)
    reader.start()
    transport.close()
    reader.join(HANG_LIMIT)
    assert (channel.recv(), channel.recv_stderr(), channel.exit_status(0)) == (b"", b"", NO_STATUS)
    with pytest.raises(WireClosed):
        channel.send(b"x")
    supervise(transport)
    assert len(transport.workers) == 2
    assert "supervise" in transport.workers[1].on  # like the one before


def test_a_channel_that_runs_has_no_status_and_its_end_stays_the_end():
    worker = FakeWorker()
    channel = supervise(FakeTransport("m", worker))
    assert channel.exit_status(0) is None
    channel.recv()
    worker.write(b"last", stderr=True)
    worker.die(3)
    worker.say("alive")
    assert [channel.recv_stderr(), channel.recv_stderr(), channel.recv(), channel.recv()] == [
        b"last",
        b"",
        b"",
        b"",
    ]
    assert channel.exit_status(0) == 3


def test_a_one_shot_answer_is_fields_or_an_end_or_an_error_or_a_function_and_may_change():
    transport = FakeTransport("m", answers={"facts": {"threads": 64}})
    session = Session(Machine("m", work_dir="/a'b"), transport, ToolchainSearch())
    assert session.probe().threads == 64
    transport.answers["facts"] = lambda arguments: {"hostname": json.loads(arguments[2])["work_dir"]}
    assert session.probe().hostname == "/a'b"
    transport.answers["facts"] = ConnectError("m", "gone")
    with pytest.raises(ConnectError, match="gone"):
        session.probe()
    transport.answers["kill"] = Completed(1, b"", b"no\n")
    with pytest.raises(Exception, match=r"kill failed there \(exit status 1\): no"):
        session.kill()
    assert [one[0] for one in transport.asked] == ["facts", "facts", "facts", "kill"]


def test_a_toolchain_is_unpacked_over_it(tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(b"x" * 100)
    sent = []
    transport = FakeTransport("m", answers={"unpack": {"mb": 7}})
    unpacked = Session(Machine("m"), transport, ToolchainSearch()).unpack(archive, "gcc", "00", sent.append)
    assert unpacked.mb == 7
    assert sent == [100]
    assert transport.bytes_sent == len(worker_program().data) + 100


# --- the worker --------------------------------------------------------------------------------------------------


def begun(worker, *options):
    one = Script(FakeTransport("m", worker), "/work", *options)
    one.until("held")
    one.ask("start", "ready")
    return one


def test_a_result_can_be_held_back_while_others_go_on():
    go = threading.Event()

    def wait(asked):
        if asked.board == "slow":
            go.wait(HANG_LIMIT)

    one = begun(FakeWorker(lambda asked: wait(asked) or {}))
    one.ask("configure", "configure_done")
    one.ask("build_prepare", "build_prepare_done", commits=["a"], max_boards=2)
    one.ask("build_board", board="slow", arch="sandbox")
    one.ask("build_board", "build_result", board="fast", arch="sandbox")
    go.set()
    one.until("build_result")
    assert [a["board"] for a in one.answers if a["resp"] == "build_result"] == ["fast", "slow"]


def test_it_says_nothing_more_once_it_is_silent_and_gives_signs_of_life_until_then():
    worker = FakeWorker()
    one = begun(worker, "--silence", "600")
    assert one.answers[-1]["alive"] == 100
    one.ask("alive")
    one.ask("configure", "configure_done")
    assert {"resp": "alive"} not in one.answers  # `WorkerLink` keeps them to itself
    worker.silent = True
    one.ask("configure")
    one.ask("quit")
    assert isinstance(one.link.receive(HANG_LIMIT), WireClosed)
    assert [a["resp"] for a in one.answers] == ["held", "ready", "configure_done"]
    assert [command["cmd"] for command in worker.commands][2:] == ["configure", "configure", "quit"]


def test_an_answer_can_come_late_be_an_error_or_any_bytes():
    go = threading.Event()
    worker = FakeWorker(on={"configure": later(go), "build_prepare": refuse("no"), "build_done": write(b"BM> ?\n")})
    one = begun(worker)
    one.ask("configure")
    one.ask("build_prepare", "error")
    go.set()
    one.until("configure_done")
    one.link.send(encode_command("build_done"))
    assert "not a message of the protocol" in str(one.link.receive(HANG_LIMIT))


def test_a_worker_that_dies_ends_with_its_status_and_one_that_vanishes_with_none():
    for reaction, status in ((die(3, "Killed"), 3), (die(), None)):
        one = begun(FakeWorker(on={"configure": reaction}))
        one.ask("configure")
        ended = one.link.receive(HANG_LIMIT)
        assert isinstance(ended, WireClosed)
        assert ended.status == status


def test_a_build_function_may_send_no_result_and_whatever_it_likes_in_its_place():
    def build(asked):
        asked.worker.say("build_result", board="other", commit_upto=9, return_code=0)

    one = begun(FakeWorker(build))
    one.ask("configure", "configure_done")
    one.ask("build_prepare", "build_prepare_done", commits=["a"], max_boards=1)
    one.ask("build_board", "build_result", board="one", arch="sandbox")
    one.ask("build_done", "build_done")
    assert [a["board"] for a in one.answers if a["resp"] == "build_result"] == ["other"]


def test_the_source_is_brought_nowhere_and_remembers_what_was_asked_of_it():
    source = FakeSource()
    session = Session(Machine("m", local=True), FakeTransport("m"), ToolchainSearch())
    report = session.push(source, "a" * 40)
    assert (report.bytes, source.pushed, session.brought) == (0, [("m", "a" * 40)], "a" * 40)
    session.close()
    again = source.again()
    again.interrupt()  # ends its own gits for good, and not those of the first
    again.push(Remote("", name="n"), "b" * 40, 1.0)
    assert source.pushed[1:] == [("n", "b" * 40)]
    assert (again._running.stopped, source._running.stopped) == (True, False)
