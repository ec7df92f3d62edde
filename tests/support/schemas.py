"""Hold JSON output to the schemas of docs/schemas; a key that no schema describes is an error."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

from tests.support.farm import ROOT

SCHEMAS = ROOT / "docs" / "schemas"


def load(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def closed(schema: Any) -> Any:
    """Give a schema that takes no key which it does not describe."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: value if key in ("if", "const", "enum", "examples") else closed(value) for key, value in schema.items()
    }
    described = isinstance(schema.get("properties"), dict) and "description" in schema
    if described and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(closed(load(name)))


def hold(name: str, value: object) -> None:
    """Fail unless a value is as the schema says, to the last key."""
    wrong = [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(value)]
    assert not wrong, f"docs/schemas/{name}.json does not describe it: {wrong[:5]}"


def every(schema: object, at: Path = Path()) -> Any:
    """Give each subschema that is there, with where."""
    if isinstance(schema, dict):
        yield at, schema
        for key, value in schema.items():
            yield from every(value, at / str(key))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from every(value, at / str(number))
