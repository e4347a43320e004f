"""Every operation of a gateway's OpenAPI document, asked as the document allows and forbids, by Schemathesis.

Run it in a process of its own: it keeps the interpreter busy for seconds, and a world's proxies need theirs.
"""

from __future__ import annotations

import httpx2
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance

CHECKS = [not_a_server_error, content_type_conformance]


def explore(url: str) -> list[str]:
    """What contradicts the document, a text per operation."""
    schema = schemathesis.openapi.from_dict(httpx2.get(f"{url}/openapi.json").json())
    schema.config.update(base_url=url)
    failures: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=15, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def one(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, timeout=20)

        try:
            one()
        except BaseException as error:
            failures.append(f"{operation.label}: {error}")
    return failures
