"""`rails.config`: what the built-in rails look for. NeMo Guardrails' sections, and our local ones.

Whether a hit blocks or is masked is the flow's business (`detect pii on output`, `mask pii on output`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from railstream.config.base import Misplaced, Section, unsupported

Entity = Literal["email", "phone", "card", "iban", "ssn", "ip", "api_key"]


class RegexOptions(Section):
    """Patterns that may occur nowhere in the text (`search`, not `match`)."""

    patterns: tuple[str, ...] = ()
    case_insensitive: bool = False
    fold: bool = False
    """Look in the folded text (see ``TermsOptions``). A pattern means what it says, so this is off by default."""

    @model_validator(mode="after")
    def _compiles(self) -> RegexOptions:
        problems = [
            (("patterns", index), message) for index, text in enumerate(self.patterns) if (message := _refusal(text))
        ]
        if problems:
            raise Misplaced(problems)
        return self


def _refusal(pattern: str) -> str:
    """Why a pattern cannot be used; empty when it can."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        return f"bad pattern {pattern!r}{where}: {error.msg}"
    return f"pattern {pattern!r} matches the empty text: it would block every text" if compiled.search("") else ""


class RegexDetection(Section):
    input: RegexOptions = RegexOptions()
    output: RegexOptions = RegexOptions()
    retrieval: RegexOptions = RegexOptions()

    def missing(self, stage: str) -> str:
        return "" if getattr(self, stage).patterns else f"{stage}.patterns"


class TermsOptions(Section):
    """Words and phrases that must not occur."""

    terms: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    case_insensitive: bool = True
    whole_words: bool = True
    mask_token: str = "***"
    fold: bool = True
    """Look in the text as a person reads it: without invisible characters and marks of markdown, in compatibility form
    (NFKC), with look-alike letters, dashes and quotes made plain and each run of white space as one space."""


class Terms(Section):
    input: TermsOptions = TermsOptions()
    output: TermsOptions = TermsOptions()

    def missing(self, stage: str) -> str:
        return "" if getattr(self, stage).terms else f"{stage}.terms"


class PiiOptions(Section):
    """Entities that are found by their form and, where they have one, by their check digits. No model is asked."""

    entities: tuple[Entity, ...] = ("email", "phone", "card", "iban", "ssn", "ip")
    mask_token: str = "[{entity}]"
    """``{entity}`` stands for the entity's name."""
    fold: bool = True
    """As in ``TermsOptions``."""


class PiiPatterns(Section):
    input: PiiOptions = PiiOptions()
    output: PiiOptions = PiiOptions()

    def missing(self, stage: str) -> str:
        return "" if getattr(self, stage).entities else f"{stage}.entities"


class SecretOptions(Section):
    """Keys of well-known providers, found by their form."""

    entities: tuple[Entity, ...] = ("api_key",)
    mask_token: str = "[{entity}]"
    fold: bool = True
    """As in ``TermsOptions``."""


class Secrets(Section):
    input: SecretOptions = SecretOptions()
    output: SecretOptions = SecretOptions()

    def missing(self, stage: str) -> str:
        return "" if getattr(self, stage).entities else f"{stage}.entities"


class SensitiveDataOptions(Section):
    entities: tuple[str, ...] = ()
    """Presidio's names: ``PERSON``, ``EMAIL_ADDRESS``, …"""
    mask_token: str = "*"
    score_threshold: float = 0.2


class SensitiveDataDetection(Section):
    recognizers: tuple[Mapping[str, Any], ...] = ()
    input: SensitiveDataOptions = SensitiveDataOptions()
    output: SensitiveDataOptions = SensitiveDataOptions()
    retrieval: SensitiveDataOptions = SensitiveDataOptions()

    def missing(self, stage: str) -> str:
        return "" if getattr(self, stage).entities else f"{stage}.entities"


class InjectionDetection(Section):
    """YARA rules over the answer; the named ``injections`` are files of ``yara_path``, or keys of ``yara_rules``."""

    injections: tuple[str, ...] = ()
    action: Literal["reject", "omit"] = "reject"
    yara_path: str = ""
    yara_rules: Mapping[str, str] = {}

    def missing(self, stage: str) -> str:
        return "" if self.injections or self.yara_rules else "injections"


class JailbreakDetection(Section):
    """Perplexity heuristics of the user's message, by the server at ``server_endpoint``."""

    server_endpoint: str | None = None
    length_per_perplexity_threshold: Annotated[float, Field(gt=0)] = 89.79
    prefix_suffix_perplexity_threshold: Annotated[float, Field(gt=0)] = 1845.65

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("nim_base_url", "nim_server_endpoint", "api_key", "api_key_env_var", "nim_url", "nim_port", "embedding"),
        "of the jailbreak rails only the heuristics are built in, not the model",
    )

    @field_validator("server_endpoint")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"must start with http:// or https://, got {value!r}")
        return value


class Tools(Section):
    """`check tool names`: which tools a model may call, whatever the request declares."""

    allowed: tuple[str, ...] = ()

    def missing(self, stage: str) -> str:
        return "" if self.allowed else "allowed"


class Multilingual(Section):
    enabled: Annotated[bool, unsupported("the language of a message is not detected")] = False
    refusal_messages: Mapping[str, str] = {}


class Reasoning(Section):
    enabled: bool = False


class ContentSafety(Section):
    multilingual: Multilingual = Multilingual()
    reasoning: Reasoning = Reasoning()
    """Passed to the prompt as ``reasoning_enabled``."""


ELSEWHERE = "this rail is not built in; call its service from a Python action that you name in `flows`"


class Detection(Section):
    """``rails.config``."""

    regex_detection: RegexDetection = RegexDetection()
    terms: Terms = Terms()
    pii_patterns: PiiPatterns = PiiPatterns()
    secrets: Secrets = Secrets()
    sensitive_data_detection: SensitiveDataDetection = SensitiveDataDetection()
    injection_detection: InjectionDetection = InjectionDetection()
    jailbreak_detection: JailbreakDetection = JailbreakDetection()
    content_safety: ContentSafety = ContentSafety()
    tools: Tools = Tools()

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "fact_checking",
            "autoalign",
            "patronus",
            "privateai",
            "gliner",
            "polygraf",
            "fiddler",
            "clavata",
            "crowdstrike_aidr",
            "pangea",
            "guardrails_ai",
            "trend_micro",
            "ai_defense",
            "f5",
            "hf_classifier",
            "context_bloat_detection",
        ),
        ELSEWHERE,
    )
