"""Ctrl-C, SIGTERM and a closed terminal: soon over, in whatever phase, and though machines are frozen."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import time

import pytest

from tests.support.census import ENDLESS, HANG_LIMIT, lock_holders, wait_until
from tests.support.farm import BIN
from tests.support.scenes import nothing_left
from tests.support.trouble import slow_make, tool

pytestmark = pytest.mark.deep

HANG = f"""#!/bin/sh
{{condition}}
touch {{mark}}
exec sleep {ENDLESS}
"""

#: For tasks.py: nothing that a machine is asked has a limit of its own.
UNLIMITED = f"""
from fabbuild.machines import one_shot, session
one_shot.PROBE_TIMEOUT = session.ANSWER_TIMEOUT = {ENDLESS}
for ask in (one_shot.OneShot._ask, session.Session._expect):
    ask.__kwdefaults__["timeout"] = {ENDLESS}
from fabbuild import ns
"""

#: For tasks.py: a machine that is frozen is waited for longer than any test lasts, but on the way out.
PATIENT = f"""
from fabbuild.build import dispatcher
from fabbuild.machines import session_pool
from fabbuild.machines.transport import ssh_connections
dispatcher.QUIT_TIMEOUT = {ENDLESS}
session_pool.SessionPool.close.__defaults__ = ({ENDLESS},)
ssh_connections.ConnectSettings.__init__.__defaults__ = ({ENDLESS},) * 5
{UNLIMITED}"""

#: For tasks.py: on the way out as well, so that nothing but a second Ctrl-C ends it; that it is there leaves a mark.
NEVER_OUT = f"""
import os, pathlib
from fabbuild import parallel
from fabbuild.build import bring_up, dispatcher
from fabbuild.machines import machine_group, session, session_group, session_pool
def wrap(holder, name, at, grace):
    real = getattr(holder, name)
    def wrapped(*given):
        pathlib.Path(os.environ["LEAVING"]).touch()
        return real(*given[:at], grace, *given[at + 1 :])
    setattr(holder, name, wrapped)
wrap(session.Session, "leave", 1, {ENDLESS})
for user in (bring_up, dispatcher, machine_group, session_group, session_pool):
    wrap(user, "leave_all", 1, {ENDLESS})
parallel.CUT_GRACE = {ENDLESS}
"""


class Stuck:
    """Machines, each of which hangs in a phase until it is frozen there."""

    def __init__(self, farm, tmp_path):
        self.farm = farm
        self.place = tmp_path / "stuck"
        self.place.mkdir()
        self.entries = {}
        self.extra = {}
        self.waits = []
        self.frozen = []
        self.env = {}
        self._held = contextlib.ExitStack()

    def machine(self, server, **extra):
        entry = {"host": server.name, "work_dir": str(server.work_dir), "max_boards": 1, **self.extra, **extra}
        self.entries[server.name] = entry
        self.farm.write_machines({"machines": self.entries, "fit": {"max_load_per_cpu": 1000}})
        return entry

    def mark(self, server, phase):
        mark = self.place / f"{server.name}-{phase}"
        self.frozen.append(server)
        self.waits.append(mark.exists)
        return mark

    def login(self, server):
        self.machine(server)
        server.freeze()
        self.waits.append(lambda: connected(server.port))

    def probe(self, server):
        mark = self.mark(server, "probe")
        self.machine(server, env=tool(self.place / "gcc", "gcc", HANG.format(condition="", mark=mark)))

    def init(self, server):
        self.machine(server)
        server.work_dir.mkdir(mode=0o700)
        held = self._held.enter_context((server.work_dir / "lock").open("w"))
        fcntl.flock(held, fcntl.LOCK_EX)
        self.env["INVOKE_FABBUILD_WAIT"] = str(ENDLESS)
        self.frozen.append(server)
        self.waits.append(lambda: supervisor_of(server))

    def push(self, server):
        self.machine(server)
        condition = f'case "$*" in *{server.work_dir}*) ;; *) exec {{real}} "$@";; esac'
        mark = self.mark(server, "push")
        script = f'#!/bin/sh\n{condition}\ntouch {mark}\nuntil [ -e {mark}.go ]; do sleep 0.05; done\nexec {{real}} "$@"\n'
        self.env |= tool(self.place / "ssh", "ssh", script)
        self.waits.append(lambda: True)

    def start(self, server):
        mark = self.mark(server, "start")
        self.machine(server, worker_command=f"touch {mark}; exec sleep {ENDLESS}")

    def build(self, server):
        mark = self.mark(server, "build")
        condition = '[ "$1" = --version ] && exec {real} "$@"'
        self.machine(server, env=tool(self.place / "make", "make", HANG.format(condition=condition, mark=mark)))

    def freeze(self):
        """Wait until each machine hangs in its phase, and freeze it there with all that runs on it."""
        for arrived in self.waits:
            wait_until(arrived)
        for server in self.frozen:
            server.freeze(everything=True)
        for mark in self.place.glob("*-push"):
            mark.with_name(f"{mark.name}.go").touch()

    def plain(self):
        """From now on the machines hang no more."""
        self.farm.machines(*self.farm.servers)

    def thaw(self):
        self._held.close()
        for server in self.farm.servers:
            server.thaw()


@pytest.fixture
def stuck(ssh_farm, tmp_path):
    made = Stuck(ssh_farm, tmp_path)
    (ssh_farm.directory / "tasks.py").write_text(PATIENT)
    yield made
    made.thaw()


def connected(port):
    """Whether somebody has a connection to this port."""
    rows = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def supervisor_of(server):
    """Whether a supervisor works for this machine's directory, with the lock or waiting for it."""
    return any(
        b"supervise" in command and str(server.work_dir).encode() in command
        for command in map(command_of, filter(str.isdigit, os.listdir("/proc")))
    )


