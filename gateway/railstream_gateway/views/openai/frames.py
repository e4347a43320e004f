"""The OpenAI view of a stream: one SSE frame for one published chunk, from a bytes template.

Deltas are framed as they are, never decoded. The terminal event becomes several frames; the first has its own id
and the following ones the ids after it, so a client that is cut between any two frames resumes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from railstream import events
from railstream.errors import CancelledByRequest
from railstream.events import Blocked, Event, Failed, Finished, OperationFinished, Started
from railstream.ids import EventId

from railstream_gateway.stream.relay import Gap

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n"
"""Without an empty line: the openai SDK takes that for an event, an empty one, once it has seen an id."""
ROLE: Final = b'{"role":"assistant","content":""}'
CANCELLED: Final = CancelledByRequest("The request was cancelled.").envelope()

_encode = msgspec.json.Encoder().encode


class _Choice(msgspec.Struct):
    """The ``choice`` field of a chunk."""

    index: int = 0
    logprobs: msgspec.Raw = msgspec.Raw(b"null")
    operation: str = ""
    """Which of several models says it."""


_decode_choice = msgspec.json.Decoder(_Choice).decode


class OpenAIView:
    """Frames of one reader. ``skip``: frames of the terminal event that it has seen already."""

    def __init__(self, *, skip: int = 0) -> None:
        self._skip = skip
        self._head = b""
        self._tail = b""
        self._before = self._behind = b""
        """All around the delta of a plain chunk."""
        self._include_usage = False
        self._configs: tuple[str, ...] = ()
        self._role: Event | None = None

    def prime(self, started: Event) -> None:
        """What a reader who resumes has seen of it already: the stream's first event."""
        shared = events.decode(started)
        assert isinstance(shared, Started)
        self.begin(shared)

    def begin(self, shared: Started) -> None:
        self._include_usage = shared.include_usage
        self._configs = shared.configs
        head = {"id": shared.id, "object": "chat.completion.chunk", "created": shared.created, "model": shared.model}
        self._head = _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if shared.include_usage else b"]}"
        self._before = self._head + b'{"index":0,"delta":'
        self._behind = b',"logprobs":null,"finish_reason":null}' + self._tail

    def frames(self, batch: Iterable[Event]) -> bytes:
        """The frames of these events, joined; ends with ``[DONE]`` after the terminal one."""
        parts: list[bytes] = []
        for event in batch:
            if event.name == events.CHUNK:
                parts.append(self._chunk(event))
            elif event.name == events.STARTED:
                self.prime(event)
                self._role = event
            elif event.name == events.OPERATION_FINISHED:
                parts.append(self._operation(event))
            elif event.name in events.TERMINAL:
                parts.append(self._terminal(event))
        return b"".join(parts)

    def gap(self, gap: Gap) -> bytes:
        """Said instead of what is lost. Without an id: the reader's last one stays true."""
        body = {"error": gap.envelope() | {"status": gap.status}, "gap": gap_object(gap)}
        return b"event: gap\ndata: %b\n\n" % _encode(body) + DONE

    def chunk(self, position: bytes, delta: bytes) -> bytes:
        """The frame of a chunk of the first choice, without logprobs."""
        framed = b"id: %b\ndata: %b%b%b\n\n" % (position, self._before, one_line(delta), self._behind)
        return framed if self._role is None else self._first(delta) + framed

    def _chunk(self, event: Event) -> bytes:
        if not event.choice:
            return self.chunk(b"%d-%d" % event.id, event.data)
        role = self._first(event.data) if self._role is not None else b""
        choice = _decode_choice(event.choice)
        made = self._choice(choice.index, event.data, bytes(choice.logprobs))
        return role + self._frame(event.id, labelled(made, model=choice.operation) if choice.operation else made)

    def _first(self, delta: bytes) -> bytes:
        """The chunk with the role, unless the provider's own first delta has one: clients add roles up."""
        started, self._role = self._role, None
        assert started is not None
        return b"" if b'"role":' in delta else self._frame(started.id, self._choice(0, ROLE))

    def _operation(self, event: Event) -> bytes:
        """The end of one of several choices: its finish, and what else is known of it."""
        ended = events.decode(event)
        assert isinstance(ended, OperationFinished)
        role = self._first(b"") if self._role is not None else b""
        choice = self._choice(ended.index, b"{}", finish_reason=_encode(ended.finish_reason))
        told = {"usage": ended.usage, "error": ended.error}
        more = {name: value for name, value in told.items() if value is not None}
        return role + self._frame(event.id, labelled(choice, model=ended.operation, **more))

    def _terminal(self, event: Event) -> bytes:
        payload = events.decode(event)
        attempt, seq = event.id
        frames = [frame(EventId(attempt, seq + n)) for n, frame in enumerate(self._ending(payload))][self._skip :]
        if self._role is not None and _speaks(payload):
            frames.insert(0, self._first(b""))
        return b"".join(frames) + DONE

    def frames_of_ending(self, event: Event) -> int:
        """How many frames with an id a terminal event becomes."""
        return len(self._ending(events.decode(event)))

    def _ending(self, payload: events.Payload) -> Sequence[Callable[[EventId], bytes]]:
        match payload:
            case Finished(operations=count, usage=usage) if count:
                return self._usage(usage)
            case Finished(finish_reasons=reasons, usage=usage, extra=extra, choice_extra=extras):
                beside = dict(enumerate(extras))
                finishes = [
                    self._finish(index, reason, extra, beside.get(index, {}))
                    for index, reason in enumerate(reasons or ("stop",))
                ]
                return [*finishes, *self._usage(usage, extra)]
            case Blocked(form="content_filter", usage=usage):
                return [*self._stopped(payload, "content_filter"), *self._usage(usage)]
            case Blocked(form="refusal", refusal=refusal, usage=usage):
                # Prose behind half a JSON text would be part of neither.
                said = self._choice(0, _encode({"refusal" if payload.structured else "content": refusal}))
                return [lambda id: self._frame(id, said), *self._stopped(payload, "stop"), *self._usage(usage)]
            case Blocked(error=error):
                return [error_frame(error, violation(payload, self._configs))]
            case Failed(error=error, status=status):
                return [error_frame(error | {"status": status})]
            case _:
                return [error_frame(CANCELLED | {"status": CancelledByRequest.status})]

    def _stopped(self, blocked: Blocked, reason: str) -> Sequence[Callable[[EventId], bytes]]:
        """Every choice ends; the first one's chunk has the violation."""
        told = {"guardrails": violation(blocked, self._configs)}
        return [self._finish(index, reason, {} if index else told) for index in range(blocked.choices)]

    def _finish(
        self, index: int, reason: str, extra: dict[str, Any] | None = None, of_choice: dict[str, Any] | None = None
    ) -> Callable[[EventId], bytes]:
        """``extra`` stands beside the choices, ``of_choice`` in the choice."""
        choice = self._choice(index, b"{}", finish_reason=_encode(reason))
        data = self._head + labelled(choice, **(of_choice or {})) + labelled(self._tail, **(extra or {}))
        return lambda id: b"id: %d-%d\ndata: %b\n\n" % (*id, data)

    def _usage(
        self, usage: dict[str, Any] | None, extra: dict[str, Any] | None = None
    ) -> Sequence[Callable[[EventId], bytes]]:
        if not self._include_usage or usage is None:
            return ()
        data = labelled(b'%b],"usage":%b}' % (self._head, _encode(usage)), **(extra or {}))
        return (lambda id: b"id: %d-%d\ndata: %b\n\n" % (*id, data),)

    def _choice(self, index: int, delta: bytes, logprobs: bytes = b"null", finish_reason: bytes = b"null") -> bytes:
        return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
            index,
            one_line(delta),
            one_line(logprobs),
            finish_reason,
        )

    def _frame(self, id: EventId, choice: bytes) -> bytes:
        return b"id: %d-%d\ndata: %b%b%b\n\n" % (*id, self._head, choice, self._tail)


