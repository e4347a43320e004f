"""What the variables and the installed packages make of telemetry."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter, SpanExportResult
from railstream import telemetry
from railstream.errors import ConfigurationError
from railstream.telemetry.sdk import exporters
from telemetry.recording import Recording

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

WITHOUT_SDK = """
import sys
class NoSdk:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, NoSdk())
from railstream import telemetry
made = telemetry.setup("railstream-worker", environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://nowhere"})
traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
request = made.tracing.request("POST", "/v1/chat/completions", {"traceparent": traceparent})
headers = {}
made.tracing.send(request.context, headers, "chatcmpl-1").end()
assert headers["traceparent"] == traceparent, headers
call = made.calls.start(model="m", provider="p", parent_context=request.context)
call.chunks(3)
assert call.finish(["stop"]).chunks == 3
made.instruments.rail("f", "input", "allow", 0.1)
made.instruments.watch_queues(lambda: {})
assert b"railstream[otel]" in made.metrics_page()
made.shutdown()
"""


def test_nothing_fails_without_the_sdk_and_trace_context_passes_through() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SDK], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        (ENDPOINT, [OTLPSpanExporter]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, [OTLPSpanExporter]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}, []),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, [OTLPSpanExporter, ConsoleSpanExporter]),
        ({"OTEL_TRACES_EXPORTER": "prometheus"}, []),
    ],
)
def test_the_standard_variables_choose_the_exporters(environ: dict[str, str], expected: list[type]) -> None:
    assert exporters("traces", environ) == expected


@pytest.mark.parametrize(
    ("environ", "quoted"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
    ],
)
def test_an_exporter_that_is_not_there_is_refused_by_name(environ: dict[str, str], quoted: str) -> None:
    with pytest.raises(ConfigurationError, match=quoted):
        telemetry.setup("railstream-worker", environ=environ)


def test_the_variables_name_the_service_before_we_do(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"OTEL_SERVICE_NAME": "chat", "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-1,team=a"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    page = record(environ=said, instance="ours").telemetry.metrics_page().decode()

    assert 'service_name="chat"' in page
    assert 'service_instance_id="pod-1"' in page
    assert 'team="a"' in page


def test_a_disabled_sdk_records_nothing(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    recording: Recording = record()
    recording.telemetry.instruments.admitted()
    recording.telemetry.tracing.request("GET", "/", {}).end()

    assert recording.spans == ()
    assert recording.metrics() == {}


def test_two_processes_in_one_share_nothing(record: Any) -> None:
    first, second = record(), record()
    first.telemetry.instruments.admitted()

    assert "admitted" in first.telemetry.metrics_page().decode()
    assert "admitted" not in second.telemetry.metrics_page().decode()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert "Proxy" in type(metrics.get_meter_provider()).__name__


class Stuck(SpanExporter):
    """A collector that never answers."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.release.wait(30)


def test_a_shutdown_does_not_wait_for_a_collector_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()
    made = telemetry.setup("railstream-worker", environ={}, span_processors=[SimpleSpanProcessor(stuck)])
    began = time.monotonic()
    made.shutdown(timeout=0.2)

    assert time.monotonic() - began < 5
    assert "longer than 0.2 s" in caplog.text
    stuck.release.set()


def test_a_library_records_with_the_programs_own_providers() -> None:
    made = telemetry.of_program()
    made.calls.start(model="m", provider="p").finish(["stop"])
    made.shutdown()

    assert made.metrics_page().startswith(b"# no metrics here")
