"""What a worker says is typed, and takes no more memory than it may."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.errors import UnknownMessageError, WireError
from fabbuild.machines import messages
from fabbuild.machines.messages import (
    MAX_DEPTH,
    MAX_OUTSIDE,
    MAX_STRINGS,
    MAX_WORDS,
    WORST_CASE,
    Alive,
    BuildPrepareDone,
    BuildResult,
    Checked,
    Error,
    Facts,
    Killed,
    decode_response,
)
from fabbuild.protocol.wire import MAX_LINE, OUTPUTS_MANY, PREFIX, encode_response
from tests.support.census import HANG_LIMIT

RESULT: dict[str, object] = {"board": "rpi_4", "commit_upto": 0, "return_code": 0}

# Lone surrogates are what undecodable bytes become where somebody takes them for text.
anything = st.text(st.characters())


def decoded(**fields: object) -> object:
    return decode_response(encode_response(str(fields.pop("resp")), **fields)[:-1])


def test_signs_of_life_and_checks_are_messages() -> None:
    assert decoded(resp="alive") == Alive()
    assert decoded(resp="alive", since=3) == Alive()
    found = decoded(resp="checked", well=False, problems=["no room in /x"], disk_mb=3, mem_mb=4)
    assert found == Checked(False, ("no room in /x",), 3, 4)


def test_a_result_tells_what_its_worker_knows() -> None:
    result = decoded(resp="build_result", **RESULT, fault="timeout")
    assert isinstance(result, BuildResult)
    assert result.fault == "timeout"


def test_no_more_output_directories_are_named_than_fit() -> None:
    names = [f"b{number}" for number in range(OUTPUTS_MANY)]
    found = decoded(resp="build_prepare_done", outputs=names)
    assert found == BuildPrepareDone(tuple(names))
    assert decoded(resp="build_prepare_done") == BuildPrepareDone(None)
    with pytest.raises(WireError, match="outputs"):
        decoded(resp="build_prepare_done", outputs=[*names, "one"])


def test_details_are_those_that_were_told() -> None:
    told = {"seconds": 1.5, "slot": 0, "environment": {"LC_ALL": "C"}, "command": "make", "something": ["new"]}
    result = decoded(resp="build_result", **RESULT, details=told)
    assert isinstance(result, BuildResult)
    assert result.details == {"seconds": 1.5, "slot": 0, "environment": {"LC_ALL": "C"}, "command": "make"}
    assert BuildResult("a", 0, 0).details == {}


def test_an_error_of_megabytes_is_cut_to_what_a_person_reads() -> None:
    error = decoded(resp="error", msg="x" * 5_000_000)
    assert isinstance(error, Error)
    assert len(error.msg) == MAX_WORDS


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        '"alive"',
        "{}",
        '{"resp": "something else"}',
        '{"resp": "alive"} x',
        '{"resp": "checked"}',
        '{"resp": "checked", "well": 1}',
        '{"resp": "checked", "well": true, "disk_mb": 1e300}',
        '{"resp": "ready", "nthreads": -1, "slots": 1}',
        '{"resp": "worktree_created", "thread": 99999999999999999999}',
        '{"resp": "heartbeat", "board": 1, "thread": 1}',
        '{"resp": "build_result", "board": "a", "commit_upto": 0, "return_code": 0, "load_avg": NaN}',
        '{"resp": "build_result", "board": "\\ud800", "commit_upto": 0, "return_code": 0, "load_avg": NaN}',
        '{"resp": "build_result", "board": "a", "commit_upto": 0, "return_code": 0, "details": {"seconds": "x"}}',
        '{"resp": "build_result", "board": "a", "commit_upto": 0, "return_code": 0, "details": {"environment": []}}',
        '{"resp": "held", "git_dir": "x", "work_dir": "' + "x" * 5000 + '"}',
        '{"resp": "heartbeat", "thread": 1, "board": "' + "x" * 5000 + '"}',
        "[" * 100_000,
        '{"a":' * 10_000,
        '{"resp": "killed", "left": [{"a": ' + "[" * 100_000,
        '{"resp": "killed", "left": [{"a": "\\ud800", "b": ' + "[" * 100_000,
        '{"resp": "killed", "holder": ' + '{"":' * 15_000 + "0" + "}" * 15_000 + "}",
        '{"resp": "killed", "pids": [' + "9" * 100_000 + "]}",
        '{"resp": "killed", "holder": {"\\ud800": ' + "9" * 100_000 + "}}",
    ],
)
def test_what_is_no_message_is_said_in_a_short_line(line: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_response(PREFIX + line.encode())
    assert str(caught.value).startswith("not a message of the protocol (")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ('{"resp":"progress","percent":10}', True),
        ('{"percent": [1, {}], "resp": "progress \\ud800"}', True),
        ('{"resp":"alive", "resp":"progress"}', True),
        ('{"resp":"progress"', False),
        ('{"resp":"checked"}', False),
        ('{"resp":3}', False),
        ('["progress"]', False),
    ],
)
def test_a_message_of_another_word_is_told_from_what_is_no_message(line: str, unknown: bool) -> None:
    with pytest.raises(WireError) as caught:
        decode_response(PREFIX + line.encode())
    assert isinstance(caught.value, UnknownMessageError) == unknown


def test_what_others_write_is_no_message_and_no_error() -> None:
    for line in (b"", b"Welcome to m1!", b"BM>", b"{}", b"x" * 200_000, b'"' * 200_000):
        assert decode_response(line) is None


@given(
    texts=st.tuples(anything, anything, anything),
    config=st.dictionaries(anything, anything, max_size=3),
    times=st.sampled_from([1, 3, 20_000]),
    whole=st.booleans(),
)
def test_a_result_of_any_text_arrives_whatever_its_length(
    texts: tuple[str, str, str], config: dict[str, str], times: int, whole: bool
) -> None:
    stderr, stdout, raw = (text * times for text in texts)
    fields = {**RESULT, "stderr": stderr, "stdout": stdout, "sizes": {"raw": raw}, "config": config}
    line = PREFIX + json.dumps({"resp": "build_result", **fields}, ensure_ascii=not whole).encode(
        "utf-8", "replace"
    )
    result = decode_response(line)
    assert isinstance(result, BuildResult)
    told = [result.stderr, result.stdout, result.sizes.raw]
    assert told == [text.encode("utf-8", "replace").decode() for text in (stderr, stdout, raw)]
    assert len(result.config) <= len(config)


@given(st.binary(max_size=40), st.sampled_from([1, 10_000]))
def test_bytes_that_are_no_text_do_not_cost_a_result(data: bytes, times: int) -> None:
    quoted = data.translate(None, bytes(range(32)) + b'"\\') * times
    line = PREFIX + b'{"resp":"build_result","board":"a","commit_upto":0,"return_code":0,"stderr":"%s"}' % quoted
    result = decode_response(line)
    assert isinstance(result, BuildResult)
    assert result.stderr == quoted.decode("utf-8", "replace")


def test_a_machine_with_many_compilers_is_no_liar() -> None:
    tried = [
        {"path": f"/opt/toolchains/{n}/bin/arm-gcc", "arch": "arm", "ok": False, "why": "x" * 300}
        for n in range(1500)
    ]
    facts = decoded(resp="facts", hostname="m", arch="x", threads=4, work_dir="/x", tried=tried)
    assert isinstance(facts, Facts)
    assert len(facts.tried) == 1500


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts_in(part)]
    return [text for item in value for text in texts_in(item)] if isinstance(value, list) else []


@given(values, st.booleans())
def test_the_make_up_of_a_line_is_counted_exactly(value: object, ascii_only: bool) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only).encode()
    texts = texts_in(value)
    inside = sum(len(json.dumps(text, ensure_ascii=ascii_only).encode()) for text in texts)
    counted, outside = messages._make_up(line)
    assert (counted, sum(map(len, outside))) == (len(texts), len(line) - inside)


@given(st.text(st.sampled_from('"\\[]{},:0ux '), max_size=60))
def test_no_line_holds_more_than_was_counted(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        return
    texts, _ = messages._make_up(text.encode())
    assert texts == len(texts_in(value))


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH + 1])
def test_how_deep_a_message_may_be_is_ours_to_say_and_brackets_in_texts_are_none(depth: int) -> None:
    lock = '{"a":' * depth + "1" + "}" * depth
    line = PREFIX + f'{{"resp":"killed","holder":{lock}}}'.encode()
    if depth < MAX_DEPTH:
        assert isinstance(decode_response(line), Killed)
    else:
        with pytest.raises(WireError, match=f"it is nested more than {MAX_DEPTH} deep"):
            decode_response(line)
    text = '{"' + '[{\\"' * depth
    assert isinstance(decode_response(encode_response("build_result", **RESULT, stderr=text)[:-1]), BuildResult)


def test_a_long_line_waits_for_another() -> None:
    line = encode_response("build_result", **RESULT, stderr="x" * MAX_OUTSIDE)[:-1]
    answers: list[object] = []
    with messages._one_long_line:
        thread = threading.Thread(target=lambda: answers.append(decode_response(line)), daemon=True)
        thread.start()
        assert isinstance(decode_response(PREFIX + b'{"resp": "alive"}'), Alive), "a short one does not"
        thread.join(0.05)
        assert not answers
    thread.join(HANG_LIMIT)
    assert isinstance(answers[0], BuildResult)


HEAD = '{"resp":"build_result","board":"a","commit_upto":0,"return_code":0,"stderr":"'

# What expands most, and what was refused only after it had become objects: name, beginning, piece that fills the line,
# end, and how often the line's length it may take.
LINES: dict[str, tuple[str, str, str, float]] = {
    "text": (HEAD, "x", '"}', 1.3),
    "one character of four bytes": (HEAD + "\U0001f600", "x", '"}', 4.5),
    "no text, and one character of four bytes": (HEAD + "\U0001f600", "\udcff", '"}', 8),
    "lone surrogates": (HEAD + "\U0001f600\\ud800", "\udcff", '"}', 12),
    "quotes": (HEAD, '\\"', '"}', 1.3),
    "lists": ('{"resp":"killed","left":[', "[],", "[]]}", 1.3),
    "objects": ('{"resp":"killed","left":[{"a":[', "{},", "{}]}]}", 1.3),
    "short texts": ('{"resp":"killed","left":[{"a":[', '"",', '""]}]}', 1.3),
    "short texts of a backslash": ('{"resp":"killed","left":[{"a":[', '"\\\\",', '""]}]}', 1.3),
    "keys": (
        '{"resp":"build_result","board":"a","commit_upto":0,"return_code":0,"config":{',
        '"":"",',
        '"":""}}',
        1.3,
    ),
    "numbers": ('{"resp":"killed","pids":[', "1,", "1]}", 1.3),
    "a long number": ('{"resp":"killed","pids":[', "1", "]}", 1.3),
    "blanks": ('{"resp":"alive"', " ", "}", 1.3),
    "deep": ('{"resp":"alive","a":', "[", "}", 1.3),
    "an unknown message": ('{"resp":"', "\udcff", '"}', 8),
}

MEASURE = """
import sys
from fabbuild.errors import WireError
from fabbuild.machines.messages import PREFIX, decode_response

