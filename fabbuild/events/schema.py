"""Generate docs/schemas/event-1.json, the published schema of events, from the types of their payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import UnsetType

from fabbuild.event_types import KINDS, SCHEMA, EndCounts, Failure, MachineShare, Recovered

# Structs that payloads hold.
_PARTS: tuple[type[msgspec.Struct], ...] = (EndCounts, Failure, MachineShare, Recovered)


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a line of the journal.

    The ``data`` of each kind of event is under ``$defs``, by the event's ``what``. A key is required if its type
    does not accept UNSET, because it is always written then.
    """
    types: list[type[msgspec.Struct]] = [*KINDS.values(), *_PARTS]
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    for kind in types:
        _complete(components[kind.__name__], kind)
    definitions = {what: components[kind.__name__] for what, kind in KINDS.items()}
    definitions |= {part.__name__: components[part.__name__] for part in _PARTS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fabbuild:schema:event-{SCHEMA}",
        "title": "An event of a run",
        "description": "A line of journal.ndjson, of `inv build --json` and of `inv status --follow --json`. "
        "Other values of `what` are to be passed over.",
        "type": "object",
        "required": list(_ENVELOPE),
        "properties": {**_ENVELOPE, "what": {**_ENVELOPE["what"], "examples": list(KINDS)}},
        "allOf": [
            {
                "if": {"properties": {"what": {"const": what}}},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{what}"}}},
            }
            for what in KINDS
        ],
        "$defs": _tidied(definitions),
    }


# The keys around ``data``, as `event_lines.event_json` writes them.
_ENVELOPE: Mapping[str, dict[str, Any]] = {
    "time": {"type": "number", "description": "when, in seconds since the epoch"},
    "what": {"type": "string", "description": "what happened"},
    "machine": {"type": "string", "description": "which machine; empty: none"},
    "slot": {"type": ["integer", "null"], "description": "which slot; null: none", "minimum": 0},
    "board": {"type": "string", "description": "which board; empty: none"},
    "commit": {"type": "string", "description": "the commit's hash; empty: none"},
    "attempt": {
        "type": "integer",
        "description": "how often the board was given out; 0: does not apply",
        "minimum": 0,
    },
    "text": {"type": "string", "description": "one line for a person"},
    "data": {"type": "object", "description": "what else belongs to it"},
}


def _complete(schema: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """List the keys that are always written as required; msgspec lists the keys that it needs to read an event."""
    types = get_type_hints(kind)
    schema["required"] = [name for name in kind.__struct_fields__ if UnsetType not in get_args(types[name])]
    schema["properties"].pop("what", None)  # it stands beside ``data``, not in it
    del schema["title"]


def _tidied(schema: Any) -> Any:
    """Remove defaults and upper bounds, which are those of the types, and write plain types as one ``type``."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidied(value) for key, value in schema.items() if key not in ("default", "maximum")}
    choices = tidy.get("anyOf")
    if choices and all("type" in one for one in choices):
        del tidy["anyOf"]
        kinds = [one["type"] for one in choices]
        tidy = {**{key: value for one in choices for key, value in one.items()}, **tidy, "type": kinds}
    return tidy
