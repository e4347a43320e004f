"""Which of two configs' values is kept when they are combined: requests choose combinations, and may only add rails.

Every key that decides what the rails read or let pass has a rule here, so that the stricter value holds whatever the
order of the configs. A test keeps the table complete: a key of the schema is either here or among `NEUTRAL`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Path = tuple[str, ...]
Rule = Callable[[Any, Any], Any]


def both(first: bool, second: bool) -> bool:
    return first and second


def either(first: bool, second: bool) -> bool:
    return first or second


def union(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """The second's items first, as wherever lists are joined."""
    return (*second, *(item for item in first if item not in second))


def common(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item for item in first if item in second)


def least(first: Any, second: Any) -> Any:
    """The smaller one; of one that is not given and one that is, the one that is."""
    given = [value for value in (first, second) if value is not None]
    return min(given) if given else None


def first(first: Any, second: Any) -> Any:
    """Neither is stricter: the order in which the configs are named decides."""
    return first


def allowed_by_both(first: bool | None, second: bool | None) -> bool | None:
    """False wins over not given, and that over true."""
    return False if False in (first, second) else None if None in (first, second) else True


def first_of(*order: Any) -> Rule:
    """Whichever of the two comes first in this order, the strictest first."""
    return lambda first, second: min(first, second, key=order.index)


def channels(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """A flow that both narrow reads what either names; one that a single config narrows reads everything."""
    return {flow: union(first[flow], second[flow]) for flow in first.keys() & second.keys()}


_ENTITIES: Final[Mapping[Path, Rule]] = {
    ("rails", "config", section, stage, "entities"): union
    for section in ("pii_patterns", "secrets", "sensitive_data_detection")
    for stage in ("input", "output")
}
_FOLDS: Final[Mapping[Path, Rule]] = {
    ("rails", "config", section, stage, "fold"): either
    for section in ("regex_detection", "terms", "pii_patterns", "secrets")
    for stage in ("input", "output")
}
_CASES: Final[Mapping[Path, Rule]] = {
    ("rails", "config", section, stage, "case_insensitive"): either
    for section in ("regex_detection", "terms")
    for stage in ("input", "output")
}
_MASKS: Final[Mapping[Path, Rule]] = {
    ("rails", "config", section, stage, "mask_token"): first
    for section in ("terms", "pii_patterns", "secrets", "sensitive_data_detection")
    for stage in ("input", "output")
}
RULES: Final[Mapping[Path, Rule]] = {
    **_ENTITIES,
    **_MASKS,
    **_FOLDS,
    **_CASES,
    ("railstream", "allow_request_rails"): allowed_by_both,
    ("rails", "input", "flows"): union,
    ("rails", "input", "speculative_generation"): both,
    ("rails", "input", "trusted_roles"): common,
    ("rails", "output", "flows"): union,
    ("rails", "output", "channels"): channels,
    ("rails", "output", "unread_channels"): first_of("drop", "pass"),
    ("rails", "output", "alternatives"): first_of("drop", "read"),
    ("rails", "output", "streaming", "stream_first"): both,
    ("rails", "output", "streaming", "chunk_size"): least,
    ("rails", "output", "streaming", "first_chunk_size"): least,
    ("rails", "output", "streaming", "context_size"): max,
    ("rails", "output", "streaming", "strategy"): first_of("documented", "rolling"),
    ("rails", "output", "streaming", "check_timeout"): least,
    ("rails", "config", "regex_detection", "input", "patterns"): union,
    ("rails", "config", "regex_detection", "output", "patterns"): union,
    ("rails", "config", "terms", "input", "terms"): union,
    ("rails", "config", "terms", "output", "terms"): union,
    ("rails", "config", "terms", "input", "whole_words"): both,
    ("rails", "config", "terms", "output", "whole_words"): both,
    ("rails", "config", "sensitive_data_detection", "input", "score_threshold"): least,
    ("rails", "config", "sensitive_data_detection", "output", "score_threshold"): least,
    ("rails", "config", "sensitive_data_detection", "recognizers"): union,
    ("rails", "config", "tools", "allowed"): common,
    ("rails", "tool_input", "flows"): union,
    ("rails", "tool_output", "flows"): union,
    ("rails", "config", "injection_detection", "injections"): union,
    ("rails", "config", "injection_detection", "action"): first_of("reject", "omit"),
    ("rails", "config", "jailbreak_detection", "length_per_perplexity_threshold"): least,
    ("rails", "config", "jailbreak_detection", "prefix_suffix_perplexity_threshold"): least,
}
NEUTRAL: Final = frozenset({
    ("rails", "input", "parallel"), ("rails", "output", "parallel"), ("rails", "tool_input", "parallel"),
    ("rails", "tool_output", "parallel"), ("rails", "output", "streaming", "enabled"),
    ("rails", "output", "streaming", "max_concurrent_checks"), ("rails", "output", "streaming", "chunk_growth"),
    ("rails", "config", "injection_detection", "yara_path"), ("rails", "config", "injection_detection", "yara_rules"),
    ("rails", "config", "jailbreak_detection", "server_endpoint"), ("railstream", "on_violation"),
    ("railstream", "on_worker_loss"), ("railstream", "retention"), ("railstream", "pool"), ("railstream", "prices"),
    ("railstream", "usage_drain"),
})  # fmt: skip
"""Keys that decide how rails run or how a block is shown, not what passes; the second config's value holds. YARA rules
and the jailbreak server are here since rails that go by different ones cannot be combined at all
(`railstream.config.agreement`)."""
FLOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "regex_detection": ("regex check",),
    "terms": ("terms check", "mask terms"),
    "pii_patterns": ("mask pii", "detect pii"),
    "secrets": ("mask secrets", "detect secrets"),
    "sensitive_data_detection": ("mask sensitive data", "detect sensitive data"),
    "tools": ("check tool",),
    "injection_detection": ("injection detection",),
    "jailbreak_detection": ("jailbreak detection",),
}
"""How the names of the rails begin that go by a section of ``rails.config``."""
WITHOUT_EFFECT: Final = ("retrieval", "dialog", "actions", "content_safety", "deadlines")
"""Parts of a path that lead to nothing that a rail reads or lets pass."""


def stricter(first: Any, second: Any, combined: Any) -> Iterator[tuple[Path, Any]]:
    """Where the combination of two configs is not as strict as its parts demand, and what must stand there."""
    for path, rule in RULES.items():
        meant = [_at(config, path) for config in (first, second) if _means(config, path)]
        if not meant:
            continue
        wanted = rule(*meant) if len(meant) == 2 else meant[0]
        if wanted != _at(combined, path):
            yield path, wanted


def _means(config: Any, path: Path) -> bool:
    """Whether a config has rails that the key is about: what a config without them says demands nothing."""
    match path:
        case ("rails", "config", section, _, "mask_token"):
            return _runs(config, section)
        case ("rails", "config", section, *_):
            return section in config.rails.config.model_fields_set or _runs(config, section)
        case ("rails", stage, *_):
            return bool(getattr(config.rails, stage).flows)
    return True


def _runs(config: Any, section: str) -> bool:
    """Whether a config has a rail that goes by the section, though it leaves the section at its defaults."""
    stages = (config.rails.input, config.rails.output, config.rails.tool_input, config.rails.tool_output)
    return any(flow.name.startswith(FLOWS[section]) for stage in stages for flow in stage.flows)


def _at(section: Any, path: Path) -> Any:
    for name in path:
        section = getattr(section, name)
    return section
