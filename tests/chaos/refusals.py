"""The ways in which a real Redis answers and takes no writes: each as it is brought about, and taken back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from harness.redis_server import RedisServer
from harness.waiting import free_port

REFUSALS: Final = ("no memory", "too few replicas", "read-only", "no disk")
"""Redis says OOM, NOREPLICAS, READONLY and MISCONF."""
WORDS: Final = {
    "no memory": "command not allowed when used memory",
    "too few replicas": "Not enough good replicas",
    "read-only": "read only replica",
    "no disk": "MISCONF",
}


@contextmanager
def refusing(server: RedisServer, kind: str) -> Iterator[None]:
    """The server refuses writes, for the reason of this name, until the end of the block."""
    with server.client() as client:
        command: Callable[..., Any] = client.execute_command
        _begin(server, command, kind)
        try:
            _refuses(client, kind)
            yield
        finally:
            _end(server, command, kind)


def _begin(server: RedisServer, command: Callable[..., Any], kind: str) -> None:
    match kind:
        case "no memory":
            command("CONFIG", "SET", "maxmemory", "1")
        case "too few replicas":
            command("CONFIG", "SET", "min-replicas-to-write", "1")
        case "read-only":  # the master that it is told of is not there: it keeps its data, as one that was replaced
            command("REPLICAOF", "127.0.0.1", str(free_port()))
        case "no disk":
            _snapshot_at(server).unlink(missing_ok=True)  # of a replica's first synchronisation; the AOF has all of it
            _snapshot_at(server).mkdir()  # what cannot be replaced by a file: every snapshot fails
            (_snapshot_at(server) / "full").touch()
            command("CONFIG", "SET", "save", "3600 1000000")
            command("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
            command("BGSAVE")
        case _:
            raise AssertionError(kind)


def _end(server: RedisServer, command: Callable[..., Any], kind: str) -> None:
    match kind:
        case "no memory":
            command("CONFIG", "SET", "maxmemory", "0")
        case "too few replicas":
            command("CONFIG", "SET", "min-replicas-to-write", "0")
        case "read-only":
            command("REPLICAOF", "NO", "ONE")
        case _:
            command("CONFIG", "SET", "save", "")
            shutil.rmtree(_snapshot_at(server))


def _snapshot_at(server: RedisServer) -> Path:
    return server.directory / "dump.rdb"


def _refuses(client: redis.Redis, kind: str) -> None:
    """Until it does: a snapshot takes a moment to fail."""
    deadline = time.monotonic() + 10
    while not (answer := _answer_to_a_write(client)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert WORDS[kind] in answer, f"Redis does not refuse writes with {kind}, it answers {answer!r}"


def _answer_to_a_write(client: redis.Redis) -> str:
    """The error of a write that changes nothing; empty when it passed."""
    try:
        client.setrange("railstream:never", 0, "")
    except redis.RedisError as error:
        return str(error)
    return ""
