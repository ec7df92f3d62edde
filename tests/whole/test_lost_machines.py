"""Machines that die, freeze or are cut off: nothing is lost, and nothing stays there."""

import os
import re
import signal
import socket

import pytest

from tests.support.census import ENDLESS, HANG_LIMIT, alive, lock_holders, processes_holding, wait_until
from tests.support.trouble import building, slow_make, supervisor_of, tool, worker_of
from tests.whole import test_interrupted
from tests.whole.test_interrupted import UNLIMITED, Stuck

#: Real machines that are hurt or lie, waited for: minutes.
pytestmark = pytest.mark.deep

#: So that nobody waits for half a minute.
QUICK = ("--silence", "3", "--patience", "20")


def begin(farm, *arguments, patience=str(ENDLESS), **env):
    """Start a build of the sample's series on what every machine can build."""
    return farm.start(
        "build", "--source", str(farm.source), "--output", str(farm.output), "--branch", "series",
        "--silence", "3", "--patience", patience, *arguments, **env,
    )  # fmt: skip


def finish(process, timeout=HANG_LIMIT):
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return process.returncode, out + err


def events(farm, what, name="series"):
    return [event for event in farm.journal(name) if event["what"] == what]


def whole(farm, boards, commits=6, name="series"):
    """Each result is there, and was counted once."""
    assert len(farm.results(name)) == boards * commits
    assert len(events(farm, "result", name)) == boards * commits


def test_the_only_machine_starts_another_worker_when_its_own_is_killed(ssh_farm, tmp_path):
    ssh_farm.machines(ssh_farm.servers[0], max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    process = begin(ssh_farm, "--only", "sandbox,wren")
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    os.kill(worker_of(ssh_farm.servers[0]), signal.SIGKILL)
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 2)
    (lost,) = events(ssh_farm, "machine-failed")
    assert lost["data"]["again_in"] > 0
    assert not lost["data"]["aside"]
    assert [e["data"]["phase"] for e in events(ssh_farm, "phase")].count("ready") == 2


def test_a_frozen_worker_is_given_up_and_its_boards_are_built_elsewhere(ssh_farm, tmp_path):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = begin(ssh_farm, "--only", "sandbox,wren,heron,plover")
    wait_until(lambda: building(m1))
    frozen = worker_of(m1)
    os.kill(frozen, signal.SIGSTOP)
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 4)
    assert "m1: no sign of life for 3 s" in said
    assert {e["machine"] for e in events(ssh_farm, "requeued")} == {"m1"}
    assert not alive(frozen)
    assert not lock_holders(m1.work_dir)


def test_a_build_that_takes_longer_than_a_silence_may_last_is_no_silence(ssh_farm, tmp_path):
    ssh_farm.machines(ssh_farm.servers[0], max_boards=1, env=slow_make(tmp_path / "slow", 4))
    ended = ssh_farm.build("--only", "wren", "--silence", "2")
    assert ended.status == 0, ended
    assert not events(ssh_farm, "machine-failed", "current")


def test_a_machine_that_is_frozen_whole_costs_no_board_and_ends_its_build_when_it_thaws(ssh_farm, tmp_path):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = begin(ssh_farm, "--only", "sandbox,wren,heron,plover")
    wait_until(lambda: building(m1))
    m1.freeze(everything=True)
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 4)
    m1.thaw()
    wait_until(lambda: not processes_holding(m1.work_dir))
    assert "m1  ok      no workers" in ssh_farm.run("kill").out


@pytest.mark.parametrize("connection", ["fabric", "openssh"])
@pytest.mark.parametrize("phase", ["probe", "init", "push", "start"])
def test_a_machine_that_is_frozen_while_it_is_set_up_is_given_up(ssh_farm, tmp_path, phase, connection):
    (ssh_farm.directory / "tasks.py").write_text(UNLIMITED)
    stuck = Stuck(ssh_farm, tmp_path)
    stuck.extra["connection"] = connection
    getattr(stuck, phase)(ssh_farm.servers[0])
    process = begin(ssh_farm, "--only", "sandbox", patience="1", **stuck.env)
    try:
        stuck.freeze()
        status, said = finish(process)
    finally:
        stuck.thaw()
    wait_until(lambda: not test_interrupted.supervisor_of(ssh_farm.servers[0]))
    assert status == 102, said
    # ssh does not say why it ends.
    why = (
        "no sign of life for 3 s" if connection == "fabric" else "(no sign of life for 3 s|the connection was lost)"
    )
    assert re.search(f"no machine left: m1: {why}", said), said


