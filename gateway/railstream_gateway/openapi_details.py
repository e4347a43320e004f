"""What the OpenAPI document says of each operation beside its body: tags, parameters, answers, errors, who may ask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
SECURITY: Final = "ApiKey"
METHODS: Final = frozenset({"get", "post", "delete", "put", "patch"})

TAGS: Final = {
    "chat": "Completions: asked for, read again from any position, cancelled.",
    "checks": "Rails over messages, without generating.",
    "sessions": "Conversations with branches.",
    "flows": "Graphs of operations on one resumable stream.",
    "models": "What is served.",
    "operation": "For probes and for Prometheus. No key is asked for.",
}
PREFIXES: Final = (
    ("/v1/chat", "chat"),
    ("/v1/checks", "checks"),
    ("/v1/sessions", "sessions"),
    ("/v1/flows", "flows"),
    ("/v1/", "models"),
    ("/", "operation"),
)

REFUSALS: Final = {
    "400": ("BadRequest", "The request is wrong: `param` names the field."),
    "401": ("NoKey", "An API key is needed (`missing_api_key`), or the one sent is not known (`invalid_api_key`)."),
    "403": (
        "NotAllowed",
        "A page or a host that a gateway without keys does not serve: `origin_not_allowed`, `host_not_allowed`.",
    ),
    "404": ("NotFound", "Unknown, expired, or of another key; a model that is not served is `model_not_found`."),
    "409": ("Conflict", "An Idempotency-Key with another body, or a branch that is busy."),
    "413": ("TooLarge", "The body is over the limit: `body_too_large`."),
    "429": ("TooMany", "The queue is full (`queue_full`), or the provider's rate limit is reached. See `Retry-After`."),
    "500": ("Failed", "A rail or this server failed."),
    "502": ("Provider", "The provider failed, or refused the key of the deployment; `code` says which."),
    "503": ("Unavailable", "Redis or a worker is away, or everything is busy. See `Retry-After`."),
    "504": ("Late", "The provider did not answer in time; `param` names the deadline."),
}
EVERYWHERE: Final = ("400", "401", "403", "503")
ON_BODIES: Final = ("409", "413")
ON_ANSWERS: Final = ("409", "429", "500", "502", "504")

FRAMES: Final = (
    "Server-sent events. Each has an `id`, `<attempt>-<seq>`, and `data`, a `chat.completion.chunk`; the last is "
    "`data: [DONE]`. Lines `: keep-alive` are comments. After a broken connection go on with `GET` on the completion, "
    '`?stream=true` and `Last-Event-ID`. An error after the start is one `data: {"error": …}`, then `data: [DONE]`.'
)
NATIVE: Final = (
    "Server-sent events of the request's own stream: `event` is started, chunk, restarted, usage, finished, blocked, "
    "failed or cancelled (and operation_started, operation_finished, operation_skipped of a flow), `data` its JSON."
)


def _parameter(name: str, where: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": False, "description": description, "schema": schema}


IDEMPOTENCY: Final = _parameter(
    "Idempotency-Key", "header",
    "A repeat with the same key and body attaches to the same generation, for 24 hours.",
    {"type": "string", "minLength": 1, "maxLength": 255},
)  # fmt: skip
ON_DISCONNECT: Final = _parameter(
    "X-Railstream-On-Disconnect", "header",
    "What becomes of the generation when its last reader leaves: cancel (default), continue, or grace=<seconds>.",
    {"type": "string", "pattern": r"^(cancel|continue|grace=\d+(\.\d+)?)$", "default": "cancel"},
)  # fmt: skip
LAST_EVENT_ID: Final = _parameter(
    "Last-Event-ID", "header",
    "Go on after this event; browsers send it by themselves. Beside `starting_after` it must be the same.",
    {"type": "string", "pattern": r"^\d+-\d+$", "examples": ["1-42"]},
)  # fmt: skip
STARTING_AFTER: Final = _parameter(
    "starting_after", "query", "Go on after this event; the same as Last-Event-ID.",
    {"type": "string", "pattern": r"^\d+-\d+$", "examples": ["1-42"]},
)  # fmt: skip
STREAM: Final = _parameter(
    "stream", "query", "The stream again, as server-sent events, in place of the answer or its status.",
    {"type": "boolean", "default": False},
)  # fmt: skip
POSITION: Final = (LAST_EVENT_ID, STARTING_AFTER)


class Details(NamedTuple):
    """``answers``: schema name and meaning by status. ``stream``: the meaning of an event stream under 200."""

    parameters: tuple[dict[str, Any], ...] = ()
    answers: Mapping[str, tuple[str, str]] = MappingProxyType({})
    stream: str = ""
    generates: bool = False
    """A provider is called for the answer, so its errors are possible."""


COMPLETION: Final = ("ChatCompletion", "The completion.")
RUNNING: Final = ("CompletionStatus", "It waits or runs: ask again after `Retry-After`.")
OPERATIONS: Final[dict[tuple[str, str], Details]] = {
    ("post", "/v1/chat/completions"): Details(
        (IDEMPOTENCY, ON_DISCONNECT), {"200": COMPLETION}, f"With `stream: true`. {FRAMES}", True
    ),
    ("post", "/v1/checks"): Details((IDEMPOTENCY,), {"200": ("CheckResult", "What the rails decided.")}, "", True),
    ("get", "/v1/chat/completions/{id}"): Details(
        (STREAM, *POSITION, ON_DISCONNECT), {"200": COMPLETION, "202": RUNNING}, f"With `?stream=true`. {FRAMES}", True
    ),
    ("get", "/v1/chat/completions/{id}/events"): Details((*POSITION, ON_DISCONNECT), {}, NATIVE),
    ("post", "/v1/chat/completions/{id}/cancel"): Details((), {"200": ("CompletionStatus", "Its state afterwards.")}),
    ("post", "/v1/flows"): Details((IDEMPOTENCY, ON_DISCONNECT), {}, f"With `stream: true`. {FRAMES}", True),
    ("get", "/v1/flows/{id}"): Details((STREAM, *POSITION, ON_DISCONNECT), {}, f"With `?stream=true`. {FRAMES}", True),
    ("get", "/v1/models"): Details((), {"200": ("ModelList", "The models that the configs name.")}),
    ("get", "/v1/models/{name}"): Details((), {"200": ("Model", "The model.")}),
    ("get", "/v1/rails/configs"): Details((), {"200": ("ConfigId", "The ids of the configs, the default one first.")}),
    ("get", "/livez"): Details((), {"200": ("Alive", "The process serves.")}),
    ("get", "/readyz"): Details((), {"200": ("Ready", "It can serve."), "503": ("Ready", "It cannot, and why.")}),
}
LISTS: Final = frozenset({"ConfigId"})
"""Schemas whose answer is a list of them."""
PATH_PARAMETERS: Final = {
    "id": "Id of the completion, flow or session.",
    "name": "Name of the model or branch.",
    "limit": "How many at most.",
}


def add_details(document: dict[str, Any], *, wants_key: bool) -> None:
    """``wants_key``: API keys are configured."""
    components = document["components"]
    components["securitySchemes"] = {
        SECURITY: {"type": "http", "scheme": "bearer", "description": "One of the deployment's API keys."}
    }
    components["responses"] = {
        name: _answer("Error", text) for name, text in (*REFUSALS.values(), ("Other", "Refused: `code` says why."))
    }
    document["security"] = [{SECURITY: []}] if wants_key else [{}, {SECURITY: []}]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    for path, operations in document["paths"].items():
        for method in operations.keys() & METHODS:
            _describe(operations[method], method, path, OPERATIONS.get((method, path), Details()))


def _describe(operation: dict[str, Any], method: str, path: str, details: Details) -> None:
    tag = next(name for prefix, name in PREFIXES if path.startswith(prefix))
    operation["tags"] = [tag]
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        parameter.setdefault("description", PATH_PARAMETERS.get(parameter["name"], ""))
    if parameters or details.parameters:
        operation["parameters"] = [*parameters, *details.parameters]
    answers = operation["responses"]
    for status, (schema, meaning) in details.answers.items():
        answers[status] = _answer(schema, meaning)
    if details.stream:
        _add_stream(answers, details.stream, beside="200" in details.answers or "flows" in path)
    if tag == "operation":
        operation["security"] = []
        answers.pop("4XX", None)
        return
    for status in _refusals(method, path, details):
        answers.setdefault(status, {"$ref": f"#/components/responses/{REFUSALS[status][0]}"})
    answers["4XX"] = {"$ref": "#/components/responses/Other"}


def _refusals(method: str, path: str, details: Details) -> tuple[str, ...]:
    found = EVERYWHERE + (("404",) if "{" in path or "completions" in path else ())
    found += ON_BODIES if method == "post" else ()
    return tuple(sorted({*found, *(ON_ANSWERS if details.generates else ())}))


def _add_stream(answers: dict[str, Any], text: str, *, beside: bool) -> None:
    """``beside``: a JSON answer stands under the same status."""
    answer = answers.setdefault("200", {"description": "", "content": {}})
    content = answer["content"] if beside else {}
    answer["content"] = content | {EVENTS: {"schema": {"type": "string", "description": text}}}
    if not beside:
        answer["description"] = text


def _answer(schema: str, meaning: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    shape = {"type": "array", "items": reference} if schema in LISTS else reference
    return {"description": meaning, "content": {JSON: {"schema": shape}}}
