"""One answer in the caller's process: its models are watched, its calls logged, and it ends in one outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from opentelemetry.context import Context
from railstream.config import RailsConfig
from railstream.errors import RailstreamError
from railstream.events import Failed, Usage
from railstream.ids import new_request_id
from railstream.telemetry.process import Telemetry

from railstream_engine.api.explain import ExplainInfo, LLMCallInfo
from railstream_engine.api.external import External
from railstream_engine.api.output import Queue
from railstream_engine.api.question import Question
from railstream_engine.api.response import ActivatedRail, GenerationLog, GenerationStats
from railstream_engine.api.watched_models import Witness
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.generation import Generation, Outcome
from railstream_engine.generation.sink import Room
from railstream_engine.providers.port import ChatModel
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import Turn


@dataclass(slots=True)
class Run:
    """``models`` by type, ``main`` among them. ``context``: parent of the spans, as it was when the caller asked."""

    config: RailsConfig
    engine: RailsEngine
    models: Mapping[str, ChatModel]
    question: Question
    info: ExplainInfo
    telemetry: Telemetry
    context: Context
    external: External | None = None
    streaming: bool = True
    witness: Witness = field(default_factory=Witness)
    turn: Turn = field(init=False)
    caller: Caller = field(init=False)
    _id: str = field(default_factory=new_request_id)
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        watched = {kind: self.witness.watch(model) for kind, model in self.models.items()}
        self.caller = Caller(self._id, 1, watched, self._record, self.telemetry.calls, self.context)
        question = self.question
        self.turn = Turn(question.messages, self.caller.ask, question.context, question.rails_options)
        self.models = watched

    async def generate(self, sink: Room) -> Outcome:
        """Raises what the caller's own generator raised, as it is."""
        generation = Generation(
            config=self.config,
            rails=self.engine,
            model=self.models["main"],
            turn=self.turn,
            params=self.question.options.llm_params or {},
            caller=self.caller,
            sink=sink,
            streaming=self.streaming,
            source=self.external.parts() if self.external is not None else None,
        )
        try:
            outcome = await generation.run()
        finally:
            self.record_rails()
        if self.external is not None and self.external.error is not None:
            raise self.external.error
        return outcome

    async def pieces(self, queue: Queue | None = None) -> AsyncGenerator[str | Outcome, None]:
        """Released texts, and as the last element how it ended. Leaving it early stops the generation at once."""
        queue = queue or Queue()
        task = asyncio.create_task(self.generate(queue))
        task.add_done_callback(queue.end)
        try:
            while (text := await queue.take()) is not None:
                yield text
            yield await task
        finally:
            await _stop(task)

    def record_rails(self) -> None:
        """Tell the program's telemetry what the rails did."""
        self.telemetry.rails.record(self.turn.activated, self.context)

    def failure(self, failed: Failed) -> RailstreamError:
        """The error behind a failed outcome."""
        error = self.witness.error
        if error is not None and failed.error in (error.envelope(), error.guarded_envelope()):
            return error  # whoever runs the rails in process is their operator, and may read the provider's words
        message = str(failed.error.get("message"))
        return RailstreamError(message, param=failed.error.get("param"), code=failed.error.get("code"))

    def log(self) -> GenerationLog | None:
        """What the options asked to know."""
        wanted = self.question.options.log
        if not wanted.wanted:
            return None
        rails = [ActivatedRail.model_validate(entry) for entry in self.turn.activated]
        return GenerationLog(
            activated_rails=rails if wanted.activated_rails else [],
            stats=GenerationStats.of(self.info.llm_calls, rails, time.perf_counter() - self._began),
            llm_calls=self.info.llm_calls if wanted.llm_calls else None,
        )

    def _record(self, usage: Usage) -> None:
        entry, request_id = self.caller.log[-1].entry(), f"{self._id}.{usage.call}"
        info = LLMCallInfo(
            **entry,
            request_id=request_id,
            prompt=self.witness.prompt(request_id),
            completion=self.witness.completion(request_id),
        )
        self.info.llm_calls.append(info)


async def _stop(task: asyncio.Task[Outcome]) -> None:
    """End the task and see its error, which nobody else will."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
