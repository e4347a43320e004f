"""A line for the operator when a provider refuses a key, whatever the client of the request is told.

Every request of such a model fails in the same way, so a model is named once a minute.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from railstream.config.engines import ENGINES
from railstream.errors import CallError

log = logging.getLogger(__name__)

CODES: Final = {
    "authentication": "refused the API key",
    "permission": "refused the API key's right to this model, or its quota is used up",
    "missing_key": "was not called: its API key is not set",
}
EVERY: Final = 60.0
"""Seconds between two lines about one model."""
MOST: Final = 1024
"""Models that are remembered; their names come from configs."""

_last: dict[tuple[str, str, str], tuple[float, int]] = {}


def note(provider: str, model: str, error: CallError) -> None:
    """Called for every call that failed; most errors are not about keys."""
    if error.code not in CODES:
        return
    place, now = (provider, model, error.code), time.monotonic()
    before, unwritten = _last.get(place, (-EVERY, 0))
    if now - before < EVERY:
        _last[place] = (before, unwritten + 1)
        return
    if len(_last) >= MOST:
        _last.clear()
    _last[place] = (now, 0)
    variable = ENGINES[provider].key if provider in ENGINES else ""
    usual = f" ({variable}, unless the config names another variable)" if variable else ""
    more = f"; {unwritten} more calls since the last line" if unwritten else ""
    what = CODES[error.code]
    log.error("provider %r %s: model %r; see its key%s where the worker runs%s", provider, what, model, usual, more)
