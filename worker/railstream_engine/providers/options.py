"""What of a call's options a model takes: one that it refuses is an error that names it, never silently left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railstream.errors import CallError

from railstream_engine.providers.port import Call


def accepted(call: Call, provider: str, refuses: frozenset[str], drops: frozenset[str]) -> Mapping[str, Any]:
    """The call's options. A rail's call lives without those that are refused; a request must say what it wants.

    Raises:
        CallError: ``invalid_request``, with the option's name.
    """
    if not refuses and not drops:
        return call.params
    left_out = drops | refuses if call.task != "general" else drops
    params = {name: value for name, value in call.params.items() if name not in left_out}
    for name in sorted(refuses & params.keys()):
        if params[name] not in (None, False) and not (name == "n" and params[name] == 1):
            raise CallError(
                f"{provider} refuses the option {name!r}; leave it out, or put it under the model's `railstream.drops`",
                code="invalid_request",
                param=name,
            )
        params = {key: value for key, value in params.items() if key != name}
    return params