@pytest.mark.parametrize("how", ["cut", "deafen", "mute"])
def test_a_machine_that_is_cut_off_ends_all_by_itself_and_frees_its_lock(
    farm, machines, far_machine, census, tmp_path, how
):
    far, cable = far_machine
    near = machines[0]
    both = tmp_path / "both"
    both.write_text(near.ssh_config.read_text() + far.ssh_config.read_text())
    farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(both)
    census.watch(far.work_dir)
    census.watch(near.work_dir)
    farm.machines(near, far, max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = begin(farm, "--only", "sandbox,wren,heron,plover")
    wait_until(lambda: building(far))
    getattr(cable, how)()
    # Long before any of TCP's own limits, with the cable still cut.
    wait_until(lambda: not processes_holding(far.work_dir))
    assert not lock_holders(far.work_dir)
    status, said = finish(process)
    assert status == 101, said
    whole(farm, 4)
    assert "far: " in said


def test_a_machine_that_reboots_comes_back(ssh_farm, tmp_path):
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    process = begin(ssh_farm, "--only", "sandbox,wren")
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    m1.kill(everything=True)
    wait_until(lambda: [e for e in events(ssh_farm, "waiting") if e["data"]["machines"] == ["m1"]])
    m1.start()
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 2)


def test_a_machine_that_does_not_come_back_is_waited_for_only_so_long(ssh_farm, tmp_path):
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    process = begin(ssh_farm, "--only", "sandbox,tern", patience="4")
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    m1.kill(everything=True)
    status, said = finish(process)
    assert status == 102, said
    assert "no machine left: m1" in said
    assert len(ssh_farm.results("series")) + len(events(ssh_farm, "not-built")) == 12


def test_a_machine_lost_too_often_is_set_aside_and_the_build_goes_on(ssh_farm, tmp_path):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, max_boards=1, env=slow_make(tmp_path / "slow", 0.3))
    process = begin(ssh_farm, "--only", "tern,wren,heron,robin,plover", "--restarts", "1")
    for number in (1, 2):
        wait_until(lambda: building(m1))
        os.kill(worker_of(m1), signal.SIGKILL)
        wait_until(lambda n=number: len(events(ssh_farm, "machine-failed")) == n)
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 5)
    assert [e["data"]["aside"] for e in events(ssh_farm, "machine-failed")] == [False, True]
    assert "set aside" in said


def test_a_boss_that_was_stopped_for_long_goes_on_where_it_was(ssh_farm, tmp_path):
    """A laptop that slept: its machines gave it up, and it gets them again."""
    m1 = ssh_farm.servers[0]
    ssh_farm.machines(m1, max_boards=1, env=slow_make(tmp_path / "slow", 0.1))
    process = begin(ssh_farm, "--only", "sandbox,wren")
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: not lock_holders(m1.work_dir))
    os.kill(process.pid, signal.SIGCONT)
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 2)


def test_a_frozen_supervisor_does_not_keep_the_machine(ssh_farm, tmp_path):
    m1, m2, _ = ssh_farm.servers
    ssh_farm.machines(m1, m2, max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = begin(ssh_farm, "--only", "sandbox,wren,heron,plover")
    wait_until(lambda: building(m1))
    frozen = supervisor_of(m1)
    os.kill(frozen, signal.SIGSTOP)
    wait_until(lambda: not alive(frozen), 30)  # its guardian sees to it, and to all others
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 4)
    wait_until(lambda: not processes_holding(m1.work_dir))


# --- boards that are the trouble themselves -----------------------------------------------------------------


