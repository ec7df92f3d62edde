"""Sessions of several machines at once: alone, and as a Fabric group of real sshd machines."""

import os
import subprocess
import sys
import threading

import fabric
import invoke
import pytest

from fabbuild import parallel
from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import ConnectError
from fabbuild.machines.machine_group import MachineGroup
from fabbuild.machines.session import Session, SessionOptions
from fabbuild.machines.session_group import leave_all
from fabbuild.machines.session_pool import group_of
from fabbuild.machines.transport.local import LocalTransport
from fabbuild.machines.transport.ssh import SshTransport
from fabbuild.machines.transport.ssh_connections import connection_for
from fabbuild.testing import FakeTransport, FakeWorker, ignore
from tests.support.census import ENDLESS, HANG_LIMIT
from tests.support.trouble import STAYS


def session(name, way=None):
    return Session(Machine(name), way or FakeTransport(name), ToolchainSearch())


@pytest.fixture
def ssh(machines):
    """Gives a session by the name of an sshd machine, and another name for it; all are closed afterwards."""
    made = []
    context = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": str(machines[0].ssh_config)}}))

    def make(host, name=""):
        name = name or host
        made.append(session(name, SshTransport(name, connection_for(context, host, name=name))))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- any machines -----------------------------------------------------------------------------------------------


def test_results_and_errors_stand_under_the_names_of_the_machines_in_their_order():
    group = group_of([session(name) for name in ("b", "a", "c")])
    group.sessions[1].transport.refusal = ConnectError("a", "it does not answer")
    found = group.on_all(Session.probe)
    assert list(found) == ["b", "a", "c"]
    assert (found["b"].hostname, found["c"].hostname) == ("fake", "fake")
    assert isinstance(found["a"], ConnectError)
    assert [one.name for one in group.without(["b", "c"]).sessions] == ["a"]


def test_machines_without_a_connection_do_without_fabric():
    code = (
        "import sys\n"
        "from fabbuild.config.machines import Machine, ToolchainSearch\n"
        "from fabbuild.machines.session import Session\n"
        "from fabbuild.machines.session_pool import group_of\n"
        "from fabbuild.machines.transport.local import LocalTransport\n"
        "group_of([Session(Machine('m'), LocalTransport('m'), ToolchainSearch())])\n"
        "print('fabric' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_an_interrupt_stops_what_goes_on_besides_and_closes_all_sessions():
    stopped = []
    sessions = [session(name, FakeTransport(name, FakeWorker(on={"start": ignore}))) for name in ("m1", "m2")]
    both = threading.Barrier(2)

    def work(one):
        one.init()
        both.wait(HANG_LIMIT)
        if one.name == "m2":
            raise KeyboardInterrupt("enough")
        one._receive(ENDLESS, "nothing")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        group_of(sessions).on_all(work, stop=lambda: stopped.append([one.closed for one in sessions]))
    assert stopped == [[False, False]], "once, and first"
    assert [one.closed for one in sessions] == [True, True]


class Stuck(FakeWorker):
    """A worker that does not end when it is asked to."""

    def hung_up(self):
        pass


def test_those_that_do_not_end_in_their_time_are_named_and_cut_off():
    sessions = [session("good"), session("stuck", FakeTransport("stuck", Stuck(on={"quit": ignore})))]
    for one in sessions:
        one.init(SessionOptions(silence=0.0))
    assert leave_all(sessions, 0.2) == ["stuck"]
    assert all(one.closed for one in sessions)


def test_somebody_in_a_hurry_does_not_wait_for_those_that_do_not_end(monkeypatch):
    monkeypatch.setattr("fabbuild.machines.session_group.LEAVE", 0.1)
    stuck = session("stuck", FakeTransport("stuck", Stuck(on={"quit": ignore})))
    stuck.init(SessionOptions(silence=0.0))
    assert leave_all([stuck], ENDLESS, lambda: True) == ["stuck"]


# --- machines over SSH ------------------------------------------------------------------------------------------


def test_the_group_is_the_fabric_group_of_its_connections(ssh):
    here = session("here", LocalTransport("here"))
    group = group_of([ssh("m1"), here, ssh("m2")])
    assert isinstance(group, MachineGroup)
    assert isinstance(group, fabric.ThreadingGroup)
    assert [connection.original_host for connection in group] == ["m1", "m2"]
    assert list(group.on_all(lambda one: one.transport.run("echo", timeout=HANG_LIMIT).status)) == [
        "m1",
        "here",
        "m2",
    ]
    with group:
        results = group.run("echo $0", hide=True, in_stream=False)
        assert {connection.original_host for connection in results} == {"m1", "m2"}
        with pytest.raises(fabric.exceptions.GroupException) as caught:
            group.run("exit 3", hide=True, in_stream=False)
        assert {failure.result.exited for failure in caught.value.result.failed.values()} == {3}
    assert all(one.closed for one in group.sessions)
    assert not any(connection.is_connected for connection in group)


def test_two_names_for_one_machine_are_two_members(ssh):
    group = group_of([ssh("m1", "a"), ssh("m1", "b")])
    assert group.on_all(lambda one: one.transport.open() or one.name) == {"a": "a", "b": "b"}
    assert len(group) == 2


def test_an_interrupt_closes_all_connections_and_comes_back_at_once(ssh, monkeypatch):
    monkeypatch.setattr(parallel, "CUT_GRACE", ENDLESS)
    group = group_of([ssh("m1"), ssh("m2"), ssh("m3")])
    all_in = threading.Barrier(3)

    def wait_for_ever(one):
        channel = one.transport.spawn(STAYS)
        if all_in.wait(HANG_LIMIT) == 0:
            raise KeyboardInterrupt
        return channel.recv()

    with pytest.raises(KeyboardInterrupt):
        group.on_all(wait_for_ever)
    assert not any(connection.is_connected for connection in group)


CTRL_C = """
import os, signal, sys, threading, time
import invoke
from fabbuild import parallel
from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.machines.session import Session
from fabbuild.machines.session_pool import group_of
from fabbuild.machines.transport.ssh_connections import connection_for
from fabbuild.machines.transport.ssh import SshTransport
c = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": sys.argv[1]}}))
names = ("m1", "m2", "m3")
ways = {name: SshTransport(name, connection_for(c, name)) for name in names}
group = group_of([Session(Machine(name), ways[name], ToolchainSearch()) for name in names])
group.on_all(lambda session: session.transport.open())
parallel.CUT_GRACE = 1000.0  # who is not freed is waited for
print("open", flush=True)
sys.stdin.readline()
fabric = sys.argv[3] == "fabric"
all_in = threading.Barrier(1 if fabric else 4)

def on_machine(session):
    all_in.wait()
    session.transport.run(sys.argv[2], timeout=1000)

def interrupt():
    all_in.wait()
    time.sleep(0.3)  # into the middle of it, most likely
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    group.run(sys.argv[2], hide=True, in_stream=False) if fabric else group.on_all(on_machine)
except KeyboardInterrupt:
    print("back", flush=True)
"""


@pytest.mark.parametrize(("way", "frozen"), [("own", False), ("own", True), ("fabric", False)])
def test_ctrl_c_comes_back_at_once_even_from_frozen_machines(machines, tmp_path, way, frozen):
    script = tmp_path / "ctrl_c.py"
    script.write_text(CTRL_C)
    process = subprocess.Popen(
        [sys.executable, script, machines[0].ssh_config, STAYS, way],
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    if frozen:
        machines[1].freeze()
    out, _ = process.communicate("go\n", timeout=HANG_LIMIT)
    assert process.returncode == 0
    assert out == "back\n"