def command_of(pid):
    try:
        return open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
    except OSError:
        return []


def interrupted(process, number=signal.SIGINT):
    """Interrupt a command once; give its status and outputs."""
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=HANG_LIMIT)
    return process.returncode, out, err


def never_out(stuck):
    """Have a command that is interrupted once wait for its machines for ever; gives where it leaves a mark then."""
    (stuck.farm.directory / "tasks.py").write_text(NEVER_OUT + PATIENT)
    stuck.env["LEAVING"] = str(stuck.place / "leaving")
    return stuck.place / "leaving"


def interrupted_again(process, leaving):
    """Interrupt a command, and again once it is on its way out; as `interrupted` otherwise."""
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: leaving.exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_LIMIT)
    return process.returncode, out, err


#: What is going on when it comes: the task, the signal, and by machine the phase it is frozen in.
SCENES = {
    "build-probe": ("build", signal.SIGTERM, {"m1": "login", "m2": "probe"}),
    "build-bringing-up": ("build", signal.SIGINT, {"m1": "init", "m2": "push", "m3": "start"}),
    "probe": ("probe", signal.SIGINT, {"m1": "login", "m2": "probe"}),
    "push": ("push", signal.SIGHUP, {"m1": "init", "m2": "push"}),
    "start": ("start", signal.SIGTERM, {"m1": "init", "m2": "start"}),
}


def begin(farm, stuck, task, phases):
    """Start a task, some of whose machines are frozen in a phase; gives the process once they are."""
    for server in farm.servers:
        getattr(stuck, phases.get(server.name, "machine"))(server)
    arguments = ["--source", str(farm.source)] if task in ("build", "push") else []
    if task == "build":
        arguments += ["--output", str(farm.output), "--branch", "series"]
    process = farm.start(task, *arguments, **stuck.env)
    stuck.freeze()
    return process


@pytest.mark.parametrize(("task", "number", "phases"), SCENES.values(), ids=SCENES)
def test_an_interrupt_is_soon_over_though_machines_are_frozen(ssh_farm, stuck, census, task, number, phases):
    process = begin(ssh_farm, stuck, task, phases)
    status, out, err = interrupted(process, number)
    assert status == 130, (out, err)
    assert "Traceback" not in err
    assert f"interrupted by {signal.Signals(number).name}" in out + err
    stuck.thaw()
    census.check()
    stuck.plain()
    nothing_left(ssh_farm)


def test_an_interrupted_build_tells_the_workers_gives_out_nothing_and_sums_up(ssh_farm, stuck, census):
    stuck.waits.append(lambda: len(ssh_farm.results("series")) >= 3)
    process = begin(ssh_farm, stuck, "build", {"m1": "build"})
    status, out, err = interrupted(process)
    assert status == 130, (out, err)
    assert "Traceback" not in err
    for server in ssh_farm.servers[1:]:
        assert not lock_holders(server.work_dir), server.name
        assert '{"cmd": "quit"}' in (ssh_farm.output / f"series/.fabbuild/worker-{server.name}.log").read_text()
    told = [event["what"] for event in ssh_farm.journal("series")]
    assert "assigned" not in told[told.index("interrupted") :]
    (end,) = [event["data"] for event in ssh_farm.journal("series") if event["what"] == "run-end"]
    done = len(ssh_farm.results("series"))
    assert done >= 3
    assert end["counts"]["built"] + end["counts"]["warned"] + end["counts"]["failed"] == done
    assert end["counts"]["not_built"] == 60 - done
    assert f"{60 - done} not built; the same command continues from here" in out
    stuck.thaw()
    census.check()
    stuck.plain()
    nothing_left(ssh_farm)


