"""machines.yaml: what is taken, and that every mistake is named by its place."""

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabbuild.config.machines import Fit, Machine, Machines, ToolchainSearch
from fabbuild.config.machines_file import load_machines
from fabbuild.config.settings import merge
from fabbuild.errors import ConfigError

PROJECT = Path(__file__).parents[2]


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


def test_what_outputs_may_take_is_a_size_or_0_for_each_machine_and_for_all(load):
    machines = load(
        "machines: {a: {host: a, outputs: 20G}, b: {host: b, outputs: 0}, c: {host: c}}\nbuild: {outputs: 0}\n"
    )
    assert [machine.outputs for machine in machines.machines.values()] == ["20G", "0", ""]
    assert machines.build["outputs"] == "0"


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
        ("machines:\n  a: {host: a, threads: 2024-13-45}\n", 2, 'machines.a.threads: "2024-13-45" is not a value'),
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
        (
            "machines:\n  a: {host: a}\ndefaults: {connection: local}\n",
            3,
            "defaults.connection: every machine has its own",
        ),
        ("machines:\n  a: {connection: openssh}\n", 2, "machines.a has neither host nor connection: local"),
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
            "is not a value" if sys.version_info >= (3, 10, 7) else "is the number 999",
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
        (
            local("outputs: much"),
            4,
            'machines.here.outputs is the text "much"; it must be a size: a number, with k, M, G or T behind it',
        ),
        (local("outputs: -1"), 4, "machines.here.outputs is the number -1; it must be a size"),
        (local("outputs: yes"), 4, "machines.here.outputs is true (written yes); it must be a size"),
        (local("outputs:"), 4, "machines.here.outputs is empty; it must be a size"),
        (
            "machines: {b: {host: b}}\nbuild: {outputs: 20X}\n",
            2,
            'build.outputs is the text "20X"; it must be a size',
        ),
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


def test_who_connects_may_stand_in_the_defaults(tmp_path):
    file = tmp_path / "machines.yaml"
    file.write_text(
        "defaults: {connection: openssh}\n"
        "machines:\n  a: {host: a}\n  b: {host: b, connection: fabric}\n  c: {connection: local}\n"
    )
    found = load_machines(file)
    assert {name: (machine.openssh, machine.local) for name, machine in found.machines.items()} == {
        "a": (True, False), "b": (False, False), "c": (False, True),
    }  # fmt: skip
    assert found.template.openssh
