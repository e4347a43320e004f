"""The engines: which wire a provider speaks, where it is, which variable holds its key, what it does otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from railstream import provider_options as known

Wire = Literal["openai", "anthropic", "google", "huggingface", "scripted"]


class Engine(NamedTuple):
    """A provider. All but the first fields say in what it differs from OpenAI's own endpoint."""

    base_url: str = ""
    key: str = ""
    """The environment variable that usually holds its API key."""
    wire: Wire = "openai"
    other_key: str = ""
    """A variable that is looked at where the first one is not set."""
    url_variable: str = ""
    """An environment variable that says where it is."""
    refuses: frozenset[str] = frozenset()
    """Request options that it answers with an error. A request that has one is refused before it is sent."""
    renames: Mapping[str, str] = {}
    """Request options that it knows by another name."""
    asks_for_usage: bool = True
    """False: it sends usage without ``stream_options``, which it refuses."""
    key_header: str = ""
    """The header of the key, where it is not ``Authorization: Bearer``."""
    continues: bool = False
    """Whether its models go on with a trailing assistant message. Most models answer such a message instead, so a
    takeover that relied on it would join two texts."""
    continue_params: Mapping[str, Any] = {}
    """Request options that make it go on with a trailing assistant message."""
    continue_message: Mapping[str, Any] = {}
    """Keys that such a message itself needs for that."""
    tools_end_with_stop: bool = False
    """It says ``stop`` where tools were called."""
    thoughts_in_total: bool = False
    """Tokens of reasoning are counted in ``total_tokens`` alone."""
    passes: frozenset[str] | None = known.OPENAI
    """Options beside OpenAI's that a request may send to it; ``None``: all. See ``railstream.pass``."""


_NIM = Engine("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", passes=known.NIM)
_CONTINUE_FINAL_MESSAGE: Final = {"continue_final_message": True, "add_generation_prompt": False}
"""vLLM's flags. llama.cpp's server takes them too (ggml-org/llama.cpp#23012); an older one ignores them and goes on
with a trailing assistant message by default (ggml-org/llama.cpp#13174)."""
_VLLM = Engine("http://localhost:8000/v1", continues=True, continue_params=_CONTINUE_FINAL_MESSAGE, passes=None)
_GOOGLE = Engine(
    "https://generativelanguage.googleapis.com/v1beta",
    "GEMINI_API_KEY",
    wire="google",
    other_key="GOOGLE_API_KEY",
    url_variable="GOOGLE_GEMINI_BASE_URL",
    refuses=frozenset({"logit_bias", "logprobs", "top_logprobs"}),
    passes=known.GOOGLE,
)
_AZURE = Engine(
    key="AZURE_OPENAI_API_KEY", url_variable="AZURE_OPENAI_ENDPOINT", key_header="api-key", passes=known.AZURE
)

ENGINES: Final[Mapping[str, Engine]] = {
    "openai": Engine("https://api.openai.com/v1", "OPENAI_API_KEY", url_variable="OPENAI_BASE_URL"),
    "azure": _AZURE,
    "azure_openai": _AZURE,
    "anthropic": Engine(
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        wire="anthropic",
        url_variable="ANTHROPIC_BASE_URL",
        passes=known.ANTHROPIC,
        refuses=frozenset(
            {
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "logprobs",
                "top_logprobs",
                "n",
                "seed",
                "response_format",
                "temperature",
                "top_p",
                "top_k",
            }
        ),
    ),
    "groq": Engine(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        refuses=frozenset({"logprobs", "logit_bias", "top_logprobs"}),
        passes=known.GROQ,
    ),
    "gemini": Engine(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        other_key="GOOGLE_API_KEY",
        tools_end_with_stop=True,
        thoughts_in_total=True,
        passes=known.GEMINI,
    ),
    "google": _GOOGLE,
    "google_genai": _GOOGLE,
    "mistral": Engine(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        refuses=frozenset({"logit_bias", "logprobs", "top_logprobs", "store", "user"}),
        renames={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
        asks_for_usage=False,
        continues=True,
        continue_message={"prefix": True},
        passes=known.MISTRAL,
    ),
    "deepseek": Engine("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", passes=known.DEEPSEEK),
    "openrouter": Engine("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", passes=known.OPENROUTER),
    "together": Engine("https://api.together.xyz/v1", "TOGETHER_API_KEY", passes=known.TOGETHER),
    "fireworks": Engine("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", passes=known.FIREWORKS),
    "nim": _NIM,
    "nvidia_ai_endpoints": _NIM,
    "vllm": _VLLM,
    "vllm_openai": _VLLM,
    "ollama": Engine("http://localhost:11434/v1", passes=None),
    "llamacpp": Engine(
        "http://localhost:8080/v1", continues=True, continue_params=_CONTINUE_FINAL_MESSAGE, passes=None
    ),
    "huggingface": Engine(
        wire="huggingface",
        continues=True,
        refuses=frozenset({"n", "tools", "logprobs", "response_format"}),
        passes=known.HUGGINGFACE,
    ),
    "scripted": Engine(wire="scripted", continues=True),
}
OTHER: Final = Engine(passes=None)
"""Any other OpenAI-compatible endpoint."""


def engine_of(name: str) -> Engine:
    return ENGINES.get(name, OTHER)


def azure_url(endpoint: str, deployment: str, api_version: str) -> str:
    """A resource's own v1 address, or, where a deployment or a version is named, the deployment's."""
    endpoint = endpoint.rstrip("/")
    if "/openai" in endpoint or not endpoint:
        return endpoint
    if api_version:
        return f"{endpoint}/openai/deployments/{deployment}"
    return f"{endpoint}/openai/v1"
