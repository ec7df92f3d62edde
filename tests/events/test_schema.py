"""The schema that is made of the types of events: what version 1 promises stays."""

from fabbuild.event_types import KINDS
from fabbuild.events.schema import event_schema

# Of each kind the keys of its data with their types; "?": not always there.
PROMISED = {
    "run-start": {
        "boards": "integer",
        "commits": "integer",
        "results": "integer",
        "skipped": "integer",
        "output": "string",
        "machines": "string[]",
        "schema?": "integer",
    },
    "phase": {"phase": "string", "slots?": "integer", "threads?": "integer"},
    "machine-failed": {"again_in?": "number|null", "aside?": "boolean", "awaited?": "boolean"},
    "machine-stderr": {},
    "worktree": {"done": "integer", "slots": "integer"},
    "assigned": {"commits": "integer", "backup?": "boolean"},
    "started": {},
    "result": {
        "verdict": "string",
        "return_code": "integer",
        "number": "integer",
        "seconds": "number|null",
        "error": "string",
        "load_avg": "number",
        "after": "string[]",
        "phases": "{number}",
        "carried?": "string|null",
        "could_carry?": "string|null",
    },
    "reused": {
        "verdict": "string",
        "return_code?": "integer",
        "number?": "integer",
        "error?": "string",
        "commit?": "string",
        "when?": "number",
        "machine?": "string",
        "output?": "string",
        "seconds?": "number|null",
        "after?": "string[]",
    },
    "audit": {
        "differs?": "string[]",
        "origin?": "string",
        "built?": "string",
        "reused?": "string",
        "number?": "integer",
    },
    "board-done": {},
    "part-done": {},
    "trimmed": {"commits": "integer"},
    "fault": {"kind": "string", "number": "integer"},
    "check": {"well": "boolean"},
    "slots": {"slots": "integer"},
    "waiting": {"until": "number", "machines": "string[]"},
    "requeued": {},
    "not-built": {"number": "integer"},
    "dropped": {},
    "note": {"differs?": "string", "versions?": "{string[]}"},
    "interrupted": {},
    "stopped": {"failed": "integer"},
    "run-end": {
        "counts": "EndCounts",
        "seconds": "number",
        "exit_status": "integer",
        "output": "string",
        "failing": "Failure[]",
        "recovered": "Recovered[]",
        "machines": "{MachineShare}",
    },
    "EndCounts": {
        "built": "integer",
        "warned": "integer",
        "failed": "integer",
        "not_built": "integer",
        "skipped": "integer",
        "carried?": "integer",
        "reused?": "integer",
    },
    "Failure": {"board": "string", "commit": "string", "machine": "string", "error": "string", "after": "string[]"},
    "MachineShare": {
        "name": "string",
        "done": "integer",
        "share": "number",
        "bytes_sent": "integer|null",
        "bytes_received": "integer|null",
        "state": "string",
        "reason": "string",
    },
    "Recovered": {"board": "string", "commit": "string", "after": "string[]"},
}


def kind_of(schema):
    """Say the type of a value in a word: integer, string[], {number}, Failure, …"""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    types = schema["type"]
    if types == "array":
        return kind_of(schema["items"]) + "[]"
    if types == "object" and "additionalProperties" in schema:
        return "{" + kind_of(schema["additionalProperties"]) + "}"
    return types if isinstance(types, str) else "|".join(types)


def told(schema):
    return {
        key + ("" if key in schema["required"] else "?"): kind_of(value)
        for key, value in schema.get("properties", {}).items()
    }


def test_no_key_of_version_1_goes_or_changes_its_type():
    definitions = event_schema()["$defs"]
    found = {name: told(schema) for name, schema in definitions.items()}
    assert {name: {key: found[name].get(key) for key in keys} for name, keys in PROMISED.items()} == PROMISED


def test_the_values_and_bounds_are_those_of_version_1():
    schema = event_schema()
    definitions = schema["$defs"]
    for what in ("result", "reused"):
        assert definitions[what]["properties"]["verdict"]["enum"] == ["built", "warned", "failed"]
    assert definitions["run-start"]["properties"]["schema"]["const"] == 1
    assert definitions["result"]["properties"]["phases"]["additionalProperties"]["exclusiveMinimum"] == 0
    counts = ("slots", "threads", "number", "boards", "commits", "results", "skipped")
    for what, kind in KINDS.items():
        for key in kind.__struct_fields__:
            if key in counts:
                assert definitions[what]["properties"][key]["minimum"] == 0, (what, key)
    assert schema["required"] == list(schema["properties"])
