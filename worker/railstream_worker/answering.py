"""What a job asks for, done: an answer generated under its rails, or the rails alone over given messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from railstream.config import RailsConfig
from railstream.events import Blocked, Finished
from railstream.job import Job

from railstream_worker.calls import Caller
from railstream_worker.checks import check, stages_of
from railstream_worker.gate import Room
from railstream_worker.generation import Generation, Outcome
from railstream_worker.llm.port import ChatModel
from railstream_worker.rails.engine import RailsEngine
from railstream_worker.rails.port import Turn
from railstream_worker.released import Released


@dataclass(frozen=True, slots=True)
class Answering:
    """One job and all that answers it. ``history``: what was said before on its branch."""

    job: Job
    config: RailsConfig
    engine: RailsEngine
    models: Mapping[str, ChatModel]
    caller: Caller
    sink: Room
    released: Released
    history: list[dict[str, Any]]
    record_rails: Callable[[Sequence[Mapping[str, Any]]], None]
    """Gets the entries of the rails that ran, once, however the job ends."""

    async def run(self) -> Outcome:
        turn = Turn(
            messages=[*self.history, *self.job.messages],
            ask=self.caller.ask,
            context=self.job.context,
            options=self.job.options,
        )
        try:
            outcome = await (self._check(turn) if self.job.kind == "checks" else self._generate(turn))
            return self._with_log(outcome, turn)
        finally:
            self.record_rails(turn.activated)

    async def _generate(self, turn: Turn) -> Outcome:
        params = remaining(self.job.params, self.released.chunks)
        if params is None:
            return Finished(finish_reasons=("length",))
        generation = Generation(
            config=self.config,
            rails=self.engine,
            model=self.models["main"],
            turn=turn,
            params=params,
            caller=self.caller,
            sink=self.sink,
            streaming=self.job.stream,
            released=self.released.text,
        )
        return await generation.run()

    async def _check(self, turn: Turn) -> Outcome:
        result = await check(self.engine, turn, stages_of(self.job.messages))
        return Finished(finish_reasons=("stop",), result=msgspec.to_builtins(result))

    def _with_log(self, outcome: Outcome, turn: Turn) -> Outcome:
        """The parts of NeMo's generation log that the request asked for."""
        asked = self.job.options.get("log")
        if not isinstance(asked, dict) or not isinstance(outcome, Finished | Blocked):
            return outcome
        log: dict[str, Any] = {}
        if asked.get("llm_calls"):
            log["llm_calls"] = [call.entry() for call in self.caller.log]
        if asked.get("activated_rails"):
            log["activated_rails"] = turn.activated
        return msgspec.structs.replace(outcome, log=log) if log else outcome


def remaining(params: Mapping[str, Any], chunks: int) -> Mapping[str, Any] | None:
    """The params of a continued answer: limits less what was generated; ``None`` when nothing is left of them."""
    if not chunks:
        return params
    rest = dict(params)
    for limit in ("max_tokens", "max_completion_tokens"):
        if isinstance(rest.get(limit), int):
            rest[limit] -= chunks
            if rest[limit] <= 0:
                return None
    return rest
