"""What can go wrong, drawn as a tree; each leaf knows its wire code, its HTTP status and whether to retry.

RailstreamError
├── InvalidRequestError            400  the request is wrong; `param` names the field
│   ├── UnknownConfigError         400  no rails config of that id
│   ├── StreamingNotSupportedError 400  output rails whose streaming.enabled is not true
│   ├── BadCursorError             400  a Last-Event-ID that is not of this stream
│   ├── BodyTooLargeError          413
│   ├── ModelNotFoundError         404
│   ├── RequestNotFoundError       404  unknown, expired or foreign request id
│   ├── SessionNotFoundError       404  unknown, expired or foreign session
│   ├── BranchNotFoundError        404  the session has no branch of that name
│   ├── BranchExistsError          409  the session has one already
│   ├── BranchBusyError            409  somebody else is being answered on the branch
│   └── IdempotencyConflictError   409  the same Idempotency-Key with another body
├── AuthenticationError            401
├── PermissionDeniedError          403
├── OverloadedError                429 / 503, with Retry-After
├── ConfigurationError             a rails config or a setting is wrong (startup)
├── RedisUnavailableError          503  Redis does not answer, or refuses; of the command line
├── CallError                      an LLM call failed; `code` says how (see call_kinds)
│   └── MissingKeyError            502  what the provider needs is not set at the worker: no call was made
├── RailError                      500  a rail raised, timed out or answered nonsense: the text is blocked
├── CancelledByRequest             499  somebody cancelled the request
├── DeliveriesExhaustedError       500  the job failed its last delivery
├── JobLostError                   503  the job is gone from the queue and nobody runs it
├── QueueTimeoutError              503  no worker took the job within the queue's time
├── JobNotUnderstoodError          503  a job of another release, or one that cannot be decoded
├── RequestExpiredError            503  the request's record had expired when a worker took its job
├── WorkerLostError                502  the worker died and the answer could not go on: see `on_worker_loss`
├── ConfigMismatchError            503  gateway and worker hold different configs of one id
└── StreamLostError                410  events are gone from Redis: signalled, never silent
"""

from __future__ import annotations

from typing import Any, ClassVar

from railstream.call_kinds import CALL_KINDS, ProviderError, status_of, words_of


