"""What a job asks for, done: an answer generated under its rails, or the rails alone over given messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from railstream.config import RailsConfig
from railstream.errors import WorkerLostError
from railstream.events import Blocked, Finished, Usage
from railstream.job import Job
from railstream.tokens import output_estimate
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.checks import check, stages_of
from railstream_engine.generation.generation import Generation, Outcome, Rails
from railstream_engine.generation.sink import Room
from railstream_engine.providers.port import ChatModel
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import Turn

from railstream_worker.attempts.kept_question import KeepingRails, KeepsQuestion
from railstream_worker.attempts.regeneration import RegeneratedSink
from railstream_worker.attempts.released import Released
from railstream_worker.attempts.replay import ReplaySink
from railstream_worker.attempts.runs import KeptRuns
from railstream_worker.attempts.takeover import over_attempts


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
    earlier: Sequence[Usage]
    """The answering calls of the attempts before."""
    record_rails: Callable[[Sequence[Mapping[str, Any]]], None]
    """Gets the entries of the rails that ran, once, however the job ends."""
    runs: KeptRuns | None = None
    """Where the provider's run of the answer is kept, of a model that has runs."""

    async def run(self) -> Outcome:
        turn = Turn(
            messages=[*self.history, *self.job.messages],
            ask=self.caller.ask,
            context=self.job.context,
            options=self.job.options,
        )
        try:
            outcome = await (self._check(turn) if self.job.kind == "checks" else self._generate(turn))
            earlier = self.earlier if self.runs is None else self.runs.earlier(self.earlier)
            usage = over_attempts(earlier, outcome.usage)
            return self._with_log(msgspec.structs.replace(outcome, usage=usage), turn)
        finally:
            self.record_rails(turn.activated)

    async def _generate(self, turn: Turn) -> Outcome:
        """Generate the answer; after a takeover, as the model's ``on_worker_loss`` says."""
        if self.runs is not None and self.runs.again is not None:
            outcome = await self._read_again(turn)
            if not self.runs.is_gone:
                return outcome
        if not self.released.chunks:
            return await self._generation(turn, self.job.params).run()
        how = self.config.on_worker_loss_of(self.job.model)
        if how == "fail" or not self.released.only_text:
            raise WorkerLostError(
                "the worker died during the answer; the text that was sent stands, the rest is lost",
                partial=self.released.text,
            )
        return await (self._continue(turn) if how == "continue" else self._regenerate(turn))

    async def _read_again(self, turn: Turn) -> Outcome:
        """Read the provider's run again, from its start: the rails see all of it, the client what it does not have."""
        lost = WorkerLostError(
            "the worker died during the answer, and its run at the provider says something else now; the text that was "
            "sent stands, the rest is lost",
            partial=self.released.text,
        )
        generation = self._generation(turn, self.job.params)
        generation.sink = replay = ReplaySink(self.sink, self.released.parts, lambda: generation.give_up(lost))
        if replay.differs:
            return generation.failed(lost)
        outcome = await generation.run()
        if isinstance(outcome, Finished) and not replay.caught_up:
            return generation.failed(lost)
        return outcome

    async def _continue(self, turn: Turn) -> Outcome:
        params = remaining(self.job.params, self.released)
        if params is None:
            return Finished(finish_reasons=("length",))
        generation = self._generation(turn, params)
        generation.released = self.released.text
        return await generation.run()

    async def _regenerate(self, turn: Turn) -> Outcome:
        """Generate the whole answer again; it goes on only if it begins with what was released."""
        lost = WorkerLostError(
            "the worker died during the answer, and the answer that was generated again is another text; the text that "
            "was sent stands, the rest is lost",
            partial=self.released.text,
        )
        generation = self._generation(turn, self.job.params)
        generation.sink = again = RegeneratedSink(self.sink, self.released.text, lambda: generation.give_up(lost))
        outcome = await generation.run()
        if isinstance(outcome, Finished) and not again.caught_up:
            return generation.failed(lost)
        return outcome

    def _generation(self, turn: Turn, params: Mapping[str, Any]) -> Generation:
        return Generation(
            config=self.config,
            rails=self._rails(),
            model=self.models["main"],
            turn=turn,
            params=params,
            caller=self.caller,
            sink=self.sink,
            streaming=self.job.stream,
            runs=self.runs,
        )

    def _rails(self) -> Rails:
        if not isinstance(self.sink, KeepsQuestion):
            return self.engine
        return KeepingRails(self.engine, len(self.history), self.sink.keep_question)

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


def remaining(params: Mapping[str, Any], released: Released) -> Mapping[str, Any] | None:
    """The params of a continued answer: limits less what was generated; ``None`` when nothing is left of them.

    A chunk may hold several tokens, so they are estimated by the text's length too, and the larger figure counts: the
    limit is never passed.
    """
    generated = output_estimate(released.chunks, len(released.text))
    rest = dict(params)
    for limit in ("max_tokens", "max_completion_tokens"):
        if isinstance(rest.get(limit), int):
            rest[limit] -= generated
            if rest[limit] <= 0:
                return None
    return rest
