"""machines.yaml and options: what is taken, and that every mistake is named by its place."""

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fabbuild.config import yaml_lines
from fabbuild.config.select_machines import (
    BuildSettings,
    Fit,
    Machine,
    Machines,
    ToolchainSearch,
    find_machines_file,
    load_machines,
    machine_of_host,
    merge,
    open_machines,
    parse_host,
    select,
)
from fabbuild.config.settings import OPTIONS, check_option
from fabbuild.errors import ConfigError
from fabbuild.machines.transport.ssh_connections import split_host
from fabbuild.protocol.settings import SETTINGS

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def load(tmp_path):
    """Write a file and load it."""

    def write(text):
        path = tmp_path / "machines.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_machines(path)

    return write


@pytest.fixture
def mistake(load, tmp_path):
    """Give the line and the words of the mistake in a text; line 0 when none is named."""

    def find(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        words = str(caught.value)
        assert words.startswith(f"{tmp_path}/machines.yaml:")
        assert words.split("; to begin with", maxsplit=1)[0].isprintable()
        rest = words[len(f"{tmp_path}/machines.yaml:") :]
        line, colon, below = rest.partition(": ")
        return (int(line), below) if colon and line.isdigit() else (0, rest.strip())

    return find


def local(text):
    """Put keys below the one machine; they begin on line 4."""
    return f"machines:\n  here:\n    connection: local\n    {text}\n"


# --- what is taken ---


def test_the_projects_own_file():
    machines = load_machines(PROJECT / "machines.yaml")
    assert [(m.name, m.local, m.enabled) for m in machines.machines.values()] == [("local", True, True)]
    assert machines.fit == Fit()


def test_the_examples_of_the_projects_own_file(load):
    text = PROJECT.joinpath("machines.yaml").read_text()
    machines = load(re.sub(r"(?m)^( *)#(?! [A-Za-z`])", r"\1", text))
    assert list(machines.machines) == ["local", "ruru", "kea"]
    assert {
        key for key, value in dataclasses.asdict(machines.machines["kea"]).items() if value not in ("", None)
    } == {field.name for field in dataclasses.fields(Machine)}
    assert machines.fit == Fit()
    assert machines.toolchains.paths
    assert machines.build["reproducible"] is True


def test_everything_at_once(load, tmp_path):
    machines = load(
        """
machines:
  ruru: {host: "me@ruru.example:2222", threads: 8, max_boards: 4, work_dir: /srv/two words, groups: [fast, all-arm],
         toolchains: {arm: arm-none-eabi-}, env: {A: x, N: 010}, worker_command: "nice python3 w", enabled: false}
  here:
    connection: local
    threads: 3
defaults:
  threads: 2
  toolchains: {arm: arm-x-, aarch64: /opt/bin/aarch64-gcc}
  env: {A: a, B: b}
  groups: [everywhere]
toolchains: {prefixes: {riscv64: riscv64-linux-gnu-}, paths: [/opt/gcc, ~/gcc]}
fit: {max_load_per_cpu: 2, min_mem_mb: 0}
build: {boards: [arm, riscv], count: 3, no_lto: true, wait: 60, toolchain: {sandbox: ""}, branch: ""}
"""
    )
    assert machines == Machines(
        machines={
            "ruru": Machine(
                "ruru",
                host="me@ruru.example:2222",
                threads=8,
                max_boards=4,
                work_dir="/srv/two words",
                toolchains={"arm": "arm-none-eabi-", "aarch64": "/opt/bin/aarch64-gcc"},
                env={"A": "x", "B": "b", "N": "010"},
                groups=("fast", "all-arm"),
                enabled=False,
                worker_command="nice python3 w",
            ),
            "here": Machine(
                "here",
                local=True,
                threads=3,
                toolchains={"arm": "arm-x-", "aarch64": "/opt/bin/aarch64-gcc"},
                env={"A": "a", "B": "b"},
                groups=("everywhere",),
            ),
        },
        toolchains=ToolchainSearch({"riscv64": "riscv64-linux-gnu-"}, ("/opt/gcc", "~/gcc")),
        fit=Fit(2.0, 0, 1000),
        build={"boards": "arm,riscv", "count": 3, "no_lto": True, "wait": 60.0, "toolchain": ("sandbox=",)},
        path=tmp_path / "machines.yaml",
        template=Machine(
            "",
            threads=2,
            toolchains={"arm": "arm-x-", "aarch64": "/opt/bin/aarch64-gcc"},
            env={"A": "a", "B": "b"},
            groups=("everywhere",),
        ),
    )
    assert [machine.line for machine in machines.machines.values()] == [3, 5]


def test_anchors_and_merge_keys_are_plain_yaml(load):
    machines = load(
        "machines:\n  a: &a {host: a, threads: 2, env: {X: '1'}}\n  b: {<<: *a, host: b}\n"
        "  c: {<<: [*a, {max_boards: 3}], host: c, threads: 4}\n"
    ).machines
    assert (machines["b"].threads, machines["b"].host, machines["b"].env) == (2, "b", {"X": "1"})
    assert (machines["c"].threads, machines["c"].max_boards) == (4, 3)


def test_byte_order_mark_and_crlf(load):
    assert load(b"\xef\xbb\xbfmachines:\r\n  a:\r\n    host: a\r\n").machines["a"].line == 2


def test_local_machines_with_a_work_dir_each(load):
    assert (
        len(
            load(
                "machines:\n  a: {connection: local, work_dir: /a}\n  b: {connection: local, work_dir: /b}\n"
            ).machines
        )
        == 2
    )


# --- mistakes ---


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 0, "is empty; to begin with"),
        ("# only\n---\n", 0, "is empty"),
        ("# only\n", 0, "is empty"),
        ("- a\n", 1, "the file is a list; it must be a mapping with the key machines"),
        ("machines\n", 1, 'the file is the text "machines"'),
        ("machines:\n", 1, "there are no machines; to begin with, write"),
        ("fit: {}\n", 1, "there are no machines"),
        ("machines: [a]\n", 1, "machines is a list; it must be a mapping"),
        ("machines:\n  a: b\n", 2, 'machines.a is the text "b"; it must be a mapping'),
        ("machines:\n\ta:\n", 2, "begins with a tab; YAML is indented by spaces only"),
        ("machines:\n  a:\n  \thost: a\n", 3, "begins with a tab"),
        ("machines: {a: {host: a}\n", 2, "is not YAML: expected ',' or '}'"),
        ("machines: {a: {host: a}}\n---\nx: y\n", 2, "is not YAML: but found another document"),
        ("machines: {a: {host: *x}}\n", 1, "is not YAML: found undefined alias"),
        (b"machines:\n  a: {host: caf\xe9}\n", 2, "is not UTF-8: byte 0xe9; save it as UTF-8"),
        ("machines:\n  a: {host: a\x07b}\n", 2, "the character '\\x07' is not allowed in YAML"),
        ("machines:\n  a: !!python/object/apply:os.system [id]\n", 2, "the tag"),
        (
            "machines:\n  a: {host: !!python/name:os.system x}\n",
            2,
            "is not YAML: could not determine a constructor",
        ),
        ("machines: !!set {a}\n", 1, "machines: the tag"),
        ("machines:\n  a: {host: a, threads: 2024-13-45}\n", 2, 'machines.a.threads: "2024-13-45" is no value'),
        (
            "machine:\n  a: {host: a}\n",
            1,
            'unknown key "machine" at the top; did you mean machines?; known here are build,',
        ),
        (
            "machines:\n  a:\n    host: a\n    thread: 3\n",
            4,
            'unknown key "thread" in machines.a; did you mean threads?',
        ),
        (local("max-boards: 3"), 4, "did you mean max_boards?"),
        (local("zzz: 3"), 4, "known here are connection, enabled, env,"),
        (
            "machines:\n  a: {host: a}\n  b: {host: b}\n  a: {host: c}\n",
            4,
            "machines.a stands there twice (first on line 2)",
        ),
        (local("threads: 1\n    threads: 2"), 5, "machines.here.threads stands there twice (first on line 4)"),
        ("machines:\n  a: {host: a}\nfit: {}\nmachines:\n", 4, "machines stands there twice (first on line 1)"),
        ("machines:\n  no: {host: a}\n", 2, "the key no is false (written no); a key is text: write it in quotes"),
        ("machines:\n  12: {host: a}\n", 2, "the key 12 is the number 12"),
        ("machines:\n  [a]: {host: a}\n", 2, "machines: a key must be text"),
        ("machines:\n  a/b: {host: a}\n", 2, '"a/b" cannot be a machine\'s name'),
        ("machines:\n  -a: {host: a}\n", 2, '"-a" cannot be'),
        ("machines:\n  ..: {host: a}\n", 2, '".." cannot be'),
        ('machines:\n  "a\\eb": {host: a}\n', 2, r'"a\x1bb" cannot be'),
        ('machines:\n  "a,b": {host: a}\n', 2, '"a,b" cannot be'),
        ("machines:\n  a b: {host: a}\n", 2, '"a b" cannot be'),
        ('machines:\n  "": {host: a}\n', 2, '"" cannot be'),
        ("machines:\n  all: {host: a}\n", 2, '"all" cannot be a machine\'s name (all means every machine)'),
        ("machines:\n  a: {host: a, connection: local}\n", 2, "machines.a has both host and connection"),
        ("machines:\n  a: {threads: 3}\n", 2, "machines.a has neither host nor connection"),
        ("machines:\n  a:\n", 2, "machines.a has neither host nor connection"),
        ("machines:\n  a: {connection: ssh}\n", 2, 'machines.a.connection is the text "ssh"; it must be local'),
        ("machines:\n  a: {host: -oProxyCommand=id}\n", 2, 'machines.a.host: "-oProxyCommand=id" is not a host'),
        (
            "machines:\n  a: {host: 22:30}\n",
            2,
            "machines.a.host is the number 22:30; it must be text: [user@]name[:port]",
        ),
        ("machines:\n  a: {host: ''}\n", 2, 'machines.a.host: "" is not a host'),
        (
            "machines:\n  a: {host: a}\n  b:\n    host: A:22\n",
            4,
            "machines.b: A:22 is the address of machines.a, too (line 2)",
        ),
        (
            "machines:\n  a: {connection: local}\n  b: {connection: local}\n",
            3,
            "machines.b: this machine with the same work_dir",
        ),
        (
            "machines:\n  a: {connection: local, work_dir: /x/y}\n  b: {connection: local, work_dir: /x/./y/}\n",
            3,
            "the same work_dir",
        ),
        (local("threads: 0"), 4, "machines.here.threads is the number 0; it must be a whole number from 1 to 4096"),
        (local("threads: true"), 4, "machines.here.threads is true; it must be a whole number"),
        (local("threads: yes"), 4, "machines.here.threads is true (written yes)"),
        (
            local('threads: "4"'),
            4,
            'machines.here.threads is the text "4"; it must be a whole number from 1 to 4096, without',
        ),
        (local("threads: 1.5"), 4, "is the number 1.5"),
        (local("threads:"), 4, "machines.here.threads is empty"),
        (local("threads: 99999999999999999999"), 4, "is the number 99999999999999999999"),
        (
            local("threads: " + "9" * 5000),
            4,
            "is no value" if sys.version_info >= (3, 10, 7) else "is the number 999",
        ),
        (
            local("max_boards: -1"),
            4,
            "machines.here.max_boards is the number -1; it must be a whole number from 1 to 1024",
        ),
        (
            local("work_dir: build"),
            4,
            'work_dir is the text "build"; it must be an absolute path or one that begins with ~/',
        ),
        (local("work_dir: /"), 4, "and below it"),
        (local("work_dir: ~/."), 4, "and below it"),
        (local('work_dir: "/a\\nb"'), 4, r'is the text "/a\nb"'),
        (local("toolchains: arm-"), 4, "machines.here.toolchains is the text"),
        (local("toolchains: {arm: 3}"), 4, "machines.here.toolchains.arm is the number 3; it must be a prefix"),
        (local("toolchains: {arm: ''}"), 4, 'machines.here.toolchains.arm is the text ""; it must be'),
        (local("toolchains: {ARM: x-}"), 4, 'machines.here.toolchains.ARM is for "ARM"; an architecture is like'),
        (local("env: [A]"), 4, "machines.here.env is a list; it must be a mapping"),
        (local("env: {A-B: x}"), 4, 'machines.here.env: "A-B" cannot be a variable\'s name'),
        (local("env: {A: on}"), 4, "machines.here.env.A is true (written on); it must be text; in quotes"),
        (local('env: {A: "x\\0"}'), 4, "machines.here.env.A is the text"),
        (local("groups: fast"), 4, 'machines.here.groups is the text "fast"; it must be a list: [one, two]'),
        (local("groups: [a b]"), 4, 'machines.here.groups[0] is the text "a b"; it must be a name'),
        (local("groups: [x, all]"), 4, "machines.here.groups[1]"),
        (local("groups: [x, [y]]"), 4, "machines.here.groups[1] is a list"),
        (
            "machines:\n  a: {host: a}\n  b:\n    host: b\n    groups: [a]\n",
            3,
            "machines.b.groups: a is the name of a machine",
        ),
        (local('enabled: "no"'), 4, 'machines.here.enabled is the text "no"; it must be true or false'),
        (local("worker_command: ''"), 4, "machines.here.worker_command is an empty text"),
        ("defaults: {host: a}\nmachines: {b: {host: b}}\n", 1, "defaults.host: every machine has its own"),
        ("machines: {b: {host: b}}\ndefaults: {threads: 0}\n", 2, "defaults.threads is the number 0"),
        ("machines: {b: {host: b}}\ndefaults: [x]\n", 2, "defaults is a list"),
        ("machines: {b: {host: b}}\ntoolchains: {arm: x}\n", 2, 'unknown key "arm" in toolchains'),
        (
            "machines: {b: {host: b}}\ntoolchains: {paths: [bin]}\n",
            2,
            'toolchains.paths[0] is the text "bin"; it must be an absolute',
        ),
        (
            "machines: {b: {host: b}}\nfit: {max_load_per_cpu: 0}\n",
            2,
            "fit.max_load_per_cpu is the number 0; it must be a number",
        ),
        ("machines: {b: {host: b}}\nfit: {max_load_per_cpu: .nan}\n", 2, "fit.max_load_per_cpu is the number .nan"),
        ("machines: {b: {host: b}}\nfit:\n  min_mem_mb: 1.5\n", 3, "fit.min_mem_mb is the number 1.5"),
        (
            "machines: {b: {host: b}}\nbuild:\n  no-lto: true\n",
            3,
            'build: there is no option "no-lto"; did you mean no_lto',
        ),
        ("machines: {b: {host: b}}\nbuild: {machines_file: x}\n", 2, 'there is no option "machines_file"'),
        (
            "machines: {b: {host: b}}\nbuild: {count: '3'}\n",
            2,
            'build.count is the text "3"; it must be a whole number',
        ),
        (
            "machines: {b: {host: b}}\nbuild: {force: 1}\n",
            2,
            "build.force is the number 1; it must be true or false",
        ),
        (
            "machines: {b: {host: b}}\nbuild: {toolchain: [arm]}\n",
            2,
            'build.toolchain has the text "arm"; it must be ARCH=PREFIX',
        ),
        (
            "machines: {b: {host: b}}\nbuild: {boards: {a: b}}\n",
            2,
            "build.boards is a mapping; it must be text or a list",
        ),
        (
            "machines: {b: {<<: 3, host: b}}\n",
            1,
            "machines.b: << takes a mapping or a list of mappings, not the number 3",
        ),
    ],
)
def test_mistake(mistake, text, line, words):
    found = mistake(text)
    assert found[0] == line
    assert words in found[1]


