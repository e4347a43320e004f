"""Server-sent events at the level of bytes: one pass per read of the socket, however the bytes are cut.

Lines end with LF, CR or CRLF, a byte order mark before the first is dropped, comments and unknown fields are ignored,
as the standard says. Whatever a provider sends is bounded, and what does not have the form of its wire is a
`CallError` of the provider, whose message holds none of the provider's bytes.
"""

from __future__ import annotations

import codecs
from typing import Final

import msgspec
from railstream.errors import CallError
from railstream.nesting import MOST_NESTED, nested_deeper

from railstream_engine.providers.http.error_events import reported
from railstream_engine.providers.port import Part

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of one line, and of one event."""
_WRONG_FORM: Final = (msgspec.MsgspecError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


class EventLines:
    """Feed it bytes; a subclass makes parts of each event's data."""

    def __init__(self) -> None:
        self.done = False
        """The provider's last event was read."""
        self.failure: CallError | None = None
        """What it ended with, when parts came before it in the same read: they are given first."""
        self._rest: list[bytes] = []
        """The begun line, in the pieces that came."""
        self._rest_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = b""
        """The event's name, as the field ``event`` has it."""
        self._bare: list[bytes] = []
        """Lines that are no field of an event: JSON that came in place of a stream of events."""
        self._bare_size = 0
        self._after_cr = False
        self._begun = False

    @property
    def complete(self) -> bool:
        """The provider has said that this is all."""
        return self.done

    @property
    def whole(self) -> bool:
        """All that was asked for has come: the end signal may follow, and changes nothing."""
        return self.done

    def feed(self, data: bytes) -> list[Part]:
        """The parts that these bytes complete. Raises ``CallError`` at an error event or at bytes that are no event."""
        parts: list[Part] = []
        try:
            self._read(self._lines(data), parts)
        except CallError as error:
            if not parts:
                raise
            self.done, self.failure = True, error
        return parts

    def end(self) -> list[Part]:
        """The parts that only the body's end completes. Raises ``CallError`` when the answer ended with a failure."""
        if self.failure is not None:
            raise self.failure
        return []

    def _lines(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete."""
        if self._after_cr or b"\r" in data:
            data = self._unix(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest, self._rest_size = [], 0
        if rest:
            self._rest.append(rest)
            self._rest_size += len(rest)
            if self._rest_size > MOST_BYTES:
                raise too_large("a line", self._rest_size)
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        return lines

    def _unix(self, data: bytes) -> bytes:
        """With line feeds alone; a CR ends its line at once, and an LF that follows it in the next read ends none."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, lines: list[bytes], parts: list[Part]) -> None:
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[6:].strip() if line[5:6] == b" " else line[5:].strip())
                self._data_size += len(line)
                if self._data_size > MOST_BYTES:
                    raise too_large("an event", self._data_size)
            elif not line or not line.strip():
                if self._data or self._name:
                    self._dispatch(parts)
                    if self.done:
                        return
            else:
                self._other(line)

    def _dispatch(self, parts: list[Part]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_size = 0
        if self._name:
            name, self._name = self._name, b""
            if name == b"error":
                raise reported(data)
        if data and data[:1] != b":":  # a comment that was sent as data
            self._event_of(data, parts)

    def _event_of(self, data: bytes, parts: list[Part]) -> None:
        if len(data) > 2 * MOST_NESTED and nested_deeper(data, MOST_NESTED):
            message = f"the provider sent JSON that is nested deeper than {MOST_NESTED} levels, the most that are read"
            raise CallError(message, code="provider")
        try:
            self._event(data, parts)
        except CallError:
            raise
        except (*_WRONG_FORM, RecursionError) as error:
            raise wrong_form(data) from error

    def _other(self, line: bytes) -> None:
        """A line that is neither data nor the end of an event."""
        field, colon, value = line.partition(b":")
        if field == b"event":
            self._name = value.strip()
        elif field == b"error" and colon:
            raise reported(value.strip())
        elif self._bare or line.lstrip()[:1] in (b"{", b"["):
            self._bare.append(line)
            self._bare_size += len(line)
            if self._bare_size > MOST_BYTES:
                raise too_large("an answer", self._bare_size)

    def _bare_json(self) -> bytes:
        """The body that came in place of a stream of events, at its end; none where that was no JSON."""
        bare = b"\n".join([*self._bare, b"".join(self._rest)]).removeprefix(codecs.BOM_UTF8).strip()
        return bare if bare[:1] in (b"{", b"[") else b""

    def _event(self, data: bytes, parts: list[Part]) -> None:
        raise NotImplementedError


def too_large(what: str, size: int) -> CallError:
    """``what``: the thing that is bounded, with its article."""
    return CallError(f"the provider sent {what} of {size:,} bytes; at most {MOST_BYTES:,} are read", code="provider")


def wrong_form(data: bytes) -> CallError:
    """An event that does not have the form of its wire."""
    try:
        data.decode()
        msgspec.json.decode(data)
    except UnicodeDecodeError:
        wrong = "that is not UTF-8"
    except (msgspec.MsgspecError, RecursionError):
        wrong = "that is not JSON"
    else:
        wrong = "whose fields are of other types than its API has"
    return CallError(f"the provider sent an event {wrong} ({len(data):,} bytes)", code="provider")
