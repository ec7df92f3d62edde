"""Connections to real sshd: who is let in, what is refused, and how errors read."""

from __future__ import annotations

import base64
import getpass
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time

import fabric
import invoke
import pytest

from fabbuild import parallel
from fabbuild.errors import ConfigError, ConnectError, HostKeyError
from fabbuild.machines.transport import ssh_connections, ssh_login
from fabbuild.machines.transport.ssh import SshTransport
from fabbuild.machines.transport.ssh_connections import (
    ConnectSettings,
    connection_for,
)
from tests.support.census import ENDLESS, HANG_LIMIT, wait_until
from tests.support.sshd import make_sshd

QUICK = ConnectSettings(connect_timeout=1, banner_timeout=1, auth_timeout=1, channel_timeout=1)


def context(ssh_config):
    """What a task gets under `inv`, with another ssh configuration named for it."""
    return invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": str(ssh_config)}}))


@pytest.fixture
def to(tmp_path):
    """Gives an SshTransport by a host and the text of an ssh configuration; closes it afterwards."""
    opened = []

    def make(host, text, settings=None):
        config = tmp_path / f"ssh_config{len(opened)}"
        config.write_text(text)
        transport = SshTransport(host, connection_for(context(config), host, settings), settings)
        opened.append(transport)
        return transport

    yield make
    for transport in opened:
        transport.close()


def section(machine, known_hosts, extra=""):
    return f"""Host {machine.name}
    HostName {machine.host}
    Port {machine.port}
    User {getpass.getuser()}
    IdentityFile "{machine.user_key}"
    IdentitiesOnly yes
    GlobalKnownHostsFile /dev/null
    UserKnownHostsFile "{known_hosts}"
    {extra}
"""


@pytest.fixture
def known_hosts(tmp_path):
    return tmp_path / "known hosts"


def at_once(items, function):
    """Call a function for all items at once; give what each call returned, or the exception that it raised."""
    return parallel.gather(parallel.start(dict(enumerate(items)), function), cut=lambda: None).values()


# ---- host keys on the wire


def test_an_unknown_host_is_let_in_and_recorded(machines, to, known_hosts):
    to("m1", section(machines[0], known_hosts)).open()
    kind, text, _ = machines[0].host_key.with_suffix(".pub").read_text().split(None, 2)
    assert known_hosts.read_text() == f"[127.0.0.2]:{machines[0].port} {kind} {text}\n"