def test_alias_bomb_is_refused_quickly(mistake):
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "has more than 20000 items, counting what its aliases stand for" in mistake("\n".join(lines))[1]
    lines = ["x0: &x0 {a: b}"]
    lines += [f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    assert "has more than 20000 items" in mistake("\n".join(lines))[1]


def test_an_alias_of_itself_is_refused(mistake):
    assert "is nested more than 20 deep" in mistake("machines: &m\n  a: *m\n")[1]


def test_deep_nesting_is_refused(mistake):
    assert "is nested" in mistake("[" * 50_000)[1]
    assert "is nested" in mistake("[" * 100 + "]" * 100)[1]


def test_a_huge_file_is_refused(mistake):
    assert "is larger than 256 KiB" in mistake("#" * 300_000)[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(load, tmp_path):
    load("machines: {a: {host: a}}\n")
    tmp_path.joinpath("machines.yaml").chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_machines(tmp_path / "machines.yaml")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_machines(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_machines(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_machines(Path("a\0b"))


# --- any text ---

_scalars = st.sampled_from(
    [
        "a",
        "local",
        "true",
        "no",
        "0",
        "4",
        '"4"',
        "-1",
        "~",
        "x/y",
        "~/x",
        "/x",
        "me@h:1",
        "h",
        "[a]",
        "{}",
        "1e400",
        ".inf",
        "2024-01-01",
        "2024-99-99",
        "0x_",
        "!!int x",
        "!!binary ~",
        "&a b",
        "*a",
        "|\n   x",
        "!!set {a}",
        "1:99",
        "=",
        "<<",
    ]
)
_keys = st.sampled_from(
    [
        "machines",
        "defaults",
        "toolchains",
        "fit",
        "build",
        "host",
        "connection",
        "threads",
        "work_dir",
        "env",
        "groups",
        "enabled",
        "prefixes",
        "paths",
        "boards",
        "count",
        "toolchain",
        "wait",
        "min_mem_mb",
        "<<",
        "a",
        "b",
        "no",
        "1",
    ]
)
_documents = st.recursive(
    _scalars,
    lambda below: st.one_of(
        st.lists(st.tuples(_keys, below), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
        st.lists(below, max_size=3).map(lambda values: "[" + ", ".join(values) + "]"),
    ),
    max_leaves=12,
)


def _load_any(path, data):
    path.write_bytes(data)
    try:
        machines = load_machines(path)
    except ConfigError as exc:
        words = str(exc).split("; to begin with")[0]
        assert words.isprintable(), words
        assert len(words) < 1000
    else:
        assert machines.machines
        assert merge([("x", machines.build)])


@given(text=st.one_of(st.text(), _documents, _documents.map(lambda text: f"machines: {text}"), st.binary()))
@example(text="machines: {a: {host: !!map x}}")
@example(text="? [a]\n: b")
@example(text="machines: {a: {host: a, env: !!omap x}}")
@example(text="a: &a\n  <<: *a")
@example(text="0: 0:0:0:0_")
@example(text="%YAML 9.9\n---\na")
@example(text="!<\x00")
def test_any_text_is_machines_or_a_config_error(tmp_path, text):
    _load_any(tmp_path / "machines.yaml", text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))


_field = st.sampled_from(
    [
        "host: a",
        "connection: local",
        "threads: 2",
        "env: {A: 1}",
        "groups: [g]",
        "work_dir: /x",
        "enabled: false",
        "x: 1",
    ]
)


@given(
    st.dictionaries(st.sampled_from("abcg"), st.lists(_field, unique=True), max_size=3),
    st.lists(_field, max_size=2),
)
def test_any_machines_are_taken_or_refused(tmp_path, machines, defaults):
    lines = [f"  {name}: {{{', '.join(fields)}}}" for name, fields in machines.items()]
    text = "\n".join(["machines:", *lines, f"defaults: {{{', '.join(defaults)}}}"])
    _load_any(tmp_path / "machines.yaml", text.encode())


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(alphabet="abc: #-\n")
        ),
        lambda below: st.one_of(
            st.lists(below, max_size=3), st.dictionaries(st.text("abc", min_size=1), below, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_values_are_those_of_safe_load(tmp_path, value):
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(value))
    item = yaml_lines.load_yaml(path)
    assert (item.plain() if item else None) == yaml.safe_load(path.read_text())


# --- hosts ---


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a.b-c_d",
        "me@a",
        "me@a:22",
        "a:65535",
        "10.0.0.1:22",
        "::1",
        "fe80::1%eth0",
        "[::1]:22",
        "me@[fe80::1%eth0]:2",
        "DOM.user@a",
        "x1",
    ],
)
def test_host_is_taken(text):
    assert parse_host(text) == text
    assert split_host(text).host


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-a",
        "me@-a",
        "-x@a",
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
        "[a]:22",
        "[::1]22",
        "[::1]:",
        "a\x00",
        "a\x1b",
        "é",
        "a:٣",
        "a,b",
        "a" * 300,
        "`id`",
    ],
)
def test_host_is_refused(text):
    with pytest.raises(ConfigError, match=r"is not a host; it must be \[user@\]name\[:port\]") as caught:
        parse_host(text)
    assert str(caught.value).isprintable()


