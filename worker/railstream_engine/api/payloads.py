"""Errors as the text iterator brings them: one last chunk, a JSON string in OpenAI's envelope."""

from __future__ import annotations

import json
from typing import Any, Final

from railstream.errors import CallError
from railstream.events import Blocked, Failed

FAILED: Final = "generation_failed"


def violation(blocked: Blocked) -> str:
    return json.dumps({"error": blocked.error})


def failure(failed: Failed, error: CallError | None) -> str:
    """``downstream_error`` with the provider's HTTP status where it answered with one, else ``generation_error``."""
    status = None if error is None else upstream_status(error)
    kind = "generation_error" if status is None else "downstream_error"
    code: int | str = status if status is not None else (error.provider_code if error else None) or FAILED
    message = sanitised(str(failed.error.get("message") or "the generation failed"))
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def upstream_status(error: CallError) -> int | None:
    """The HTTP status that the provider refused with; 500 for one that is no error status."""
    status: Any = getattr(error.__cause__, "status_code", None)
    if not isinstance(status, int):
        return None
    return status if 400 <= status <= 599 else 500


def sanitised(message: str) -> str:
    """Without keys and URLs. Imported on a failure only."""
    from railstream_engine.providers.faults import redact

    return redact(message)
