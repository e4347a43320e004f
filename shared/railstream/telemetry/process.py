"""One `Telemetry` per process: its spans, its calls, its metrics, and the page that shows them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from railstream.telemetry import content, names
from railstream.telemetry.calls import CallRecorder
from railstream.telemetry.instruments import Instruments
from railstream.telemetry.rails import RailRecorder
from railstream.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

NO_SDK: Final = b"# no metrics: the OpenTelemetry SDK is not installed (pip install 'railstream[otel]')\n"
NOT_OURS: Final = b"# no metrics here: this program's own OpenTelemetry providers have them\n"
SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that the last export may take."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a process records with. ``metrics_page`` is Prometheus text of type `prometheus.CONTENT_TYPE`."""

    tracing: Tracing
    calls: CallRecorder
    rails: RailRecorder
    instruments: Instruments
    metrics_page: Callable[[], bytes]
    _shutdown: Callable[[float], bool]

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """End the calls that are open and send what is left. Blocks for ``timeout`` seconds at most."""
        self.calls.abandon()
        if not self._shutdown(timeout):
            log.warning("telemetry: the last export took longer than %.1f s and is given up", timeout)


def setup(
    service: str,
    *,
    instance: str = "",
    models: Iterable[str] = (),
    trusts_traceparent: bool = True,
    baggage: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    readers: Sequence[Any] = (),
    span_processors: Sequence[Any] = (),
) -> Telemetry:
    """Telemetry of a server process. Without the SDK nothing is recorded, and trace context still passes through.

    ``models``: the configured model names, the only ones that become labels. ``baggage``: keys that may travel with
    a job. ``readers`` and ``span_processors``: more of the SDK's, beside those that the ``OTEL_…`` variables ask for.

    Raises:
        ConfigurationError: a variable asks for an exporter that is not installed.
    """
    said = os.environ if environ is None else environ
    try:
        from railstream.telemetry.sdk import Providers
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("opentelemetry"):
            raise
        return _build(
            trace.NoOpTracerProvider(), metrics.NoOpMeterProvider(), said, models, trusts_traceparent, baggage,
            page=lambda: NO_SDK,
        )  # fmt: skip
    providers = Providers(service, instance, said, readers=readers, span_processors=span_processors)
    return _build(
        providers.tracers, providers.meters, said, models, trusts_traceparent, baggage,
        page=providers.page, shutdown=providers.shutdown,
    )  # fmt: skip


def of_program(models: Iterable[str] = ()) -> Telemetry:
    """Telemetry of a library in somebody's program: its own global providers record, and it ends them itself."""
    return _build(
        trace.get_tracer_provider(), metrics.get_meter_provider(), os.environ, models, True, (), page=lambda: NOT_OURS
    )


def _build(
    tracers: TracerProvider,
    meters: MeterProvider,
    environ: Mapping[str, str],
    models: Iterable[str],
    trusts_traceparent: bool,
    baggage: Iterable[str],
    *,
    page: Callable[[], bytes],
    shutdown: Callable[[float], bool] = lambda _: True,
) -> Telemetry:
    tracer, meter = tracers.get_tracer(names.SCOPE), meters.get_meter(names.SCOPE)
    opted_in = {part.strip() for part in environ.get(names.OPT_IN, "").split(",")}
    calls = CallRecorder(
        tracer,
        meter,
        models=models,
        latest_only=names.LATEST_ONLY in opted_in,
        captures_content=content.captured(environ),
    )
    tracing = Tracing(tracer, trusts_traceparent=trusts_traceparent, baggage=baggage)
    instruments = Instruments(meter)
    return Telemetry(tracing, calls, RailRecorder(tracer, instruments), instruments, page, shutdown)
