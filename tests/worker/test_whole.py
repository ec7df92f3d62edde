"""The real worker under the real supervisor, here and over a real sshd."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from fabbuild.machines.worker_zip import shell_memory, shell_place, shell_run, worker_program
from fabbuild.protocol.wire import PREFIX
from fabbuild.worker.base import process_table
from tests.support.census import HANG_LIMIT, alive, command_line, lock_holders, processes_holding, wait_until
from tests.support.supervised import HARD_COUNT, HARD_WORKER, free, gone, kill, old_python
from tests.worker.supervisor.test_lifeline import Pulse

pytestmark = pytest.mark.deep

#: A make that hangs with a child, a grandchild, and one that has left its session, but says its version.
MAKE = """#!/bin/sh
[ "$1" = --version ] && exec /usr/bin/env echo GNU Make 4.3
sleep 2001 &
sh -c 'sleep 2002 & wait' &
setsid sh -c 'sleep 2003 & wait' &
sleep 2000
"""


@pytest.fixture
def hanging_make(tmp_path, monkeypatch):
    """Put a make that hangs into PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "make").write_text(MAKE)
    (tools / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")


def begin_build(one, source: Path) -> tuple[int, set[int]]:
    """Start our own worker and a build of two boards in it; give its pid and all who share the lock by then."""
    while (held := one.read())["resp"] == "alive":
        pass
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    subprocess.run([*git, "push", "-q", held["git_dir"], "HEAD:refs/fabbuild/current"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    one.start(args=["--threads", "2", "--max-boards", "2"])
    while (ready := one.read())["resp"] == "alive":
        pass
    assert ready["resp"] == "ready"
    assert ready["slots"] == 2
    send(one, cmd="build_prepare", commits=[commit], max_boards=2)
    until(one, "build_prepare_done")
    for board in ("a", "b"):
        send(one, cmd="build_board", board=board, arch="sandbox")
        until(one, "heartbeat")
    wait_until(lambda: len([pid for pid in one.others() if is_make(pid)]) == 12)
    pids = one.others()
    (worker,) = [pid for pid in pids if process_table.read_proc(pid).ppid == one.pid and not is_fork(pid, one.pid)]
    return worker, pids


def send(one, **fields) -> None:
    one.write(json.dumps(fields).encode() + b"\n")


def until(one, resp: str) -> dict:
    said = one.read()
    while said["resp"] != resp:
        assert said["resp"] != "error", said
        said = one.read()
    return said


def is_make(pid: int) -> bool:
    """Whether it is what `MAKE` started."""
    line = Path(f"/proc/{pid}/cmdline")
    try:
        return b"sleep\x00200" in line.read_bytes() or b"sleep 200" in line.read_bytes()
    except OSError:
        return False


def is_fork(pid: int, of: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{of}/cmdline").read_bytes()


@pytest.fixture(params=["pipe", "socketpair"])
def building(request, supervisor, work, tmp_path, hanging_make):
    """A supervisor, its real worker's pid and all their processes in the middle of a build."""
    one = supervisor(socketpair=request.param == "socketpair")
    worker, pids = begin_build(one, tmp_path / "source")
    return one, worker, pids


def test_a_killed_worker_leaves_no_make_behind(building, work):
    one, worker, pids = building
    kill(worker)
    assert one.wait() == 137
    assert gone(pids)
    assert free(work)


def test_a_killed_supervisor_leaves_no_make_behind(building, work):
    one, _, pids = building
    kill(one.pid)
    wait_until(lambda: gone(pids) and free(work))


def test_a_killed_make_is_a_result_of_its_board_and_of_nothing_else(building, work):
    """A make is told from the others by what it was asked for; its slot is free again, the other builds on."""
    one, worker, pids = building
    makes = [pid for pid in pids if parent(pid) == worker and "O=build" in command_line(pid)]
    assert len(makes) == 2
    group = {pid for pid in pids if process_table.read_proc(pid).session == makes[0]}
    kill(makes[0])
    result = until(one, "build_result")
    assert result["return_code"] == 137
    wait_until(lambda: gone(group))
    assert alive(worker)
    assert alive(makes[1])
    one.hang_up()
    one.wait()
    assert gone(pids)
    assert free(work)


def parent(pid: int) -> int:
    proc = process_table.read_proc(pid)
    return proc.ppid if proc else 0


def test_a_boss_that_falls_silent_leaves_no_make_behind(supervisor, work, tmp_path, hanging_make):
    """Our own worker goes on saying that it lives, to the last."""
    one = supervisor("--silence", "6", socketpair=True)
    pulse = Pulse(one)
    _, pids = begin_build(one, tmp_path / "source")
    pulse.stop()
    assert one.read() == {"resp": "alive"}
    assert one.wait() == 137  # and was not ended by its guardian
    assert gone(pids)
    assert free(work)


def test_a_killed_supervisor_and_guardian_leave_no_make_behind(building, work):
    """The worker alone must see it."""
    one, worker, pids = building
    for pid in process_table.table():
        if process_table.read_proc(pid) and process_table.read_proc(pid).ppid == one.pid and pid != worker:
            os.kill(pid, signal.SIGSTOP)  # or it would do it
            guardian = pid
    kill(one.pid)
    wait_until(lambda: gone(pids - {guardian} - leavers(pids)))
    kill(guardian)
    wait_until(lambda: gone(pids - leavers(pids)))
    for pid in leavers(pids):
        kill(pid)


def leavers(pids) -> set[int]:
    """Those that left make's session: only the supervisor, the guardian and `kill` find them."""
    return {
        pid for pid in pids if (proc := process_table.read_proc(pid)) and proc.state not in "ZX" and is_make(pid)
    }


@pytest.mark.parametrize("stopped", [False, True])
def test_a_cut_connection_leaves_no_make_behind(building, work, stopped):
    one, worker, pids = building
    if stopped:
        os.kill(worker, signal.SIGSTOP)
    one.hang_up()
    one.wait()
    assert gone(pids)
    assert free(work)


def test_quit_ends_everything_and_frees_the_lock(building, work):
    one, _, pids = building
    send(one, cmd="quit")
    until(one, "quit_ack")
    one.wait()
    assert gone(pids)
    assert free(work)


def test_kill_ends_everything(building, work, run):
    one, _, pids = building
    status, (said,) = run("kill", "--work-dir", work)
    assert (status, said["left"]) == (0, [])
    assert set(said["pids"]) >= {*pids, one.pid}
    assert gone(pids)
    assert free(work)


def test_on_the_oldest_python(supervisor, work, tmp_path, hanging_make):
    one = supervisor(python=old_python("3.8"))
    _, pids = begin_build(one, tmp_path / "source")
    one.hang_up()
    one.wait()
    assert gone(pids)
    assert free(work)


class Ssh:
    """A command on a machine, over the real ssh and sshd."""

    def __init__(self, machine, line: str, data: bytes | None = None):
        argv = ["ssh", "-F", machine.ssh_config, "-oBatchMode=yes", "-oStrictHostKeyChecking=accept-new"]
        argv += [machine.host_alias, "exec sh -c " + shlex.quote(line)]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if data is not None:
            self.out, self.err = self.process.communicate(data, timeout=HANG_LIMIT)

    def read(self) -> dict:
        line = self.process.stdout.readline()
        assert line.startswith(PREFIX), line + self.process.stderr.read()
        return json.loads(line[len(PREFIX) :])


@pytest.fixture
def remote(machines, census):
    """A machine with the zipapp on it, the supervisor holding its lock, and a stand-in that runs."""
    machine, made = machines[0], worker_program()
    work = str(machine.work_dir)
    census.watch(work)
    assert Ssh(machine, shell_place(work, made), made.data).out in (b"send\n", b"have\n")
    ssh = Ssh(machine, shell_run(work, made, ["supervise", "--work-dir", work, "--who", "me"]))
    assert ssh.read()["resp"] == "held"
    ssh.process.stdin.write(json.dumps({"cmd": "start", "command": HARD_WORKER}).encode() + b"\n")
    ssh.process.stdin.flush()
    pids = wait_until(lambda: len(lock_holders(work)) > HARD_COUNT and lock_holders(work))
    yield machine, work, ssh, pids
    ssh.process.kill()
    ssh.process.wait()
    for file in (ssh.process.stdin, ssh.process.stdout, ssh.process.stderr):
        file.close()


def test_over_ssh_a_client_that_sends_eof_ends_everything(remote):
    _, work, ssh, pids = remote
    ssh.process.stdin.close()
    wait_until(lambda: gone(pids) and not processes_holding(work))


def test_over_ssh_a_killed_client_ends_everything_though_the_worker_is_stopped(remote):
    _, work, ssh, pids = remote
    for pid in pids:
        if "sleep 1000" in processes_holding(work).get(pid, ""):
            os.kill(pid, signal.SIGSTOP)
    ssh.process.kill()
    wait_until(lambda: gone(pids) and not processes_holding(work))


def test_over_ssh_a_killed_sshd_ends_everything(remote):
    machine, work, _, pids = remote
    machine.kill()
    wait_until(lambda: gone(pids) and not processes_holding(work))


def test_over_ssh_kill_from_memory_ends_everything(remote):
    machine, work, _, pids = remote
    done = Ssh(machine, shell_memory(["kill", "--work-dir", work]), worker_program().data)
    said = json.loads(done.out[len(PREFIX) :])
    assert set(said["pids"]) >= pids
    assert said["left"] == []
    assert gone(pids)


def test_over_ssh_the_connection_ends_at_once_with_the_worker(remote):
    """Nothing of ours holds the connection open longer: neither the guardian nor what the worker left."""
    _, work, ssh, pids = remote
    for pid in pids:
        if processes_holding(work).get(pid, "").endswith("sleep 1000"):
            kill(pid)
    assert ssh.process.wait(HANG_LIMIT) == 137
    assert gone(pids)
