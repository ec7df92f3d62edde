"""What is printed as JSON, held to the schemas that are published of it."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest

from fabbuild.cli import ui
from fabbuild.event_types import KINDS, SCHEMA
from fabbuild.events import event_lines
from fabbuild.machines.toolchains.archives import Archive
from fabbuild.reporting.summary.facts import as_json
from fabbuild.results.reuse.store import StoreUsage
from tests.support.docs import page
from tests.support.events import event_of
from tests.support.results import fails, told, warns, write_results
from tests.support.schemas import SCHEMAS, every, hold, load

NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_says_of_every_key_what_it_means(name):
    schema = load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:fabbuild:schema:{name}"
    for at, one in every(schema):
        properties = one.get("properties")
        if isinstance(properties, dict) and at.name not in ("properties", "if"):
            for key, value in properties.items():
                says = "description" in value or "$ref" in value or "const" in value or at.name == "then"
                assert says, f"{name}: {at}: say what {key} means"
    assert f"[{name}](../schemas/{name}.json)" in page("reference/json.md")


def test_every_event_has_its_schema_and_the_version_is_that_of_the_code():
    schema = load("event-1")
    assert schema["$defs"].keys() >= KINDS.keys()
    assert {one["if"]["properties"]["what"]["const"] for one in schema["allOf"]} == KINDS.keys()
    assert schema["$defs"]["run-start"]["properties"]["schema"]["const"] == SCHEMA


def test_what_is_no_event_is_refused_and_what_will_come_is_not():
    good = json.loads(event_lines.event_json(event_of(1.0, "started", "m1", 2, "tern", attempt=1)))
    open_schema = jsonschema.Draft202012Validator(load("event-1"))
    hold("event-1", good)
    assert open_schema.is_valid({**good, "what": "unheard-of", "data": {"new": 1}, "more": 2})
    for wrong in ({"slot": -1}, {"time": "1"}, {"board": None}, {"what": "result", "data": {"verdict": "good"}}):
        assert not open_schema.is_valid({**good, **wrong}), wrong
    with pytest.raises(AssertionError, match="does not describe it"):
        hold("event-1", {**good, "more": 2})


def test_a_summary_with_everything_in_it(tmp_path):
    sizes = "  {} 20 30 {} 41a u-boot 100\n"
    nm = "{} T main\n00000010 t gone.{}\n"
    boards = {
        1: {
            "tern": {"sizes": sizes.format(1000, 1050), "u-boot.sizes": nm.format("00000010", 1), "u-boot.cfg": "#define CONFIG_A 1\n",
                     "toolchain": "arch arm\n", "out-env": 'A="1"\n', "u-boot.env": "a=1\0"},
            "wren": warns("a.c:1:1: warning: w"),
        },
        2: {
            "tern": {"sizes": sizes.format(1100, 1150), "u-boot.sizes": nm.format("00000020", 2), "u-boot.cfg": "#define CONFIG_B 2\n",
                     "toolchain": "arch arm\n", "out-env": 'A="2"\n', "u-boot.env": "a=2\0"},
            "wren": fails("a.c:1:1: error: e"),
        },
    }  # fmt: skip
    write_results(tmp_path, boards)
    wanted = {"sizes": True, "functions": True, "config": True, "environment": True}
    summary = json.loads(event_lines.json_line(as_json(told(tmp_path, **wanted))))
    hold("summary-1", summary)
    last = summary["commits"][-1]
    assert last["sizes"]["boards"]
    assert last["functions"]
    assert last["config"]
    assert last["boards"]["broke"] == ["wren"]


def test_archives_and_the_store():
    stream = io.StringIO()
    ui.print_archives(
        [Archive("x86_64", "13.2.0", "arm-linux", "a.tar.xz", "u", "l", "")], json=True, stream=stream
    )
    hold("archives-1", json.loads(stream.getvalue()))
    for usage in (None, StoreUsage("/p", 10, 1, 2, 1.0, 2.0, 1, 0)):
        stream = io.StringIO()
        ui.print_cache(usage, "/p", json=True, stream=stream)
        hold("cache-1", json.loads(stream.getvalue()))


def test_boards_machines_and_their_compilers(farm):
    farm.machines(local=True)
    boards = json.loads(farm.run("boards", "--source", str(farm.source), "--json").out)
    assert len(boards) > 5
    hold("boards-1", boards)
    wrong = json.loads(farm.run("boards", "--source", str(farm.source), "--check", "--json").out)
    hold("boards-check-1", wrong)
    farm.write_machines(
        {
            "machines": {
                "local": {"connection": "local", "work_dir": str(farm.directory / "w")},
                "dead": {"host": "127.0.0.1:1"},
            }
        }
    )
    hold("probe-1", probed := json.loads(farm.run("probe", "--json").out))
    assert {row["machine"] for row in probed} == {"local", "dead"}
    hold("toolchains-1", json.loads(farm.run("toolchains", "--tried", "--json").out))
