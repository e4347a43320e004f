"""Request ids as an operator types them."""

from __future__ import annotations

from railstream.errors import InvalidRequestError, RequestNotFoundError
from railstream.ids import REQUEST_PREFIX, is_request_id


def one_id(value: str) -> str:
    """The request id that a person means; the prefix may be left out.

    Raises:
        InvalidRequestError: no request can have such an id.
    """
    name = value if value.startswith(REQUEST_PREFIX) else f"{REQUEST_PREFIX}{value}"
    if not is_request_id(name):
        raise InvalidRequestError(
            f"{value[:80]!r} is no request id: one is {REQUEST_PREFIX} and 32 hex digits; "
            "`railstream ps --all` lists them"
        )
    return name


def not_found(request_id: str) -> RequestNotFoundError:
    return RequestNotFoundError(
        f"there is no request {request_id!r} in this Redis, or it has expired; `railstream ps --all` lists what is kept"
    )
