"""Logs on stderr: a JSON object per line, or readable lines on a terminal, with trace id and request id in each.

No prompt, no answer and no secret: libraries that log requests are kept at warnings, and what looks like a
credential is struck out of every line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

Format = Literal["auto", "json", "text"]

VERBOSE: Final = (
    "asyncio", "faststream", "httpcore", "httpcore2", "httpx", "httpx2", "openai", "opentelemetry", "redis", "requests",
    "urllib3", "uvicorn",
)  # fmt: skip
"""Libraries whose own lines below a warning hold requests, or nothing that is ours to say."""
CREDENTIALS: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31}://[^\s/:@]*:)[^\s/@]+(?=@)"  # the password of a URL
    r"|(?P<bearer>\b[Bb]earer\s+)[^\s\"',]+"
    r"|(?P<key>\bsk-)[A-Za-z0-9_-]{8,}"
)
"""A scheme has a greatest length: else a long word costs the square of its length, while the event loop stands."""
SIGNS: Final = ("://", "earer", "sk-")
"""Each alternative of `CREDENTIALS` holds one of these: a line without them, as nearly all are, needs no search."""
HIDDEN: Final = "***"

_request_id: ContextVar[str] = ContextVar("railstream_request_id", default="")
_trace_id: ContextVar[str] = ContextVar("railstream_trace_id", default="")


def bind(*, request_id: str, trace_id: str = "") -> None:
    """Put these ids into every line that the current task logs from here on, and the tasks that it starts."""
    _request_id.set(request_id)
    _trace_id.set(trace_id)


def configure(level: str, format: Format, process: str, stream: TextIO | None = None) -> None:
    """Send the root logger, and so every other, to ``stream`` (stderr). ``process`` names this process in each line.

    Calling it again replaces what it did before.
    """
    target = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonLines(process) if as_json else Readable(process))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, Readable | JsonLines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)


def redact(text: str) -> str:
    """The text without passwords of URLs, bearer tokens and API keys."""
    if not any(sign in text for sign in SIGNS):
        return text
    return CREDENTIALS.sub(lambda found: (found["scheme"] or found["bearer"] or found["key"]) + HIDDEN, text)


class JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _ids() | fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False))


class Readable(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        known = _ids() | fields_of(record)
        ids = "".join(f" {name}={value}" for name, value in known.items())
        line = f"{clock} {record.levelname.lower():7} {self._process}: {record.getMessage()}{ids}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was logged with ``extra={"fields": …}``: facts of a line that a machine reads."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _ids() -> dict[str, str]:
    ids = {"request_id": _request_id.get(), "trace_id": _trace_id.get()}
    return {name: value for name, value in ids.items() if value}


class Outage:
    """Something that is needed and may be away, such as Redis: logged once, and once when it ends, with its length."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def begin(self, reason: object) -> None:
        """It is away. Only the first call of an outage logs."""
        if self._since is None:
            self._since = time.monotonic()
            self._log.warning("%s is down: %s", self._what, reason)

    def end(self) -> None:
        """It is there. Logs only when it had been away."""
        if self._since is not None:
            lasted, self._since = time.monotonic() - self._since, None
            self._log.info("%s is back after %.1f s", self._what, lasted)
