"""What the request log says of one request: filled in while the request goes its way, written once at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from railstream import events
from railstream.events import Event
from railstream.job import Job
from railstream.request_log import RequestLog, describe

if TYPE_CHECKING:
    from railstream_gateway.stream.reading import Reading

FIRST_ERROR = 400


@dataclass(slots=True)
class Summary:
    """``arrived`` in monotonic seconds. The reading of its stream is held until the line is written."""

    method: str
    arrived: float
    trace_id: str = ""
    tenant: str = ""
    route: str = ""
    status: int = 0
    code: str = ""
    request_id: str = ""
    kind: str = ""
    model: str = ""
    configs: tuple[str, ...] = ()
    resumed: bool = False
    reading: Reading | None = None

    def accepted(self, job: Job, reading: Reading) -> None:
        """The request has a job, and a stream that is read."""
        self.request_id, self.kind, self.model, self.configs = job.id, job.kind, job.model, job.configs
        self.reading = reading

    def joined(self, request_id: str, model: str, configs: tuple[str, ...], reading: Reading) -> None:
        """The request reads a stream that is there."""
        self.request_id, self.model, self.configs = request_id, model, configs
        self.resumed, self.reading = True, reading

    def write(self, request_log: RequestLog, cut: str) -> None:
        """``cut``: why the client got no end, if it got none."""
        reading, self.reading = self.reading, None
        terminal = reading.relay.terminal if reading is not None else None
        outcome, known = self._ending(terminal, cut)
        fields: dict[str, Any] = {
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "code": self.code,
            "key": self.tenant,
            "kind": self.kind,
            "model": self.model,
            "config": "+".join(self.configs),
            "seconds": round(time.monotonic() - self.arrived, 4),
            "trace_id": self.trace_id,
        }
        if reading is not None:
            fields["attempt"] = reading.relay.cursor.attempt or None
            fields["first_event_seconds"] = reading.first_event_seconds
            fields["resumed"] = self.resumed or None
        request_log.write(self.request_id, outcome, fields | known)

    def _ending(self, terminal: Event | None, cut: str) -> tuple[str, dict[str, Any]]:
        if terminal is not None:
            outcome, known = ending_of(terminal)
            return outcome, known if not self.code else {**known, "code": self.code}
        if cut:
            return cut, {}
        if self.status >= FIRST_ERROR or self.code:
            return "refused", {}
        return "ok", {}


def ending_of(terminal: Event) -> tuple[str, dict[str, Any]]:
    """The outcome, and what is known of it, without any text."""
    try:
        return describe(events.decode(terminal))
    except ValueError:  # of a later release
        return terminal.name.decode(), {}
