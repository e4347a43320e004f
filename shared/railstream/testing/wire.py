"""A wire: how one provider's API is asked, answers in a stream, and fails. The answers behind it are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from railstream.testing.answer import Delta

if TYPE_CHECKING:
    from railstream.testing.call import Call
    from railstream.testing.http import Request


class Frames(Protocol):
    """The payloads of one streamed answer, each the data of one event."""

    named: bool
    """Events have names: what stands as ``type`` at the beginning of each payload."""

    def opening(self) -> Sequence[bytes]: ...

    def delta(self, delta: Delta, encoded: bytes, written: int) -> Sequence[bytes]:
        """``encoded``: the delta object; ``written``: how many were written, this one included."""
        ...

    def ending(self, written: int, *, signal: bool) -> Sequence[bytes]:
        """``signal``: false leaves out what says that this was all."""
        ...


class Wire(Protocol):
    request_id_header: str
    """The header that a response has the request's id in; empty: none has it."""
    tells_usage: bool
    """Usage comes without being asked for."""

    def authorised(self, headers: Mapping[str, str], key: str) -> bool: ...

    def decode(self, request: Request) -> dict[str, Any]:
        """The body as a chat completion's; ``ValueError`` when it is not one of this wire."""
        ...

    def frames(self, call: Call) -> Frames: ...

    def whole(self, call: Call, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        """A whole answer, for a request that does not stream."""
        ...

    def wrong_key(self) -> tuple[int, Any]:
        """Status and body for a request whose key is another one."""
        ...

    def error(self, message: str, status: int) -> Any:
        """What an error's response or event holds."""
        ...

    def refusal(self, message: str, status: int, retry_after: float | None) -> tuple[Any, dict[str, str]]:
        """Body and headers of an error before the answer."""
        ...
