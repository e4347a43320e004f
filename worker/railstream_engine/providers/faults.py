"""One table of errors for every provider: what they answer and send becomes a `CallError`, without keys and URLs.

A provider's own code says most, then the HTTP status, then the error's type; inside a stream the status was 200 and
says nothing. What the client reads is the provider's message, redacted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from railstream.call_kinds import PROVIDER_WORDS
from railstream.errors import CallError

_SECRETS: Final = re.compile(r"(sk-|nvapi-|AIza|gsk_)[\w-]{6,}|[Bb]earer\s+\S+")
_URLS: Final = re.compile(r"https?://\S+")

BY_STATUS: Final[Mapping[int, str]] = {
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    429: "rate_limited",
    498: "overloaded",  # Groq: capacity exceeded
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
MOST_SAID: Final = 4096
MOST_CODE: Final = 256
"""Characters of a provider's message, and of its code, that are passed on."""
TOO_LONG: Final = re.compile(
    r"maximum context length|context window|prompt is too long|input is too long|exceeds? the (?:model's )?maximum",
    re.IGNORECASE,
)


def redact(text: str, key: str = "") -> str:
    """Text of a provider as a client may see it: no key, no URL."""
    if key:
        text = text.replace(key, "***")
    return _URLS.sub("[redacted-url]", _SECRETS.sub("***", text))


def answered(
    error: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, key: str = "", message: str = ""
) -> CallError:
    """The `CallError` of an error object as any of the providers writes it.

    ``status``: of the response, 200 inside a stream. ``message``: for an object that has none.
    """
    fields = _fields(error)
    said = str(fields.get("message") or message or f"the provider answered with status {status}")
    provider_code, kind = fields.get("code"), fields.get("type") or fields.get("status")
    if isinstance(provider_code, int) and isinstance(fields.get("status"), str):
        # Google's: the number is the status, which the words tell better.
        status = provider_code if status == 200 else status
        provider_code = _detail(fields, "reason") or fields["status"]
    shown = provider_code if provider_code is not None else kind
    headers = headers or {}
    param, given_type = fields.get("param"), fields.get("type")
    return CallError(
        redact(said, key)[:MOST_SAID],
        code=code_of(status, provider_code, kind, said),
        provider_code=None if shown is None else redact(str(shown), key)[:MOST_CODE],
        provider_type=redact(given_type, key)[:MOST_CODE] if isinstance(given_type, str) else None,
        provider_status=_status(status, provider_code),
        provider_request_id=headers.get("x-request-id") or headers.get("request-id"),
        retry_after=retry_after(headers) or _seconds(_detail(fields, "retryDelay")),
        param=param if isinstance(param, str) else None,
    )


def _status(status: int, provider_code: Any) -> int | None:
    """The HTTP status that the provider means; inside a stream its code may be one."""
    if status != 200:
        return status
    return provider_code if isinstance(provider_code, int) else None


def _fields(error: Any) -> dict[str, Any]:
    """The error object; Google's compatible endpoint has it inside a list of one."""
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, dict):
        inner = error.get("error")
        return inner if isinstance(inner, dict) else error
    return {"message": error if isinstance(error, str) else ""}


def _detail(fields: Mapping[str, Any], name: str) -> Any:
    """A field of the first of Google's error details that has it."""
    details = fields.get("details")
    found = details if isinstance(details, list) else ()
    return next((detail[name] for detail in found if isinstance(detail, dict) and detail.get(name)), None)


def _seconds(duration: Any) -> float | None:
    """Of a duration as Google writes it, such as ``53.5s``."""
    try:
        return max(0.0, float(str(duration).removesuffix("s")))
    except ValueError:
        return None


def code_of(status: int, provider_code: Any, kind: Any, message: str) -> str:
    """A key of `railstream.call_kinds.CALL_KINDS`."""
    by_code, by_kind = (PROVIDER_WORDS.get(str(word).lower()) for word in (provider_code, kind))
    if by_code in ("authentication", "context_too_long", "content_filtered", "permission", "quota"):
        return by_code
    if by_kind == "quota":
        return by_kind
    if status in (200, 400, 413, 422) and TOO_LONG.search(message):
        return "context_too_long"
    if status == 200 and isinstance(provider_code, int):
        status = provider_code
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 400 <= status < 500:
        return by_code or "invalid_request"
    return by_code or by_kind or "provider"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from ``retry-after-ms`` or ``retry-after``, which is a number or a date."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        return None if value is None else max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None


def truncated(provider: str, name: str) -> CallError:
    return CallError(f"{provider} ended the answer of {name} without its end signal: it is cut short", code="truncated")


def late(provider: str, name: str, what: str, limit: float) -> CallError:
    """``what``: the deadline's name in the config, such as ``first_token_timeout``, which also tells which it was."""
    waited = {"first_token_timeout": "first token", "chunk_timeout": "next token", "total_timeout": "end of the answer"}
    return CallError(
        f"{provider} did not send the {waited[what]} of {name} within {limit:g} s", code="timeout", param=what
    )
