"""Log lines: structured, with ids, without secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from railstream import logs
from railstream.logs import Outage, configure, redact

log = logging.getLogger("railstream.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _untouched_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_json_object_per_line() -> None:
    stream = io.StringIO()
    configure("info", "auto", "worker-1", stream)
    log.info("taken over after %d chunks", 3)
    log.debug("not worth a line")

    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "process": "worker-1",
        "logger": "railstream.test",
        "message": "taken over after 3 chunks",
    }


def test_a_terminal_gets_text() -> None:
    stream = Terminal()
    configure("info", "auto", "gateway", stream)
    log.warning("two\nlines")

    assert " warning gateway: two\nlines" in stream.getvalue()


async def test_each_task_has_its_own_ids_in_its_lines() -> None:
    stream = io.StringIO()
    configure("info", "json", "gateway", stream)
    both = asyncio.Barrier(2)

    async def serve(request_id: str) -> None:
        logs.bind(request_id=request_id, trace_id=f"trace-of-{request_id}")
        await both.wait()
        log.info("served")

    async with asyncio.TaskGroup() as group:
        group.create_task(serve("a"))
        group.create_task(serve("b"))
    log.info("idle")

    served = [(line.get("request_id"), line.get("trace_id")) for line in lines(stream)]
    assert sorted(served[:2], key=str) == [("a", "trace-of-a"), ("b", "trace-of-b")]
    assert served[2] == (None, None)


def test_an_exception_stays_in_its_line() -> None:
    stream = io.StringIO()
    configure("info", "json", "worker", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")

    (line,) = lines(stream)
    assert "ValueError: broken" in line["exception"]


def test_libraries_that_log_requests_are_kept_quiet_at_debug() -> None:
    stream = io.StringIO()
    configure("debug", "json", "worker", stream)
    logging.getLogger("openai._base_client").debug("Request options: {'content': 'the prompt'}")
    logging.getLogger("httpx2").info("HTTP Request: POST …")
    logging.getLogger("httpcore2.http11").debug("send_request_body.started")
    log.debug("ours")

    assert [line["message"] for line in lines(stream)] == ["ours"]


def test_configuring_again_replaces_the_lines() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", "json", "a", first)
    configure("info", "json", "b", second)
    log.info("once")

    assert first.getvalue() == ""
    assert len(lines(second)) == 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("redis://user:hunter2@redis:6379/0 is down", "redis://user:***@redis:6379/0 is down"),
        ("redis://:hunter2@redis", "redis://:***@redis"),
        ("authorization: Bearer abc.def-1", "authorization: Bearer ***"),
        ("key sk-proj-abcdefgh12345 is wrong", "key sk-*** is wrong"),
        ("a risk-free task", "a risk-free task"),
    ],
)
def test_credentials_are_struck_out(said: str, shown: str) -> None:
    assert redact(said) == shown


def test_an_outage_is_logged_once_and_once_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outage = Outage(log, "Redis")
    outage.end()
    for _ in range(3):
        outage.begin("connection refused")
    assert outage.lasts
    outage.end()
    outage.end()

    assert caplog.messages[0] == "Redis is down: connection refused"
    assert caplog.messages[1].startswith("Redis is back after 0.0 s")
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("word", ["x" * 1_000_000, "a+" * 500_000, "a://" * 200_000, "a://b:" * 150_000])
def test_a_line_with_a_very_long_word_is_redacted_in_time_that_grows_with_its_length_alone(word: str) -> None:
    # Without a bound the square of the length is due: a finish reason of 100,000 letters held a worker for two minutes.
    began = time.process_time()
    assert redact(f"{word} redis://me:secret@host").endswith("redis://me:***@host")
    assert time.process_time() - began < 5
