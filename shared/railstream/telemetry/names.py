"""Every name that leaves the process in spans and metrics, as literals, in one place.

The GenAI conventions renamed their metrics in 2026. Both families are emitted from `CALL_METRICS`;
``OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`` drops the older one.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

SCOPE: Final = "railstream"
"""Name of our tracer and our meter."""

OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST_ONLY: Final = "gen_ai_latest_experimental"
CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

OTHER: Final = "_OTHER"
"""What a label says when its value is not one of the known ones: OpenTelemetry's own word."""

ERROR_TYPE: Final = "error.type"
CANCELLED: Final = "cancelled"
"""The ``error.type`` of what somebody asked to stop: recorded, and not an error status."""

OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
PROVIDER: Final = "gen_ai.provider.name"
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "mistral": "mistral_ai",
}
"""The convention's word for an engine, where it has one of its own."""
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_SCHEME: Final = "url.scheme"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGE_ID: Final = "messaging.message.id"

TASK: Final = "railstream.task"
ATTEMPT: Final = "railstream.attempt"
REQUEST_ID: Final = "railstream.request.id"
"""On spans only: never a label of a metric."""
CONFIG_ID: Final = "railstream.config.id"
CONFIG_DIGEST: Final = "railstream.config.digest"
RAIL_FLOW: Final = "railstream.rail.flow"
RAIL_TARGET: Final = "railstream.rail.target"
RAIL_VERDICT: Final = "railstream.rail.verdict"
RAIL_ACTION: Final = "railstream.rail.action"
REASON: Final = "railstream.reason"
POOL: Final = "railstream.pool"

SECONDS_BOUNDS: Final = tuple(0.01 * 2**n for n in range(14))
TOKEN_BOUNDS: Final = tuple(float(4**n) for n in range(14))

Measure = Literal[
    "duration", "first_chunk", "per_chunk", "by_type", "input", "output", "cache_read", "cache_write", "reasoning",
    "call_input", "call_output",
]  # fmt: skip


class CallMetric(NamedTuple):
    """One row: ``bounds`` are empty for a counter."""

    measure: Measure
    older: bool
    name: str
    unit: str
    bounds: tuple[float, ...]
    description: str


CALL_METRICS: Final = (
    CallMetric("duration", True, "gen_ai.client.operation.duration", "s", SECONDS_BOUNDS, "Duration of a call."),
    CallMetric("duration", False, "gen_ai.client.inference.duration", "s", SECONDS_BOUNDS, "Duration of a call."),
    CallMetric(
        "first_chunk", True, "gen_ai.client.operation.time_to_first_chunk", "s", SECONDS_BOUNDS,
        "From the start of a call to its first chunk.",
    ),
    CallMetric(
        "first_chunk", False, "gen_ai.client.inference.time_to_first_chunk", "s", SECONDS_BOUNDS,
        "From the start of a call to its first chunk.",
    ),
    CallMetric(
        "per_chunk", True, "gen_ai.client.operation.time_per_output_chunk", "s", SECONDS_BOUNDS,
        "From one chunk to the next, for each chunk after the first.",
    ),
    CallMetric(
        "per_chunk", False, "gen_ai.client.inference.time_per_output_chunk", "s", SECONDS_BOUNDS,
        "From one chunk to the next, for each chunk after the first.",
    ),
    CallMetric("by_type", True, "gen_ai.client.token.usage", "{token}", TOKEN_BOUNDS, "Tokens of a call, by type."),
    CallMetric("input", False, "gen_ai.client.inference.usage.input_tokens", "{token}", (), "Input tokens."),
    CallMetric("output", False, "gen_ai.client.inference.usage.output_tokens", "{token}", (), "Output tokens."),
    CallMetric(
        "cache_read", False, "gen_ai.client.inference.usage.cache_read.input_tokens", "{token}", (),
        "Input tokens read from the provider's cache; counted among the input tokens too.",
    ),
    CallMetric(
        "cache_write", False, "gen_ai.client.inference.usage.cache_write.input_tokens", "{token}", (),
        "Input tokens written to the provider's cache; counted among the input tokens too.",
    ),
    CallMetric(
        "reasoning", False, "gen_ai.client.inference.usage.reasoning.output_tokens", "{token}", (),
        "Output tokens spent on reasoning; counted among the output tokens too.",
    ),
    CallMetric(
        "call_input", False, "gen_ai.client.inference.operation.input_tokens", "{token}", TOKEN_BOUNDS,
        "Input tokens of one call.",
    ),
    CallMetric(
        "call_output", False, "gen_ai.client.inference.operation.output_tokens", "{token}", TOKEN_BOUNDS,
        "Output tokens of one call.",
    ),
)  # fmt: skip
