"""Rails that judge a whole text without asking a model: incremental rails on a message, Presidio, YARA."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from railstream.config import Flow, RailsConfig
from railstream.errors import ConfigurationError

from railstream_engine.rails.judges.verdict import Stage, Verdict, allow, block, rewrite
from railstream_engine.rails.judges.yara_rules import RULES
from railstream_engine.rails.matching.incremental import Chain, IncrementalRail
from railstream_engine.rails.matching.match import Match
from railstream_engine.rails.matching.pieces import Piece
from railstream_engine.rails.matching.search_time import OffLoopTime, off_loop
from railstream_engine.rails.matching.searcher import Searcher
from railstream_engine.rails.port import Turn
from railstream_engine.rails.tools.tool_texts import Blocked

_MOST_ON_LOOP = 4096
"""Characters and texts that are searched at once on the event loop: a few milliseconds, most of them for folding."""
SPACY_MODEL = "en_core_web_lg"
DETECTORS = ("mask pii", "detect pii", "mask secrets", "detect secrets")
"""How the flows begin that find data by its form."""


class IncrementalJudge:
    """An incremental rail over a text that is there as a whole, such as a user's message."""

    def __init__(self, rail: IncrementalRail) -> None:
        self.flow = rail.flow
        self.masks = rail.masks
        self.reach = rail.matcher.reach
        """The most characters that a match depends on, from where it starts."""
        self.finds_forms = rail.flow.startswith(DETECTORS)
        """It finds data by the form of its characters, such as a card's digits, not words that the config names."""
        self._rail = rail

    async def judge(self, text: str, turn: Turn) -> Verdict:
        pieces = await self.read(text)
        if pieces is None:
            return block()
        passed = "".join(piece.text for piece in pieces)
        return allow() if passed == text else rewrite(passed)

    async def read(self, text: str, *, exact: bool = False) -> Sequence[Piece] | None:
        """What the rail makes of the text, in pieces that know their source; ``None`` when it blocks it.

        ``exact``: each match is a piece of its own, also in a long text.
        """
        chain = Chain((self._rail,))
        passed = await Searcher(chain, exact=exact).push(text, final=True)
        return None if chain.blocked_by is not None else passed

    async def read_across(self, texts: Sequence[str]) -> Sequence[Piece] | None:
        """As `read`, of the joined texts and of each stretch of them at once; ``None`` where the rail cannot.

        Raises ``Blocked`` where it blocks them.
        """
        find = self._rail.matcher.find_across
        if sum(map(len, texts)) + len(texts) <= _MOST_ON_LOOP:
            found = find(texts)
        else:
            found = await off_loop(lambda _: find(texts), OffLoopTime())
        if found is None:
            return None
        if found and not self.masks:
            raise Blocked
        return self._masked("".join(texts), found)

    def _masked(self, text: str, found: Sequence[Match]) -> Sequence[Piece]:
        pieces: list[Piece] = []
        at = 0
        for match in found:
            pieces.append(Piece(text[at : match.start], match.start - at, True))
            pieces.append(Piece(self._rail.matcher.replacement(match), match.end - match.start, False))
            at = match.end
        return [*pieces, Piece(text[at:], len(text) - at, True)]

    async def finds(self, text: str, *, before: str, final: bool) -> bool:
        """Whether there is a match in the text, which follows ``before`` and goes on unless it is ``final``."""
        chain = Chain((self._rail,))
        if before:
            chain.prime(before)
        pieces = await Searcher(chain, exact=True).push(text, final)
        return chain.blocked_by is not None or not all(piece.as_is for piece in pieces)


class PresidioJudge:
    """Entities that Presidio finds: people, places and others that have no form of their own."""

    def __init__(self, config: RailsConfig, flow: Flow, stage: Stage) -> None:
        self.flow: str = flow
        self._masks = bool(flow.built_in and flow.built_in.rewrites)
        self._options = getattr(config.rails.config.sensitive_data_detection, stage)
        presidio = _extra("presidio_analyzer", "presidio", flow)
        self._analyzer = presidio.AnalyzerEngine(
            nlp_engine=_nlp_engine(flow), default_score_threshold=self._options.score_threshold
        )
        recognizers = config.rails.config.sensitive_data_detection.recognizers
        self._recognizers = [presidio.PatternRecognizer.from_dict(dict(item)) for item in recognizers]

    async def judge(self, text: str, turn: Turn) -> Verdict:
        found = await asyncio.to_thread(self._find, text)
        if not found:
            return allow()
        if not self._masks:
            return block(", ".join(sorted({entity for _, _, entity in found})))
        return rewrite(_masked(text, found))

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        results = self._analyzer.analyze(
            text=text, language="en", entities=list(self._options.entities), ad_hoc_recognizers=self._recognizers
        )
        return sorted((result.start, result.end, result.entity_type) for result in results)


class InjectionJudge:
    """YARA rules: code, SQL, templates and scripts in an answer that something downstream might run."""

    def __init__(self, config: RailsConfig, flow: Flow, stage: Stage) -> None:
        self.flow: str = flow
        options = config.rails.config.injection_detection
        self._omits = options.action == "omit"
        yara = _extra("yara", "yara", flow)
        path = Path(options.yara_path) if options.yara_path else None
        names = options.injections or tuple(options.yara_rules)
        sources = {name: options.yara_rules.get(name) or _rule(name, path) for name in names}
        try:
            self._rules = yara.compile(sources=sources)
        except yara.Error as error:
            raise ConfigurationError(f"rails.config.injection_detection: {error}") from error

    async def judge(self, text: str, turn: Turn) -> Verdict:
        matches = await asyncio.to_thread(self._rules.match, data=text)
        if not matches:
            return allow()
        if not self._omits:
            return block(", ".join(match.rule for match in matches))
        return rewrite(_without(text, matches))


def _nlp_engine(flow: Flow) -> Any:
    """Presidio on its spaCy model, which must be there: left alone, Presidio would download it."""
    spacy, provider = _extra("spacy.util", "presidio", flow), _extra("presidio_analyzer.nlp_engine", "presidio", flow)
    if not (spacy.is_package(SPACY_MODEL) or Path(SPACY_MODEL).exists()):
        raise ConfigurationError(f"the flow {flow.text!r} needs a model: python -m spacy download {SPACY_MODEL}")
    models = [{"lang_code": "en", "model_name": SPACY_MODEL}]
    configuration = {"nlp_engine_name": "spacy", "models": models}
    return provider.NlpEngineProvider(nlp_configuration=configuration).create_engine()


def _extra(module: str, extra: str, flow: Flow) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"the flow {flow.text!r} needs the extra {extra!r}: pip install 'railstream[{extra}]'"
        ) from error


def _masked(text: str, found: Sequence[tuple[int, int, str]]) -> str:
    """Each stretch of overlapping entities becomes the name of its first."""
    parts, at = [], 0
    for start, end, entity in found:
        if start >= at:
            parts += [text[at:start], f"<{entity}>"]
        at = max(at, end)
    return "".join((*parts, text[at:]))


def _rule(name: str, path: Path | None) -> str:
    file = path / f"{name}.yara" if path is not None else None
    if file is not None and file.is_file():
        return file.read_text("utf-8")
    if name in RULES:
        return RULES[name]
    known = ", ".join(RULES)
    raise ConfigurationError(f"there is no YARA rule {name!r}; built in are {known}, others stand in `yara_rules`")


def _without(text: str, matches: Sequence[Any]) -> str:
    for match in matches:
        for string in match.strings:
            for instance in string.instances:
                text = text.replace(instance.plaintext().decode("utf-8", "replace"), "")
    return text
