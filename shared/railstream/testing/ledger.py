"""The ledger: what this server was asked, what it really wrote, and how each call ended.

It is what a billing provider would have on its side, so usage that somebody else recorded can be held against it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

Outcome = Literal["open", "finished", "closed_by_client", "cancelled", "fault", "stopped"]


class Entry(msgspec.Struct, omit_defaults=False):
    """One call. Times in unix seconds. ``tokens`` counts the deltas that were written, of every choice."""

    number: int
    id: str
    """``X-Request-Id`` of the request, else one that the server made."""
    model: str
    stream: bool
    prompt_tokens: int
    started: float
    tokens: int = 0
    first_token: float | None = None
    ended: float | None = None
    outcome: Outcome = "open"
    status: int | None = None
    fault: str | None = None
    attached: int = 0
    """How many connections have read it again, of a response in the background."""
    continued: int = 0
    """Characters of a trailing assistant message that were continued."""
    usage: dict[str, Any] | None = None
    """The usage that was sent; ``None`` when none was."""
    body: dict[str, Any] | None = None

    @property
    def usage_sent(self) -> bool:
        return self.usage is not None

    @property
    def request(self) -> str:
        """The id up to its first dot: one request's calls share it."""
        return self.id.partition(".")[0]


class Ledger:
    """Every call in order. ``keep`` bounds the entries, ``bodies`` says whether request bodies are kept."""

    def __init__(self, keep: int = 100_000, *, bodies: bool = True) -> None:
        self.entries: list[Entry] = []
        self._keep = keep
        self._bodies = bodies
        self._number = 0
        self._waiters: set[tuple[Callable[[], bool], asyncio.Future[None]]] = set()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    def open(self, id: str, body: dict[str, Any], prompt_tokens: int) -> Entry:
        self._number += 1
        entry = Entry(
            number=self._number,
            id=id or f"call-{self._number}",
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            prompt_tokens=prompt_tokens,
            started=time.time(),
            body=body if self._bodies else None,
        )
        self.entries.append(entry)
        if len(self.entries) > self._keep:
            del self.entries[: self._keep // 10]
        self.changed()
        return entry

    def close(self, entry: Entry, outcome: Outcome) -> None:
        """Say how a call ended; the first word stands."""
        if entry.outcome == "open":
            entry.outcome = outcome
            entry.ended = time.time()
            self.changed()

    def clear(self) -> None:
        """Forget the calls that have ended."""
        self.entries = [entry for entry in self.entries if entry.outcome == "open"]
        self.changed()

    def calls(
        self, *, model: str | None = None, id: str | None = None, outcome: str | None = None, request: str | None = None
    ) -> list[Entry]:
        """The calls that match every filter that is given. ``request``: the id before the first dot."""
        return [
            entry
            for entry in self.entries
            if (model is None or entry.model == model)
            and (id is None or entry.id == id)
            and (outcome is None or entry.outcome == outcome)
            and (request is None or entry.request == request)
        ]

    @property
    def tokens(self) -> int:
        return sum(entry.tokens for entry in self.entries)

    async def wait(
        self,
        *,
        open: int | None = None,
        calls: int | None = None,
        ended: int | None = None,
        tokens: int | None = None,
        until: Callable[[Ledger], bool] | None = None,
        timeout: float = 10,
        **filters: str | None,
    ) -> list[Entry]:
        """Wait until at most ``open`` calls run and at least so many calls, ended calls, tokens are there.

        Raises:
            TimeoutError: it did not come to that; the message says what there is.
        """

        def reached() -> bool:
            found = self.calls(**filters)
            running = sum(entry.outcome == "open" for entry in found)
            return (
                (open is None or running <= open)
                and (calls is None or len(found) >= calls)
                and (ended is None or len(found) - running >= ended)
                and (tokens is None or sum(entry.tokens for entry in found) >= tokens)
                and (until is None or until(self))
            )

        if not reached():
            await self._notice(reached, timeout)
        return self.calls(**filters)

    async def _notice(self, reached: Callable[[], bool], timeout: float) -> None:
        waiter = (reached, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1]
        except TimeoutError:
            there = [(entry.id, entry.outcome, entry.tokens) for entry in self.entries[-20:]]
            raise TimeoutError(f"the ledger did not get there within {timeout} s; its last calls: {there}") from None
        finally:
            self._waiters.discard(waiter)

    def changed(self) -> None:
        """Wake the waiters whose condition is met."""
        for reached, future in tuple(self._waiters):
            if not future.done() and reached():
                future.set_result(None)
