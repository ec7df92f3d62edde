"""docs/reference/protocol.md: every message, field, feature, setting and limit; and its session with a real worker."""

import argparse
import json
import os
import re

import msgspec
import pytest

from fabbuild.machines import messages, worker_link
from fabbuild.protocol import wire
from fabbuild.protocol.settings import SETTINGS
from fabbuild.worker import main
from fabbuild.worker.base.processes import Processes
from fabbuild.worker.build.settings import Settings
from fabbuild.worker.service.service import Service
from fabbuild.worker.service.stdio import ResponseWriter
from fabbuild.worker.supervisor import lifeline
from tests.support.docs import missing, module_text, page, section
from tests.worker.driver import KILLED, Worker, push, toy, work_dir

NAME = "reference/protocol.md"
RESPONSES = messages.Response.__args__


def table(heading):
    """Give the rows of a section's first table by their first cell's first name."""
    return dict(re.findall(r"(?m)^\| `([\w-]+)`([^\n]*)$", section(NAME, heading)))


@pytest.mark.parametrize("kind", RESPONSES, ids=lambda kind: kind.__struct_config__.tag)
def test_every_response_and_each_of_its_fields_is_in_it(kind):
    tag = kind.__struct_config__.tag
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    assert tag in table("Responses"), f"docs/{NAME}: add {tag} with {fields} to the table of responses"
    lacking = missing(table("Responses")[tag], fields)
    assert not lacking, f"docs/{NAME}: say what {lacking} of {tag} are"


def test_the_page_names_no_response_that_there_is_not():
    listed = section(NAME, "Responses").partition("### ")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", listed)) == {kind.__struct_config__.tag for kind in RESPONSES}


def test_every_field_within_a_result_and_a_toolchain_is_in_it():
    text = section(NAME, "Responses")
    for kind in (messages.BuildResult, messages.Details, messages.Sizes, messages.ToolchainFacts):
        assert missing(text, [field.encode_name for field in msgspec.structs.fields(kind)]) == [], kind


@pytest.fixture
def service():
    """Give a worker's service that is not started."""
    read_end, write_end = os.pipe()
    with Processes(()) as processes:
        yield Service(processes, ResponseWriter(write_end), 1, 1, debug=False)
    os.close(read_end)


def test_every_command_is_in_it(service):
    # The supervisor's own, and the sign of life, are not the worker's.
    known = {*service._handlers, "start", "alive"}
    assert table("Commands").keys() == known, f"docs/{NAME}: each command has a row in the table of commands"


def test_every_field_of_a_command_is_in_it():
    source = module_text(
        "worker/service/service.py", "worker/service/commands.py", "worker/supervisor/supervisor.py"
    )
    read = re.findall(
        r"""(?:command\.get|\b_?text|_limit|_indices|_strings)\((?:\w+, )?"(\w+)"|command\["(\w+)"\]""", source
    )
    fields = {one or other for one, other in read} - {"cmd"}
    assert {"board", "arch", "commits", "timeout", "settings", "argv", "work_dir"} <= fields
    rows = section(NAME, "Commands")
    assert missing(rows, sorted(fields)) == [], f"docs/{NAME}: name these in the table of commands"


def test_every_subcommand_and_option_of_the_program_is_in_it():
    text = section(NAME, "How a worker is started")
    parser = main._parser()
    (subparsers,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    options = {
        name for one in subparsers.choices.values() for action in one._actions for name in action.option_strings
    }
    options |= {name for action in parser._actions for name in action.option_strings}
    assert missing(text, [*subparsers.choices, *sorted(options - {"-h", "--help", "--debug"})]) == []


@pytest.mark.parametrize(("name", "module"), [("facts", "facts"), ("check", "self_check")])
def test_every_field_of_a_request_is_in_it(name, module):
    fields = set(re.findall(r'request\.get\("(\w+)"\)', module_text(f"worker/upkeep/{module}.py")))
    assert len(fields) >= 5
    assert missing(table("How a worker is started")[name], sorted(fields)) == []


def test_every_setting_is_in_it_and_its_default():
    rows = section(NAME, "Settings")
    values = Settings({})._values
    assert missing(rows, values) == [], f"docs/{NAME}: add these to the table of settings"
    for name, row in SETTINGS.items():
        assert re.search(rf"\| `{name}` \| {re.escape(json.dumps(row.default))} \|", rows), name


def test_every_feature_is_in_it():
    rows = section(NAME, "Features").partition("|---|")[2].partition("\n\n")[0]
    first = "\n".join(line.split("|")[1] for line in rows.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`(\w+)`", first)) == set(wire.FEATURES), f"docs/{NAME}: name each feature in the table"


def test_the_names_of_faults_and_variables_are_in_it():
    faults = [wire.TIMEOUT, wire.CHECKOUT, wire.START, wire.WORKER, wire.ALIVE_ENV]
    assert missing(page(NAME), faults) == []
    assert f"return code {wire.TIMED_OUT}" in section(NAME, "Features")
    assert f"`protocol` is {wire.PROTOCOL} for ours" in section(NAME, "Responses")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("64 MiB a line", wire.MAX_LINE >> 20),
        ("2 MiB for stdout", wire.MAX_TEXT >> 20),
        ("1 MiB a start command", lifeline.BUFFER >> 20),
        ("20000 texts", messages.MAX_STRINGS),
        ("128 KiB of it outside", messages.MAX_OUTSIDE >> 10),
        ("1000 characters for a board", messages.MAX_NAME),
        ("4096 for a path", messages.MAX_PATH),
        ("4000 characters for an `error`", messages.MAX_WORDS),
        ("100000 lines", worker_link.MOST_LINES),
        ("256 MiB, that are no messages", worker_link.MOST_BYTES >> 20),
        ("64 MiB of messages that wait", worker_link.UNREAD >> 20),
    ],
)
def test_the_limits_are_those_of_the_code(words, value):
    assert words in section(NAME, "Limits")
    assert int(words.split()[0]) == value


def test_the_session_of_the_page_is_what_a_real_worker_says(tmp_path):
    source = toy(tmp_path / "source")
    hashes = {"HASH1": source.git("rev-parse", "HEAD"), "HASH2": source.commit({"main.c": "#error no\n"})}
    work = work_dir(tmp_path / "work", source.path)
    push(work, source.path)
    (session,) = re.findall(r"```text\n(.*?)```", section(NAME, "A session"), re.DOTALL)
    said = 0
    with Worker(work, "--threads", "1", "--max-boards", "1") as worker:
        for line in session.splitlines():
            who, _, text = line.partition(":")
            text = re.sub("HASH[12]", lambda found: hashes[found.group()], text.strip())
            if who == "boss":
                worker.raw(text.encode() + b"\n")
                continue
            assert worker.get() is not None, worker.stderr
            wanted = ".*".join(re.escape(part) for part in text.split("…"))
            assert re.fullmatch(wanted, worker.lines[said].decode().rstrip("\n")), (text, worker.lines[said])
            said += 1
        assert worker.get() is None
        assert worker.ended() == KILLED
    assert said == len(worker.lines)
