"""What comes from elsewhere may be anything: both ends of the wire, and machines.yaml."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from fabbuild.config.machines_file import load_machines
from fabbuild.config.settings import merge
from fabbuild.config.yaml_lines import MAX_BYTES
from fabbuild.errors import ConfigError, WireError
from fabbuild.machines import messages
from fabbuild.machines.messages import decode_response
from fabbuild.protocol.wire import PREFIX, LineSplitter, ProtocolError, decode_object
from tests.support.examples import at_most
from tests.worker.driver import Worker, toy, work_dir

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)

# --- the boss's end of the wire ---

#: Every message a worker may send, by its name.
RESPONSES = {kind.__struct_config__.tag: kind for kind in messages.Response.__args__}

#: Values that have the right type for some field, so that not each message fails at its first one.
plausible = st.sampled_from(
    [
        0,
        1,
        -1,
        "",
        "a",
        "x" * 2000,
        {},
        {"a": "b"},
        [],
        ["a"],
        [1],
        [{}],
        [{"pid": 1, "why": "x"}],
        1.5,
        True,
        {"raw": "x"},
    ]
)


@st.composite
def said(draw: st.DrawFn) -> dict[str, object]:
    name = draw(st.sampled_from(sorted(RESPONSES)))
    fields = [field.encode_name for field in msgspec.structs.fields(RESPONSES[name])]
    message = {field: draw(plausible | values) for field in fields if draw(st.integers(0, 9))}
    return {"resp": name, **message, **draw(st.dictionaries(st.text(max_size=4), values, max_size=2))}


@given(said(), st.booleans())
def test_a_message_with_any_fields_is_one_or_is_refused(message: dict[str, object], ascii_only: bool) -> None:
    line = PREFIX + json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        answer = decode_response(line)
    except WireError as exc:
        assert len(str(exc)) < 500  # noqa: PT017 - either is right
        return
    assert type(answer) is RESPONSES[str(message["resp"])]
    assert answer is not None
    # All that the run does with it: it is shown, kept as JSON, and compared.
    assert answer == msgspec.json.decode(msgspec.json.encode(answer), type=type(answer))
    for value in msgspec.structs.asdict(answer).values():
        assert not isinstance(value, float) or math.isfinite(value)


@given(
    st.binary(max_size=60) | st.text().map(str.encode), st.sampled_from([b"", PREFIX, PREFIX + b'{"resp":"alive",'])
)
def test_any_bytes_are_a_message_or_none_or_refused(data: bytes, before: bytes) -> None:
    try:
        answer = decode_response(before + data)
    except WireError:
        assert (before + data).startswith(PREFIX)
        return
    assert (answer is None) == (not (before + data).startswith(PREFIX))


@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(0, 30), max_size=20))
def test_a_stream_is_cut_into_the_same_lines_however_it_arrives(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"\n".join(lines)
    splitter, found, rest = LineSplitter(), [], stream
    for cut in cuts:
        found += list(splitter.feed(rest[:cut]))
        rest = rest[cut:]
    found += list(splitter.feed(rest))
    assert [*found, splitter.rest() or b""] == stream.split(b"\n")


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 20), st.lists(st.integers(1, 7), min_size=1))
def test_a_line_is_too_long_however_it_arrives(lengths: list[int], limit: int, pieces: list[int]) -> None:
    stream = b"".join(b"x" * length + b"\n" for length in lengths)
    splitter = LineSplitter(limit)
    sizes = itertools.cycle(pieces)
    found = 0
    too_long = next((number for number, length in enumerate(lengths) if length > limit), None)
    try:
        while stream:
            size = next(sizes)
            for line in splitter.feed(stream[:size]):
                assert len(line) <= limit
                found += 1
            stream = stream[size:]
    except ProtocolError:
        assert found == too_long
    else:
        assert too_long is None
        assert found == len(lengths)


# --- the worker's end ---


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
@example(b"[" * 200_000)
@example(b'{"a":' * 200_000)
@example(b"1" * 100_000)
@example(b'{"cmd": ' + b"9" * 100_000 + b"}")
@example(b'{"cmd": NaN}')
@example(b"\xff\xfe{\x00")
def test_any_bytes_are_a_command_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode_object(data), dict)
    except ProtocolError as exc:
        assert str(exc).startswith("invalid JSON: ")  # noqa: PT017 - either is right


# No path that leads out of the directory the worker runs in: as root it would be made.
harmless = st.text(st.characters(exclude_characters="/~."), max_size=6)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([10**20, 1.5, math.inf]) | harmless,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(harmless, inner, max_size=3),
    max_leaves=6,
)
COMMANDS = ["setup", "configure", "build_prepare", "build_board", "build_done", "build_boards", "alive"]
USUAL: dict[str, list[object]] = {
    "work_dir": ["", "here"],
    "settings": [{}, {"no_lto": True}, {"config_only": "yes"}, {"target": "all", "fragments": ["x.config"]}],
    "toolchains": [{}, {"sandbox": "gcc"}, {"arm": "none-gcc"}],
    "features": [[], ["attempt", "commits", "details", "limits"]],
    "commits": [None, [None], ["HEAD"], ["0" * 40], [], [0], [1]],
    "max_boards": [1, 2, 0],
    "board": ["one", "two", "none", "-x", ".."],
    "arch": ["sandbox", "arm", ""],
    "boards": [[{"board": "one", "arch": "sandbox"}], [{}], [{"board": "one"}]],
    "attempt": [1, 2],
    "timeout": [60, 0.01, 0, -1, "x"],
    "jobs": [1, 0, 2.5],
}


@st.composite
def commands(draw: st.DrawFn) -> dict[str, object]:
    name = draw(st.sampled_from(COMMANDS) if draw(st.integers(0, 9)) else any_json)
    if name == "quit":
        name = "quite"
    command: dict[str, object] = {"cmd": name} if draw(st.integers(0, 19)) else {}
    for field, usual in USUAL.items():
        if draw(st.integers(0, 3)):
            # Mostly usual: else each command fails at its first field.
            command[field] = draw(st.sampled_from(usual) if draw(st.integers(0, 2)) else any_json)
    return command


@pytest.mark.deep
@settings(
    max_examples=at_most(12),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes a worker each
)
@given(st.lists(commands(), min_size=20, max_size=40))
def test_whatever_the_boss_says_the_worker_answers_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[dict[str, object]]
) -> None:
    place = tmp_path_factory.mktemp("fuzz")
    work = work_dir(place / "work", toy(place / "source").path)
    with Worker(work, "--threads", "2") as worker:
        worker.expect("ready")
        assert worker.ask("configure", settings={}, toolchains={"sandbox": "gcc"}) == {"resp": "configure_done"}
        worker.send("build_prepare", commits=[None], max_boards=1)
        worker.until("build_prepare_done")
        for number, command in enumerate(wanted):
            worker.raw(json.dumps(command).encode() + b"\n")
            worker.send(f"marker {number}")
            answers = []
            while True:
                answer = worker.get()
                assert answer is not None, (command, worker.stderr[-2000:])
                decode_response(PREFIX + json.dumps(answer).encode())  # is one the boss can read
                if answer == {"resp": "error", "msg": f"unknown command: marker {number}"}:
                    break
                answers.append(answer)
            # A board is taken without a word.
            assert answers or command.get("cmd") == "build_board", command
        worker.send("quit")
        worker.until("quit_ack")


def test_a_command_nested_deep_is_not_the_end_of_the_worker(tmp_path: Path) -> None:
    work = work_dir(tmp_path / "work", toy(tmp_path / "source").path)
    with Worker(work, "--threads", "2", "-D") as worker:
        worker.expect("ready")
        for before in ('{"cmd": ', '{"cmd": "configure", "settings": ', '{"cmd": "build_board", "board": '):
            # Around the depth at which Python still reads it and does not write it any more.
            for depth in (10, 300, *range(900, 1010, 6), 100_000):
                worker.raw(before.encode() + b"[" * depth + b"]" * depth + b"}\n")
                worker.expect("error")
                worker.raw(before.encode() + b'{"a":' * depth + b"1" + b"}" * depth + b"}\n")
                worker.expect("error")
        assert worker.ask("quit") == {"resp": "quit_ack"}


# --- machines.yaml ---

FILE = b"""\
machines:
  local: {connection: local, max_boards: 2}
  m1: &m
    host: me@m1:22
    work_dir: ~/x
    toolchains: {arm: arm-linux-gnueabi-, aarch64: /opt/a-gcc}
    env: {CCACHE_DIR: /x, N: 1}
    groups: [fast, "all of them"]
  m2: {<<: *m, host: m2, enabled: no}
