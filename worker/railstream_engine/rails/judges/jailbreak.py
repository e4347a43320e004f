"""`jailbreak detection heuristics`: the perplexity server where the config names one, else signs in the text itself.

NeMo Guardrails' heuristics are the perplexity of a language model. There is none in this process, so without a
server only what can be seen without one is looked for: phrases that tell a model to drop its instructions, text
that is invisible to its reader, and the tails of symbols that optimised attacks append. That is a tripwire, not a wall.
"""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

import regex
from railstream.config import Flow, RailsConfig
from railstream.errors import RailError

from railstream_engine.rails.judges.verdict import Stage, Verdict, allow, block
from railstream_engine.rails.port import Turn

_OVERRIDES: Final = regex.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:\w+\s+){0,3}"
    r"(?:previous|prior|above|earlier|preceding|system|safety|your)\s+(?:\w+\s+){0,2}"
    r"(?:instructions?|prompts?|rules?|guidelines?|directions?|policies|restrictions)\b"
    r"|\byou\s+are\s+(?:now\s+)?(?:DAN\b|in\s+(?:developer|jailbreak|god)\s+mode)"
    r"|\b(?:enable|activate|enter)\s+(?:developer|jailbreak|god|DAN)\s+mode\b"
    r"|\bdo\s+anything\s+now\b"
    r"|\b(?:without|free\s+(?:of|from))\s+any\s+(?:restrictions|filters|censorship|ethical\s+guidelines)\b",
    regex.IGNORECASE,
)
_AT_ONCE: Final = 4096  # characters
_SERVER_TIMEOUT: Final = 30  # seconds; the rail's own timeout is usually shorter
_INVISIBLE: Final = 4  # characters without a glyph that no ordinary text strings together
_TAIL: Final = 80  # characters at the end of a message that are looked at for an optimised suffix
_SYMBOLS: Final = 0.35  # share of symbols from which on a tail is one; code is near 0.25, prose under 0.1


class JailbreakJudge:
    def __init__(self, config: RailsConfig, flow: Flow, stage: Stage) -> None:
        self.flow: str = flow
        self._options = config.rails.config.jailbreak_detection

    async def judge(self, text: str, turn: Turn) -> Verdict:
        if self._options.server_endpoint:
            return await self._ask_server(self._options.server_endpoint, text)
        # A message of megabytes is read in a thread, where the search lets the event loop run on.
        long = len(text) > _AT_ONCE
        sign = await asyncio.to_thread(sign_of_jailbreak, text) if long else sign_of_jailbreak(text)
        return block(sign) if sign else allow()

    async def _ask_server(self, url: str, text: str) -> Verdict:
        question = {
            "prompt": text,
            "lp_threshold": self._options.length_per_perplexity_threshold,
            "ps_ppl_threshold": self._options.prefix_suffix_perplexity_threshold,
        }
        said = await asyncio.to_thread(_post, url, question)
        jailbreak = said.get("jailbreak") if isinstance(said, dict) else None
        if not isinstance(jailbreak, bool):
            raise RailError(f"{url} answered without a verdict")
        return block("perplexity") if jailbreak else allow()


def _post(url: str, question: Mapping[str, Any]) -> Any:
    """The server's answer. What is not 2xx raises."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(question).encode(), headers)
    with urllib.request.urlopen(request, timeout=_SERVER_TIMEOUT) as answer:
        return json.load(answer)


def sign_of_jailbreak(text: str) -> str:
    """What gives a message away; empty when nothing does."""
    if _OVERRIDES.search(text, concurrent=True):
        return "asks to drop the instructions"
    if sum(_is_invisible(character) for character in text) >= _INVISIBLE:
        return "hides text"
    tail = text[-_TAIL:]
    symbols = sum(character in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" for character in tail)
    words = len(re.findall(r"[^\W\d_]{2,}", tail))
    if len(text) > _TAIL and symbols / len(tail) >= _SYMBOLS and words >= 5:
        return "ends in an optimised suffix"
    return ""


def _is_invisible(character: str) -> bool:
    """Unicode's tag characters, zero-width ones and direction overrides; joiners, which emoji need, are not."""
    return unicodedata.category(character) == "Cf" and character not in "\u200c\u200d\u00ad"
