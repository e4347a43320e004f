"""Fixtures of the contract suites."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from contract.gateway_rig import Rig, rig_on
from redis.asyncio import Redis


@pytest.fixture
async def rig(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncGenerator[Rig, None]:
    """Gateways in this process, on the empty Redis; the test writes what a worker would."""
    async with rig_on(redis, redis_url, tmp_path) as made:
        yield made
