"""What earlier attempts left on a request's stream: the text that was released, and the calls that were lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from railstream import events, keys
from railstream.deltas import decode_delta, joined, text_of
from railstream.events import Usage
from railstream.ids import parse_event_id
from railstream.job import Job
from redis.asyncio import Redis

from railstream_worker.attempts.replay import ReleasedParts

ANSWER: Final = "general"
"""The task of the call that makes the answer."""


class LostCalls:
    """The answering calls that left chunks and no usage: their worker died.

    Calls are told apart by what stands before their number: ``<attempt>``, or ``<attempt>.<index>`` of an operation.
    One that had released nothing leaves no trace here: nobody can tell whether it was made.
    """

    def __init__(self) -> None:
        self._recorded: set[str] = set()
        self._ended: set[str] = set()
        self._chunks: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()
        self.answers: list[Usage] = []
        """The usage of every answering call that has left one."""
        self._runs: dict[str, str] = {}
        """Calls of runs that their providers keep, by what stands between attempt and number in their names."""

    def follow(self, call: str) -> None:
        """The call of a run that its provider keeps: later attempts have read the same run."""
        self._runs[call.rpartition(".")[0].partition(".")[2]] = call

    def unfollow(self, call: str) -> None:
        """The run of a call is of no use here: it is lost as any other call."""
        self._runs = {answer: run for answer, run in self._runs.items() if run != call}

    def of_run(self, call: str) -> tuple[str, int, int] | None:
        """The call of such a run, with what was released of it; ``None`` when it has left its usage."""
        maker = call.rpartition(".")[0]
        return None if call in self._recorded else (call, self._chunks[maker], self._characters[maker])

    def _owner(self, maker: str) -> str:
        """The maker of the call that a chunk belongs to."""
        attempt, _, answer = maker.partition(".")
        run = self._runs.get(answer, "")
        later = run and int(attempt) > int(run.partition(".")[0])
        return run.rpartition(".")[0] if later else maker

    def hear_chunk(self, maker: str, characters: int) -> None:
        maker = self._owner(maker)
        self._chunks[maker] += 1
        self._characters[maker] += characters

    def hear_usage(self, usage: Usage) -> None:
        self._recorded.add(usage.call)
        if usage.task != ANSWER:
            return
        self.answers.append(usage)
        maker = usage.call.rpartition(".")[0]
        if usage.outcome == "finished":
            self._ended.add(maker)  # its rails may release more after it
        else:
            del self._chunks[maker]  # another call of the same attempt may follow
            del self._characters[maker]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Each with how many chunks and characters of it were released; the call of a run that is kept is none."""
        kept = {call.rpartition(".")[0] for call in self._runs.values() if call not in self._recorded}
        for maker, chunks in sorted(self._chunks.items()):
            if maker not in self._ended and maker not in kept:
                number = next(n for n in count(1) if f"{maker}.{n}" not in self._recorded)
                yield f"{maker}.{number}", chunks, self._characters[maker]


@dataclass(slots=True)
class Released:
    """The text of the first choice, and whether there was more than text."""

    text: str = ""
    chunks: int = 0
    only_text: bool = True
    parts: ReleasedParts = field(default_factory=ReleasedParts)
    lost: LostCalls = field(default_factory=LostCalls)


async def read_released(redis: Redis, job: Job, run: str = "") -> Released:
    """All that the stream of ``job`` holds, as the next attempt needs it. ``run``: the call of a run that is kept."""
    released = Released()
    if run:
        released.lost.follow(run)
    parts: list[str] = []
    entries: list[Any] = await redis.xrange(keys.events(job.id)) or []
    for entry, fields in entries:
        name = fields[b"event"]
        if name == events.USAGE:
            released.lost.hear_usage(events.decode_usage(fields[b"data"]))
        if name != events.CHUNK:
            continue
        delta = decode_delta(fields[b"data"])
        text = text_of(delta)
        released.chunks += 1
        released.lost.hear_chunk(str(parse_event_id(entry).attempt), len(text))
        released.parts.add(delta, fields.get(b"choice", b""))
        if b"choice" in fields and b'"index"' in fields[b"choice"]:
            released.only_text = False
        if delta.keys() - {"content", "role"}:
            released.only_text = False
        parts.append(text)
    released.text = joined("".join(parts))
    return released
