"""The wire, letter for letter, and how the worker ends."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from fabbuild.protocol import wire
from tests.support.census import HANG_LIMIT, alive
from tests.support.trouble import slow_make, tool
from tests.worker.driver import KILLED, MAKEFILE, Worker, command, old_pythons, push, wait_for, work_dir

SLEEPS = MAKEFILE.replace('@echo "compile"', "@sh -c 'touch $(O)/begun; sleep 600 & sleep 600; true'")


@pytest.fixture
def sleeping(work, source):
    """A source whose build takes ten minutes."""
    source.commit({"Makefile": SLEEPS})
    push(work, source.path)
    return work


# --- the commands ---


def test_ready_comes_first_and_names_what_is_known(work):
    with Worker(work, "--threads", "3", "--max-boards", "2") as worker:
        assert worker.get() == {
            "resp": "ready",
            "nthreads": 3,
            "slots": 2,
            "protocol": wire.PROTOCOL,
            "features": list(wire.FEATURES),
        }


def test_slots_are_the_threads_unless_it_is_said(work):
    with Worker(work) as worker:
        ready = worker.expect("ready")
        assert ready["slots"] == ready["nthreads"] == len(os.sched_getaffinity(0))


def test_demand_flow_letter_for_letter(work, source):
    first = source.git("rev-parse", "HEAD")
    second = source.commit({"main.c": "#error no\n"})
    push(work, source.path)
    with Worker(work, "--threads", "2") as worker:
        worker.expect("ready")
        assert worker.ask("configure", settings={"no_lto": False}) == {"resp": "configure_done"}
        worker.send("build_prepare", commits=[first, second], max_boards=2)
        assert worker.get() == {"resp": "build_started", "num_threads": 2}
        assert worker.get() == {"resp": "worktree_created", "thread": 0}
        assert worker.get() == {"resp": "worktree_created", "thread": 1}
        assert worker.get() == {"resp": "build_prepare_done"}
        worker.send("build_board", board="one", arch="sandbox")
        beat = worker.get()
        assert beat.pop("thread") in (0, 1)
        assert beat == {"resp": "heartbeat", "board": "one"}
        good = worker.get()
        assert isinstance(good.pop("load_avg"), float)
        assert re.fullmatch(r"( +\d+\t){4} +[0-9a-f]+\tu-boot [0-9a-f]{8}", good.pop("sizes")["raw"])
        assert good == {
            "resp": "build_result",
            "board": "one",
            "commit_upto": 0,
            "return_code": 0,
            "stderr": "",
            "stdout": "configure one_defconfig\ncompile\n",
        }
        bad = worker.get()
        assert isinstance(bad.pop("load_avg"), float)
        assert bad.pop("stderr").startswith("main.c:1:2: error: #error no\n")
        assert bad == {
            "resp": "build_result",
            "board": "one",
            "commit_upto": 1,
            "return_code": 2,
            "stdout": "configure one_defconfig\ncompile\n",
            "config": {".config": "CONFIG_ONE=y\n"},
        }
        assert worker.ask("build_done") == {"resp": "build_done", "exceptions": 0}
        assert worker.ask("quit") == {"resp": "quit_ack"}
        assert worker.get() is None
        assert worker.ended() == KILLED
    assert all(line.startswith(b"BM> ") for line in worker.lines)


@pytest.mark.parametrize(("options", "slots"), [((), 2), (("--max-boards", "1"), 1)])
def test_batch_flow_shares_the_threads(work, source, options, slots):
    commit = source.git("rev-parse", "HEAD")
    with Worker(work, "--threads", "4", *options) as worker:
        worker.expect("ready")
        boards = [{"board": "one", "arch": "sandbox"}, {"board": "two", "arch": "sandbox"}]
        worker.send("build_boards", boards=boards, commits=[commit])
        taken = worker.until("build_done")
    begin = 1 + slots
    assert [m["resp"] for m in taken[:begin]] == ["build_started", *["worktree_created"] * slots]
    assert taken[0]["num_threads"] == slots
    assert sorted(m["resp"] for m in taken[begin:-1]) == ["build_result"] * 2 + ["heartbeat"] * 2
    assert taken[-1] == {"resp": "build_done", "exceptions": 0}


#: What a boss may say that is wrong, and how the answer begins.
BAD = [
    (b"xx", "invalid JSON: "),
    (b'{"cmd": ', "invalid JSON: "),
    (b"\xff\xfe", "invalid JSON: "),
    (b"[1]", "invalid JSON: "),
    (b"null", "invalid JSON: "),
    (b"[" * 100_000, "invalid JSON: "),
    (b'{"cmd": "foo"}', "unknown command: foo"),
    (b'{"cmd": ["quit"]}', "unknown command: "),
    (b"{}", "unknown command: "),
    (b'{"cmd": "build_board", "board": "one"}', "no builder (send build_prepare first)"),
    (b'{"cmd": "build_boards"}', "no boards specified"),
    (b'{"cmd": "build_boards", "boards": [], "commits": []}', "no boards specified"),
    (
        b'{"cmd": "build_boards", "boards": [{"board": "one"}], "commits": null}',
        "build_boards: field 'arch'",
    ),
    (b'{"cmd": "build_boards", "boards": ["one"], "commits": null}', "build_boards: boards must be"),
    (b'{"cmd": "build_prepare", "commits": ["-x"], "max_boards": 1}', "commits must be"),
    (b'{"cmd": "build_prepare", "commits": [], "max_boards": 1}', "commits must be"),
    (b'{"cmd": "build_prepare", "commits": null, "max_boards": -1}', "build_prepare: max_boards"),
    (b'{"cmd": "build_prepare", "commits": ["%s"]}' % (b"1" * 40), "none of the commits is here"),
    (b'{"cmd": "configure", "settings": 3}', "configure: settings must be"),
    (b'{"cmd": "configure", "settings": {"zork": 1, "no_lto": true}}', "unknown setting: zork"),
    (b'{"cmd": "configure", "settings": {"no_lto": "yes"}}', "setting no_lto must be true or false"),
    (b'{"cmd": "configure", "settings": {"lines": true}}', "setting lines is not supported"),
    (b'{"cmd": "configure", "toolchains": ["gcc"]}', "configure: toolchains must be"),
    (b'{"cmd": "setup", "work_dir": 3}', "setup: work_dir"),
    (b'{"cmd": "setup", "work_dir": "/proc/no/such"}', "git init failed: "),
]


def test_a_bad_command_is_an_error_and_not_the_end(work):
    with Worker(work) as worker:
        worker.expect("ready")
        for line, message in BAD:
            worker.raw(b"\n  \n" + line + b"\n")
            assert worker.expect("error")["msg"].startswith(message), line
            assert worker.ask("configure", settings={}) == {"resp": "configure_done"}


@pytest.mark.parametrize("features", [["refused"], []])
def test_a_compiler_that_does_not_work_costs_its_architecture_and_no_other(work, source, features):
    push(work, source.path)
    with Worker(work) as worker:
        worker.expect("ready")
        answer = worker.ask("configure", toolchains={"arm": "/no/such-gcc", "sandbox": "gcc"}, features=features)
        assert answer == {
            "resp": "configure_done", **({"refused": {"arm": "/no/such-gcc: no such compiler"}} if features else {})
        }  # fmt: skip
        worker.send("build_prepare", commits=[source.git("rev-parse", "HEAD")])
        worker.until("build_prepare_done")
        for arch, code in (("arm", 1), ("sandbox", 0)):
            worker.send("build_board", board="one", arch=arch)
            result = worker.until("build_result")[-1]
            assert (result["return_code"], "no toolchain for architecture" in result["stderr"]) == (
                code,
                bool(code),
            )
    assert (b"boards of arm fail here" in worker.stderr) == (not features)


def test_a_compiler_that_does_not_work_is_no_other_one_until_a_later_configure_names_one(work, source):
    push(work, source.path)
    refused = {"resp": "configure_done", "refused": {"sandbox": "/no/such-gcc: no such compiler"}}
    with Worker(work) as worker:
        worker.expect("ready")
        for path, answer, code in (("/no/such-gcc", refused, 1), ("gcc", {"resp": "configure_done"}, 0)):
            for named in ({"toolchains": {"sandbox": path}}, {"toolchains": {"arm": "gcc"}}, {}):
                assert worker.ask("configure", features=["refused"], **named) == answer
            worker.send("build_prepare", commits=[source.git("rev-parse", "HEAD")])
            worker.until("build_prepare_done")
            worker.send("build_board", board="one", arch="sandbox")
            assert worker.until("build_result")[-1]["return_code"] == code
            worker.send("build_done")
            worker.until("build_done")


@pytest.mark.parametrize("features", [[], ["limits"]])
def test_a_plain_boss_hears_at_each_phase_and_try_that_a_slow_board_is_alive(work, source, features, monkeypatch):
    def at_once(*arguments, **how):
        words = command(*arguments, **how)
        words[2] = words[2].replace(
            "from fabbuild.worker.main",
            "from fabbuild.worker.service import slot_pool as s; s.SIGN = 0; from fabbuild.worker.main",
        )
        return words

    monkeypatch.setattr("tests.worker.driver.command", at_once)
    source.commit({"Makefile": MAKEFILE.replace('@echo "compile"', "@echo error: no >&2; false")})
    push(work, source.path)
    with Worker(work, start=["env"]) as worker:
        worker.expect("ready")
        settings = {"fallback_mrproper": True}
        assert worker.ask("configure", settings=settings, features=features) == {"resp": "configure_done"}
        worker.send("build_prepare", commits=[source.git("rev-parse", "HEAD")])
        worker.until("build_prepare_done")
        worker.send("build_board", board="one", arch="sandbox")
        beats = 0
        while (answer := worker.get())["resp"] == "heartbeat":
            assert answer == {"resp": "heartbeat", "board": "one", "thread": 0}
            beats += 1
        assert answer["resp"] == "build_result"
        # Begun; checked out; configured and built, twice, the second time after mrproper; collected; and what failed
        # is made once more.
        assert beats == 1 if features else beats >= 1 + 1 + 2 + 3 + 1


def test_settings_of_a_newer_boss_that_are_off_ask_for_nothing(work):
    off = {"new_flag": False, "new_text": None, "new_list": [], "new_name": ""}
    with Worker(work) as worker:
        worker.expect("ready")
        assert worker.ask("configure", settings={**off, "no_lto": True}) == {"resp": "configure_done"}
        worker.send("configure", settings={**off, "new_flag": True, "newer": 1})
        assert worker.expect("error")["msg"].startswith("unknown settings: new_flag, newer; known are")


def test_a_line_without_end_is_refused_and_skipped(work):
    with Worker(work) as worker:
        worker.expect("ready")
        block = b"x" * (1024 * 1024)
        for _ in range(65):
            worker.raw(block)
        worker.raw(b'\n{"cmd": "foo"}\n')
        assert "a line of more than" in worker.expect("error")["msg"]
        assert worker.expect("error")["msg"] == "unknown command: foo"


def test_build_done_without_a_builder(work):
    with Worker(work) as worker:
        worker.expect("ready")
        assert worker.ask("build_done") == {"resp": "build_done", "exceptions": 0}


def test_no_repository_and_no_toolchain(tmp_path, work):
    bare = tmp_path / "bare"
    bare.mkdir()
    with Worker(bare) as worker:
        worker.expect("ready")
        assert worker.ask("build_prepare", commits=None) == {
            "resp": "error",
            "msg": "no work directory set up",
        }
    with Worker(work, env={"PATH": str(bare)}) as worker:
        worker.expect("ready")
        message = "no toolchains available (run setup first)"
        assert worker.ask("build_prepare", commits=None) == {"resp": "error", "msg": message}


def test_compilers_are_looked_for_only_for_what_the_boss_named_none_for(work, tmp_path):
    mark = tmp_path / "asked"
    env = tool(tmp_path / "tools", "zork-linux-gcc", f"touch {mark}; exit 1")
    with Worker(work, env=env) as worker:
        worker.start(None, toolchains={"sandbox": shutil.which("gcc")})
        worker.send("build_board", board="one", arch="sandbox")
        assert worker.until("build_result")[-1]["return_code"] == 0
        assert not mark.exists()
        assert worker.build("two", arch="vax")["two", 0]["return_code"] == 1
        assert mark.exists()


def test_boards_are_refused_fields_that_are_missing(work):
    with Worker(work) as worker:
        worker.start(None)
        assert worker.ask("build_board", board="one")["msg"] == "build_board: field 'arch' is missing"
        assert worker.ask("build_board", arch="arm")["msg"] == "build_board: field 'board' is missing"
        assert (
            worker.ask("build_board", board=7, arch="arm")["msg"] == "build_board: field 'board' must be a string"
        )
        assert worker.build("one")["one", 0]["return_code"] == 0


def test_setup_makes_a_repository(tmp_path, source):
    start = tmp_path / "start"
    start.mkdir()
    with Worker(start) as worker:
        worker.expect("ready")
        place = str(tmp_path / "made" / "here")
        assert worker.ask("setup", work_dir=place) == {
            "resp": "setup_done",
            "work_dir": place,
            "git_dir": place + "/.git",
        }
        assert "there is no source here yet" in worker.ask("build_prepare", commits=None)["msg"]
        source.git("push", "-q", place + "/.git", "HEAD:refs/heads/pushed")
        worker.send("build_prepare", commits=[source.git("rev-parse", "HEAD")], max_boards=1)
        worker.until("build_prepare_done")
        assert worker.build("two")["two", 0]["return_code"] == 0


@pytest.mark.parametrize("end", ["quit", "eof"])
def test_a_temporary_work_directory_is_removed(tmp_path, end):
    start = tmp_path / "start"
    start.mkdir()
    with Worker(start, env={"TMPDIR": str(tmp_path)}) as worker:
        worker.expect("ready")
        made = worker.ask("setup", work_dir="")
        assert made["work_dir"].startswith(str(tmp_path))
        assert os.path.isdir(made["git_dir"])
        if end == "quit":
            assert worker.ask("quit") == {"resp": "quit_ack"}
        else:
            worker.process.stdin.close()
        worker.ended()
    assert not os.path.exists(made["work_dir"])


def test_null_builds_the_pushed_source(work, source):
    source.commit({"main.c": "#error this one\n"})
    push(work, source.path)
    for commits in (None, [None]):
        with Worker(work) as worker:
            worker.start(commits)
            assert "#error this one" in worker.build("one")["one", 0]["stderr"]


def test_extensions_only_when_both_named_them(work, source):
    first = source.git("rev-parse", "HEAD")
    second = source.commit({"main.c": "int y;\n"})
    push(work, source.path)
    with Worker(work) as worker:
        worker.start([first, second], features=["attempt", "commits", "details", "later"])
        worker.send("build_board", board="one", arch="sandbox", attempt=3, commits=[1])
        assert worker.expect("heartbeat")["attempt"] == 3
        result = worker.expect("build_result", attempt=3, commit_upto=1)
        details = result["details"]
        assert re.fullmatch("[0-9a-f]{64}", details["sha256"])
        assert details["seconds"] > 0
        phases = details["phases"]
        assert tuple(phases) == wire.PHASES, "in the order in which they are gone through"
        assert 0 < phases["checkout"] + phases["configure"] + phases["build"] <= details["seconds"] + 0.01
        assert "gcc" in details["toolchain"]
        assert f"git checkout --detach {second}" in details["command"]
        assert "make O=build -s -j" in details["command"]
        assert details["environment"]["LC_ALL"] == "C"
        assert details["environment"]["CROSS_COMPILE"] == ""
        assert details["slot"] in (0, 1)
        assert (
            "commits must be indices" in worker.ask("build_board", board="one", arch="sandbox", commits=[2])["msg"]
        )
        assert worker.ask("build_done") == {"resp": "build_done", "exceptions": 0}
    with Worker(work) as worker:
        worker.start([first, second])
        worker.send("build_board", board="one", arch="sandbox", attempt=3, commits=[1])
        worker.send("build_done")
        taken = worker.until("build_done")
        assert [m.get("commit_upto") for m in taken if m["resp"] == "build_result"] == [0, 1]
        assert not any({"attempt", "details"} & set(m) for m in taken)


def test_the_rebuild_command_rebuilds(work, source, tmp_path):
    with Worker(work) as worker:
        worker.start(None, features=["details"])
        details = worker.build("one")["one", 0]["details"]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(source.path), str(clone)], check=True)
    subprocess.run(["sh", "-e", "-c", details["command"]], cwd=clone, check=True, capture_output=True)
    image = (clone / "build" / "u-boot.bin").read_bytes()
    assert hashlib.sha256(image).hexdigest() == details["sha256"]


def test_a_second_prepare_after_the_first_is_drained(work, source):
    first = source.git("rev-parse", "HEAD")
    with Worker(work) as worker:
        worker.start([first])
        assert worker.build("one")["one", 0]["return_code"] == 0
        second = source.commit({"main.c": "#error two\n"})
        push(work, source.path)
        worker.send("build_prepare", commits=[second], max_boards=1)
        worker.until("build_prepare_done")
        assert worker.build("one")["one", 0]["return_code"] == 2


def test_debug_lines_go_to_stderr(work):
    with Worker(work, "-D") as worker:
        worker.expect("ready")
        worker.ask("configure", settings={})
    assert b"W: command configure\n" in worker.stderr
    assert all(line.startswith(b"BM> ") for line in worker.lines)


def test_what_a_library_prints_does_not_come_between(work, tmp_path):
    with Worker(work) as worker:
        worker.expect("ready")
        # The process's own descriptor 1 is not the boss's pipe.
        assert os.readlink(f"/proc/{worker.process.pid}/fd/1") == os.readlink(f"/proc/{worker.process.pid}/fd/2")


# --- leaving commits off ---


def test_commits_that_were_not_begun_are_left_off_and_no_others(sleeping, source):
    sleeps, first = source.git("rev-parse", "HEAD"), source.git("rev-parse", "HEAD~1")
    with Worker(sleeping) as worker:
        worker.start([sleeps, first, first], max_boards=1, features=["attempt", "commits", "trim"])
        worker.send("build_board", board="one", arch="sandbox", attempt=1, commits=[0, 1, 2])
        worker.send("build_board", board="two", arch="sandbox", attempt=4, commits=[1, 2])
        wait_for(lambda: list(sleeping.glob("slots/*/build/begun")), "the build has begun")
        worker.expect("heartbeat", board="one")

        def left_off(board, attempt, stay):
            answer = worker.ask("trim_board", board=board, attempt=attempt, commits=stay)
            assert (answer["resp"], answer["board"], answer["attempt"]) == ("trimmed", board, attempt)
            return answer["commits"]

        assert left_off("one", 2, []) == [], "another attempt"
        assert left_off("one", 1, [0, 1]) == [2]
        assert left_off("one", 1, []) == [1], "what is being built is not left off, and nothing twice"
        assert left_off("two", 4, [2]) == [1], "it has not begun at all"
        assert left_off("three", 1, []) == []
        assert "must be a number" in worker.ask("trim_board", board="one", attempt="1", commits=[])["msg"]


def test_what_is_left_off_is_not_built(work, source):
    first, second = source.git("rev-parse", "HEAD"), source.commit({"main.c": "int y;\n"})
    push(work, source.path)
    with Worker(work) as worker:
        worker.start([first, second], max_boards=1, features=["attempt", "commits", "trim"])
        for board in ("one", "two"):
            worker.send("build_board", board=board, arch="sandbox", attempt=1, commits=[0, 1])
        worker.send("trim_board", board="two", attempt=1, commits=[0])
        worker.send("build_done")
        taken = worker.until("build_done")
        built = [(m["board"], m["commit_upto"]) for m in taken if m["resp"] == "build_result"]
        assert built == [("one", 0), ("one", 1), ("two", 0)]


def test_a_board_goes_to_the_slot_that_built_it_last_and_another_to_the_one_that_was_through_last(
    work, source, tmp_path
):
    commit = source.git("rev-parse", "HEAD")
    held = tmp_path / "make" / "hold"
    with Worker(work, "--threads", "3", env=slow_make(held.parent, 0)) as worker:
        worker.start([commit], max_boards=3)

        def built_in(board):
            worker.send("build_board", board=board, arch="sandbox")
            slot = worker.expect("heartbeat")["thread"]
            worker.expect("build_result")
            return slot

        # One slot is enough as long as one board is built at a time.
        assert [built_in(board) for board in ("one", "two")] == [0, 0]
        held.touch()
        for board in ("two", "one"):
            worker.send("build_board", board=board, arch="sandbox")
        slots = {beat["board"]: beat["thread"] for beat in (worker.expect("heartbeat") for _ in range(2))}
        held.unlink()
        for _ in range(2):
            worker.expect("build_result")
        assert slots == {"two": 0, "one": 1}
        for board in ("one", "two", "one"):
            assert built_in(board) == slots[board]


def test_a_boss_that_did_not_name_it_cannot_trim(work):
    with Worker(work) as worker:
        worker.start(None)
        assert worker.ask("trim_board", board="one", attempt=1, commits=[])["msg"] == "unknown command: trim_board"


# --- the end ---


def _begin(worker, work):
    worker.start(None)
    for board in ("one", "two"):
        worker.send("build_board", board=board, arch="sandbox")
    wait_for(lambda: len(list(work.glob("slots/*/build/begun"))) == 2, "both builds have begun")


@pytest.mark.parametrize("how", ["eof", "quit", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_is_ended_in_the_middle_of_a_build(sleeping, census, how):
    with Worker(sleeping) as worker:
        _begin(worker, sleeping)
        if how == "eof":
            worker.process.stdin.close()
        elif how == "quit":
            worker.send("quit")
        else:
            worker.signal(how)
        assert worker.ended() == KILLED
        census.check()
        taken = []
        while (message := worker.get()) is not None:
            taken.append(message["resp"])
        # What was killed is no result.
        assert "build_result" not in taken
        assert ("quit_ack" in taken) == (how == "quit")


@pytest.mark.parametrize("state", ["draining", "batch"])
@pytest.mark.parametrize("how", ["eof", "quit"])
def test_all_is_ended_while_a_command_waits(sleeping, census, how, state):
    with Worker(sleeping) as worker:
        if state == "batch":
            worker.expect("ready")
            worker.send("build_boards", boards=[{"board": "one", "arch": "sandbox"}], commits=None)
            wait_for(lambda: list(sleeping.glob("slots/*/build/begun")))
        else:
            _begin(worker, sleeping)
            worker.send("build_done")
        if how == "quit":
            worker.send("quit")
            assert worker.until("quit_ack")[-1] == {"resp": "quit_ack"}
        else:
            worker.process.stdin.close()
        assert worker.ended() == KILLED
        census.check()


def test_the_supervisors_death_is_the_end(sleeping, census):
    watch, life = os.pipe()
    with Worker(sleeping, env={"FABBUILD_WATCH_FD": str(watch)}, pass_fds=(watch,)) as worker:
        os.close(watch)
        _begin(worker, sleeping)
        os.close(life)
        assert worker.ended() == KILLED
        census.check()


def test_every_child_holds_the_lock_and_none_the_watch_pipe(sleeping, tmp_path, census):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    watch, life = os.pipe()
    env = {"FABBUILD_LOCK_FD": str(lock), "FABBUILD_WATCH_FD": str(watch)}
    try:
        with Worker(sleeping, env=env, pass_fds=(lock, watch)) as worker:
            _begin(worker, sleeping)
            pipe = os.readlink(f"/proc/self/fd/{watch}")
            children = [
                pid
                for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if _links(pid).get("cwd", "").startswith(str(sleeping / "slots"))
            ]
            assert len(children) >= 4
            for pid in children:
                links = _links(pid)
                assert str(tmp_path / "lock") in links.values()
                assert pipe not in links.values()
                assert links["0"] == "/dev/null"
    finally:
        for fd in (lock, watch, life):
            os.close(fd)


def _links(pid):
    links = {}
    try:
        links["cwd"] = os.readlink(f"/proc/{pid}/cwd")
        for name in os.listdir(f"/proc/{pid}/fd"):
            links[name] = os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        pass
    return links


def test_the_workers_end_spares_its_neighbours(work):
    """The whole group is killed, so it must not be the group of whoever started the worker."""
    neighbour = subprocess.Popen(["sleep", "600"])
    try:
        with Worker(work) as worker:
            worker.expect("ready")
            assert os.getpgid(worker.process.pid) == worker.process.pid
            assert os.getpgid(neighbour.pid) == os.getpgid(0)
            worker.ask("quit")
            worker.ended()
        assert alive(neighbour.pid)
    finally:
        neighbour.kill()
        neighbour.wait()


def test_quit_answers_what_came_before_it(work):
    with Worker(work) as worker:
        lines = [{"cmd": "configure", "settings": {}}, {"cmd": "build_done"}, {"cmd": "foo"}, {"cmd": "quit"}]
        worker.raw(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        worker.process.stdin.close()
        taken = worker.until("quit_ack")
        assert [m["resp"] for m in taken] == ["ready", "configure_done", "build_done", "error", "quit_ack"]
        assert worker.ended() == KILLED


def test_a_boss_that_reads_no_more_is_the_end(work, census):
    # A pipe without a reader: the worker learns of it when it answers, though its stdin stays open.
    reader, writer = os.pipe()
    os.close(reader)
    worker = subprocess.Popen(command(), cwd=work, stdin=subprocess.PIPE, stdout=writer)
    os.close(writer)
    assert worker.wait(HANG_LIMIT) == KILLED
    worker.stdin.close()


def test_old_python_runs_it(work, source):
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no python3 older than this one is installed")
    with Worker(work, python=pythons[0]) as worker:
        worker.start(None, features=["details"])
        assert worker.build("one", "two")["two", 0]["return_code"] == 0
        worker.send("build_boards", boards=[{"board": "one", "arch": "sandbox"}], commits=None)
        worker.until("build_done")
        assert worker.ask("quit") == {"resp": "quit_ack"}


def test_a_work_directory_with_spaces(tmp_path, source):
    """Kbuild refuses a source path with a space or a colon, so the trees are elsewhere, and the link tells where."""
    work = work_dir(tmp_path / "a home: of mine", source.path)
    makefile = "$(if $(filter-out 1,$(words $(subst :, ,$(CURDIR)))),$(error spaces))\n" + MAKEFILE
    source.commit({"Makefile": makefile})
    push(work, source.path)
    elsewhere = ""
    try:
        with Worker(work) as worker:
            worker.start(None)
            assert worker.build("one")["one", 0]["stderr"] == ""
        elsewhere = os.readlink(work / "slots")
        assert os.stat(elsewhere).st_mode & 0o777 == 0o700
    finally:
        if elsewhere:
            subprocess.run(["rm", "-rf", elsewhere], check=True)