def test_a_board_that_kills_its_workers_is_not_tried_a_third_time(ssh_farm, tmp_path):
    m1, m2, _ = ssh_farm.servers
    env = tool(
        tmp_path / "killer", "make", 'case "$*" in *robin_defconfig*) kill -9 $PPID;; esac\nexec {real} "$@"'
    )
    ssh_farm.machines(m1, m2, max_boards=2, env=env)
    ended = ssh_farm.build("--branch", "series", "--exclude", "osprey,sandbox", *QUICK)
    assert ended.status == 102, ended
    assert len(ssh_farm.results("series")) == 6 * 6
    lost = events(ssh_farm, "not-built")
    assert {e["board"] for e in lost} == {"robin"}
    assert len(lost) == 6
    assert "kills workers (on m1, m2)" in lost[0]["text"] or "kills workers (on m2, m1)" in lost[0]["text"]
    # Two workers died, no more; what else they held was built.
    assert len([e for e in events(ssh_farm, "machine-failed") if e["data"]["again_in"]]) == 2


def test_a_hanging_make_is_ended_and_the_board_built_elsewhere(ssh_farm, tmp_path):
    once = tmp_path / "once"
    hang = tool(
        tmp_path / "hang", "make",
        # A second attempt, which an idle machine may make, is not to end before the one that hangs was ended.
        f'case "$*" in *robin_defconfig*) mkdir {once} 2>/dev/null && echo $$ >{once}/pid && exec sleep 1000\n'
        f'until [ -s {once}/pid ] && ! kill -0 $(cat {once}/pid) 2>/dev/null; do sleep 0.1; done;; esac\n'
        'exec {real} "$@"',
    )  # fmt: skip
    ssh_farm.machines(*ssh_farm.servers[:2], max_boards=2, env=hang)
    process = begin(ssh_farm, "--only", "robin,wren,sandbox,tern,heron", "--timeout", "12")
    status, said = finish(process)
    assert status == 101, said
    whole(ssh_farm, 5)
    (fault,) = events(ssh_farm, "fault")
    assert (fault["board"], fault["data"]["kind"]) == ("robin", "timeout")
    first, *rest = [e for e in events(ssh_farm, "result") if e["board"] == "robin"]
    assert first["machine"] != fault["machine"]
    assert first["data"]["after"] == [f"{fault['machine']}: {fault['text']}"]
    assert not any(e["data"]["after"] for e in rest)
    assert f"after {fault['machine']}: " in said
    assert not events(ssh_farm, "machine-failed")
    # The other slot of that machine went on meanwhile.
    others = {e["board"] for e in events(ssh_farm, "result") if e["machine"] == fault["machine"]}
    assert others - {"robin"}


def test_a_make_that_hangs_everywhere_is_timed_out(ssh_farm, tmp_path):
    hang = tool(tmp_path / "hang", "make", 'case "$*" in *robin_defconfig*) sleep 1000;; esac\nexec {real} "$@"')
    ssh_farm.machines(*ssh_farm.servers[:2], max_boards=1, env=hang)
    ended = ssh_farm.build("--only", "robin,sandbox", *QUICK, "--timeout", "10")
    assert ended.status == 100, ended
    place = ssh_farm.output / "current/robin"
    assert (place / "done").read_text() == "124\n"
    assert "it took more than 10 s" in (place / "err").read_text()
    assert (ssh_farm.output / "current/sandbox/done").read_text() == "0\n"
    (fault,) = events(ssh_farm, "fault", "current")
    (failed,) = [e for e in events(ssh_farm, "result", "current") if e["board"] == "robin"]
    assert fault["machine"] != failed["machine"]


def test_a_machine_that_does_not_answer_keeps_nobody_waiting(farm, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connected to, it says nothing
        farm.write_machines({"machines": {
            "good": {"connection": "local", "work_dir": str(tmp_path / "good")},
            "silent": {"host": f"127.0.0.1:{silent.getsockname()[1]}"},
        }})  # fmt: skip
        ended = farm.build("--only", "sandbox")
    assert ended.status in (0, 101), ended
    said = [event["what"] for event in farm.journal("current") if event["machine"] != "good"]
    assert "run-start" in said
    assert "machine-failed" not in said[: said.index("run-start")]
    assert {event["machine"] for event in events(farm, "result", "current")} == {"good"}
