"""What telemetry costs on the token path."""

from __future__ import annotations

import time

from opentelemetry.context import Context
from telemetry.recording import Recording

CHUNK_COST = 80e-6
"""CPU-seconds that the whole path spends on a chunk."""
SHARE = 0.03
CHUNKS = 20_000


def test_a_chunk_costs_less_than_three_hundredths_of_its_path(recording: Recording) -> None:
    call = recording.telemetry.calls.start(model="gpt-test", provider="openai", parent_context=Context())

    def once() -> float:
        began = time.process_time()
        for _ in range(CHUNKS):
            call.chunks(1)
        return (time.process_time() - began) / CHUNKS

    assert min(once() for _ in range(5)) < CHUNK_COST * SHARE
