"""What the tests of the rails share: a reader that keeps account, judges that answer on demand, random rails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.matching.incremental import IncrementalRail
from railstream_engine.rails.matching.patterns import PatternSet, PatternSpec
from railstream_engine.rails.matching.terms import TermSet
from railstream_engine.rails.port import OutputGuard, Turn, Violation


class Reader:
    """Takes what a guard lets out, and holds it to the port: every code point once, nothing after the block."""

    def __init__(self) -> None:
        self.pushed = ""
        self.consumed = 0
        self.pieces: list[str] = []
        self.violation: Violation | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def release(self, consumed: int, text: str | None) -> None:
        assert self.violation is None, "released after the block"
        assert consumed > 0
        end = self.consumed + consumed
        assert end <= len(self.pushed), "released more than was pushed"
        self.pieces.append(self.pushed[self.consumed : end] if text is None else text)
        self.consumed = end

    def block(self, violation: Violation) -> None:
        assert self.violation is None, "blocked twice"
        self.violation = violation

    def push(self, guard: OutputGuard, delta: str) -> None:
        """As a channel does: what passes while nothing is held is let out at once."""
        held = self.consumed < len(self.pushed)
        self.pushed += delta
        if delta and not held and guard.passes(delta):
            self.release(len(delta), None)
        else:
            guard.push(delta)


class Asked:
    """A rail's model: each question waits until the test answers it, or gets ``answer`` at once."""

    def __init__(self, answer: str | None = None) -> None:
        self.answer = answer
        self.questions: list[str] = []
        self.tasks: list[str] = []
        self.models: list[str] = []
        self.params: list[Mapping[str, Any]] = []
        self.messages: list[Sequence[Mapping[str, Any]]] = []
        self.cancelled = 0
        self.most_at_once = 0
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._came = asyncio.Event()

    async def __call__(
        self, model_type: str, messages: Sequence[Mapping[str, Any]], *, task: str, params: Mapping[str, Any]
    ) -> str:
        number = len(self.questions)
        self.questions.append(str(messages[-1]["content"]))
        self.messages.append(messages)
        self.tasks.append(task)
        self.models.append(model_type)
        self.params.append(params)
        self._came.set()
        if self.answer is not None:
            return self.answer
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.most_at_once = max(self.most_at_once, len(self._waiting))
        try:
            return await self._waiting[number]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            del self._waiting[number]

    async def came(self, count: int) -> None:
        """Wait until so many questions have been asked in all."""
        while len(self.questions) < count:
            self._came.clear()
            await self._came.wait()

    async def say(self, number: int, answer: str) -> None:
        """Answer the question of that number, and let what follows from it happen."""
        self._waiting[number].set_result(answer)
        await settle()


async def settle() -> None:
    """Let every task that is ready run to its next wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def nobody(*_: Any, **__: Any) -> str:
    raise AssertionError("no model should have been asked")


def turn(ask: Any = nobody, *, user: str = "hi", **given: Any) -> Turn:
    return Turn(messages=given.pop("messages", [{"role": "user", "content": user}]), ask=ask, **given)


def engine(rails: dict[str, Any], **more: Any) -> RailsEngine:
    """As in process, where requests may switch rails off."""
    return RailsEngine(RailsConfig.from_content(config={"rails": rails, **more}), in_process=True)


async def run(guard: OutputGuard | None, reader: Reader, deltas: Sequence[str]) -> Reader:
    assert guard is not None
    try:
        for delta in deltas:
            reader.push(guard, delta)
            if reader.violation is not None:
                break
        await guard.finish()
    finally:
        await guard.aclose()
    return reader


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    """The text in deltas of these sizes; the last takes what is left."""
    deltas, at = [], 0
    for size in sizes:
        deltas.append(text[at : at + size])
        at += size
    return [delta for delta in (*deltas, text[at:]) if delta]


_ATOMS = (
    *("a", "b", "c", "[ab]", "[^a]", ".", r"\b", r"\B", "$", "^", r"\w", r"\s", " ", "a*", "a+?", "b{2,3}", "\n"),
    *("(?:ab|abc)", "(?:abc|ab)", r"(a|b)\1", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "(?>a+)", "a++", ".*", ".*?"),
    *("(?:a|bc)+", r"\Z", "(?!ab|c)", "(?=.b)", "(?<=ab)", "(?i:A)", "é", r"[^\W\d_]", "(?:^|a)", "(?:c|$)"),
)
ALPHABET = "abcAB é\n😀"
texts = st.text(ALPHABET, max_size=60)
chunkings = st.lists(st.integers(1, 7), max_size=60)
sources = st.builds("{}{}".format, st.sampled_from(("", "", "(?i)", "(?m)", "(?s)")),
                    st.lists(st.sampled_from(_ATOMS), min_size=1, max_size=5).map("".join))  # fmt: skip


@dataclass(frozen=True)
class PatternRecipe:
    """A rail to be made in the test: `regex` draws random numbers when it compiles."""

    sources: list[str]
    bound: int
    masks: bool
    fold: bool = False

    def make(self, flow: str) -> IncrementalRail | None:
        specs = [PatternSpec(source, mask=f"<{number}>") for number, source in enumerate(self.sources)]
        try:
            matcher = PatternSet(specs, extent_matters=self.masks, bound=self.bound, fold=self.fold)
        except ConfigurationError:  # matches the empty text, above all
            return None
        return IncrementalRail(flow, matcher, self.masks)


@dataclass(frozen=True)
class TermRecipe:
    terms: list[str]
    ignore_case: bool
    whole_words: bool
    masks: bool
    fold: bool = False

    def make(self, flow: str) -> IncrementalRail | None:
        try:
            matcher = TermSet(
                self.terms,
                ignore_case=self.ignore_case,
                whole_words=self.whole_words,
                extent_matters=self.masks,
                fold=self.fold,
            )
        except ConfigurationError:  # nothing but characters that folding skips
            return None
        return IncrementalRail(flow, matcher, self.masks)


Recipe = PatternRecipe | TermRecipe
FOLDED_ALPHABET = "abcAB é_\u00a0\n*~\u200b\u200b\u00ad\u0301\u0336\u0430\uff41ﬁ①ß"
folded_texts = st.lists(
    st.text(FOLDED_ALPHABET, max_size=12) | st.integers(250, 600).map("\u200b".__mul__) | st.just("*_" * 300),
    max_size=6,
).map("".join)
folding_pattern_rails = st.builds(
    PatternRecipe, st.lists(sources, min_size=1, max_size=2), st.integers(3, 12), st.booleans(), st.just(True)
)
folding_term_rails = st.builds(
    TermRecipe,
    st.lists(st.text("abcAB éfi_1 ß\u0301", min_size=1, max_size=6), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.just(True),
)
folding_rails = folding_pattern_rails | folding_term_rails
pattern_rails = st.builds(PatternRecipe, st.lists(sources, min_size=1, max_size=3), st.integers(3, 12), st.booleans())
term_rails = st.builds(
    TermRecipe,
    st.lists(st.text(ALPHABET + "ßİ_", min_size=1, max_size=6), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def made(recipes: Sequence[Recipe]) -> list[IncrementalRail]:
    rails = [recipe.make(f"rail {number}") for number, recipe in enumerate(recipes)]
    return [rail for rail in rails if rail is not None]