def test_a_changed_key_is_refused_before_anything_is_sent(machines, to, known_hosts):
    machine = machines[0]
    wrong = machines[1].host_key.with_suffix(".pub").read_text()
    known_hosts.write_text(f"[{machine.host}]:{machine.port} {wrong}")
    before = len(machine.log)
    transport = to("m1", section(machine, known_hosts))
    with pytest.raises(HostKeyError, match="line 1"):
        transport.open()
    assert not transport.connection.is_connected
    wait_until(
        lambda: re.search(
            "Connection from.*(disconnect|Connection (closed|reset))",
            machine.log[before:],
            re.DOTALL | re.IGNORECASE,
        )
    )
    log = machine.log[before:]
    assert "key" not in log.lower()  # neither offered nor accepted
    # The same verdict for git.
    url, environment = transport.git_remote("/nowhere")
    push = subprocess.run(
        ["git", "ls-remote", url],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "HOST IDENTIFICATION HAS CHANGED" in push.stderr
    assert "key" not in machine.log[before:].lower()


def test_an_unknown_host_is_recorded_once_by_ten_threads_at_once(machines, to, known_hosts):
    text = section(machines[0], known_hosts)
    assert set(at_once([to("m1", text) for _ in range(10)], SshTransport.open)) == {None}
    ten = [to("m1", section(machines[1], known_hosts).replace("m2", "m1")) for _ in range(10)]
    assert set(at_once(ten, SshTransport.open)) == {None}
    assert known_hosts.read_text().count("\n") == 2


def test_a_host_known_by_its_rsa_key_only_does_not_look_unknown(tmp_path, to, known_hosts):
    machine = make_sshd(tmp_path, "both", "127.0.0.2", key_types=("ed25519", "rsa"))
    machine.start()
    try:
        rsa = (machine.directory / "host_rsa.pub").read_text()
        line = f"[{machine.host}]:{machine.port} {rsa}"
        known_hosts.write_text(line)
        transport = to("both", section(machine, known_hosts))
        transport.open()
        assert transport.connection.transport.get_remote_server_key().get_name() == "ssh-rsa"
        url, environment = transport.git_remote("/nowhere")
        subprocess.run(
            ["git", "ls-remote", url], env={**os.environ, **environment}, capture_output=True, check=False
        )
        assert known_hosts.read_text() == line
        known_hosts.write_text(
            f"[{machine.host}]:{machine.port} {machine.host_key.with_suffix('.pub').read_text()}"
        )
        to("both", section(machine, known_hosts)).open()
    finally:
        machine.kill()


def test_strict_checking_refuses_an_unknown_host(machines, to, known_hosts):
    transport = to("m1", section(machines[0], known_hosts, "StrictHostKeyChecking yes"))
    with pytest.raises(HostKeyError, match="StrictHostKeyChecking"):
        transport.open()
    assert not known_hosts.exists()
    assert "-oStrictHostKeyChecking=yes" in transport.git_remote("/x")[1]["GIT_SSH_COMMAND"]


def test_a_connection_that_somebody_else_opened_is_judged_too(machines, tmp_path, known_hosts):
    config = tmp_path / "ssh_config"
    config.write_text(section(machines[0], known_hosts))
    known_hosts.write_text(
        f"[{machines[0].host}]:{machines[0].port} {machines[1].host_key.with_suffix('.pub').read_text()}"
    )
    connection = fabric.Connection("m1", config=fabric.Config(runtime_ssh_path=str(config)))
    connection.open()  # Fabric lets a changed key in
    with pytest.raises(HostKeyError):
        SshTransport("m1", connection).open()
    assert not connection.is_connected


# ---- what a connection is made of


def test_two_machines_do_not_leak_keys(machines, tmp_path):
    for name in ("one", "two"):
        shutil.copy(machines[0].user_key, tmp_path / name)
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host one\n IdentityFile {tmp_path}/one\n ProxyJump two\nHost two\n IdentityFile {tmp_path}/two\n"
    )
    c = context(config)
    fabric_c = fabric.Connection("three", config=fabric.Config(runtime_ssh_path=str(config)))
    for given in (c, fabric_c):
        one, two, again = (connection_for(given, host) for host in ("one", "two", "one"))
        assert one.connect_kwargs["key_filename"] == again.connect_kwargs["key_filename"] == [f"{tmp_path}/one"]
        assert two.connect_kwargs["key_filename"] == [f"{tmp_path}/two"]
        assert one.gateway.connect_kwargs["key_filename"] == [f"{tmp_path}/two"]
        assert one.config is not again.config
    assert "key_filename" not in fabric_c.connect_kwargs


@pytest.fixture
def without_openssh(monkeypatch):
    """A machine on which no ``ssh`` program is installed."""
    monkeypatch.setenv("PATH", "/no/such/directory")


