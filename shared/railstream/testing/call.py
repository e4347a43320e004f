"""One call as the server sees it: the request's body, its script, its answer, its entry in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from railstream.testing.answer import Answer
from railstream.testing.ledger import Entry
from railstream.testing.script import Fault, Script
from railstream.testing.wire import Wire


class Call(NamedTuple):
    body: Mapping[str, Any]
    script: Script
    answer: Answer
    entry: Entry
    wire: Wire

    @property
    def fault(self) -> Fault | None:
        return self.script.fault

    @property
    def id(self) -> str:
        """The id of the completion that is sent."""
        return f"chatcmpl-upstream-{self.entry.number}"

    @property
    def run_id(self) -> str:
        """The id of the response that is sent on OpenAI's Responses."""
        return f"resp_upstream_{self.entry.number}"

    @property
    def sends_usage(self) -> bool:
        if self.script.usage == "auto":
            options = self.body.get("stream_options") or {}
            return self.wire.tells_usage or not self.entry.stream or bool(options.get("include_usage"))
        return self.script.usage != "never"

    def usage(self, written: int) -> dict[str, Any]:
        return self.answer.usage(self.script, written)

    @property
    def headers(self) -> dict[str, str]:
        """What every response to it has."""
        name = self.wire.request_id_header
        return {name: self.entry.id} if name else {}

    @property
    def breaks_before_headers(self) -> bool:
        return self.fault in ("hang", "reset") and self.script.at < 0
