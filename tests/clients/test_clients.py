"""The part of the client matrix that needs nothing to be installed: the newest openai SDK, as the suite has it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from harness.stack import Stack

from clients.known import CLIENTS
from clients.matrix import ONCE, PROBES, compare


async def test_the_openai_sdk_sees_no_difference_that_is_not_by_design(
    start_stack: Callable[..., Awaitable[Stack]],
) -> None:
    stack = await start_stack(configs=ONCE)
    client = CLIENTS[0]
    command = [sys.executable, str(PROBES / client.probe)]
    found = list(await compare(client, command, stack))
    assert [difference for difference in found if not difference.reason] == []
