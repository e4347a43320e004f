"""The line that the request log has of one attempt: how it ended on this worker, and what it used; no content."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from railstream.events import Cancelled
from railstream.job import Job
from railstream.request_log import RequestLog, describe
from railstream_engine.generation.generation import Outcome


@dataclass(slots=True)
class AttemptLine:
    """``deliveries`` of its job, this one included. `end` it before it is written, if the stream was ended here."""

    job: Job
    deliveries: int
    attempt: int = 0
    let_go: str = ""
    """Why the attempt ended without an end of the stream: ``drain`` or ``lost``."""
    _began: float = field(default_factory=time.monotonic)
    _waited: float = field(init=False)
    _end: Outcome | Cancelled | None = None

    def __post_init__(self) -> None:
        self._waited = max(0.0, time.time() - self.job.created)

    def end(self, payload: Outcome | Cancelled) -> None:
        """The stream was ended with this."""
        self._end = payload

    def write(self, request_log: RequestLog, worker: str) -> None:
        if not self.attempt:
            return  # nothing was reserved: another worker has the request, or it is over
        outcome, known = (
            ("handed_back" if self.let_go == "drain" else "lost", {}) if self._end is None else describe(self._end)
        )
        fields: dict[str, Any] = {
            "key": self.job.tenant,
            "kind": self.job.kind,
            "model": self.job.model,
            "config": "+".join(self.job.configs),
            "attempt": self.attempt,
            "deliveries": self.deliveries,
            "worker": worker,
            "waited_seconds": round(self._waited, 4),
            "seconds": round(time.monotonic() - self._began, 4),
        }
        request_log.write(self.job.id, outcome, fields | known)
