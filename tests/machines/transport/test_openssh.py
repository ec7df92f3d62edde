"""Sessions by the ssh program: what a Fabric Connection cannot do, over a real sshd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fabbuild.config.machines import HostText
from fabbuild.errors import ConfigError, ConnectError, HostKeyError, MachineError, WireClosed
from fabbuild.machines.transport.openssh import OpenSSHLogin, OpenSSHTransport, openssh_login
from tests.machines.transport.test_ssh import Reader, ssh_to
from tests.machines.transport.test_ssh_options import by_configuration, section
from tests.support.census import HANG_LIMIT, wait_until
from tests.support.sshd import make_sshd


@pytest.fixture
def way(tmp_path):
    """Gives a transport to a host by the text of an ssh configuration; closes it afterwards."""
    yield from by_configuration(
        tmp_path, lambda host, config: OpenSSHTransport(host, openssh_login(host, ["-F", config]))
    )


@pytest.fixture
def own_sshd(tmp_path):
    """Gives an sshd with a configuration of its own; kills it afterwards."""
    made = []

    def make(name, extra, **more):
        base = tmp_path / "own"
        base.mkdir(exist_ok=True)
        made.append(make_sshd(base, name, "127.0.0.7", extra, **more))
        made[-1].start()
        return made[-1]

    yield make
    for machine in made:
        machine.kill(everything=True)


def fabric_is_refused(machine, match):
    with pytest.raises(ConnectError, match=match) as caught:
        ssh_to(machine).open()
    assert "connection: openssh" in str(caught.value)


def git_gets_in(transport):
    url, environment = transport.git_remote("/no/such/repository")
    listed = subprocess.run(
        ["git", "ls-remote", url], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return "/no/such/repository" in listed.stderr


def test_all_sessions_of_a_machine_are_one_login(machines, way, tmp_path):
    before = machines[0].log.count("Accepted publickey")
    odd = ("ForkAfterAuthentication yes", "StdinNull yes", "RequestTTY force", "RemoteCommand true")
    transport = way("m1", section(machines[0], tmp_path, *odd))
    transport.open()
    assert transport.run("cat; exit 3", stdin=b"hello", timeout=HANG_LIMIT).stdout == b"hello"
    assert git_gets_in(transport)
    channel = transport.spawn("exec cat")
    channel.send(b"there?")
    assert channel.recv() == b"there?"
    channel.close()
    assert machines[0].log.count("Accepted publickey") == before + 1


def test_nothing_is_left_of_a_connection_that_was_closed(machines, way, tmp_path):
    transport = way("m1", section(machines[0], tmp_path))
    transport.open()
    socket = next(Path(option.partition("=")[2]) for option in transport._way if "ControlPath" in option)
    assert socket.exists()
    channel = transport.spawn("cat; echo over >/dev/null")
    out = Reader(channel.recv)
    transport.close()
    assert out.all() == b""
    assert not socket.parent.exists()
    with pytest.raises(WireClosed):
        channel.send(b"anybody?")


def test_a_connection_that_the_user_opened_is_used_and_stays(own_sshd, way, tmp_path):
    machine = own_sshd("mfa", "PasswordAuthentication yes\nAuthenticationMethods publickey,password\n")
    fabric_is_refused(machine, "wants more than a key")
    # Nobody can type a password here; so the server lets the user's own connection in without one, and no other.
    machine.kill()
    machine.config.write_text(machine.config.read_text().replace("AuthenticationMethods publickey,password\n", ""))
    machine.start()
    control = tmp_path / "cm"
    text = section(machine, tmp_path, f"ControlPath {control}")
    config = tmp_path / "config"
    config.write_text(text)
    arguments = ["-F", str(config), "-oStrictHostKeyChecking=accept-new"]
    master = subprocess.Popen(["ssh", *arguments, "-M", "-N", "mfa"], stdin=subprocess.DEVNULL)
    try:
        wait_until(control.exists)
        machine.stop()  # no new connection gets in
        transport = way("mfa", text)
        transport.open()
        assert transport.run("echo hello", timeout=HANG_LIMIT).stdout == b"hello\n"
        assert git_gets_in(transport)
        transport.close()
        assert master.poll() is None
        assert (
            subprocess.run(["ssh", *arguments, "-O", "check", "mfa"], capture_output=True, check=False).returncode
            == 0
        )
    finally:
        master.kill()
        master.wait()


@pytest.mark.parametrize(
    "line",
    [
        "Ciphers chacha20-poly1305@openssh.com",
        "KexAlgorithms sntrup761x25519-sha512@openssh.com",
        "KexAlgorithms curve25519-sha256",
    ],
)
def test_a_server_with_ciphers_or_key_exchanges_that_paramiko_lacks_is_reached(own_sshd, way, tmp_path, line):
    machine = own_sshd("hard", f"{line}\n")
    fabric_is_refused(machine, "nothing in common|in common")
    assert way("hard", section(machine, tmp_path)).run("echo hi", timeout=HANG_LIMIT).stdout == b"hi\n"


def test_a_host_that_a_certificate_authority_vouches_for_is_reached(own_sshd, way, tmp_path):
    machine = own_sshd("vouched", "")
    authority = tmp_path / "ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-s",
            authority,
            "-h",
            "-I",
            "x",
            "-n",
            machine.host,
            machine.host_key.with_suffix(".pub"),
        ],
        check=True,
    )
    machine.kill()
    with machine.config.open("a") as config:
        config.write(f"HostCertificate {machine.host_key}-cert.pub\n")
    machine.start()
    known = tmp_path / "known"
    known.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
    text = section(machine, tmp_path, "StrictHostKeyChecking yes")
    (tmp_path / "for_fabric").write_text(text)
    machine.ssh_config = tmp_path / "for_fabric"
    fabric_is_refused(machine, "StrictHostKeyChecking is yes")
    assert way("vouched", text).run("echo hi", timeout=HANG_LIMIT).stdout == b"hi\n"
    assert known.read_text().count("\n") == 1


def test_an_unknown_host_is_recorded_and_a_changed_key_refused(machines, way, tmp_path):
    way("m1", section(machines[0], tmp_path)).open()
    known = tmp_path / "known"
    assert known.read_text().count("\n") >= 1
    known.write_text(
        f"[{machines[0].host}]:{machines[0].port} {machines[1].host_key.with_suffix('.pub').read_text()}"
    )
    with pytest.raises(HostKeyError, match="Offending"):
        way("m1", section(machines[0], tmp_path)).open()


def test_a_machine_that_is_down_is_told_in_one_line(machines, way, tmp_path):
    machines[1].kill()
    with pytest.raises(ConnectError, match=r"Connection refused; try `ssh -F .* m2`") as caught:
        way("m2", section(machines[1], tmp_path)).open()
    assert "\n" not in str(caught.value)


def test_a_login_that_is_refused_is_told(machines, way, tmp_path):
    with pytest.raises(ConnectError, match="Permission denied"):
        way("m1", section(machines[0], tmp_path, "IdentityFile none", "IdentityAgent none", key=False)).open()


def test_a_lost_connection_is_not_opened_again_by_itself(machines, way, tmp_path):
    transport = way("m2", section(machines[1], tmp_path))
    channel = transport.spawn("exec cat")
    out = Reader(channel.recv)
    machines[1].kill()
    assert out.all() == b""
    assert channel.exit_status(HANG_LIMIT) < 0
    with pytest.raises(MachineError, match="lost"):
        transport.run("true", timeout=HANG_LIMIT)
    with pytest.raises(ConnectError, match="refused"):
        transport.open()
    machines[1].start()
    transport.open()
    assert transport.run("echo back", timeout=HANG_LIMIT).stdout == b"back\n"


def test_a_signal_gives_a_negative_status(machines, way, tmp_path):
    assert way("m1", section(machines[0], tmp_path)).run("kill -9 $$", timeout=HANG_LIMIT).status < 0


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "-Fx", "a b"])
def test_a_host_name_cannot_be_an_option(host):
    with pytest.raises(ConfigError):
        openssh_login(host)
    with pytest.raises(ConfigError):
        OpenSSHTransport("x", OpenSSHLogin(HostText(host))).open()
