"""Compare rolling windows with NeMo Guardrails' own buffer, over random streams; ``make nemo-windows``.

NeMo's file is loaded alone, with a stand-in for the config module that it imports: nothing else of NeMo is needed. With
``--record`` a sample of what it did is written for the tests, which need no NeMo at all.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from railstream_engine.rails.output.windows import RollingBuffer

RELEASE: Final = "0.24.1"
RECORDED: Final = Path(__file__).parents[1] / "unit/rails/nemo_windows.json"
SEED: Final = 14
Windows = list[tuple[int, int, int]]
"""Of each window: its first delta, the one behind its last, and how many at its end are shown with it."""


def load(path: Path) -> Any:
    """NeMo's buffer module, from ``nemoguardrails/rails/llm/buffer.py``."""
    for name in ("nemoguardrails", "nemoguardrails.rails", "nemoguardrails.rails.llm"):
        sys.modules.setdefault(name, types.ModuleType(name))
    config = types.ModuleType("nemoguardrails.rails.llm.config")
    config.OutputRailsStreamingConfig = object  # type: ignore[attr-defined]
    sys.modules["nemoguardrails.rails.llm.config"] = config
    spec = importlib.util.spec_from_file_location("nemoguardrails.rails.llm.buffer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def windows_of(buffer: Any, deltas: int) -> Windows:
    """What a buffer makes of a stream of so many deltas."""

    async def stream() -> AsyncIterator[str]:
        for number in range(deltas):
            yield f"{number} "

    found: Windows = []
    async for batch in buffer(stream()):
        numbers = [int(text) for text in batch.processing_context]
        shown = [int(text) for text in batch.user_output_chunks]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert shown == numbers[len(numbers) - len(shown) :]
        found.append((numbers[0], numbers[-1] + 1, len(shown)))
    return found


async def compare(module: Any, count: int, record: bool) -> int:
    """How many streams the two cut differently."""
    draw, different, vectors = random.Random(SEED), 0, []
    for _ in range(count):
        chunk, context, deltas = draw.randint(1, 12), draw.randint(0, 14), draw.randint(0, 60)
        theirs = await windows_of(module.RollingBuffer(context, chunk), deltas)
        ours = await windows_of(RollingBuffer(context, chunk), deltas)
        if ours != theirs:
            different += 1
            print(f"chunk_size {chunk}, context_size {context}, {deltas} deltas: NeMo {theirs}, ours {ours}")
        if len(vectors) < 120 and deltas <= 24:
            vectors.append([chunk, context, deltas, theirs])
    if record:
        lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
        RECORDED.write_text(f"[\n{lines}\n]\n", "utf-8")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("buffer", type=Path, help=f"nemoguardrails/rails/llm/buffer.py of release {RELEASE}")
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name} anew")
    given = parser.parse_args()
    different = asyncio.run(compare(load(given.buffer), given.streams, given.record))
    print(f"{given.streams} streams, {different} of them cut differently than NeMo Guardrails cuts them")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
