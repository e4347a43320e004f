"""Server-sent events at the level of bytes: one pass per read of the socket, however the bytes are cut."""

from __future__ import annotations

from railstream.errors import CallError

from railstream_worker.llm.port import Part


class EventLines:
    """Feed it bytes; a subclass makes parts of each event's data."""

    def __init__(self) -> None:
        self.done = False
        """The provider's last event was read."""
        self.failure: CallError | None = None
        """What it ended with, when parts came before it in the same read: they are told first."""
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def complete(self) -> bool:
        """The provider has said that this is all."""
        return self.done

    def feed(self, data: bytes) -> list[Part]:
        """The parts that these bytes complete. Raises ``CallError`` at an error event or at bytes that are no event."""
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        parts: list[Part] = []
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[6:].strip() if line[5:6] == b" " else line[5:].strip())
            elif not line or not line.strip():
                if not self._data:
                    continue
                try:
                    self._dispatch(parts)
                except CallError as error:
                    if not parts:
                        raise
                    self.done, self.failure = True, error
                    break
            else:
                self._other(line)
        return parts

    def end(self) -> None:
        """The body is over, or its last event was read. Raises ``CallError`` when the answer ended with a failure."""
        if self.failure is not None:
            raise self.failure

    def _dispatch(self, parts: list[Part]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        if data and not self.done:
            try:
                self._event(data, parts)
            except UnicodeDecodeError as error:
                raise CallError(f"the provider sent what is not UTF-8: {data[:120]!r}", code="provider") from error

    def _other(self, line: bytes) -> None:
        """A line that is neither data nor the end of an event: comments, names of events."""

    def _event(self, data: bytes, parts: list[Part]) -> None:
        raise NotImplementedError
