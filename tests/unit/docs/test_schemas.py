"""docs/schema and docs/redis.md name what the source writes: every event, every field, every key, no others."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
import yaml
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from harness.schemas import SCHEMAS, read_schema, validators
from jsonschema import Draft202012Validator
from railstream import events, extra_fields, job, keys
from unit.docs.wire_codes import ROOT

PAGE = (ROOT / "docs/redis.md").read_text(encoding="utf-8")
STRUCTS: dict[str, type[msgspec.Struct]] = {
    **{f"event-{name.decode()}.json": kind for kind, name in events._NAMES.items()},
    "job.json": job.Job,
}
ASYNCAPI = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(path.name for path in SCHEMAS.glob("*.json")))
def test_each_file_is_a_json_schema_that_is_named_as_it_says(name: str) -> None:
    schema = read_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == name


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_a_schema_has_the_fields_of_the_struct_that_is_encoded(name: str) -> None:
    schema, fields = read_schema(name), msgspec.structs.fields(STRUCTS[name])
    assert list(schema["properties"]) == [field.encode_name for field in fields]
    assert schema["required"] == [field.encode_name for field in fields if field.required]


def test_the_schema_of_finished_names_what_a_provider_may_say_beside_the_delta() -> None:
    fields = read_schema("event-finished.json")["properties"]
    assert tuple(fields["extra"]["properties"]) == extra_fields.OF_THE_ANSWER
    assert tuple(fields["choice_extra"]["items"]["properties"]) == extra_fields.OF_A_CHOICE


def test_an_operation_of_a_job_has_the_fields_of_its_struct() -> None:
    schema, fields = read_schema("job.json"), msgspec.structs.fields(job.Operation)
    assert list(schema["properties"]["operations"]["items"]["properties"]) == [field.name for field in fields]


def test_every_event_has_a_schema_a_row_on_the_page_and_a_message_in_asyncapi() -> None:
    names = {name.decode() for name in events.EVENTS}
    assert {path.stem.removeprefix("event-") for path in SCHEMAS.glob("event-*.json")} == names
    assert set(re.findall(r"^\| `(\w+)` \| .+ \| \[event-\1\.json\]", PAGE, re.MULTILINE)) == names
    for channel in ("events", "live"):
        assert set(ASYNCAPI["channels"][channel]["messages"]) == names


def test_the_ends_on_the_page_are_the_terminal_events() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| \*\*end\*\*", PAGE, re.MULTILINE)) == {e.decode() for e in events.TERMINAL}


def test_the_page_has_every_key_of_the_table_in_the_source() -> None:
    table = re.findall(r"^``((?:railstream|…)[^`]*)``", keys.__doc__ or "", re.MULTILINE)
    short = {
        "…:request:<id>:readers:<token>": "railstream:{pp}:request:<id>:readers:<token>",
        **{f"…:session:<id>:{part}": "railstream:{pp}:session:<id>" for part in ("messages", "branches", "refs")},
    }
    page = re.findall(r"^\| `(railstream[^`]*)` \|", PAGE, re.MULTILINE)
    assert {short.get(key, key) for key in table} == set(page)


def test_the_asyncapi_file_is_valid_and_its_references_lead_somewhere() -> None:
    ApplicationSchema.model_validate(ASYNCAPI)
    for reference in _references(ASYNCAPI):
        if reference.startswith("#/"):
            found: Any = ASYNCAPI
            for part in reference[2:].split("/"):
                found = found[part]
        else:
            assert reference in validators()


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [reference for each in node.values() for reference in _references(each)]
    return [reference for each in node for reference in _references(each)] if isinstance(node, list) else []