@pytest.mark.parametrize(
    ("task", "phases"), [("build", {"m1": "build"}), ("push", {"m1": "push"}), ("probe", {"m1": "login"})]
)
def test_a_second_ctrl_c_ends_it_at_once(ssh_farm, stuck, census, task, phases):
    leaving = never_out(stuck)
    process = begin(ssh_farm, stuck, task, phases)
    status, out, err = interrupted_again(process, leaving)
    # While Python itself ends nobody handles it any more: to a shell that is 130 as well.
    assert status in (130, -signal.SIGINT), (out, err)
    assert "Traceback" not in err
    stuck.thaw()
    census.check()
    stuck.plain()
    nothing_left(ssh_farm)


def test_a_second_ctrl_c_in_a_chain_ends_it_at_once(ssh_farm, stuck, tmp_path, census):
    """The first comes while nothing is done on the machines, of which one is held and frozen."""
    mark = tmp_path / "planning"
    tools = tool(tmp_path / "git", "git", HANG.format(condition="", mark=mark))
    stuck.machine(ssh_farm.servers[0])
    leaving = never_out(stuck)
    process = ssh_farm.start(
        "init", "build", "--source", str(ssh_farm.source), "--branch", "series", **tools, **stuck.env
    )
    wait_until(mark.exists)
    ssh_farm.servers[0].freeze(everything=True)
    status, out, err = interrupted_again(process, leaving)
    stuck.thaw()
    census.check()
    assert "Traceback" not in err
    assert status == 130, (out, err)
    nothing_left(ssh_farm)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_before_any_machine_is_asked(ssh_farm, tmp_path, census, number):
    mark = tmp_path / "planning"
    tools = tool(tmp_path / "git", "git", HANG.format(condition="", mark=mark))
    process = ssh_farm.start("build", "--source", str(ssh_farm.source), "--branch", "series", **tools)
    wait_until(mark.exists)
    try:
        status, out, err = interrupted(process, number)
        wait_until(lambda: not census.left())  # they would sleep for long
    finally:
        for pid in census.left():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    assert status == 130, (status, out, err)
    assert "Traceback" not in err


# --- a terminal ---------------------------------------------------------------------------------------------


class Terminal:
    """A real terminal with a command in it, as its session's leader; what it shows is read all the time."""

    def __init__(self, farm, *arguments, **env):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", str(BIN / "inv"), *arguments],
            cwd=farm.directory,
            env={**farm.env, "TERM": "xterm", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.shown = b""

    def read(self, timeout=0.05):
        if select.select([self.master], [], [], timeout)[0]:
            with contextlib.suppress(OSError):
                self.shown += os.read(self.master, 65536)

    def read_until(self, condition):
        deadline = time.monotonic() + HANG_LIMIT
        while not condition():
            assert time.monotonic() < deadline, self.shown
            self.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.master)


@pytest.fixture
def building_in_a_terminal(ssh_farm, tmp_path, census):
    """A build in a terminal that has some results, and is not going to have all of them."""
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.3))
    terminal = Terminal(
        ssh_farm, "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series"
    )
    terminal.read_until(lambda: len(ssh_farm.results("series")) >= 2)
    (tmp_path / "slow" / "hold").touch()
    yield terminal
    terminal.close()


def test_a_terminal_that_is_closed_ends_the_build_in_good_order(ssh_farm, building_in_a_terminal, census):
    process = building_in_a_terminal.process
    os.close(building_in_a_terminal.master)
    assert process.wait(HANG_LIMIT) == 130
    for server in ssh_farm.servers:
        assert not lock_holders(server.work_dir), f"{server.name} was not told"
    (end,) = [event["data"] for event in ssh_farm.journal("series") if event["what"] == "run-end"]
    assert end["exit_status"] == 130
    assert sum(end["counts"][kind] for kind in ("built", "warned", "failed", "not_built", "skipped")) == 60
    assert end["counts"]["not_built"] == 60 - len(ssh_farm.results("series"))
    census.check()
    nothing_left(ssh_farm)


def test_ctrl_c_typed_in_a_terminal_leaves_a_summary_and_the_cursor(ssh_farm, building_in_a_terminal, census):
    terminal = building_in_a_terminal
    os.write(terminal.master, b"\x03")
    terminal.read_until(lambda: terminal.process.poll() is not None)
    terminal.read()
    assert terminal.process.returncode == 130
    assert b"Traceback" not in terminal.shown
    assert b"the same command continues from here" in b" ".join(terminal.shown.split())
    assert terminal.shown.rfind(b"\x1b[?25h") > terminal.shown.rfind(b"\x1b[?25l") >= 0
    census.check()
    nothing_left(ssh_farm)
