"""Telemetry: one trace per request, one record per LLM call, metrics with bounded labels.

`setup` is for a server process, `of_program` for a library in somebody's program.
"""

from railstream.telemetry.calls import CallRecorder
from railstream.telemetry.instruments import Instruments
from railstream.telemetry.process import Telemetry, of_program, setup
from railstream.telemetry.prometheus import CONTENT_TYPE
from railstream.telemetry.rails import RailRecorder
from railstream.telemetry.recorded_call import RecordedCall
from railstream.telemetry.spans import OpenSpan
from railstream.telemetry.tracing import Tracing

__all__ = [
    "CONTENT_TYPE",
    "CallRecorder",
    "Instruments",
    "OpenSpan",
    "RailRecorder",
    "RecordedCall",
    "Telemetry",
    "Tracing",
    "of_program",
    "setup",
]
