"""A chat completion's request in the words of `transformers`: the prompt's tokens, and what `generate` is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from railstream.errors import CallError
from railstream.messages import text_of

MAX_NEW_TOKENS: Final = 256
PASSED: Final = frozenset(
    {"top_p", "top_k", "typical_p", "min_p", "repetition_penalty", "no_repeat_ngram_size", "do_sample"}
    | {"min_new_tokens", "max_time"}
)
READ: Final = PASSED | {
    "max_tokens", "max_completion_tokens", "max_new_tokens", "temperature", "stop", "seed", "n", "stream",
    "stream_options", "user", "store", "metadata", "tools", "logprobs", "response_format", "streamer", "streaming",
}  # fmt: skip
"""Also what the engine has refused by now, or what says nothing to it."""


def options_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """``generate``'s keyword arguments. Raises ``CallError`` for an option that it has no counterpart of."""
    for name in params:
        if name not in READ:
            raise CallError(f"the option {name!r} is not known to this engine", code="invalid_request", param=name)
    limits = (params.get(name) for name in ("max_completion_tokens", "max_tokens", "max_new_tokens"))
    options: dict[str, Any] = {"max_new_tokens": next((limit for limit in limits if limit), MAX_NEW_TOKENS)}
    options |= {name: params[name] for name in PASSED if params.get(name) is not None}
    temperature = params.get("temperature")
    if temperature is not None:
        options["do_sample"] = temperature > 0
        if temperature > 0:
            options["temperature"] = float(temperature)
    return options


def stops_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    stop = params.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def tokens_of(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> Any:
    """The prompt as the model's chat template has it; as plain text where the model has none."""
    said = [{"role": message.get("role"), "content": text_of(message)} for message in messages]
    if not getattr(tokenizer, "chat_template", None):
        return tokenizer(_plain(said), return_tensors="pt")
    goes_on = said[-1]["role"] == "assistant"
    return tokenizer.apply_chat_template(
        said,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
        return_tensors="pt",
        return_dict=True,
    )


def _plain(messages: Sequence[Mapping[str, Any]]) -> str:
    if len(messages) == 1:
        return str(messages[0]["content"])
    lines = [f"{str(message['role']).capitalize()}: {message['content']}" for message in messages]
    return "\n".join(lines if messages[-1]["role"] == "assistant" else [*lines, "Assistant:"])


class Stops:
    """Cuts a text at the first of the stop strings, however it is split; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """What may be said."""
        if not self._stops or self.hit:
            return "" if self.hit else text
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            return text[: min(found)]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        return "" if self.hit else self._held


def _overlap(text: str, stop: str) -> int:
    """How much of the end of ``text`` is a beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
