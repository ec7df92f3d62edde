"""What `ssh -G` says of a host is what a connection is made of, and keys are offered as ssh offers them."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess

import fabric
import invoke
import pytest

from fabbuild import parallel
from fabbuild.errors import ConfigError, ConnectError
from fabbuild.machines.transport import ssh_connections, ssh_options
from fabbuild.machines.transport.ssh import SshTransport
from fabbuild.machines.transport.ssh_connections import connection_for
from fabbuild.machines.transport.ssh_options import OpenSSHConfig
from tests.support.census import HANG_LIMIT


def by_configuration(tmp_path, transport_to):
    """Give a function that makes a transport to a host by the text of an ssh configuration; close them afterwards."""
    opened = []

    def make(host, text):
        config = tmp_path / f"ssh_config{len(opened)}"
        config.write_text(text)
        opened.append(transport_to(host, str(config)))
        return opened[-1]

    yield make
    for transport in opened:
        transport.close()


@pytest.fixture
def to(tmp_path):
    """Gives an SshTransport to a host by the text of an ssh configuration; closes it afterwards."""

    def transport(host, config):
        c = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": config}}))
        return SshTransport(host, connection_for(c, host))

    yield from by_configuration(tmp_path, transport)


def section(machine, tmp_path, *lines, key=True):
    identity = [f'IdentityFile "{machine.user_key}"', "IdentitiesOnly yes"] if key else []
    return (
        "\n ".join(
            [
                f"Host {machine.name}",
                f"HostName {machine.host}",
                f"Port {machine.port}",
                f"User {getpass.getuser()}",
                f"UserKnownHostsFile {tmp_path}/known",
                "GlobalKnownHostsFile none",
                *identity,
                *lines,
            ]
        )
        + "\n"
    )


def works(transport):
    """Whether the machine is reached by the Connection, and by git's ssh, too."""
    assert transport.run("echo hello", timeout=HANG_LIMIT).stdout == b"hello\n"
    url, environment = transport.git_remote("/no/such/repository")
    listed = subprocess.run(
        ["git", "ls-remote", url], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return "/no/such/repository" in listed.stderr  # said by git there


# ---- what is configured


def test_a_host_in_an_included_file_is_found(machines, to, tmp_path):
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "lab").write_text(section(machines[0], tmp_path))
    assert works(to("m1", f"Include {tmp_path}/config.d/*\n"))


def test_match_final_is_followed_and_does_not_end_a_task(machines, to, tmp_path):
    text = section(machines[0], tmp_path).replace(f" Port {machines[0].port}\n", "")
    assert works(to("m1", f"{text}Match final all\n Port {machines[0].port}\n"))


def test_a_match_that_is_not_met_leaves_its_host_alone(machines, to, tmp_path):
    marks = tmp_path / "marks"
    text = section(machines[0], tmp_path)
    text += f'Match !host 127.0.0.2 exec "echo x >>{marks}"\n ProxyJump nosuch\n'
    transport = to("m1", text)
    assert transport.connection.gateway is False
    assert works(transport)
    assert not marks.exists(), "a command was run for a Match that was decided before"


def test_the_command_of_a_match_is_run_once_however_many_ask(machines, tmp_path):
    marks = tmp_path / "marks"
    config = tmp_path / "config"
    config.write_text(section(machines[0], tmp_path) + f'Match exec "echo x >>{marks}"\n ConnectTimeout 7\n')
    c = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": str(config)}}))
    made = parallel.gather(
        parallel.start(dict(enumerate(range(8))), lambda _: connection_for(c, "m1")), cut=lambda: None
    )
    assert {connection.connect_timeout for connection in made.values()} == {7}
    assert marks.read_text() == "x\n"


def test_a_configuration_that_was_written_anew_is_read_anew(tmp_path):
    config = tmp_path / "config"
    for name in ("one.example", "another.example"):
        config.write_text(f"Host m1\n HostName {name}\n")
        assert OpenSSHConfig(("-F", str(config))).lookup("m1")["hostname"] == name


def test_a_user_and_a_port_that_were_typed_count_for_match_and_tokens(tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "Match user alice\n HostName for-alice\nHost box\n ProxyCommand relay %r@%h:%p\n IdentityFile /keys/%r-%n\n"
    )
    c = invoke.Context(invoke.Config(overrides={"fabbuild": {"ssh_config": str(config)}}))
    connection = connection_for(c, "alice@box:2022")
    assert (connection.host, connection.user, connection.port) == ("for-alice", "alice", 2022)
    assert connection.gateway == "relay alice@for-alice:2022"
    assert ssh_connections.login_of(connection).choice.files == ("/keys/alice-box",)


