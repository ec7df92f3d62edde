"""Which machines are chosen, and from which file."""

import pytest

from fabbuild.config.machines import Machine, Machines, machine_of_host
from fabbuild.config.machines_file import load_machines
from fabbuild.config.select_machines import entry_for, find_machines_file, open_machines, select
from fabbuild.errors import ConfigError

# --- finding the file ---


def test_file_is_found_in_its_three_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    with pytest.raises(ConfigError) as caught:
        find_machines_file(None, cwd)
    words = str(caught.value)
    for place in ("--machines-file", f"{cwd}/machines.yaml", f"{tmp_path}/config/fabbuild/machines.yaml"):
        assert place in words
    example_file = tmp_path / "example.yaml"
    example_file.write_text(words.partition("write into one of them: ")[2])
    assert select(load_machines(example_file), "", "")[0].local
    user = tmp_path / "config/fabbuild/machines.yaml"
    user.parent.mkdir(parents=True)
    user.touch()
    assert find_machines_file("", cwd) == user
    here = cwd / "machines.yaml"
    here.touch()
    assert find_machines_file(None, cwd) == here
    other = cwd / "other.yaml"
    other.touch()
    assert find_machines_file("other.yaml", cwd) == other
    assert find_machines_file(str(other), tmp_path) == other


@pytest.mark.parametrize("option", ["none.yaml", "~nobody-of-that-name/x", "a\0b"])
def test_asked_for_file_is_not_there(tmp_path, option):
    tmp_path.joinpath("machines.yaml").touch()
    with pytest.raises(ConfigError, match="--machines-file: ") as caught:
        find_machines_file(option, tmp_path)
    assert str(caught.value).isprintable()


def test_a_dangling_link_is_not_passed_over(tmp_path):
    tmp_path.joinpath("machines.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        open_machines(None, tmp_path)


def test_hosts_need_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    machines = open_machines(None, tmp_path, hosts="a,b")
    assert machines == Machines.empty()
    assert [machine.host for machine in select(machines, "", "a,b")] == ["a", "b"]
    with pytest.raises(ConfigError, match="there is no list of machines"):
        open_machines(None, tmp_path)
    with pytest.raises(ConfigError, match="--machines-file"):
        open_machines("x.yaml", tmp_path, hosts="a")


# --- choosing ---


@pytest.fixture
def fleet(load):
    return load(
        "machines:\n  here: {connection: local}\n  ruru: {host: ruru, groups: [birds, fast]}\n"
        "  kea: {host: me@kea, groups: [birds]}\n  moa: {host: moa, enabled: false, groups: [birds, gone]}\n"
        "defaults: {threads: 3, work_dir: ~/w, groups: [common]}\n"
    )


@pytest.mark.parametrize(
    ("names", "hosts", "chosen"),
    [
        ("", "", ["here", "ruru", "kea"]),
        ("all", "", ["here", "ruru", "kea"]),
        ("kea,here", "", ["here", "kea"]),
        ("kea  here,", "", ["here", "kea"]),
        ("birds", "", ["ruru", "kea"]),
        ("birds,ruru,fast", "", ["ruru", "kea"]),
        ("common", "", ["here"]),
        ("", "x, me@y:2200", ["x", "me@y:2200"]),
        ("fast", "x", ["ruru", "x"]),
        ("all", "x", ["here", "ruru", "kea", "x"]),
        ("", "kea", ["kea"]),
    ],
)
def test_select(fleet, names, hosts, chosen):
    assert [machine.name for machine in select(fleet, names, hosts)] == chosen


def test_hosts_in_no_file_have_the_defaults(fleet):
    assert select(fleet, "", "x:22") == [Machine("x:22", host="x:22", threads=3, work_dir="~/w")]
    assert machine_of_host("me@x") == Machine("me@x", host="me@x")


def test_no_local(fleet):
    assert [machine.name for machine in select(fleet, "", "", no_local=True)] == ["ruru", "kea"]
    with pytest.raises(ConfigError, match="no machine is left to work on: --no-local leaves out the only ones"):
        select(fleet, "here", "", no_local=True)


@pytest.mark.parametrize(
    ("names", "hosts", "words"),
    [
        ("rurru", "", 'no machine and no group is named "rurru"; did you mean ruru'),
        (
            "zzz,here,yyy",
            "",
            'is named "zzz", "yyy"; there are: all, birds, common, fast, gone, here, kea, moa, ruru',
        ),
        ("moa", "", ":5: machines.moa is disabled; remove its enabled: false, or do not name it"),
        ("gone", "", "no machine is left to work on: all that were asked for are disabled"),
        ("a\x1b", "", r'is named "a\x1b"'),
        ("", "-oProxyCommand=x", '--hosts: "-oProxyCommand=x" is not a host'),
        ("", "x,y,X:22", "--hosts: x and X:22 are the same address; name it once"),
        ("", "ruru", "has ruru as ruru: use --machines ruru"),
    ],
)
def test_select_refuses(fleet, names, hosts, words):
    with pytest.raises(ConfigError) as caught:
        select(fleet, names, hosts)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_nothing_to_select_from():
    with pytest.raises(ConfigError, match="no machine is left to work on: there is none"):
        select(Machines.empty(), "", "")


def test_a_connection_has_the_entry_of_its_name_or_of_its_host():
    hosts = {"kea": "10.0.0.5", "two": "lab:2222", "three": "lab", "me": "bob@ruru"}
    machines = Machines(
        {name: Machine(name, host=host) for name, host in hosts.items()} | {"here": Machine("here", local=True)}
    )

    def name(host, user="u", port=22):
        found = entry_for(machines, host, user, port)
        return found and found.name

    assert name("kea") == name("10.0.0.5") == "kea"
    assert (name("lab", port=2222), name("LAB"), name("lab", port=99)) == ("two", "three", "three")
    assert (name("ruru"), name("ruru", user="bob")) == (None, "me")
    assert name("here") is None, "no host is meant by it"
    assert name("other") is None
