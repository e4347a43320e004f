"""The table of failed LLM calls: what kind of failure it was, and how a client reads it.

A provider's status, code and type are kept where they mean the same to the client: 400, 404, 413, 422 and 429. What is
about the provider's own health or about our credential is 502, 503 or 504, with the provider's code beside ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

KEPT_STATUSES: Final = frozenset({400, 404, 413, 422, 429})
"""Statuses of a provider that mean the same to its client and to ours."""
_CODE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
"""A code as OpenAI writes them. Other spellings stand beside ours, as ``provider_code``."""
_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")


OUR_TYPES: Final = frozenset({"server_error", "internal_error", "configuration_error", "cancelled", "stream_gap"})
"""Types of errors that a provider had no part in: its own types never read so."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """One kind of failure. ``type`` and ``code`` are what a client reads where the provider has said nothing better."""

    status: int
    retryable: bool
    type: str
    code: str
    message: str
    """What the client of a guarded request reads."""
    passes: bool = True
    """The provider's own status, code and type are passed on, where they are among those that mean the same."""


CALL_KINDS: Final[Mapping[str, CallKind]] = {
    "authentication": CallKind(
        502, False, "upstream_error", "authentication", "the provider refused the API key", passes=False
    ),
    "missing_key": CallKind(
        502, False, "upstream_error", "missing_key", "the provider's API key is not set at the worker", passes=False
    ),
    "permission": CallKind(
        502, False, "upstream_error", "permission", "the provider's key may not use the model", passes=False
    ),
    "not_found": CallKind(
        502, False, "invalid_request_error", "model_not_found", "the provider does not know the model or the address"
    ),
    "quota": CallKind(
        429, False, "insufficient_quota", "insufficient_quota", "the quota at the provider is used up"
    ),
    "rate_limited": CallKind(
        429, True, "rate_limit_error", "rate_limit_exceeded", "the provider's rate limit is reached"
    ),
    "overloaded": CallKind(503, True, "upstream_error", "overloaded", "the provider is overloaded"),
    "invalid_request": CallKind(
        400, False, "invalid_request_error", "invalid_request", "the provider refused the request as invalid"
    ),
    "content_filtered": CallKind(
        400, False, "invalid_request_error", "content_filter", "the provider's content filter refused the request"
    ),
    "context_too_long": CallKind(
        400,
        False,
        "invalid_request_error",
        "context_length_exceeded",
        "the request is longer than the model's context",
    ),
    "timeout": CallKind(504, True, "upstream_error", "timeout", "the provider did not answer in time"),
    "connection": CallKind(502, True, "upstream_error", "connection", "the connection to the provider failed"),
    "truncated": CallKind(
        502, True, "upstream_error", "truncated", "the provider's answer ended before it was complete"
    ),
    "provider": CallKind(502, True, "upstream_error", "provider", "the provider failed"),
}  # fmt: skip
"""By the ``code`` of a `railstream.errors.CallError`."""

PROVIDER_WORDS: Final[Mapping[str, str]] = {
    "invalid_api_key": "authentication",
    "api_key_invalid": "authentication",  # Google: with status 400
    "authentication_error": "authentication",
    "unauthenticated": "authentication",
    "permission_error": "permission",
    "permission_denied": "permission",
    "billing_error": "quota",
    "insufficient_quota": "quota",  # a 429 that no waiting mends
    "insufficient_balance": "quota",
    "billing_hard_limit_reached": "quota",
    "not_found_error": "not_found",
    "not_found": "not_found",
    "model_not_found": "not_found",
    "deploymentnotfound": "not_found",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "resource_exhausted": "rate_limited",
    "too_many_requests": "rate_limited",
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "unavailable": "overloaded",
    "service_unavailable": "overloaded",
    "timeout_error": "timeout",
    "deadline_exceeded": "timeout",
    "context_length_exceeded": "context_too_long",
    "model_context_window_exceeded": "context_too_long",
    "content_filter": "content_filtered",
    "content_policy_violation": "content_filtered",
    "moderation_error": "content_filtered",
    "moderation_blocked": "content_filtered",
    "invalid_request_error": "invalid_request",
    "invalid_argument": "invalid_request",
    "failed_precondition": "invalid_request",
    "request_too_large": "invalid_request",
    "unsupported_value": "invalid_request",
    "unsupported_parameter": "invalid_request",
    "invalid_value": "invalid_request",
    "unknown_parameter": "invalid_request",
    "invalid_type": "invalid_request",
    "missing_required_parameter": "invalid_request",
    "string_above_max_length": "invalid_request",
    "api_error": "provider",
    "server_error": "provider",
    "internal": "provider",
    "internal_server_error": "provider",
}
"""Codes and types of providers, in lower case, by the kind of failure that they name. Of a guarded request they are the
only words of a provider that a client reads."""
_KNOWN_TYPES: Final = frozenset(PROVIDER_WORDS) | {"requests", "tokens"}


@dataclass(frozen=True, slots=True)
class ProviderError:
    """What the provider itself answered; each field is ``None`` where it has not said it."""

    status: int | None = None
    code: str | None = None
    type: str | None = None

    def closed(self) -> ProviderError:
        """Without any word that is not in the table: a word may quote what no rail has read."""
        code = self.code if self.code is not None and self.code.lower() in PROVIDER_WORDS else None
        return ProviderError(self.status, code, self.type if self.type in _KNOWN_TYPES else None)


def status_of(kind: CallKind, provider: ProviderError) -> int:
    """The HTTP status for our client."""
    return provider.status if kind.passes and provider.status in KEPT_STATUSES else kind.status


def words_of(name: str, kind: CallKind, provider: ProviderError) -> dict[str, Any]:
    """``type`` and ``code`` for our client, and ``provider_code`` where the provider's own is another."""
    type, code = kind.type, kind.code
    if kind.passes and status_of(kind, provider) in KEPT_STATUSES:
        if provider.type is not None and provider.type not in OUR_TYPES and _TYPE.fullmatch(provider.type):
            type = provider.type
        if provider.code is not None and _CODE.fullmatch(provider.code) and _agrees(name, provider):
            code = provider.code
    beside = provider.code if provider.code not in (code, type) else None
    return {"type": type, "code": code} | ({} if beside is None else {"provider_code": beside})


def closed_words(error: dict[str, Any]) -> dict[str, Any]:
    """What to lay over a provider's error object where its words may not be shown: message, type and codes of ours."""
    code = str(error.get("code"))
    name = next((name for name, kind in CALL_KINDS.items() if code in (name, kind.code)), PROVIDER_WORDS.get(code))
    kind = CALL_KINDS[name or "provider"]
    closed = {"message": kind.message, "type": kind.type, "code": code if name else kind.code}
    return closed | ({"provider_code": None} if "provider_code" in error else {})


def _agrees(name: str, provider: ProviderError) -> bool:
    """Whether a provider's code names this kind of failure, or none that we know.

    Clients decide by the code of these kinds, so a provider's vague word never takes the place of the exact one. A type
    that stands in for a code that is missing is no code.
    """
    code = provider.code or ""
    if code == provider.type:
        return code == CALL_KINDS[name].code
    known = PROVIDER_WORDS.get(code)
    return known == name or (known is None and name in ("invalid_request", "rate_limited", "not_found"))