def test_the_user_and_port_of_fabrics_own_configuration_hold_where_ssh_has_none(tmp_path):
    config = tmp_path / "config"
    config.write_text("Host named\n User bob\n Port 23\n")
    base = fabric.Config(overrides={"user": "carol", "port": 2222}, runtime_ssh_path=str(config))
    named, other = (connection_for(fabric.Connection("x", config=base), host) for host in ("named", "other"))
    assert (named.user, named.port) == ("bob", 23)
    assert (other.user, other.port) == ("carol", 2222)


def test_the_connection_that_fab_made_gets_what_ssh_says_and_keeps_what_was_typed(machines, tmp_path):
    (tmp_path / "more").write_text(section(machines[0], tmp_path) + section(machines[1], tmp_path, "ProxyJump m1"))
    config = tmp_path / "config"
    config.write_text(f"Include {tmp_path}/more\n")
    base = fabric.Config(runtime_ssh_path=str(config))
    connection = fabric.Connection("m2", config=base)
    transport = SshTransport("m2", connection_for(connection))
    assert transport.connection is connection
    assert connection.gateway.host == machines[0].host
    assert works(transport)
    transport.close()
    typed = connection_for(fabric.Connection("nobody@m2:99", config=base))
    assert (typed.host, typed.user, typed.port) == (machines[1].host, "nobody", 99)


def test_known_hosts_files_with_blanks_in_their_names_are_told_apart(tmp_path):
    config = tmp_path / "config"
    config.write_text('Host box\n UserKnownHostsFile "/a b" /c "/d e f"\n')
    assert OpenSSHConfig(("-F", str(config))).lookup("box")["userknownhostsfile"] == ["/a b", "/c", "/d e f"]


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "-Fx", "a b", ""])
def test_a_host_name_is_never_read_as_an_option(host):
    with pytest.raises(ConfigError):
        OpenSSHConfig().lookup(host)
    with pytest.raises(ConfigError):
        ssh_options.login_arguments(host, None, None)


def test_a_match_command_that_never_ends_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh_options, "LIMIT", 0.2)
    config = tmp_path / "config"
    config.write_text('Match exec "sleep 600"\n Port 3\n')
    with pytest.raises(ConfigError, match="ssh -G box"):
        OpenSSHConfig(("-F", str(config))).lookup("box")


# ---- keys


def test_a_public_key_file_chooses_a_key_of_the_agent(machines, to, tmp_path, agent, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    agent.add(machines[0].user_key)
    public = shutil.copy(machines[0].user_key.with_suffix(".pub"), tmp_path / "id.pub")
    lines = (f"IdentityFile {public}", "IdentitiesOnly yes")
    assert works(to("m1", section(machines[0], tmp_path, *lines, key=False)))


def test_the_agent_that_the_configuration_names_is_used(machines, to, tmp_path, agent, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    agent.add(machines[0].user_key)
    text = section(machines[0], tmp_path, f"IdentityAgent {agent.socket}", "IdentityFile none", key=False)
    assert works(to("m1", text))


@pytest.mark.parametrize("only", ["yes", "no"])
def test_a_key_that_is_named_goes_before_eight_wrong_ones_of_the_agent(
    machines,
    to,
    tmp_path,
    agent,
    monkeypatch,
    only,
):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    agent.add_wrong(8)
    agent.add(machines[0].user_key)
    # A private key without the public part beside it: what it belongs to is read from itself.
    key = shutil.copy(machines[0].user_key, tmp_path / "named")
    lines = (f"IdentityFile {key}", f"IdentitiesOnly {only}")
    before = len(machines[0].log)
    assert works(to("m1", section(machines[0], tmp_path, *lines, key=False)))
    assert "Failed publickey" not in machines[0].log[before:]


def test_a_server_that_gives_up_after_many_keys_is_told_apart(machines, to, tmp_path, agent, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    agent.add_wrong(8)
    transport = to("m1", section(machines[0], tmp_path, "IdentityFile none", key=False))
    with pytest.raises(ConnectError, match=r"keys of the agent.*too many keys.*IdentitiesOnly yes"):
        transport.open()


def test_an_agent_that_is_not_there_or_only_listens_is_passed_over(machines, to, tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    text = section(machines[0], tmp_path, f'IdentityFile "{machines[0].user_key}"', key=False)
    assert works(to("m1", text))


def test_a_locked_key_is_told_and_a_passphrase_unlocks_it(machines, to, tmp_path):
    locked = shutil.copy(machines[0].user_key, tmp_path / "locked")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked], check=True)
    text = section(machines[0], tmp_path, f"IdentityFile {locked}", "IdentityAgent none", key=False)
    with pytest.raises(ConnectError, match="passphrase"):
        to("m1", text).open()
    (tmp_path / "config").write_text(text)
    base = fabric.Config(
        runtime_ssh_path=str(tmp_path / "config"), overrides={"connect_kwargs": {"passphrase": "secret"}}
    )
    transport = SshTransport("m1", connection_for(fabric.Connection("m1", config=base)))
    transport.open()
    transport.close()
