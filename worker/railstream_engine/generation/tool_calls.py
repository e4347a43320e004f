"""The tool calls of one choice of a guarded answer: each is held until it is complete, read by the rails, and sent.

What is sent is built from values that rails have read or that belong to a closed set. A key of a fragment that nobody
knows could carry any text, so it is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from railstream.errors import CallError

from railstream_engine.rails.port import Guards, ToolCall
from railstream_engine.rails.tools.tool_texts import NESTING, depth_of

MOST_CALLS: Final = 128
"""Calls of one choice: what OpenAI allows in parallel."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of all calls of one choice together."""
TEXT_OF: Final = {"function": "arguments", "custom": "input"}
"""Where a call of either type has its text."""

LEGACY: Final = "function_call"

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.:|-]{1,128}")
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/=_-]{1,65536}")

Fragment = Mapping[str, Any]
Declared = Mapping[str, Mapping[str, Any] | None]
"""Tools by name, each with the JSON Schema of its arguments, if it has one."""
Send = Callable[[dict[str, Any]], None]
"""Takes a delta that holds one complete call."""


@dataclass(slots=True)
class HeldCall:
    """A call as far as its fragments have come."""

    position: int
    id: str = ""
    kind: str = "function"
    name: str = ""
    texts: list[str] = field(default_factory=list)
    value: Any = None
    """Arguments that came as a JSON object or list, not as text."""
    signature: str = ""
    legacy: bool = False
    """It came as ``function_call``, OpenAI's form before tools: one call, without an id."""

    @property
    def arguments(self) -> Any:
        return "".join(self.texts) if self.value is None else self.value

    def add(self, fragment: Fragment) -> None:
        kind = "custom" if isinstance(fragment.get("custom"), dict) else "function"
        given = fragment.get(kind)
        called: Mapping[str, Any] = given if isinstance(given, dict) else {}
        self.kind = kind if called else self.kind
        self.id = self.id or _text(fragment.get("id"))
        self.name += _text(called.get("name"))
        self.signature = self.signature or _signature(fragment)
        text = called.get(TEXT_OF[kind])
        if isinstance(text, str):
            self.texts.append(text)
        elif text is not None:
            self.value = text


