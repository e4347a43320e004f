"""The variables of the compose stack: `.env.example` has each of them, and each reaches the side that reads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from railstream.config.engines import ENGINES
from railstream.settings import PREFIX, GatewaySettings, Settings, WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
OF_THE_STACK = {"redis_url", "host", "port", "http_host", "http_port"}
"""Where the containers find each other is not for its users to choose."""


def documented() -> dict[str, str]:
    """The variables of `.env.example` and the values that it shows."""
    return dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.MULTILINE))


def environment(service: str) -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load(COMPOSE)["services"][service]["environment"]
    return given


def test_the_example_has_the_variables_that_compose_reads_and_no_others() -> None:
    read = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert read == set(documented())


@pytest.mark.parametrize(("service", "kind"), [("gateway", GatewaySettings), ("worker", WorkerSettings)])
def test_every_setting_can_be_given(service: str, kind: type[Settings]) -> None:
    given = {name for name in environment(service) if name.startswith(PREFIX)}
    names = {PREFIX + name.upper() for name in kind.model_fields if name not in OF_THE_STACK}
    assert given - {f"{PREFIX}REDIS_URL"} == names


@pytest.mark.parametrize("kind", [GatewaySettings, WorkerSettings])
def test_the_example_shows_the_defaults(kind: type[Settings]) -> None:
    shown = {name.removeprefix(PREFIX).lower(): value for name, value in documented().items() if value}
    given = {name: value for name, value in shown.items() if name in kind.model_fields and name != "config"}
    assert given
    assert kind(**given) == kind()


def test_the_workers_get_the_keys_and_addresses_of_every_engine() -> None:
    variables = {value for engine in ENGINES.values() for value in engine if isinstance(value, str)}
    wanted = {value for value in variables if re.fullmatch(r"[A-Z_]+", value)}
    missing = wanted - set(environment("worker"))
    assert not missing, f"docker-compose.yml (x-providers) and .env.example lack {sorted(missing)}"


def test_no_other_container_gets_a_key() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    for name in services.keys() - {"worker"}:
        for value in (services[name].get("environment") or {}).values():
            assert not re.search(r"\$\{\w*API_KEY(:-)?\}", str(value)), name
