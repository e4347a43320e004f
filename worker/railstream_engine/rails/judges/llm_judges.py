"""Rails that ask a model: self check, content safety, llama guard, topic safety, facts and hallucination.

An answer that the task's output parser does not understand is a failure of the rail, not a verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from railstream.config import Flow, Prompt, RailsConfig
from railstream.errors import ConfigurationError, RailError

from railstream_engine.rails.judges.reasons import named
from railstream_engine.rails.judges.verdict import Stage, Verdict, allow, block
from railstream_engine.rails.port import Turn

_MAX_TOKENS = 1024  # of a judge whose prompt sets none: NeMo's figure
_EXTRA_ANSWERS = 2  # that a hallucination check compares the answer with
_TOPIC_RESTRICTION = (
    'If any of the above conditions are violated, please respond with "off-topic". '
    'Otherwise, respond with "on-topic". You must respond with "on-topic" or "off-topic".'
)


class PromptJudge:
    """Asks its model about the text with the prompt that the config gives for its task."""

    input_scope = "messages"
    """All messages that are to be judged are put into one question."""

    def __init__(self, config: RailsConfig, flow: Flow, stage: Stage) -> None:
        self.flow: str = flow
        self._config = config
        self._stage = stage
        task = config.prompt_task_of(flow)
        if task is None:
            raise ConfigurationError(f"the flow {flow.text!r} needs a prompt with `task: {flow.prompt_task}`")
        self._task = task
        self._prompt: Prompt = config.prompt_of(task)
        model = config.model_for(task)
        self._model = model.type if model is not None else "main"

    async def judge(self, text: str, turn: Turn) -> Verdict:
        return await self._ask(text, self._messages(text, turn), turn)

    def _messages(self, text: str, turn: Turn) -> Sequence[Mapping[str, Any]]:
        return self._prompt.render(self._variables(text, turn), turn.messages)

    def _variables(self, text: str, turn: Turn) -> dict[str, Any]:
        """What the prompt's template sees: the request's context, and over it the text in question."""
        texts = {"user_input": text} if self._stage == "input" else {"user_input": turn.user_message}
        if self._stage == "output":
            texts |= {"bot_response": text, "response": text, "statement": text}
        return {
            **turn.context,
            "general_instructions": self._config.general_instructions,
            "sample_conversation": self._config.sample_conversation,
            "reasoning_enabled": self._config.rails.config.content_safety.reasoning.enabled,
            "bot_thinking": None,
            **texts,
        }

    async def _ask(self, text: str, messages: Sequence[Mapping[str, Any]], turn: Turn) -> Verdict:
        answer = await turn.ask(self._model, messages, task=self._task, params=self._params())
        judgement = self._prompt.parser(answer)
        if not judgement.understood:
            raise RailError(f"the model's answer of {len(answer)} characters is no verdict")
        return allow() if judgement.safe else block(", ".join(named(judgement.categories, text, turn.messages)))

    def _params(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "temperature": self._config.lowest_temperature,
            "max_tokens": self._prompt.max_tokens or _MAX_TOKENS,
        }
        return {**params, "stop": list(self._prompt.stop)} if self._prompt.stop else params


class TopicJudge(PromptJudge):
    """Gives the model the whole conversation, under its prompt as the system message."""

    input_scope = "conversation"

    def _messages(self, text: str, turn: Turn) -> Sequence[Mapping[str, Any]]:
        system = "\n".join(str(message["content"]) for message in super()._messages(text, turn)).strip()
        if not system.endswith(_TOPIC_RESTRICTION):
            system = f"{system}\n\n{_TOPIC_RESTRICTION}"
        spoken = [message for message in turn.messages if message.get("role") in ("user", "assistant")]
        return [{"role": "system", "content": system}, *spoken]


class FactsJudge(PromptJudge):
    """Compares the answer with the context's ``relevant_chunks``.

    Without any there is nothing to compare it with: then it blocks, unless the request may switch rails off.
    """

    async def judge(self, text: str, turn: Turn) -> Verdict:
        given = turn.context.get("relevant_chunks")
        if turn.may_switch_off and (turn.context.get("check_facts") is False or not given):
            return allow()
        if not given:
            raise RailError("`context.relevant_chunks` is missing: there is nothing to compare the answer with")
        return await super().judge(text, turn)

    def _variables(self, text: str, turn: Turn) -> dict[str, Any]:
        chunks = turn.context["relevant_chunks"]
        evidence = chunks if isinstance(chunks, str) else "\n".join(map(str, chunks))
        return {**super()._variables(text, turn), "evidence": evidence}


class HallucinationJudge(PromptJudge):
    """Asks the answering model again, twice, and its own model whether the answers agree."""

    async def judge(self, text: str, turn: Turn) -> Verdict:
        if turn.may_switch_off and turn.context.get("check_hallucination") is False:
            return allow()
        again = [self._answer_again(turn) for _ in range(_EXTRA_ANSWERS)]
        answers = await asyncio.gather(*again)
        variables = {**self._variables(text, turn), "paragraph": ". ".join(answers)}
        return await self._ask(text, self._prompt.render(variables, turn.messages), turn)

    async def _answer_again(self, turn: Turn) -> str:
        answer = await turn.ask("main", turn.messages, task=self._task, params={"temperature": 1.0})
        return answer.strip().strip('"')


JUDGES: Mapping[str, type[PromptJudge]] = {
    "self check input": PromptJudge,
    "self check output": PromptJudge,
    "content safety check input": PromptJudge,
    "content safety check output": PromptJudge,
    "llama guard check input": PromptJudge,
    "llama guard check output": PromptJudge,
    "topic safety check input": TopicJudge,
    "self check facts": FactsJudge,
    "self check hallucination": HallucinationJudge,
}