def labelled(choice: bytes, **more: Any) -> bytes:
    """The bytes of an object that says more."""
    return choice if not more else b"%b,%b" % (choice[:-1], _encode(more)[1:])


def error_frame(error: dict[str, Any], guardrails: dict[str, Any] | None = None) -> Callable[[EventId], bytes]:
    data = _encode({"error": error} | ({} if guardrails is None else {"guardrails": guardrails}))
    return lambda id: b"id: %d-%d\ndata: %b\n\n" % (*id, data)


def violation(blocked: Blocked, configs: Sequence[str]) -> dict[str, Any]:
    """What stands under ``guardrails`` where a rail has blocked."""
    told = {"flow": blocked.flow, "stage": blocked.stage} | blocked.error
    return {"config_ids": list(configs), "violation": told}


def gap_object(gap: Gap) -> dict[str, str | None]:
    earliest, latest = gap.earliest, gap.latest
    return {
        "requested": str(gap.requested),
        "earliest": None if earliest is None else str(earliest),
        "latest": None if latest is None else str(latest),
    }


def _speaks(payload: events.Payload) -> bool:
    """Whether it ends in chunks of a choice, not in an error."""
    return isinstance(payload, Finished) or (isinstance(payload, Blocked) and payload.form != "error")


def one_line(data: bytes) -> bytes:
    """JSON may hold line breaks between its tokens; SSE continues such data in a line of its own, as it is."""
    if b"\n" not in data and b"\r" not in data:
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
