"""Shapes of answers that are written elsewhere as plain objects: for the OpenAPI document alone."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class CompletionMessage(Struct):
    role: Literal["assistant"]
    content: str | None
    refusal: str | UnsetType | None = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class CompletionChoice(Struct):
    index: int
    message: CompletionMessage
    finish_reason: str
    logprobs: dict[str, Any] | UnsetType | None = UNSET


class CompletionUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Struct):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | UnsetType = UNSET
    guardrails: dict[str, Any] | UnsetType = UNSET


class CompletionStatus(Struct):
    id: str
    object: Literal["chat.completion.status"]
    created: int
    model: str
    status: str
    choices: list[dict[str, Any]]
    """Empty: no choice is complete."""


class CheckResult(Struct):
    status: str
    content: str
    rail: str | None


class Model(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Struct):
    object: Literal["list"]
    data: list[Model]


class ConfigId(Struct):
    id: str


class Ready(Struct):
    status: str
    redis: bool
    workers: int
    pools: dict[str, int]
    unserved_pools: list[str]
    draining: bool


class Alive(Struct):
    status: str