@given(st.text(alphabet="ab1.-_:@[]%$+/ é\n", max_size=12))
def test_what_is_a_host_here_is_one_for_the_connection(text):
    try:
        host = parse_host(text)
    except ConfigError:
        return
    assert split_host(host).host


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


# --- options ---


def test_defaults_mean_the_current_source_on_all_machines():
    assert merge([]) == BuildSettings()
    assert BuildSettings().wire_settings() == {name: row.default for name, row in SETTINGS.items()}


def test_later_layers_win_and_what_is_not_given_does_not():
    merged = merge(
        [
            (
                "file",
                {
                    "count": 3,
                    "no_lto": True,
                    "kconfig_check": False,
                    "boards": "arm",
                    "toolchain": ("arm=a-", "x=x-"),
                },
            ),
            ("key", {"count": "4", "no_lto": "", "boards": None, "werror": "1", "branch": "", "step": ""}),
            (
                "options",
                {
                    "boards": ["a", "b & c"],
                    "toolchain": ["arm=/opt/gcc"],
                    "wait": "1.5",
                    "werror": False,
                    "only": [],
                },
            ),
        ]
    )
    assert merged == BuildSettings(
        count=4,
        no_lto=True,
        kconfig_check=False,
        boards="a,b & c",
        toolchain=("arm=a-", "x=x-", "arm=/opt/gcc"),
        wait=1.5,
    )
    assert merged.toolchains() == {"arm": "/opt/gcc", "x": "x-"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("force", "1", True),
        ("force", "true", True),
        ("force", "On", True),
        ("force", 1, True),
        ("kconfig_check", "0", False),
        ("kconfig_check", " no ", False),
        ("threads", "4", 4),
        ("step", "0", 0),
        ("wait", "30", 30.0),
        ("wait", 30, 30.0),
        ("timeout", "1800", 1800.0),
        ("timeout", 0, 0.0),
        ("silence", "2.5", 2.5),
        ("silence", 3600, 3600.0),
        ("patience", "0", 0.0),
        ("restarts", "0", 0),
        ("toolchain", "arm=a-, aarch64=/with space/gcc", ("arm=a-", "aarch64=/with space/gcc")),
        ("toolchain", {"arm": "a-"}, ("arm=a-",)),
        ("toolchain", ["sandbox="], ("sandbox=",)),
        ("toolchain", ["arm=a=b"], ("arm=a=b",)),
        ("hosts", ("a", "b"), "a,b"),
        ("branch", "fix/ünder", "fix/ünder"),
    ],
)
def test_option_is_taken(name, text, value):
    assert getattr(merge([("x", {name: text})]), name) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bords": 1}, 'X: there is no option "bords"; did you mean boards or max_boards or order?'),
        ({"no-lto": 1}, "did you mean no_lto"),
        ({"qqqqqq": 1}, "; there are: adjust_cfg, allow_missing,"),
        ({3: 1}, 'there is no option "3"'),
        ({"force": "maybe"}, 'X: force is the text "maybe"; it must be true or false (or 1 or 0)'),
        ({"force": 2}, "X: force is the number 2"),
        ({"force": [1]}, "X: force is a list"),
        ({"count": "x"}, 'X: count is the text "x"; it must be a whole number from 0 to 1000000'),
        ({"count": "-1"}, 'count is the text "-1"'),
        ({"count": -1}, "count is the number -1"),
        ({"count": True}, "count is true"),
        ({"count": 1.0}, "count is the number 1.0"),
        ({"count": "٣"}, "count is the text"),
        ({"count": 10**400}, "count is a far too large number"),
        ({"max_boards": 5000}, "from 0 to 1024"),
        ({"wait": "soon"}, 'wait is the text "soon"; it must be a number of seconds'),
        ({"wait": float("nan")}, "wait is the number nan"),
        ({"wait": "inf"}, "wait is the text"),
        ({"wait": True}, "wait is true"),
        ({"timeout": -1}, "timeout is the number -1; it must be a number of seconds from 0 to 604800"),
        ({"silence": 0}, "silence is the number 0; it must be a number of seconds from 1 to 3600"),
        ({"silence": "0.5"}, 'silence is the text "0.5"; it must be a number of seconds from 1 to 3600'),
        ({"silence": 3601}, "silence is the number 3601"),
        ({"silence": "nan"}, 'silence is the text "nan"'),
        ({"patience": "long"}, 'patience is the text "long"'),
        ({"restarts": 1001}, "restarts is the number 1001; it must be a whole number from 0 to 1000"),
        ({"toolchain": ["arm"]}, 'toolchain has the text "arm"; it must be ARCH=PREFIX, such as'),
        ({"toolchain": [3]}, "toolchain has the number 3"),
        ({"toolchain": 3}, "toolchain is the number 3"),
        ({"toolchain": ["arm=a-", "arm=b-"]}, 'toolchain names arm twice: "a-" and "b-"'),
        ({"toolchain": ["a b=c-"]}, 'toolchain is for "a b"; an architecture is like'),
        ({"toolchain": ["arm="]}, 'toolchain is the text ""'),
        ({"branch": 3}, "branch is the number 3; it must be text"),
        ({"branch": ["a"]}, "branch is a list; it must be text"),
        ({"boards": ["a", 3]}, "boards is a list; it must be text or a list of texts"),
        ({"source": "a\nb"}, r'source is "a\nb"; it must not have control characters'),
        ({"boards": object()}, "boards is a object"),
    ],
)
def test_option_is_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        merge([("file", {"boards": "arm"}), ("X", given)])
    assert words in str(caught.value)
    assert str(caught.value).startswith("X: ")
    assert str(caught.value).isprintable()


