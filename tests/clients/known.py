"""The clients, their packages, and what they are asked to do. A use is a prompt that the testing upstream obeys."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from railstream.testing import directive


class Client(NamedTuple):
    """``probe`` is a file of `probes`; ``packages`` are what pip or npm installs for it."""

    name: str
    probe: str
    packages: tuple[str, ...]


CLIENTS: Final = (
    Client("openai", "openai_sdk.py", ("openai",)),
    Client("openai-1", "openai_sdk.py", ("openai==1.99.9",)),
    Client("openai-0.28", "openai_028.py", ("openai==0.28.1",)),
    Client("litellm", "litellm_sdk.py", ("litellm",)),
    Client("langchain-openai", "langchain_chat.py", ("langchain-openai",)),
    Client("llama-index", "llama_index_chat.py", ("llama-index-llms-openai-like",)),
    Client("pydantic-ai", "pydantic_ai_agent.py", ("pydantic-ai-slim[openai]",)),
    Client("instructor", "instructor_chat.py", ("instructor",)),
    Client("smolagents", "smolagents_model.py", ("smolagents[openai]",)),
    Client("openai-agents", "openai_agents.py", ("openai-agents",)),
    Client("autogen", "autogen_client.py", ("autogen-ext[openai]",)),
    Client("llm", "llm_model.py", ("llm",)),
    Client("openai-node", "openai_node.mjs", ("openai",)),
    Client("ai-sdk", "ai_sdk.mjs", ("ai", "@ai-sdk/openai-compatible")),
)


def refusal(status: int, code: str | None, **more: Any) -> str:
    error = {"message": "refused", "type": "invalid_request_error", "param": None, "code": code}
    return directive(fault="error_before", status=status, error=error, **more)


USES: Final = {
    "answer": directive(words=7, seed=1),
    "wrong": refusal(400, "unsupported_value"),
    "too long": refusal(400, "context_length_exceeded"),
    "filtered": refusal(400, "content_filter"),
    "no model": refusal(404, "model_not_found"),
    "invalid": refusal(422, None),
    "rate limit": refusal(429, "rate_limit_exceeded", retry_after=0.01),
    "overloaded": directive(fault="error_before", status=503, retry_after=0.01),
    "wrong key": refusal(401, "invalid_api_key"),
    "cut": directive(words=7, seed=1, fault="error_during", at=3),
}


class Known(NamedTuple):
    """A difference by design: only in ``fields`` of what is seen. docs/compatibility.md says the same."""

    fields: frozenset[str]
    reason: str


KNOWN: Final = {
    "invalid": Known(frozenset({"code"}), "a code that is null there is `invalid_request` here"),
    "overloaded": Known(frozenset({"code"}), "the code of a 503 is ours"),
    "wrong key": Known(
        frozenset({"class", "status", "code"}), "a provider's 401 is about our credential: 502, not repeated"
    ),
    "llama-index: wrong key": Known(
        frozenset({"class", "status", "code", "calls"}), "it repeats every 5xx by itself, whatever x-should-retry says"
    ),
    "ai-sdk: wrong key": Known(
        frozenset({"class", "status", "code", "calls"}), "it repeats every 5xx by itself, whatever x-should-retry says"
    ),
    "pydantic-ai: overloaded": Known(frozenset({"class", "code"}), "it reads the code of a 503, which is ours"),
    "cut": Known(
        frozenset({"class", "status", "code", "calls"}),
        "a plain answer that a provider cuts is 502 and repeated, and no exception of another kind; codes are ours",
    ),
}
