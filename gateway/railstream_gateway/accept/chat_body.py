"""The body of ``POST /v1/chat/completions``, as msgspec checks it: OpenAI's request, and what guards it.

Inside a message unknown keys pass: providers have their own. At the top level they are options of
a provider: one that the model does not pass is refused by name, so that a misspelt option is never without effect.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class ImageUrl(Struct):
    url: str
    detail: str | None = None


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl | str


class VideoPart(Struct, tag_field="type", tag="video_url"):
    """vLLM's and others'."""

    video_url: dict[str, Any] | str


class AudioUrlPart(Struct, tag_field="type", tag="audio_url"):
    """vLLM's."""

    audio_url: dict[str, Any] | str


class InputAudio(Struct):
    data: str
    format: str


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    input_audio: InputAudio


class FilePart(Struct, tag_field="type", tag="file"):
    file: dict[str, Any]


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ThinkingPart(Struct, tag_field="type", tag="thinking"):
    thinking: Any = None


UserPart = TextPart | ImagePart | AudioPart | FilePart | VideoPart | AudioUrlPart
AssistantPart = TextPart | RefusalPart | ThinkingPart | ImagePart


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]


class UserMessage(Struct, tag_field="role", tag="user"):
    content: str | Annotated[list[UserPart], Meta(min_length=1)]


class CalledFunction(Struct):
    name: str
    arguments: str | dict[str, Any] = ""


class FunctionCall(Struct, tag_field="type", tag="function"):
    id: str
    function: CalledFunction


class CustomCall(Struct, tag_field="type", tag="custom"):
    id: str
    custom: dict[str, Any]


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    content: str | list[AssistantPart] | None = None
    refusal: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    content: str | list[UserPart] | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    """OpenAI's form before tools, which openai 0.28 and old frameworks send."""

    name: str
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class FunctionDefinition(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Struct, tag_field="type", tag="function"):
    function: FunctionDefinition


class CustomTool(Struct, tag_field="type", tag="custom"):
    custom: dict[str, Any]


class TextFormat(Struct, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema"):
    json_schema: dict[str, Any]


class StreamOptions(Struct):
    include_usage: bool | None = None


class LogOptions(Struct, forbid_unknown_fields=True):
    """Which parts of the generation log the answer includes."""

    activated_rails: bool = False
    llm_calls: bool = False
    internal_events: Literal[False] = False
    colang_history: Literal[False] = False


class RailsOptions(Struct, forbid_unknown_fields=True):
    """Which rails run: all, none, or those that are named."""

    input: bool | list[str] = True
    output: bool | list[str] = True
    retrieval: bool | list[str] = True
    dialog: bool = True
    tool_input: bool | list[str] = True
    tool_output: bool | list[str] = True


class Options(Struct, forbid_unknown_fields=True):
    """NeMo Guardrails' generation options, as far as they mean something here."""

    rails: RailsOptions | list[str] | None = None
    log: LogOptions | None = None
    llm_params: dict[str, Any] | None = None


class Guardrails(Struct, forbid_unknown_fields=True):
    config_id: Name | None = None
    config_ids: Annotated[list[Name], Meta(min_length=1, max_length=16)] | None = None
    thread_id: Annotated[str, Meta(min_length=16, max_length=255)] | None = None
    context: dict[str, Any] | None = None
    options: Options | None = None


class Ours(Struct, forbid_unknown_fields=True):
    """``railstream``: what neither OpenAI nor NeMo Guardrails has a key for."""

    session: Name | None = None
    branch: Name | None = None
    models: Annotated[list[Name], Meta(min_length=1, max_length=16)] | None = None
    """Several models answer at once, each as one choice."""


class ChatBody(Guardrails, forbid_unknown_fields=False, kw_only=True):
    """OpenAI's request. The fields of `Guardrails` may stand at the top level too, as older clients send them.

    A key that is not here is an option of a provider, which the model that serves must pass.
    """

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: Name | None = None
    guardrails: Guardrails | None = None
    railstream: Ours | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    modalities: list[Literal["text"]] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: dict[str, str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None


class ChecksBody(Guardrails, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/checks``: rails over these messages, without generating."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: Name | None = None
    guardrails: Guardrails | None = None


REFUSED = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "spoken answers cannot be guarded",
    "llm_output": "it is not served",
    "output_vars": "it is not served",
    "state": "use thread_id",
    "best_of": "use n",
    "prompt": "this is the chat API: use messages",
}
"""Keys that people send and that are not served, with what to do instead."""

OURS = frozenset(field.name for field in msgspec.structs.fields(Guardrails)) | {"guardrails", "railstream"}
KNOWN = frozenset(field.name for field in msgspec.structs.fields(ChatBody))
PASSED = (
    frozenset(field.name for field in msgspec.structs.fields(ChatBody))
    - OURS
    - {
        "messages",
        "model",
        "stream",
        "stream_options",
    }
)
"""Options that travel to the provider as they are."""

LlmParams = msgspec.defstruct(
    "LlmParams",
    [(name, kind, None) for name, kind in get_type_hints(ChatBody, include_extras=True).items() if name in PASSED],
    forbid_unknown_fields=True,
    kw_only=True,
)
"""``options.llm_params``: the same options under NeMo Guardrails' name, held to the same types and bounds."""
