"""Errors of every provider in one table: which code, whether to retry, and nothing that must not be shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from railstream.call_kinds import CALL_KINDS, PROVIDER_WORDS
from railstream_engine.providers.faults import BY_STATUS, answered, redact, retry_after


def test_the_table_knows_only_codes_that_have_a_status() -> None:
    assert {*BY_STATUS.values(), *PROVIDER_WORDS.values()} <= CALL_KINDS.keys()


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, {"message": "bad key", "type": "invalid_request_error", "code": "invalid_api_key"}, "authentication"),
        (404, {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}, "not_found"),
        (429, {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}, "rate_limited"),
        (429, {"message": "no money left", "type": "insufficient_quota", "code": "insufficient_quota"}, "quota"),
        (402, {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}, "quota"),
        (400, {"message": "too long", "type": "x", "code": "context_length_exceeded"}, "context_too_long"),
        (400, {"message": "This model's maximum context length is 8192 tokens", "code": 400}, "context_too_long"),
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, "context_too_long"),
        (400, {"message": "filtered", "code": "content_filter"}, "content_filtered"),
        (413, {"type": "request_too_large", "message": "big"}, "invalid_request"),
        (422, {"detail": "nope"}, "invalid_request"),
        (500, "a page of HTML", "provider"),
        (502, None, "provider"),
        (200, {"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        (200, {"type": "api_error", "message": "oops"}, "provider"),
        (200, {"message": "Rate limit", "code": 429}, "rate_limited"),
        (200, {"message": "Provider returned error", "code": 502, "metadata": {}}, "provider"),
        (200, {"status": "RESOURCE_EXHAUSTED", "code": 429, "message": "quota"}, "rate_limited"),
        (200, {"status": "UNAVAILABLE", "code": 503, "message": "try later"}, "overloaded"),
    ],
)
def test_an_error_object_of_any_provider_is_one_of_ours(status: int, error: Any, code: str) -> None:
    found = answered(error, status=status)
    assert found.code == code
    assert found.retryable == CALL_KINDS[code].retryable
    assert found.status == (status if status in (400, 404, 413, 422, 429) else CALL_KINDS[code].status)


def test_the_providers_own_code_and_request_id_stand_beside() -> None:
    error = answered({"message": "m", "code": "c", "param": "p"}, status=400, headers={"x-request-id": "req_1"})
    assert (error.provider_code, error.provider_request_id, error.param) == ("c", "req_1", "p")
    assert answered({"type": "api_error"}, headers={"request-id": "req_2"}).provider_request_id == "req_2"


@pytest.mark.parametrize(
    "said",
    ["Incorrect key sk-abcdef123456", "Bearer abc.def", "see https://host/x?key=1", "my-own-secret", "AIzaSyA1234"],
)
def test_keys_and_urls_are_not_shown(said: str) -> None:
    message = answered({"message": said}, status=401, key="my-own-secret").message
    assert not any(secret in message for secret in ("abcdef123456", "abc.def", "host", "my-own-secret", "SyA1234"))
    assert redact("nothing to hide") == "nothing to hide"


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert 25 < (retry_after({"retry-after": soon}) or 0) <= 30
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (400, {"type": "invalid_request_error", "code": "context_length_exceeded"}, (400, "context_length_exceeded")),
        (
            400,
            {"type": "BadRequestError", "code": 400, "message": "maximum context length"},
            (400, "context_length_exceeded"),
        ),
        (
            400,
            {"type": "image_generation_user_error", "code": "content_policy_violation"},
            (400, "content_policy_violation"),
        ),
        (400, {"type": "invalid_request_error", "code": "unsupported_value"}, (400, "unsupported_value")),
        (400, {"type": "invalid_request_error", "code": None}, (400, "invalid_request")),
        (404, {"type": "invalid_request_error", "code": "model_not_found"}, (404, "model_not_found")),
        (413, {"type": "request_too_large"}, (413, "invalid_request")),
        (422, {"detail": "wrong"}, (422, "invalid_request")),
        (429, {"type": "requests", "code": "rate_limit_exceeded"}, (429, "rate_limit_exceeded")),
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, (429, "insufficient_quota")),
        (402, {"message": "Insufficient Balance"}, (429, "insufficient_quota")),
        (401, {"type": "invalid_request_error", "code": "invalid_api_key"}, (502, "authentication")),
        (403, {"code": "unsupported_country_region_territory"}, (502, "permission")),
        (500, {"type": "server_error", "code": "oops"}, (502, "provider")),
        (503, {"type": "overloaded"}, (503, "overloaded")),
    ],
)
def test_a_providers_status_and_code_are_kept_where_they_mean_the_same(
    status: int, error: Any, told: tuple[int, str]
) -> None:
    found = answered({"message": "no", **error}, status=status)
    assert (found.status, found.envelope()["code"]) == told


def test_a_providers_code_about_our_credential_stands_beside_ours() -> None:
    found = answered({"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}, status=401)
    assert found.envelope() == {
        "message": "no",
        "param": None,
        "type": "upstream_error",
        "code": "authentication",
        "provider_code": "invalid_api_key",
    }


@pytest.mark.parametrize("word", ["secret-123456", "Secret", "x" * 300, "secret_code"])
def test_a_guarded_request_shows_no_word_of_the_provider_that_is_not_in_the_table(word: str) -> None:
    for status in (400, 401, 404, 413, 422, 429, 500):
        error = answered({"message": word, "type": word, "code": word, "param": word}, status=status)
        assert word not in str(error.guarded_envelope())


def test_a_guarded_request_keeps_the_codes_that_clients_decide_by() -> None:
    for code in ("context_length_exceeded", "insufficient_quota", "rate_limit_exceeded", "content_filter"):
        assert answered({"message": "no", "code": code}, status=400).guarded_envelope()["code"] == code
