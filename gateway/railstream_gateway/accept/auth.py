"""Who asks: an API key becomes a tenant, the digest that its requests are kept under. No key is stored or logged."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from railstream.errors import AuthenticationError, PermissionDeniedError

TENANT_DIGITS: Final = 16
SCHEME: Final = "bearer "


class ApiKeys:
    """The keys that are let in; without any, everybody is, as the tenant ''."""

    def __init__(self, api_keys: Sequence[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in api_keys]

    def tenant(self, authorization: str | None) -> str:
        """The tenant of an ``Authorization`` header.

        Raises:
            AuthenticationError: there is no bearer key in it.
            PermissionDeniedError: the key is not one of ours.
        """
        if not self._digests:
            return ""
        if authorization is None or not authorization.lower().startswith(SCHEME):
            raise AuthenticationError("an API key is needed: Authorization: Bearer <key>")
        digest = sha256(authorization[len(SCHEME) :].strip().encode("latin-1")).digest()
        # Every key is compared, in constant time: how long it takes says nothing about which one nearly matched.
        if not sum([hmac.compare_digest(digest, known) for known in self._digests]):
            raise PermissionDeniedError("the API key is not known here")
        return digest.hex()[:TENANT_DIGITS]
