"""Request options of providers that OpenAI's request has not: which of them a request may pass to which engine.

`SAFE` options change how a text is generated, not where it comes out and not what the model reads beside it: a guarded
config lets them pass. Any other option could move text past the rails, so a guarded config passes it only where its
model names it.
"""

from __future__ import annotations

from typing import Final

NUMBERS: Final = frozenset({
    "top_k", "min_p", "top_a", "typical_p", "tfs_z", "repetition_penalty", "repeat_penalty", "repeat_last_n",
    "length_penalty", "no_repeat_ngram_size", "mirostat", "mirostat_tau", "mirostat_eta", "mirostat_target",
    "mirostat_lr", "dynatemp_range", "dynatemp_exponent", "dry_multiplier", "dry_base", "dry_allowed_length",
    "xtc_probability", "xtc_threshold", "min_tokens", "min_new_tokens", "n_predict", "num_ctx", "random_seed",
    "thinking_budget", "truncate_prompt_tokens", "prompt_truncate_len", "stop_token_ids", "priority", "beam_width",
})  # fmt: skip
"""Sampling and bounds: numbers, and lists of them."""
SWITCHES: Final = frozenset({
    "ignore_eos", "use_beam_search", "do_sample", "early_stopping", "skip_special_tokens", "think", "enable_thinking",
    "spaces_between_special_tokens", "include_stop_str_in_output", "cache_prompt", "include_reasoning", "keep_alive",
    "safe_prompt", "separate_reasoning", "stream_reasoning", "allowed_token_ids", "bad_words", "speed",
})  # fmt: skip
STRUCTURES: Final = frozenset({
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend",
    "guided_whitespace_pattern", "thinking", "reasoning", "reasoning_format", "chat_template_kwargs", "provider",
    "prompt_mode", "moderation", "prompt_cache_options", "output_config", "nvext", "ebnf",
})  # fmt: skip
"""Options with words of their own: input rails read them."""
SAFE: Final = NUMBERS | SWITCHES | STRUCTURES

OPENAI: Final = frozenset({"moderation", "prompt_cache_options"})
ANTHROPIC: Final = frozenset({
    "thinking", "output_config", "cache_control", "container", "inference_geo", "speed", "top_k",
})  # fmt: skip
GOOGLE: Final = frozenset({
    "top_k", "max_output_tokens", "thinking_config", "response_modalities", "media_resolution", "thinking_budget",
    "thinking_level", "include_thoughts", "safety_settings", "cached_content", "labels",
})  # fmt: skip
GROQ: Final = frozenset({"reasoning_format", "include_reasoning", "documents", "search_settings", "citation_options"})
MISTRAL: Final = frozenset({"safe_prompt", "prompt_mode", "random_seed"})
OPENROUTER: Final = frozenset({
    "provider", "reasoning", "include_reasoning", "models", "route", "transforms", "plugins", "top_k", "min_p", "top_a",
    "repetition_penalty", "usage", "structured_outputs",
})  # fmt: skip
TOGETHER: Final = frozenset({
    "top_k", "min_p", "repetition_penalty", "reasoning", "chat_template_kwargs", "safety_model",
    "context_length_exceeded_behavior",
})  # fmt: skip
FIREWORKS: Final = frozenset({
    "top_k", "min_p", "typical_p", "repetition_penalty", "mirostat_target", "mirostat_lr", "ignore_eos", "thinking",
    "prompt_truncate_len", "context_length_exceeded_behavior",
})  # fmt: skip
NIM: Final = frozenset({
    "nvext", "chat_template_kwargs", "top_k", "min_p", "repetition_penalty", "ignore_eos", "min_tokens",
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "thinking",
})  # fmt: skip
HUGGINGFACE: Final = frozenset({
    "top_k", "typical_p", "min_p", "repetition_penalty", "no_repeat_ngram_size", "do_sample", "min_new_tokens",
})  # fmt: skip
DEEPSEEK: Final = frozenset({"thinking"})
GEMINI: Final = frozenset({"extra_body", "google"})
AZURE: Final = OPENAI | {"data_sources", "user_security_context"}
