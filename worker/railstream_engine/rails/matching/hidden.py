"""Text that is written in characters that nobody sees and that a model reads: tags and variation selectors.

Unicode's tag characters (block E0000) are ASCII with another number. A run of variation selectors holds bytes, as
selectors have 256 numbers. Both are known from prompts that say one thing to a person and another to a model.
"""

from __future__ import annotations

import re
from typing import Final

_TAGS: Final = re.compile("[\U000e0020-\U000e007e]")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3,}")
"""Three or more in a row: in ordinary text one stands behind an emoji or a Han character."""
_TO_ASCII: Final = {0xE0000 + code: code for code in range(0x20, 0x7F)}


def has_hidden(text: str) -> bool:
    return not text.isascii() and (_TAGS.search(text) is not None or _SELECTORS.search(text) is not None)


def revealed(text: str) -> str:
    """The text with what is hidden in it as plain letters, where it stands."""
    return _SELECTORS.sub(_decoded, text.translate(_TO_ASCII))


def _decoded(selectors: re.Match[str]) -> str:
    data = bytes(code - 0xFE00 if code < 0xFE10 else code - 0xE0100 + 16 for code in map(ord, selectors[0]))
    return data.decode("utf-8", "replace")