defaults: {threads: 4}
toolchains: {prefixes: {mips: mips-}, paths: [/opt]}
fit: {max_load_per_cpu: 0.8, min_mem_mb: 512}
build: {boards: [arm, "a & b"], timeout: 1e3, no_lto: true}
"""


def load_any(path: Path, data: bytes) -> None:
    """Load a file; it is machines, or one line that names it."""
    path.write_bytes(data)
    try:
        machines = load_machines(path)
    except ConfigError as exc:
        words = str(exc)
        assert words.startswith(str(path))
        assert words.split("; to begin with", maxsplit=1)[0].isprintable()
        assert len(words) < 1500
        return
    merge([("x", machines.build)])


pieces = st.sampled_from(
    [b"", b"\n", b" ", b"\t", b"&m ", b"*m", b"<<: ", b"- ", b"? ", b": ", b"[", b"]", b"{", b"}", b"|\n", b"'", b'"',
     b"!!int ", b"!!python/object/apply:os.system [x]\n", b"--- ", b"...\n", b"%YAML 1.1\n", b"#", b"\xff", b"\0", b"0x",
     b"1e400", b".inf", b".nan", b"1:1:1", b"2020-13-45", b"null", b"~", b"=", b"9" * 5000, b"\xef\xbb\xbf", b"\xe2\x80\xae"]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(FILE)), st.integers(0, 12), pieces), min_size=1, max_size=4))
def test_a_file_with_anything_in_it_is_machines_or_one_line(
    tmp_path, changes: list[tuple[int, int, bytes]]
) -> None:
    data = FILE
    for start, length, piece in changes:
        data = data[:start] + piece + data[start + length :]
    load_any(tmp_path / "machines.yaml", data)


# PyYAML takes seconds for as many items as a file may have; it is its time for one that must not grow.
PART = MAX_BYTES // 8


def filled(piece: str, before: str = "", after: str = "", size: int = MAX_BYTES) -> bytes:
    """Give a file of this size."""
    room = size - len((before + after).encode())
    return (before + piece * (room // len(piece.encode())) + after).encode()


LARGE = {
    "nothing": filled("\n"),
    "comments": filled("#\n"),
    "brackets": filled("[", size=PART),
    "braces": filled("{", size=PART),
    "brackets in pairs": filled("[]", size=PART),
    "nested sequences": filled("- ", size=PART),
    "nested keys": filled("? ", size=PART),
    "nested mappings": filled("a: ", size=PART),
    "anchors": filled("&a ", size=PART),
    "one mapping after another": filled("a: b\n", size=PART),
    "keys": "".join(f"k{n}: 1\n" for n in range(25_000)).encode()[:PART],
    "a flow of keys": filled("a: b, ", "{", size=PART),
    "machines": ("machines:\n" + "".join(f" m{n}: {{host: h{n}}}\n" for n in range(12_000))).encode()[:PART],
    "groups": filled("g, ", "machines: {m: {host: h, groups: [", "]}}", size=PART),
    "aliases": filled("*a, ", "a: &a [1]\nb: [", "]", size=PART),
    "merges": filled("*a, ", "a: &a {x: 1}\nb: {<<: [", "]}", size=PART),
    "documents": filled("---\n", size=PART),
    "directives": filled("%TAG ! tag:x\n", size=PART),
    "a number": filled("9", "machines: {m: {host: h, threads: ", "}}"),
    "a hexadecimal number": filled("f", "machines: {m: {host: h, threads: 0x", "}}"),
    "an octal number": filled("7", "machines: {m: {host: h, threads: 0", "}}"),
    "a binary number": filled("1", "build: {count: 0b", "}"),
    "a number to the base of 60": filled(":1", "machines: {m: {host: h, threads: 1", "}}"),
    "a broken number to the base of 60": filled(":1", "machines: {m: {host: h, threads: 1", ".5}}"),
    "a fraction": filled("9", "fit: {max_load_per_cpu: 0.", "}"),
    "a number with lines": filled("1_", "build: {wait: ", "1}"),
    "a host": filled("a", "machines: {m: {host: ", "}}"),
    "a host of colons": filled(":", "machines: {m: {host: '", "'}}"),
    "a host of dots": filled("a.", "machines: {m: {host: '", "'}}"),
    "a key": filled("a", "", ": 1"),
    "a key nobody knows": filled("a", "machines: {m: {host: h, ", ": 1}}"),
    "a name": filled("a", "machines: {", ": {host: h}}"),
    "a text": filled("x y ", "build: {boards: '", "'}"),
    "an escaped text": filled("\\x41", 'build: {boards: "', '"}'),
    "an unended text": filled("x ", "build: {boards: '"),
    "a folded text": filled(" x\n", "build: {boards: >\n"),
    "tabs": filled("\t", "a:\n"),
    "blanks": filled(" ", "a:", "1"),
    "toolchains": filled("a=b,", "build: {toolchain: '", "'}"),
}


@pytest.mark.deep
@pytest.mark.parametrize("name", LARGE)
def test_no_file_takes_long(tmp_path: Path, name: str) -> None:
    assert len(LARGE[name]) <= MAX_BYTES
    begin = time.process_time()
    load_any(tmp_path / "machines.yaml", LARGE[name])
    assert time.process_time() - begin < 4