def memory(what):
    for row in open("/proc/self/status"):
        if row.startswith(what):
            return int(row.split()[1]) * 1024

head, piece, end = (part.encode("utf-8", "surrogateescape") for part in sys.argv[1:4])
length = int(sys.argv[4])
line = PREFIX + head + piece * ((length - len(PREFIX + head + end)) // len(piece)) + end
assert length - 8 < len(line) <= length
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = memory("VmRSS")
try:
    name = type(decode_response(line)).__name__
except WireError as exc:
    name = "WireError"
    assert len(str(exc)) < 500
print(name, memory("VmHWM") - before)
"""


@pytest.mark.deep
@pytest.mark.parametrize("name", LINES)
def test_the_longest_line_takes_no_more_memory_than_is_said(name: str) -> None:
    head, piece, end, times = LINES[name]
    assert times * MAX_LINE <= WORST_CASE
    arguments = [part.encode("utf-8", "surrogateescape") for part in (head, piece, end)]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments, str(MAX_LINE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_LIMIT,
    )
    assert ended.returncode == 0, ended.stderr
    what, took = ended.stdout.split()
    kept = name in ("text", "quotes", "lone surrogates") or "four bytes" in name
    assert what == ("BuildResult" if kept else "WireError")
    assert int(took) < times * MAX_LINE


@pytest.mark.parametrize("number", [MAX_STRINGS // 2, MAX_STRINGS])
def test_the_limit_of_texts_is_where_it_is_said(number: int) -> None:
    """Keys and values count alike; the message itself has five keys and three texts of its own."""
    config = {f"{n:05}": "x" * 20 for n in range(number // 2 - 4)}
    line = encode_response("build_result", **RESULT, config=config)[:-1]
    assert messages._make_up(line[len(PREFIX) :])[0] <= number
    result = decode_response(line)
    assert isinstance(result, BuildResult)
    config |= {f"b{n:05}": "x" * 20 for n in range(MAX_STRINGS // 2)}
    with pytest.raises(WireError, match=f"more than {MAX_STRINGS} texts"):
        decode_response(encode_response("build_result", **RESULT, config=config)[:-1])