@pytest.mark.usefixtures("without_openssh")
def test_without_an_ssh_program_the_users_configuration_is_read_all_the_same(tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host board\n HostName 10.1.2.3\n Port 2022\n User build\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    connection = connection_for(invoke.Context(), "board")
    assert (connection.host, connection.port, connection.user) == ("10.1.2.3", 2022, "build")
    assert connection.original_host == "board"
    typed = connection_for(invoke.Context(), "me@board:23")
    assert (typed.host, typed.port, typed.user) == ("10.1.2.3", 23, "me")
    assert "-F" not in ssh_connections.runtime_ssh_config(connection.config)


def test_the_connection_of_a_fab_task_is_used_itself(machines):
    config = fabric.Config(runtime_ssh_path=str(machines[0].ssh_config))
    connection = fabric.Connection("m1", config=config)
    assert connection_for(connection) is connection
    other = connection_for(connection, "m2")
    assert other.host == "127.0.0.3"
    transport = SshTransport("m1", connection)
    assert transport.run("echo hello", timeout=HANG_LIMIT).stdout.endswith(b"hello\n")
    transport.close()
    with pytest.raises(ConfigError, match="no host"):
        connection_for(invoke.Context())


@pytest.mark.parametrize("path", [None, "/no/such/directory"])
def test_many_connections_do_not_make_the_configuration_grow(machines, monkeypatch, path):
    if path:  # no ssh program there
        monkeypatch.setenv("PATH", path)
    connection = fabric.Connection("m1", config=fabric.Config(runtime_ssh_path=str(machines[0].ssh_config)))
    rules = len(connection.config.base_ssh_config._config)
    for _ in range(5):
        made = connection_for(connection, "m2")
        assert len(made.config.base_ssh_config._config) == (rules if path else 0)
        assert made.port == machines[1].port
    assert len(connection.config.base_ssh_config._config) == rules


def test_everything_has_a_time_limit_and_the_agent_stays_here(tmp_path):
    config = tmp_path / "c"
    config.write_text("Host slow\n ConnectTimeout 3\nHost *\n ForwardAgent $SSH_AUTH_SOCK\n IdentitiesOnly yes\n")
    slow, other = (connection_for(context(config), host) for host in ("slow", "other"))
    assert (slow.connect_timeout, other.connect_timeout) == (3, 10)
    for connection in (slow, other):
        assert connection.forward_agent is False
        wanted = {"banner_timeout": 10, "auth_timeout": 15, "channel_timeout": 20}
        assert wanted == {key: connection.connect_kwargs[key] for key in wanted}
        assert ssh_connections.login_of(connection).choice.only


def test_an_identity_file_that_is_not_there_is_passed_over(machines, to, known_hosts):
    extra = "IdentityFile /no/such/key\n IdentityFile none"
    to("m1", section(machines[0], known_hosts, extra)).open()


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ("/a /b", ["/a", "/b"]),
        ('"/a b"', ["/a b"]),
        ('"/a b" "/c d"', ["/a b", "/c d"]),
        ('/x "/c d"', ["/x", "/c d"]),
        ("none", []),
        ("/keys/%h-%p-%%", ["/keys/box-2222-%"]),
    ],
)
def test_known_hosts_files_are_named_as_in_ssh_config(tmp_path, value, files):
    config = tmp_path / "c"
    config.write_text(f"Host box\n Port 2222\n UserKnownHostsFile {value}\n GlobalKnownHostsFile none\n")
    policy = ssh_connections.policy_of(connection_for(context(config), "box"))
    assert list(policy.options.user_files) == files
    assert policy.options.system_files == ()


