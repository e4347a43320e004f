"""Messages that a rail has let pass, remembered for a while, so that a long history is not judged again each turn."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

MOST: Final = 20_000
"""Messages that are remembered by one config's rails; the oldest go first."""
SECONDS: Final = 3600.0


class Passed:
    """Of one config: what passed under another one says nothing here. A message is known by its digest alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def holds(self, digest: bytes) -> bool:
        return self._until.get(digest, 0.0) > self._clock()

    def add(self, digest: bytes) -> None:
        self._until[digest] = self._clock() + SECONDS
        self._until.move_to_end(digest)
        while len(self._until) > MOST:
            self._until.popitem(last=False)


def digest_of(*values: Any) -> bytes:
    """Of JSON values: equal ones have the same."""
    written = json.dumps(values, sort_keys=True, default=repr)
    return hashlib.blake2b(written.encode("utf-8", "surrogatepass"), digest_size=16).digest()