class RailstreamError(Exception):
    """An expected failure. ``str()`` is the message for the caller; it quotes the value and the remedy."""

    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    status: int = 500
    retryable: bool = False

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    def envelope(self) -> dict[str, Any]:
        """OpenAI's error object: ``{"message", "type", "param", "code"}``."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class InvalidRequestError(RailstreamError):
    type = "invalid_request_error"
    code = "invalid_request"
    status = 400


class UnknownConfigError(InvalidRequestError):
    code = "config_not_found"


class StreamingNotSupportedError(InvalidRequestError, ValueError):
    code = "streaming_not_supported"


class BadCursorError(InvalidRequestError):
    code = "bad_cursor"


class BodyTooLargeError(InvalidRequestError):
    code = "body_too_large"
    status = 413


class ModelNotFoundError(InvalidRequestError):
    code = "model_not_found"
    status = 404


class RequestNotFoundError(InvalidRequestError):
    code = "request_not_found"
    status = 404


class SessionNotFoundError(InvalidRequestError):
    code = "session_not_found"
    status = 404


class BranchNotFoundError(InvalidRequestError):
    code = "branch_not_found"
    status = 404


class BranchExistsError(InvalidRequestError):
    code = "branch_exists"
    status = 409


class BranchBusyError(InvalidRequestError):
    code = "branch_busy"
    status = 409
    retryable = True


class IdempotencyConflictError(InvalidRequestError):
    code = "idempotency_conflict"
    status = 409


class AuthenticationError(RailstreamError):
    type = "authentication_error"
    code = "missing_api_key"
    status = 401


class PermissionDeniedError(RailstreamError):
    type = "permission_error"
    code = "permission_denied"
    status = 403


class OverloadedError(RailstreamError):
    """More than can be served now. ``retry_after`` in whole seconds."""

    type = "rate_limit_error"
    code = "overloaded"
    status = 503
    retryable = True

    def __init__(self, message: str, *, code: str, status: int, retry_after: int) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after = retry_after


class ConfigurationError(RailstreamError, ValueError):
    type = "configuration_error"
    code = "bad_configuration"


class RedisUnavailableError(RailstreamError):
    code = "redis_unavailable"
    status = 503
    retryable = True


DEADLINES = frozenset({"connect_timeout", "first_token_timeout", "chunk_timeout", "total_timeout"})
"""What the ``param`` of a ``timeout`` may name."""


class CallError(RailstreamError):
    """An LLM call failed. ``code`` is a key of `CALL_KINDS`; the provider's own code and request id stand beside.

    The message may be the provider's own, without keys and URLs.

    ``partial`` is the text that had come by then: of the model itself at its port, of what rails let through above it.
    """

    type = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        provider_code: str | None = None,
        provider_type: str | None = None,
        provider_status: int | None = None,
        provider_request_id: str | None = None,
        retry_after: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self._kind = CALL_KINDS[code]
        self._provider = ProviderError(provider_status, provider_code, provider_type)
        self.status = status_of(self._kind, self._provider)
        self.retryable = self._kind.retryable
        self.provider_code = provider_code
        self.provider_request_id = provider_request_id
        self.retry_after = retry_after
        self.partial = ""

    def envelope(self) -> dict[str, Any]:
        """The error object: the provider's words where they mean the same to our client (see `call_kinds`)."""
        return super().envelope() | words_of(self.code, self._kind, self._provider)

    def guarded_envelope(self) -> dict[str, Any]:
        """The error object of a guarded request: our words, and those codes of providers that are in the table.

        A provider's message may quote the prompt or the answer, and so may its code: no rail has read them.
        """
        param = self.param if self.param in DEADLINES else None
        words = words_of(self.code, self._kind, self._provider.closed())
        return super().envelope() | {"message": self._kind.message, "param": param} | words


class MissingKeyError(CallError):
    """No call was made: an environment variable that the provider needs is not set. The message is ours alone."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="missing_key")

    def guarded_envelope(self) -> dict[str, Any]:
        return self.envelope()


class RailError(RailstreamError):
    """A rail could not decide, so the text is blocked. ``param`` is the flow."""

    type = "internal_error"
    code = "rail_execution_failure"


class CancelledByRequest(RailstreamError):
    type = "cancelled"
    code = "request_cancelled"
    status = 499
    """nginx's for a request that its client has closed: SDKs repeat a 409, and the cancel would start it again."""


class DeliveriesExhaustedError(RailstreamError):
    code = "deliveries_exhausted"


class JobLostError(RailstreamError):
    code = "job_lost"
    status = 503
    retryable = True


class JobNotUnderstoodError(RailstreamError):
    code = "job_not_understood"
    status = 503
    retryable = True


class QueueTimeoutError(RailstreamError):
    code = "queue_timeout"
    status = 503
    retryable = True


class RequestExpiredError(RailstreamError):
    code = "request_expired"
    status = 503
    retryable = True


class WorkerLostError(RailstreamError):
    """``partial`` is the text that was released before the worker died."""

    code = "worker_lost"
    status = 502
    retryable = True

    def __init__(self, message: str, *, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial

    def envelope(self) -> dict[str, Any]:
        return super().envelope() | {"partial": self.partial}


class ConfigMismatchError(RailstreamError):
    """Gateway and worker hold different configs of one id: nothing is run under rails that nobody asked for."""

    code = "config_mismatch"
    status = 503
    retryable = True


class StreamLostError(RailstreamError):
    type = "stream_gap"
    code = "gap"
    status = 410
