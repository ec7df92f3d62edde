"""Channels over a real sshd and of a local shell: what goes in comes out, and nobody waits for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import invoke
import pytest

from fabbuild.errors import ConnectError, MachineError, WireClosed
from fabbuild.machines.transport import ssh_login
from fabbuild.machines.transport.base import MAX_OUTPUT
from fabbuild.machines.transport.local import LocalTransport
from fabbuild.machines.transport.ssh import SshTransport, wrap
from fabbuild.machines.transport.ssh_connections import ConnectSettings, connection_for
from tests.support.census import ENDLESS, HANG_LIMIT
from tests.support.trouble import STAYS

MB = 1024 * 1024


def ssh_to(machine, settings=None):
    c = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": str(machine.ssh_config)}}))
    return SshTransport(machine.name, connection_for(c, machine.name, settings), settings)


@pytest.fixture
def ssh(machines):
    transport = ssh_to(machines[0])
    yield transport
    transport.close()


@pytest.fixture
def local():
    transport = LocalTransport("here")
    yield transport
    transport.close()


@pytest.fixture(params=["ssh", "local"])
def way(request):
    return request.getfixturevalue(request.param)


class Reader(threading.Thread):
    """Reads one stream to its end."""

    def __init__(self, read):
        super().__init__(daemon=True)
        self.read, self.data = read, bytearray()
        self.start()

    def run(self):
        while data := self.read():
            self.data += data

    def all(self, timeout=HANG_LIMIT):
        self.join(timeout)
        assert not self.is_alive(), "the stream did not end"
        return bytes(self.data)


def patient(way):
    """A command that neither reads nor writes, and stays."""
    channel = way.spawn(STAYS)
    if isinstance(way, LocalTransport):
        channel.grace = 0.1
    return channel


def until(condition, seconds=HANG_LIMIT):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def stalled(way, seconds=0.2):
    """Whether something was sent, and for a while no more."""
    before = way.bytes_sent
    time.sleep(seconds)
    return 0 < before == way.bytes_sent


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- short commands


def test_a_short_command_gives_its_status_and_both_outputs(way):
    done = way.run("cat; echo oops >&2; exit 7", stdin=b"some input", timeout=HANG_LIMIT)
    assert (done.status, done.stdout, done.stderr) == (7, b"some input", b"oops\n")
    assert way.run("exit 0", timeout=HANG_LIMIT).status == 0


def test_a_command_that_reads_nothing_is_not_waited_for(way):
    assert way.run("exit 4", stdin=b"x" * 10 * MB, timeout=HANG_LIMIT).status == 4


def test_a_signal_gives_a_negative_status(way):
    assert way.run("kill -9 $$", timeout=HANG_LIMIT).status < 0


def test_output_beyond_the_limit_is_read_and_dropped(way):
    done = way.run(f"head -c {2 * MAX_OUTPUT} /dev/zero; echo end >&2", timeout=HANG_LIMIT)
    assert (done.status, len(done.stdout), done.stderr) == (0, MAX_OUTPUT, b"end\n")


def test_a_command_that_takes_too_long_is_given_up(way):
    with pytest.raises(MachineError, match=r"not over after 0\.5 s") as caught:
        way.run(STAYS, timeout=0.5)
    assert caught.value.machine == way.name
    assert way.run("echo still there", timeout=HANG_LIMIT).stdout == b"still there\n"


def test_what_a_local_command_leaves_behind_in_its_group_is_ended(local):
    done = local.run(f"sleep {ENDLESS} >/dev/null 2>&1 & echo $!", timeout=HANG_LIMIT)
    assert until(lambda: not alive(int(done.stdout)))


def test_a_local_command_that_takes_too_long_is_killed_with_its_group(local, tmp_path):
    with pytest.raises(MachineError):
        local.run(f"trap '' TERM HUP; sleep {ENDLESS} & echo $! >{tmp_path}/pid; wait", timeout=1)
    assert until(lambda: not alive(int((tmp_path / "pid").read_text())))


ODD = r"""printf '%s\n' 'it'"'"'s' "a\\b" '!x !!' '$HOME' '~' '`id`' "é" '%d'
printf 'second\041\n'"""


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh"])
def test_a_command_arrives_the_same_through_any_login_shell(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for command in (ODD, 'echo "it\'s" \'$HOME\' "$((1 + 1))" é'):
        direct = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        through = subprocess.run([shell, "-c", wrap(command)], capture_output=True, check=True)
        assert through.stdout == direct.stdout


def test_odd_characters_survive_the_way_to_the_machine(way):
    direct = subprocess.run(["sh", "-c", ODD], capture_output=True, check=True)
    assert way.run(ODD, timeout=HANG_LIMIT).stdout == direct.stdout


# ---- channels


def test_twenty_megabytes_go_each_way_on_all_three_streams(way):
    data = os.urandom(MB) * 20
    channel = way.spawn("tee /dev/stderr")
    out, err = Reader(channel.recv), Reader(channel.recv_stderr)
    channel.send(data)
    channel.close_stdin()
    assert out.all() == data
    assert err.all() == data
    assert channel.exit_status(HANG_LIMIT) == 0
    assert way.bytes_sent == len(data)
    assert way.bytes_received == 2 * len(data)
    channel.close()


def test_bytes_come_as_soon_as_they_are_written(way):
    channel = way.spawn("while read line; do echo got $line; done")
    for number in range(3):
        channel.send(f"{number}\n".encode())
        assert channel.recv() == f"got {number}\n".encode()
    assert channel.exit_status(0.05) is None
    channel.close_stdin()
    assert channel.recv() == b""
    assert channel.exit_status(HANG_LIMIT) == 0
    channel.close()


def test_a_banner_on_stdout_comes_first_and_the_rest_follows(way):
    done = way.run("echo 'Welcome to the lab'; echo 'BM> {}'", timeout=HANG_LIMIT)
    assert done.stdout == b"Welcome to the lab\nBM> {}\n"


def test_a_login_shell_that_prints_does_not_disturb(machines, ssh):
    # bash reads it when sshd starts it.
    start_file = machines[0].home / ".bashrc"
    start_file.write_text("echo motd on stdout\necho motd on stderr >&2\n")
    try:
        done = ssh.run("cat", stdin=b"payload", timeout=HANG_LIMIT)
    finally:
        start_file.unlink()
    if b"motd" not in done.stdout:
        pytest.skip("the login shell reads no start file")
    assert done.stdout == b"motd on stdout\npayload"
    assert done.stderr == b"motd on stderr\n"


def test_closing_a_channel_frees_who_reads_it(way):
    channel = patient(way)
    out, err = Reader(channel.recv), Reader(channel.recv_stderr)
    time.sleep(0.1)  # into the middle of their reading, most likely
    channel.close()
    assert (out.all(), err.all()) == (b"", b"")
    channel.close()


def test_closing_a_channel_frees_who_writes_to_it(way):
    channel = patient(way)
    outcome = []

    def write():
        try:
            channel.send(b"x" * 50 * MB)
        except WireClosed as exc:
            outcome.append(exc)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert until(lambda: stalled(way))
    assert writer.is_alive()
    channel.close()
    writer.join(HANG_LIMIT)
    assert outcome


def test_closing_the_transport_frees_who_reads_its_channels(way):
    channel = way.spawn("exec cat")
    out = Reader(channel.recv)
    time.sleep(0.1)
    way.close()
    assert out.all() == b""
    with pytest.raises(WireClosed):
        channel.send(b"anybody?")
    way.close()


def test_closing_works_while_the_interpreter_ends_and_starts_no_threads(way, monkeypatch):
    channel = way.spawn("exec cat")
    out = Reader(channel.recv)
    time.sleep(0.1)

    def no_more(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    channel.close()
    way.close()
    assert out.all() == b""


def test_sending_to_a_command_that_has_ended_says_so(way):
    channel = way.spawn("exit 3")
    assert channel.exit_status(HANG_LIMIT) == 3
    with pytest.raises(WireClosed):
        channel.send(b"x" * 10 * MB)
    channel.close()


def test_a_hang_up_reaches_the_command_as_the_end_of_its_stdin(way, tmp_path):
    channel = way.spawn(f"echo begun; cat >/dev/null; echo over >{tmp_path}/over")
    assert channel.recv() == b"begun\n"
    channel.close()
    assert until((tmp_path / "over").exists)


def test_a_local_command_that_ignores_the_hang_up_is_killed_after_the_grace(local, tmp_path):
    channel = local.spawn("trap '' HUP TERM PIPE; echo begun; while :; do sleep 0.1; done")
    assert channel.recv() == b"begun\n"
    channel.grace = 1.0
    pid = channel.pid
    channel.close()
    assert alive(pid)
    local.close()
    assert not alive(pid)


def test_a_local_command_has_a_session_of_its_own(local):
    done = local.run("echo $$; cut -d' ' -f6 /proc/$$/stat", timeout=HANG_LIMIT)
    pid, session = done.stdout.split()
    assert pid == session


def test_many_local_commands_leave_no_descriptor_open(local):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        local.run("echo hi", timeout=HANG_LIMIT)
    assert until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


# ---- a machine that goes away


def test_a_dead_machine_ends_the_channel_and_is_not_connected_to_again(machines):
    transport = ssh_to(machines[1])
    channel = transport.spawn("exec cat")
    out = Reader(channel.recv)
    machines[1].kill()
    assert out.all() == b""
    assert channel.exit_status(HANG_LIMIT) < 0
    with pytest.raises(WireClosed):
        channel.send(b"x")
    with pytest.raises(MachineError, match="lost"):
        transport.spawn("true")
    with pytest.raises(ConnectError, match="refused"):
        transport.open()
    machines[1].start()
    transport.open()
    assert transport.run("echo back", timeout=HANG_LIMIT).stdout == b"back\n"
    transport.close()


def test_a_machine_that_dies_during_a_short_command_is_reported(machines, tmp_path):
    transport = ssh_to(machines[1])
    transport.open()
    killer = threading.Thread(target=lambda: until((tmp_path / "begun").exists) and machines[1].kill())
    killer.start()
    with pytest.raises(MachineError, match="lost"):
        transport.run(f"touch {tmp_path}/begun; {STAYS}", timeout=ENDLESS)
    killer.join()
    transport.close()


def test_a_frozen_machine_starts_no_command_and_is_given_up(machines, monkeypatch):
    monkeypatch.setattr(ConnectSettings.__init__, "__defaults__", (ENDLESS,) * 5)
    transport = ssh_to(machines[2], ConnectSettings(channel_timeout=1))
    transport.open()
    machines[2].freeze()
    with pytest.raises(MachineError, match="does not start a command"):
        transport.spawn("true")
    transport.close()


def test_a_machine_that_freezes_during_a_short_command_is_given_up_as_silent(machines, tmp_path):
    transport = ssh_to(machines[2], ConnectSettings(silence=1))
    channel = transport.spawn("exec cat >/dev/null")
    freezer = threading.Thread(target=lambda: until((tmp_path / "begun").exists) and machines[2].freeze())
    freezer.start()
    with pytest.raises(MachineError, match="no sign of life for 1 s"):
        transport.run(f"touch {tmp_path}/begun; {STAYS}", timeout=ENDLESS)
    freezer.join()
    assert channel.recv() == b""
    assert transport.lost == "no sign of life for 1 s"
    with pytest.raises(MachineError, match="no sign of life for 1 s"):
        transport.spawn("true")
    machines[2].thaw()
    transport.open()
    assert transport.lost == ""
    assert transport.run("echo back", timeout=HANG_LIMIT).stdout == b"back\n"
    transport.close()


@pytest.mark.deep
def test_a_command_that_says_nothing_for_long_is_no_silence(machines):
    transport = ssh_to(machines[0], ConnectSettings(silence=3))
    assert transport.run("sleep 8; echo done", timeout=HANG_LIMIT).stdout == b"done\n"
    transport.close()


def test_a_frozen_machine_does_not_keep_a_writer_or_the_closer(machines):
    transport = ssh_to(machines[2])
    channel = transport.spawn("exec cat >/dev/null")
    machines[2].freeze()
    outcome = []

    def write():
        try:
            channel.send(b"x" * 50 * MB)
        except WireClosed as exc:
            outcome.append(exc)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert until(lambda: stalled(transport))
    channel.close()
    transport.close()
    writer.join(HANG_LIMIT)
    assert outcome


def test_a_machine_that_vanishes_from_an_idle_connection_is_noticed(far_machine, monkeypatch):
    # paramiko's keepalive alone never noticed: nobody looks whether it is answered.
    monkeypatch.setattr(ssh_login, "KEEPALIVE", 1)
    monkeypatch.setattr(ssh_login, "DEAD_AFTER", 2)
    machine, cable = far_machine
    transport = ssh_to(machine)
    channel = transport.spawn("exec cat")
    out = Reader(channel.recv)
    channel.send(b"there?")
    assert until(lambda: out.data == b"there?")
    cable.cut()
    assert out.all() == b"there?"
    assert channel.exit_status(1) < 0
    with pytest.raises(MachineError, match="lost"):
        transport.run("true", timeout=HANG_LIMIT)
    transport.close()


# ---- git


@pytest.fixture
def source(tmp_path):
    repo = tmp_path / "source"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", repo]
    subprocess.run(["git", "init", "-q", repo], check=True)
    (repo / "file").write_text("words\n")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    return repo


@pytest.mark.parametrize("name", ["plain.git", "with spaces and 100%.git", "it's $HOME & é.git"])
def test_git_push_arrives_whatever_the_path_is(way, source, tmp_path, name):
    bare = tmp_path / name
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    url, environment = way.git_remote(str(bare))
    push = subprocess.run(
        ["git", "-C", source, "push", url, "HEAD:refs/fabbuild/current"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_LIMIT,
    )
    assert push.returncode == 0, push.stderr
    assert b"refs/fabbuild/current" in subprocess.check_output(["git", "-C", bare, "for-each-ref"])


def test_git_asks_nothing_and_leaves_nothing_running(ssh, source):
    command = ssh.git_remote("/x")[1]["GIT_SSH_COMMAND"]
    for option in (
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "ControlPath=none",
        "UpdateHostKeys=no",
    ):
        assert f"-o{option}" in command
    url, environment = ssh.git_remote("/no/such/repository")
    push = subprocess.run(
        ["git", "-C", source, "push", url, "HEAD:refs/x"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_LIMIT,
    )
    assert push.returncode != 0
    assert "/no/such/repository" in push.stderr