@pytest.mark.usefixtures("without_openssh")
def test_include_is_warned_about_once_and_only_where_it_names_something(tmp_path, caplog):
    config = tmp_path / "c"
    config.write_text(f"Include {tmp_path}/more*\nHost x\n")
    with caplog.at_level(logging.WARNING):
        connection_for(context(config), "x")
        assert not caplog.records
        (tmp_path / "more.conf").write_text("Host y\n")
        connection_for(context(config), "x")
        connection_for(context(config), "x")
    assert [str(config) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("text", [None, "Port many\n", "nonsense\n"])
def test_an_ssh_configuration_that_cannot_be_used_is_named(tmp_path, text):
    config = tmp_path / "c"
    if text is not None:
        config.write_text(text)
    with pytest.raises(ConfigError, match=r"ssh configuration") as caught:
        connection_for(context(config), "x")
    assert "\n" not in str(caught.value)


# ---- what the ssh configuration makes of a host


@pytest.mark.parametrize("line", ["HostName -oProxyCommand=x", "User -oProxyCommand=x"])
def test_the_ssh_configuration_cannot_smuggle_an_option_in(tmp_path, line):
    config = tmp_path / "c"
    config.write_text(f"Host x\n {line}\n")
    with pytest.raises(ConfigError):
        connection_for(context(config), "x")


def test_a_name_that_fab_was_given_is_no_option_either():
    with pytest.raises(ConfigError):
        connection_for(
            fabric.Connection("-oProxyCommand=x", config=fabric.Config(overrides={"load_ssh_configs": False}))
        )


# ---- machines that cannot be reached


def refused(transport):
    with pytest.raises(ConnectError) as caught:
        transport.open()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def patient(monkeypatch):
    """Whoever does not say how long a machine is waited for waits longer than any test."""
    monkeypatch.setattr(ConnectSettings.__init__, "__defaults__", (ENDLESS,) * 5)


def test_a_dead_host_is_refused_quickly(machines, to, known_hosts, patient):
    machine = machines[1]
    machine.kill()
    text = refused(to("m2", section(machine, known_hosts)))
    assert f"{machine.host}:{machine.port} refused the connection" in text


def test_a_host_that_takes_tcp_and_never_speaks_times_out(to, patient):
    with socket.create_server(("127.0.0.2", 0)) as silent:
        port = silent.getsockname()[1]
        text = refused(to(f"127.0.0.2:{port}", "", QUICK))
    assert f"127.0.0.2:{port} takes connections but does not speak SSH" in text


def test_a_host_that_hangs_up_is_told_apart(to, patient):
    with socket.create_server(("127.0.0.2", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())  # noqa: PLW0108
        thread.start()
        text = refused(to(f"127.0.0.2:{server.getsockname()[1]}", "", QUICK))
        thread.join()
    assert "127.0.0.2" in text


def test_a_frozen_sshd_times_out(machines, to, known_hosts, patient):
    machines[2].freeze()
    text = refused(to("m3", section(machines[2], known_hosts), QUICK))
    assert "does not speak SSH" in text


def test_an_unknown_name_is_named(to):
    text = refused(to("no-such-machine.invalid", ""))
    assert "no-such-machine.invalid" in text
    assert "HostName" in text or "looked up" in text


def test_a_refused_login_counts_keys_and_tells_no_paths(machines, to, known_hosts, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    text = section(machines[0], known_hosts).replace(str(machines[0].user_key), str(tmp_path / "other"))
    message = refused(to("m1", text))
    assert "refused the login of" in message
    assert "1 key file)" in message
    assert str(tmp_path / "other") not in message


def test_a_refused_login_gives_the_command_that_logs_in_to_the_same_place(machines, to, known_hosts, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    rest = section(machines[0], known_hosts).replace(str(machines[0].user_key), str(tmp_path / "other"))
    bare = re.sub("HostName.*|Port.*|User .*", "", rest.replace("Host m1", "Host 127.*"))
    for typed, text in (("m1", rest), (f"nobody@{machines[0].host}:{machines[0].port}", bare)):
        transport = to(typed, text)
        message = refused(transport)
        command = shlex.split(re.search("try `(ssh .*?)`", message)[1])
        told = subprocess.run([command[0], "-G", *command[1:]], check=True, capture_output=True, text=True).stdout
        where = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
        connection = transport.connection
        assert (where["hostname"], int(where["port"]), where["user"]) == (
            connection.host,
            connection.port,
            connection.user,
        )
        assert "-p" not in command or typed != "m1"


def test_the_command_for_a_machine_names_gateways_that_only_we_know():
    config = fabric.Config(lazy=True)
    config.load_ssh_configs = False
    first = fabric.Connection("edge", user="me", port=2200, config=config)
    inner = fabric.Connection("inner", user="us", port=22, config=config, gateway=first)
    target = fabric.Connection("target", user="nobody", config=config, gateway=inner)
    assert ssh_connections.shell_command(target) == "ssh -F none -J me@edge:2200,us@inner:22 nobody@target"
    target = fabric.Connection("target", user="nobody", config=config, gateway="nc %h %p")
    assert ssh_connections.shell_command(target) == "ssh -F none '-oProxyCommand=nc %h %p' nobody@target"


def test_a_login_can_be_called_off_from_another_thread(to, patient):
    with socket.create_server(("127.0.0.2", 0)) as silent:
        transport = to(f"127.0.0.2:{silent.getsockname()[1]}", "")
        caller = threading.Thread(target=lambda: (silent.accept(), time.sleep(0.2), transport.close()))
        caller.start()
        text = refused(transport)
        caller.join()
    assert "closed" in text


# ---- gateways


def test_a_machine_behind_a_gateway_is_reached_and_both_keys_are_recorded(machines, to, known_hosts):
    text = section(machines[0], known_hosts) + section(machines[1], known_hosts, "ProxyJump m1")
    transport = to("m2", text)
    before = len(machines[0].log)
    assert transport.run("echo $SSH_CONNECTION", timeout=HANG_LIMIT).stdout.split()[2:] == [
        b"127.0.0.3",
        str(machines[1].port).encode(),
    ]
    assert "Accepted publickey" in machines[0].log[before:]
    assert known_hosts.read_text().count("\n") == 2
    transport.close()
    assert not transport.connection.gateway.is_connected


def test_several_gateways_are_visited_in_order(machines, to, known_hosts):
    text = "".join(section(machine, known_hosts) for machine in machines[:2])
    text += section(machines[2], known_hosts, "ProxyJump m1,m2")
    transport = to("m3", text)
    assert transport.connection.gateway.original_host == "m2"
    assert transport.connection.gateway.gateway.original_host == "m1"
    assert transport.run("echo hi", timeout=HANG_LIMIT).stdout == b"hi\n"


def test_git_goes_through_the_gateway_under_the_same_policy(machines, to, known_hosts, tmp_path):
    text = section(machines[0], known_hosts) + section(machines[1], known_hosts, "ProxyJump m1")
    repo = tmp_path / "bare repo"
    subprocess.run(["git", "init", "-q", "--bare", repo], check=True)
    url, environment = to("m2", text).git_remote(str(repo))
    listed = subprocess.run(
        ["git", "ls-remote", url],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert known_hosts.read_text().count("\n") == 2  # unknown both of them, and nobody was asked


def test_a_proxy_command_is_a_way_too_also_for_git(machines, to, known_hosts, tmp_path):
    config = tmp_path / "for_the_proxy"
    config.write_text(section(machines[0], known_hosts))
    proxy = f"ProxyCommand ssh -F {config} -oStrictHostKeyChecking=accept-new -W %h:%p m1"
    transport = to("m2", section(machines[1], known_hosts, proxy))
    assert transport.run("echo hi", timeout=HANG_LIMIT).stdout == b"hi\n"
    transport.close()
    url, environment = transport.git_remote(str(tmp_path / "none.git"))
    listed = subprocess.run(
        ["git", "ls-remote", url], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert "none.git" in listed.stderr  # said by git there
    assert known_hosts.read_text().count("\n") == 2


def test_a_changed_key_of_the_gateway_is_refused(machines, to, known_hosts):
    known_hosts.write_text(
        f"[{machines[0].host}]:{machines[0].port} {machines[2].host_key.with_suffix('.pub').read_text()}"
    )
    text = section(machines[0], known_hosts) + section(machines[1], known_hosts, "ProxyJump m1")
    with pytest.raises(HostKeyError, match=f"127.0.0.2:{machines[0].port} has changed"):
        to("m2", text).open()


def test_proxyjump_none_is_no_host(machines, to, known_hosts, tmp_path):
    text = section(machines[0], known_hosts, "ProxyJump none") + "Host *\n ProxyJump m2\n"
    to("m1", text).open()
    config = tmp_path / "ssh_config_fab"
    config.write_text(text)
    connection = fabric.Connection("m1", config=fabric.Config(runtime_ssh_path=str(config)))
    transport = SshTransport("m1", connection_for(connection))
    transport.open()
    transport.close()


def test_a_gateway_that_a_wildcard_gives_to_itself_is_reached_directly(machines, to, known_hosts):
    text = "".join(section(machine, known_hosts) for machine in machines[:2]) + "Host *\n ProxyJump m1\n"
    assert not to("m1", text).connection.gateway
    assert to("m2", text).run("echo hi", timeout=HANG_LIMIT).stdout == b"hi\n"


def test_a_machine_that_its_gateway_does_not_reach_is_named_with_it(machines, to, known_hosts):
    machines[1].kill()
    text = section(machines[0], known_hosts) + section(machines[1], known_hosts, "ProxyJump m1")
    message = refused(to("m2", text))
    assert f"the gateway does not reach 127.0.0.3:{machines[1].port}" in message
    assert f"through 127.0.0.2:{machines[0].port}" in message


def test_closing_ends_a_connection_in_any_state(to):
    transport = to("127.0.0.2:1", "")
    transport.close()
    ssh_login.close_connection(transport.connection)
    transport.close()


def test_a_key_on_record_is_base64_of_what_the_server_showed(machines, to, known_hosts):
    transport = to("m1", section(machines[0], known_hosts))
    transport.open()
    shown = transport.connection.transport.get_remote_server_key().asbytes()
    assert base64.b64decode(known_hosts.read_text().split()[2]) == shown
