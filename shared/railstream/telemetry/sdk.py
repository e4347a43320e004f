"""The OpenTelemetry SDK, when it is installed, set up as the ``OTEL_…`` variables say.

Nothing is exported unless a variable asks for it: an OTLP endpoint, or a list of exporters. OTLP goes over HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points, version
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import TracerProvider

from railstream.errors import ConfigurationError
from railstream.telemetry import chunk_times, prometheus

OTLP: Final = "otlp"
NONE: Final = "none"
PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc", "http/json": "otlp_json_http"}


class Providers:
    """Both providers of this process, and the reader of its metrics page."""

    def __init__(
        self,
        service: str,
        instance: str,
        environ: Mapping[str, str],
        *,
        readers: Sequence[Any] = (),
        span_processors: Sequence[Any] = (),
    ) -> None:
        self._resource = resource = _resource(service, instance, environ)
        self._page = InMemoryMetricReader()
        pushed = [PeriodicExportingMetricReader(kind()) for kind in exporters("metrics", environ)]
        # An exporter of this process's own choice ends with `shutdown`, never with the interpreter: that would hang.
        self._meters = sdk_metrics.MeterProvider(
            [self._page, *pushed, *readers], resource, shutdown_on_exit=False, views=chunk_times.views()
        )
        self._tracers = sdk_trace.TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in span_processors:
            self._tracers.add_span_processor(processor)
        for kind in exporters("traces", environ):
            self._tracers.add_span_processor(BatchSpanProcessor(kind()))

    @property
    def tracers(self) -> TracerProvider:
        return self._tracers

    @property
    def meters(self) -> MeterProvider:
        return self._meters

    def page(self) -> bytes:
        return prometheus.render(self._page.get_metrics_data(), self._resource.attributes)

    def shutdown(self, timeout: float) -> bool:
        """Send what is left, for ``timeout`` seconds at most; false when that was not enough."""
        parts = [
            threading.Thread(target=self._tracers.shutdown, name="spans-shutdown", daemon=True),
            threading.Thread(target=self._shutdown_meters, args=(timeout,), name="metrics-shutdown", daemon=True),
        ]
        for part in parts:
            part.start()
        for part in parts:
            part.join(timeout)
        return not any(part.is_alive() for part in parts)

    def _shutdown_meters(self, timeout: float) -> None:
        self._meters.shutdown(timeout_millis=timeout * 1000)


def exporters(signal: str, environ: Mapping[str, str]) -> list[Any]:
    """Exporter classes that the variables ask for; ``signal`` is ``traces`` or ``metrics``.

    Raises:
        ConfigurationError: one is not installed, or not known.
    """
    upper = signal.upper()
    asked = environ.get(f"OTEL_{upper}_EXPORTER", "").strip().lower()
    if not asked:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
        asked = OTLP if any(environ.get(name) for name in endpoints) else NONE
    names = [name.strip() for name in asked.split(",")]
    # The metrics page is always there, so "prometheus" needs no exporter.
    return [_load(signal, name, environ) for name in names if name and name not in (NONE, "prometheus")]


def _load(signal: str, name: str, environ: Mapping[str, str]) -> Any:
    found_name = name
    if name == OTLP:
        protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        found_name = PROTOCOLS.get(protocol.strip(), protocol)
    for entry in entry_points(group=f"opentelemetry_{signal}_exporter", name=found_name):
        return entry.load()
    raise ConfigurationError(
        f"OTEL_{signal.upper()}_EXPORTER asks for {name!r}, and no exporter {found_name!r} is installed: "
        "pip install 'railstream[otel]' brings OTLP over http/protobuf"
    )


def _resource(service: str, instance: str, environ: Mapping[str, str]) -> Resource:
    """What the variables say of this process goes before what we say."""
    ours = {"service.name": service, "service.namespace": "railstream", "service.version": version("railstream")}
    if instance:
        ours["service.instance.id"] = instance
    said = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    kept = {name: value for name, value in ours.items() if f"{name}=" not in said.replace(" ", "")}
    if environ.get("OTEL_SERVICE_NAME"):
        kept.pop("service.name", None)
    return Resource.create(kept)
