"""Who asks: an API key becomes a tenant, the digest that its requests are kept under. No key is stored or logged."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from railstream.errors import AuthenticationError

TENANT_DIGITS: Final = 16
SCHEME: Final = "bearer "


class ApiKeys:
    """The keys that are let in; without any, everybody is, as the tenant ''."""

    def __init__(self, api_keys: Sequence[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in api_keys]

    def tenant(self, credential: str | None) -> str:
        """The tenant of a key, as `credential_in` finds it.

        Raises:
            AuthenticationError: the request has no API key, or an unknown one.
        """
        if not self._digests:
            return ""
        if credential is None:
            raise AuthenticationError("an API key is needed: Authorization: Bearer <key>", code="missing_api_key")
        digest = sha256(credential.encode("latin-1")).digest()
        # Every key is compared, in constant time: how long it takes says nothing about which one nearly matched.
        if not sum([hmac.compare_digest(digest, known) for known in self._digests]):
            raise AuthenticationError("the API key is not known here", code="invalid_api_key")
        return digest.hex()[:TENANT_DIGITS]


def credential_in(headers: Mapping[str, str]) -> str | None:
    """The API key of a request: a bearer's, else that of Anthropic's or of Azure's header."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(SCHEME):
        return authorization[len(SCHEME) :].strip()
    key = headers.get("x-api-key") or headers.get("api-key")
    return key.strip() if key else None
