"""Record what the rails of one turn did, from the entries that they leave in its log: a span and counts for each.

Entries are written when a rail has decided, so a turn that is cut has those that were there by then. Their number
is that of checks, never that of chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from railstream.telemetry import names
from railstream.telemetry.instruments import Instruments, Verdict

VERDICTS: Final[Mapping[str, Verdict]] = {"allow": "allow", "block": "block", "rewrite": "rewrite", "failed": "error"}
"""By the ``return_value`` of an entry's action."""
STREAMED: Final = "streamed"
"""Key of an entry whose rail ran beside the whole text: its span is right, and its length is not the rail's time."""
NANOSECONDS: Final = 1_000_000_000


class RailRecorder:
    def __init__(self, tracer: Tracer, instruments: Instruments) -> None:
        self._tracer = tracer
        self._instruments = instruments

    def record(self, activated: Iterable[Mapping[str, Any]], parent_context: Context) -> None:
        """``activated``: NeMo's ``activated_rails`` entries of one turn, with times in unix seconds."""
        for entry in activated:
            self._record(entry, parent_context)

    def _record(self, entry: Mapping[str, Any], parent_context: Context) -> None:
        flow, target = str(entry["name"]), entry["type"]
        decided = entry["executed_actions"][0]["return_value"]
        verdict = VERDICTS.get(decided, "error")
        span = self._tracer.start_span(
            f"guardrail {flow}",
            parent_context,
            SpanKind.INTERNAL,
            {
                names.RAIL_FLOW: flow,
                names.RAIL_TARGET: target,
                names.RAIL_VERDICT: verdict,
                names.RAIL_ACTION: "stop" if entry["stop"] else "continue",
            },
            start_time=round(entry["started_at"] * NANOSECONDS),
        )
        if verdict == "error":
            span.set_attribute(names.ERROR_TYPE, "rail_execution_failure")
            span.set_status(StatusCode.ERROR)
        span.end(round(entry["finished_at"] * NANOSECONDS))
        seconds = None if entry.get(STREAMED) else max(0.0, entry["duration"])
        self._instruments.rail(flow, target, verdict, seconds)
