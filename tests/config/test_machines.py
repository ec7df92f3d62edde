"""What a host may look like: one definition for machines.yaml, --hosts and connections."""

import invoke
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.config.machines import HostText, Machines, address, split_host
from fabbuild.config.select_machines import select
from fabbuild.errors import ConfigError
from fabbuild.machines.transport.ssh_connections import connection_for

HOSTS = {
    "a": HostText("a"),
    "a.b-c_d": HostText("a.b-c_d"),
    "me@a": HostText("a", "me"),
    "me@box.lab:2222": HostText("box.lab", "me", 2222),
    "a:65535": HostText("a", None, 65535),
    "10.0.0.1:22": HostText("10.0.0.1", None, 22),
    "::1": HostText("::1"),
    "[::1]": HostText("::1"),
    "fe80::1%eth0": HostText("fe80::1%eth0"),
    "[::1]:22": HostText("::1", None, 22),
    "me@[fe80::1%eth0]:2": HostText("fe80::1%eth0", "me", 2),
    # ssh takes brackets around any name.
    "[box]:22": HostText("box", None, 22),
    "DOM.user@a": HostText("a", "DOM.user"),
    "DOM\\user@a": HostText("a", "DOM\\user"),
    "me@dom.ain@a": HostText("a", "me@dom.ain"),
}

NO_HOSTS = [
    "",
    " ",
    "-a",
    "me@-a",
    "-x@a",
    "-oProxyCommand=touch${IFS}x",
    "me@-oProxyCommand=x",
    "box:22:23x y",
    "[]:22",
    "a%b",
    "@a",
    "me@",
    "a:",
    "a:0",
    "a:65536",
    "a:x",
    "a:-1",
    "a: 22",
    "a b",
    "a\n",
    "a;b",
    "a\tb",
    "$(id)",
    "a/b",
    "[::1",
    "::1]",
    "[::1]22",
    "[::1]:",
    "a\x00",
    "a\x1b",
    "é",
    "a:٣",
    "a,b",
    "a" * 300,
    "`id`",
]


@pytest.fixture
def connect(tmp_path):
    """Give a Connection to a host, as a task gets it, with an empty ssh configuration."""
    (tmp_path / "ssh_config").touch()
    config = invoke.Config(overrides={"fabbuild": {"ssh_config": str(tmp_path / "ssh_config")}})
    return lambda host: connection_for(invoke.Context(config), host)


@pytest.mark.parametrize(("text", "parts"), HOSTS.items())
def test_a_host_is_taken_apart_in_one_way_by_all(load, connect, text, parts):
    assert split_host(text) == parts
    (machine,) = load(yaml.safe_dump({"machines": {"m": {"host": text}}})).machines.values()
    assert machine.host == text
    assert [one.host for one in select(Machines(), "", text)] == [text]
    made = connect(text)
    assert (made.original_host, made.port) == (parts.host, parts.port or 22)
    assert parts.user in (None, made.user)


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host_is_one_for_nobody(load, connect, text):
    words = r"is not a host; it must be \[user@\]name\[:port\]"
    with pytest.raises(ConfigError, match=words) as caught:
        split_host(text)
    assert str(caught.value).isprintable()
    with pytest.raises(ConfigError, match=words):
        load(yaml.safe_dump({"machines": {"m": {"host": text}}}))
    with pytest.raises(ConfigError, match=words):
        connect(text)


@given(st.text(alphabet="ab1.-_:@[]%$+/ é\n\\", max_size=12))
def test_a_host_has_no_part_that_ssh_or_a_shell_would_take_for_something_else(text):
    try:
        parts = split_host(text)
    except ConfigError:
        return
    for part in (parts.host, parts.user or "user"):
        assert part.isprintable()
        assert not part.startswith("-")
        assert not set(part) & set(" /[]")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "A:22", True),
        ("a", "a.", True),
        ("a:022", "a", True),
        ("[::1]:22", "::1", True),
        ("me@a", "a", False),
        ("a", "a:23", False),
    ],
)
def test_an_address_is_the_same_however_it_is_written(one, other, same):
    assert (address(one) == address(other)) is same