def test_a_layer_that_is_none():
    with pytest.raises(ConfigError, match="X: is a list; it must be a mapping of options"):
        merge([("X", ["a"])])


_anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just("1"), st.just("arm=x")
    ),
    lambda below: st.one_of(st.lists(below), st.dictionaries(st.text(), below), st.tuples(below)),
    max_leaves=5,
)


@given(st.dictionaries(st.one_of(st.sampled_from(list(OPTIONS)), st.text()), _anything, max_size=3))
def test_any_options_are_settings_or_a_config_error(layer):
    try:
        merged = merge([("X", layer)])
    except ConfigError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - either is right
        return
    for field in dataclasses.fields(BuildSettings):
        value = getattr(merged, field.name)
        assert type(value) is type(field.default)
        # What was taken once is taken again: the file's options are checked when it is read, and then merged.
        assert check_option(field.name, value, texts=False) in (value, None)
    assert all(isinstance(prefix, str) for prefix in merged.toolchains().values())


def test_wire_settings_have_the_wires_names():
    merged = BuildSettings(
        reproducible=True,
        werror=True,
        force=True,
        kconfig_check=False,
        no_lto=True,
        quick=True,
        fragments="a.config, b.config",
        adjust_cfg=("FOO,~CONFIG_BAR", "FOO=0x10", 'NAME="a,b",OTHER=text'),
        target="u-boot.bin",
    )
    changed = {name: value for name, value in merged.wire_settings().items() if value != SETTINGS[name].default}
    assert changed == {
        "reproducible_builds": True,
        "warnings_as_errors": True,
        "force_build": True,
        "kconfig_check": False,
        "no_lto": True,
        "quick": True,
        "fragments": ["a.config", "b.config"],
        "adjust_cfg": [
            "# CONFIG_BAR is not set",
            "CONFIG_FOO=0x10",
            'CONFIG_NAME="a,b"',
            'CONFIG_OTHER="text"',
        ],
        "target": "u-boot.bin",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adjust_cfg", "FOO-BAR"),
        ("adjust_cfg", "~FOO=y"),
        ("adjust_cfg", "FOO=a\nCONFIG_BAR=y"),
        ("adjust_cfg", 'FOO="a'),
        ("adjust_cfg", ["FOO", 3]),
        ("fragments", "debug"),
        ("fragments", "-f.config"),
        ("fragments", "../x.config"),
        ("fragments", "/etc/x.config"),
        ("fragments", "A=b.config"),
        ("target", "-C/tmp"),
        ("target", "A=b"),
        ("target", "a b"),
    ],
)
def test_what_make_must_not_be_given_is_refused_in_one_line(name, value):
    with pytest.raises(ConfigError) as caught:
        merge([("the command line", {name: value})])
    assert f"the command line: {name} " in str(caught.value)
    assert str(caught.value).isprintable()


def test_adjustments_of_a_file_may_be_a_mapping():
    merged = merge(
        [("file", {"adjust_cfg": {"LED": False, "SPL": True, "LED_PERIOD": 7}}), ("line", {"adjust_cfg": "LED"})]
    )
    assert merged.adjustments() == {"LED": "y", "SPL": "y", "LED_PERIOD": "7"}


def test_every_setting_of_a_build_has_one_option():
    given = [row.setting for row in OPTIONS.values() if row.setting]
    assert sorted(given) == sorted(SETTINGS)


def test_the_help_of_an_option_tells_its_default():
    for name, row in OPTIONS.items():
        default = getattr(BuildSettings(), name)
        if not isinstance(default, bool) and default:
            assert row.shown.help.endswith(
                f" (default: {default:g})" if default != "longest" else "(default: longest)"
            )