class ToolCalls:
    """``declared``: the tools that the request offers; ``seed`` makes ids of our own unlike another request's."""

    def __init__(self, guards: Guards, send: Send, declared: Declared, seed: str) -> None:
        self._guards = guards
        self._send = send
        self._declared = declared
        self._seed = seed
        self._by_index: dict[Any, HeldCall] = {}
        """The call that a fragment of this index belongs to."""
        self._held: list[HeldCall] = []
        self._count = 0
        self._size = 0
        self._ruling: asyncio.Task[None] | None = None

    def push(self, fragments: bytes) -> None:
        """The ``tool_calls`` of a delta. Raises ``CallError`` for what is none, and past the bounds."""
        self._count_bytes(len(fragments))
        try:
            found = msgspec.json.decode(fragments, type=list[dict[str, Any]])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CallError("the provider sent tool calls that are no list of objects", code="provider") from error
        _check_depth(found)
        for fragment in found:
            self._add(fragment)

    def push_function_call(self, fragment: Any, size: int) -> None:
        """The ``function_call`` of a delta of ``size`` bytes; what is no object says nothing. Raises ``CallError``."""
        self._count_bytes(size)
        if isinstance(fragment, dict):
            _check_depth(fragment)
            self._call_of(LEGACY, {}).add({"function": fragment})

    def _count_bytes(self, size: int) -> None:
        self._size += size
        if self._size > MOST_BYTES:
            raise CallError(f"the provider's tool calls are longer than {MOST_BYTES} bytes", code="provider")

    def end(self) -> None:
        """The choice has ended: its calls are complete, and the rails read them."""
        if self._held:
            held, self._held = self._held, []
            self._by_index.clear()
            self._ruling = asyncio.get_running_loop().create_task(self._rule(held, after=self._ruling))

    async def finish(self) -> None:
        """Wait until every call is sent, or one is blocked. Raises what the rails raised."""
        self.end()
        if self._ruling is not None:
            await self._ruling

    async def aclose(self) -> None:
        """Nothing is sent after it, and nothing leads back to the emission."""
        ruling, self._ruling = self._ruling, None
        if ruling is not None:
            ruling.cancel()
            await asyncio.gather(ruling, return_exceptions=True)
        self._send = _nowhere

    def _add(self, fragment: Fragment) -> None:
        index = fragment.get("index")
        self._call_of(index if isinstance(index, int) else None, fragment).add(fragment)

    def _call_of(self, key: int | str | None, fragment: Fragment) -> HeldCall:
        call = self._by_index.get(key)
        if call is None or _begins_another(call, fragment):
            if self._count >= MOST_CALLS:
                raise CallError(f"the provider made more than {MOST_CALLS} tool calls", code="provider")
            call = self._by_index[key] = HeldCall(self._count, legacy=key == LEGACY)
            self._held.append(call)
            self._count += 1
        return call

    async def _rule(self, held: list[HeldCall], after: asyncio.Task[None] | None) -> None:
        """Rule on the calls at once and send them in order, for as long as none is blocked."""
        if after is not None:
            await after
        rulings = [asyncio.ensure_future(self._guards.rule_call(self._described(call))) for call in held]
        try:
            for call, ruling in zip(held, rulings, strict=True):
                ruled = await ruling
                if ruled is None:
                    return
                self._send(await self._built(call, ruled))
        finally:
            for ruling in rulings:
                ruling.cancel()
            await asyncio.gather(*rulings, return_exceptions=True)

    def _described(self, call: HeldCall) -> ToolCall:
        return ToolCall(call.name, call.arguments, call.name in self._declared, self._declared.get(call.name))

    async def _built(self, call: HeldCall, ruled: ToolCall) -> dict[str, Any]:
        called = {"name": call.name, TEXT_OF[call.kind]: ruled.arguments}
        if call.legacy:
            return {"function_call": called}
        built = {
            "index": call.position,
            "id": await self._id(call),
            "type": call.kind,
            call.kind: called,
        }
        if call.signature and await self._passes(_SIGNATURE, call.signature):
            built["extra_content"] = {"google": {"thought_signature": call.signature}}
        return {"tool_calls": [built]}

    async def _id(self, call: HeldCall) -> str:
        """The provider's id where a rail has read it, else one of ours, in a form that every provider takes back."""
        if call.id and await self._passes(_IDENTIFIER, call.id):
            return call.id
        return hashlib.sha256(f"{self._seed}/{call.position}".encode()).hexdigest()[:9]

    async def _passes(self, form: re.Pattern[str], value: str) -> bool:
        if not form.fullmatch(value):
            return False
        return self._guards.passes_unread or await self._guards.lets_pass(value)


def _check_depth(found: Any) -> None:
    if depth_of(found) > NESTING:
        raise CallError(f"the provider's tool calls are nested more than {NESTING} deep", code="provider")


def _nowhere(_: dict[str, Any]) -> None:
    """Stands in the place of an emission that was closed."""


def _begins_another(call: HeldCall, fragment: Fragment) -> bool:
    """Some providers give all calls one index, or none: then a new id, or a name after arguments, begins a call."""
    id = _text(fragment.get("id"))
    if id and call.id and id != call.id:
        return True
    called = fragment.get("function") or fragment.get("custom")
    return isinstance(called, dict) and bool(called.get("name")) and bool(call.arguments)


def declared_tools(params: Mapping[str, Any]) -> Declared:
    """The tools that a request offers."""
    found: dict[str, Mapping[str, Any] | None] = {}
    for tool in (*(params.get("tools") or ()), *({"function": one} for one in params.get("functions") or ())):
        for kind in TEXT_OF:
            given = tool.get(kind) if isinstance(tool, Mapping) else None
            if isinstance(given, Mapping) and _text(given.get("name")):
                schema = given.get("parameters")
                found[given["name"]] = schema if isinstance(schema, Mapping) else None
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _signature(fragment: Fragment) -> str:
    """Gemini's thought signature: a later request must bring it back."""
    extra = fragment.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return _text(google.get("thought_signature")) if isinstance(google, dict) else ""
