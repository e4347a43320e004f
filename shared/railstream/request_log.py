"""One line per request, on the gateway and on the worker, for an operator: what became of it, never what it held.

``RAILSTREAM_REQUEST_LOG`` chooses: ``all`` (default), ``failed``, ``off``, or a share such as ``0.1``. A share is taken
by the request's id, so gateway and workers choose the same requests; whatever did not simply finish is always written
but with ``off``. Both sides write the same fields:

==================  ===================================================================================
``request_id``      of the request; empty when it was refused before it had one
``outcome``         ``finished``, ``blocked``, ``failed``, ``cancelled``, ``refused`` (at the edge), ``ok`` (there is no
                    stream), or why the reader got no end: ``cancelled`` (it left), ``slow``, ``drained``; of a
                    worker also ``handed_back``, ``lost``
``code``            of the error
``rail``            that blocked it
``key``             digest of the API key; empty when no keys are configured
==================  ===================================================================================
"""

from __future__ import annotations

import logging
import random
from typing import Any, Final

from railstream.events import Blocked, Cancelled, Failed, Finished, Payload
from railstream.ids import is_request_id

log = logging.getLogger(__name__)

FINE: Final = frozenset({"finished", "ok"})
"""Outcomes of which a share is enough."""
_SPACE: Final = 16**8


def share_of(choice: str) -> float:
    """``all`` is 1, ``failed`` is 0, a number is itself; ``off`` is -1.

    Raises:
        ValueError: it is none of them.
    """
    named = {"all": 1.0, "failed": 0.0, "off": -1.0}
    if choice in named:
        return named[choice]
    try:
        share = float(choice)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{choice!r} is none of all, failed, off, or a share from 0 to 1")
    return share


class RequestLog:
    """``choice`` as `share_of` reads it."""

    def __init__(self, choice: str = "all") -> None:
        self._share = share_of(choice)

    def write(self, request_id: str, outcome: str, fields: dict[str, Any]) -> None:
        """Write the line of a request that is over. Empty fields are left out."""
        if not self._chooses(request_id, outcome) or not log.isEnabledFor(logging.INFO):
            return
        line = {"request_id": request_id, "outcome": outcome} | fields
        known = {name: value for name, value in line.items() if value not in ("", None)}
        log.info("request", extra={"fields": known})

    def _chooses(self, request_id: str, outcome: str) -> bool:
        if self._share < 0:
            return False
        if self._share >= 1 or outcome not in FINE:
            return True
        if self._share == 0:
            return False
        drawn = int(request_id[-10:-2], 16) / _SPACE if is_request_id(request_id) else random.random()
        return drawn < self._share


def describe(end: Payload) -> tuple[str, dict[str, Any]]:
    """The outcome of a stream's terminal event, and the fields of a line that it brings: none of them is text."""
    match end:
        case Blocked(error=error, flow=flow, stage=stage, usage=usage):
            return "blocked", {"code": error.get("code"), "rail": flow, "stage": stage} | _tokens(usage)
        case Failed(error=error, usage=usage):
            return "failed", {"code": error.get("code")} | _tokens(usage)
        case Cancelled(reason=reason, usage=usage):
            return "cancelled", {"code": reason} | _tokens(usage)
        case Finished(finish_reasons=reasons, usage=usage):
            return "finished", {"finish_reason": ",".join(reasons)} | _tokens(usage)
        case _:
            return type(end).__name__.lower(), {}


def _tokens(usage: dict[str, Any] | None) -> dict[str, Any]:
    """The counts of an OpenAI usage object."""
    usage = usage or {}
    return {"input_tokens": usage.get("prompt_tokens"), "output_tokens": usage.get("completion_tokens")}
