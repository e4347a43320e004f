"""docs/schema as validators, closed: a field that the schema does not name is an error here, unlike for a consumer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[2] / "docs/schema"
OPEN = frozenset({"event-chunk.json", "openai-usage.json"})
"""What a provider sends, and may add to."""
Schema = dict[str, Any]


def read_schema(name: str) -> Schema:
    schema: Schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return schema


def validators() -> dict[str, Draft202012Validator]:
    """A validator for each file, by its name."""
    schemas = {path.name: read_schema(path.name) for path in sorted(SCHEMAS.glob("*.json"))}
    closed = {name: schema if name in OPEN else _closed(schema) for name, schema in schemas.items()}
    resources = [(name, Resource.from_contents(schema)) for name, schema in closed.items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return {name: Draft202012Validator(schema, registry=registry) for name, schema in closed.items()}


def _closed(schema: Any) -> Any:
    """The schema, in which an object with named properties has no others."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(each) for name, each in schema.items()}
    if isinstance(inner.get("properties"), dict) and "type" in inner:
        inner["additionalProperties"] = False
    return inner
