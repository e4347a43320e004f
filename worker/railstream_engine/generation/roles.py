"""The role of a choice: OpenAI's streams name it in the first chunk of each, and some SDKs fail where one has none.

The first choice's role is a frame of its own, which the gateway makes; that of any other stands in its first delta.
"""

from __future__ import annotations

from typing import Final

from railstream_engine.generation.emission import Sink

ROLE: Final = b'{"role":"assistant","content":""}'
"""The delta of a choice that says nothing else."""


class WithRole:
    """The sink of one choice: its first delta has the role."""

    def __init__(self, behind: Sink) -> None:
        self._behind = behind
        self._named = False

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        if not self._named:
            self._named = True
            delta = with_role(delta)
        self._behind.chunk(delta, choice)


def with_role(delta: bytes) -> bytes:
    """A delta object with the role in front, unless it names one itself."""
    if b'"role":' in delta:
        return delta
    rest = delta.lstrip()[1:].lstrip()
    return b'{"role":"assistant"%b%b' % (b"" if rest.startswith(b"}") else b",", rest)
