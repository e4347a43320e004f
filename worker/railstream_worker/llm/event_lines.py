"""Server-sent events at the level of bytes, as the HTML standard reads them: one pass per read of the socket.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from typing import Final

from railstream.errors import CallError

from railstream_worker.llm.port import Part

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of one event, and of one line."""
_BOM: Final = b"\xef\xbb\xbf"


class EventLines:
    """Feed it bytes; a subclass makes parts of each event's data."""

    def __init__(self) -> None:
        self.done = False
        """The provider's last event was read."""
        self.failure: CallError | None = None
        """What it ended with, when parts came before it in the same read: they are told first."""
        self._rest = b""
        """The line that has begun."""
        self._pieces: list[bytes] = []
        """More of it, where it came in several reads."""
        self._size = 0
        """Bytes of the line that has begun and of the event's data so far."""
        self._data: list[bytes] = []
        self._name = b""
        """The event's name, where it has one."""
        self._begun = False
        self._after_return = False
        """The last byte was a carriage return: a line feed that follows ends no other line."""

    @property
    def complete(self) -> bool:
        """The provider has said that this is all."""
        return self.done

    @property
    def answered(self) -> bool:
        """All that was asked for has come; what may follow is the mark of the end."""
        return self.done

    @property
    def rest(self) -> bytes:
        """The line that has begun."""
        return b"".join((self._rest, *self._pieces))

    def feed(self, data: bytes) -> list[Part]:
        """The parts that these bytes complete. Raises ``CallError`` at an error event or at bytes that are no event."""
        if not self._begun and (data := self._without_mark(data)) == b"":
            return []
        if self._after_return or b"\r" in data:
            data = self._with_line_feeds(data)
        if b"\n" not in data:
            self._keep(data)
            return []
        if self._pieces:
            data = self.rest + data
            self._pieces.clear()
        elif self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = b""
        self._size = sum(map(len, self._data))
        self._keep(lines.pop())
        parts: list[Part] = []
        try:
            self._read(lines, parts)
        except CallError as error:
            if not parts:
                raise
            self.done, self.failure = True, error
        return parts

    def _read(self, lines: list[bytes], parts: list[Part]) -> None:
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[6:].strip() if line[5:6] == b" " else line[5:].strip())
                self._grow(len(line))
            elif not line or not line.strip():
                if self._data:
                    self._dispatch(parts)
                self._name = b""
            elif line[:6] == b"event:":
                self._name = line[6:].strip()
            elif line[:1] != b":":
                self._other(line)

    def end(self) -> None:
        """The body is over, or its last event was read. Raises ``CallError`` when the answer ended with a failure."""
        if self.failure is not None:
            raise self.failure

    def _without_mark(self, data: bytes) -> bytes:
        """The first bytes without a byte order mark; nothing while they may still be one."""
        data = self._rest + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._rest = data
            return b""
        self._begun, self._rest = True, b""
        return data.removeprefix(_BOM)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Lines may end with a carriage return, a line feed, or both, which two reads may bring."""
        if self._after_return and data[:1] == b"\n":
            data = data[1:]
        self._after_return = data[-1:] == b"\r" if data else self._after_return
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        """Keep the beginning of a line."""
        if self._rest:
            self._pieces.append(data)
        else:
            self._rest = data
        self._grow(len(data))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MOST_BYTES:
            raise CallError(f"the provider sent an event of more than {MOST_BYTES} bytes", code="provider")

    def _dispatch(self, parts: list[Part]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = len(self._rest)
        if data and not self.done:
            try:
                self._event(data, parts)
            except UnicodeDecodeError as error:
                raise CallError(f"the provider sent {len(data)} bytes that are no UTF-8", code="provider") from error
            except RecursionError as error:
                raise CallError("the provider sent JSON that is nested too deeply", code="provider") from error

    def _other(self, line: bytes) -> None:
        """A line that is neither data nor the end of an event: a field of another name."""

    def _event(self, data: bytes, parts: list[Part]) -> None:
        raise NotImplementedError
