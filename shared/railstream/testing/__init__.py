"""For tests, demos and benchmarks: an honest server on the wires of OpenAI, Anthropic and Google, its answers scripted.

``async with Upstream(Script(words=100, rate=25)) as upstream: …upstream.url…``, or from a shell
``python -m railstream.testing --port 0 --script '{"words": 100, "rate": 25}'``.
"""

from railstream.testing.ledger import Entry, Ledger
from railstream.testing.script import Judge, Script, ToolCall, directive
from railstream.testing.server import Upstream

__all__ = ["Entry", "Judge", "Ledger", "Script", "ToolCall", "Upstream", "directive"]
