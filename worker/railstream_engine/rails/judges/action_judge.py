"""Run a custom action as a rail: fill in its parameters, keep a sync one off the event loop, read its verdict."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from railstream.config import Flow, RailsConfig
from railstream.errors import ConfigurationError

from railstream_engine.rails.judges.bound_model import BoundModel, BoundModels
from railstream_engine.rails.judges.verdict import Stage, Verdict, verdict_of
from railstream_engine.rails.port import Turn

_ABSENT = {
    "llm_task_manager": "render prompts yourself, or name a built-in flow such as `self check output`",
    "kb": "there is no knowledge base",
    "state": "there is no Colang state",
}
"""Parameters of NeMo Guardrails that nothing stands behind here."""


class ActionJudge:
    def __init__(self, config: RailsConfig, flow: Flow, stage: Stage, function: Callable[..., Any]) -> None:
        self.flow: str = flow
        self._flow = flow
        self._config = config
        self._stage = stage
        self._arguments: Mapping[str, str] = flow.arguments
        self._name = flow.action
        self._run: Callable[..., Any] = getattr(function(), "run") if inspect.isclass(function) else function  # noqa: B009
        self._parameters = self._checked(inspect.signature(self._run).parameters)

    def _checked(self, parameters: Mapping[str, inspect.Parameter]) -> tuple[str, ...]:
        """The names to fill in. Raises ``ConfigurationError`` for one that cannot be, and has no default."""
        kinds = {parameter.kind for parameter in parameters.values()}
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return tuple(self._values("", Turn([], _nobody)))
        known = self._values("", Turn([], _nobody))
        named = [item for item in parameters.values() if item.kind is not inspect.Parameter.VAR_POSITIONAL]
        for parameter in named:
            if parameter.name not in known and parameter.default is inspect.Parameter.empty:
                why = _ABSENT.get(parameter.name, f"known are {', '.join(sorted(known))}")
                raise ConfigurationError(f"action {self._name!r}: no value for its parameter {parameter.name!r}: {why}")
        return tuple(parameter.name for parameter in named if parameter.name in known)

    def _values(self, text: str, turn: Turn) -> dict[str, Any]:
        """Everything that an action can ask for by name."""
        types = [model.type for model in self._config.models]
        models = BoundModels(types, turn, self._name)
        own = {f"{kind}_llm": model for kind, model in models.items()}
        message = "user_message" if self._stage == "input" else "bot_message"
        user = text if self._stage == "input" else turn.user_message
        context = {**turn.context, "user_message": user, message: text, f"triggered_{self._stage}_rail": self.flow}
        model = self._arguments.get("model")
        return {
            **own,
            "context": context,
            "text": text,
            "user_message": user,
            "bot_message": text if self._stage == "output" else None,
            "messages": turn.messages,
            "events": [],
            "config": self._config,
            "llm": models.get(self._name) or models.get("main") or BoundModel("main", turn, self._name),
            "llms": models,
            "model_name": model,
            **{name: _substituted(value, context) for name, value in self._arguments.items()},
        }

    async def judge(self, text: str, turn: Turn) -> Verdict:
        values = self._values(text, turn)
        given = {name: values[name] for name in self._parameters}
        if inspect.iscoroutinefunction(self._run):
            returned = await self._run(**given)
        else:
            returned = await _in_thread(lambda: self._run(**given), self._name)
            if inspect.isawaitable(returned):
                returned = await returned
        return self._verdict(returned)

    def _verdict(self, returned: Any) -> Verdict:
        return verdict_of(returned, self._stage)


def _substituted(value: str, context: Mapping[str, Any]) -> Any:
    """A flow's argument; ``$bot_message`` and the like stand for what the context holds."""
    return context.get(value[1:], value) if value.startswith("$") else value


async def _nobody(*_: Any, **__: Any) -> str:
    raise AssertionError("nobody is asked while parameters are read")


def _plain(raised: BaseException) -> Exception:
    """An exit, or a StopIteration, would end more than this rail where it is awaited."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    return RuntimeError(f"{type(raised).__name__}: {raised}")


async def _in_thread(call: Callable[[], Any], name: str) -> Any:
    """Run a blocking call in a thread of its own.

    Not in a pool: an action that never returns would keep a place of it, and the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: Exception | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result: Any = None
        error: Exception | None = None
        try:
            result = context.run(call)
        except BaseException as raised:  # a thread has nobody else to tell
            error = _plain(raised)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=f"action {name}", daemon=True).start()
    return await done
