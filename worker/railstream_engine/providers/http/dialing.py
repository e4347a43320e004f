"""Connect to a host that has several addresses: they race (RFC 8305), so that a dead one costs a quarter of a second.

asyncio's own loop can do so, uvloop's `create_connection` tries one address after the other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from itertools import chain, zip_longest
from typing import Final

from railstream_engine.providers.http.connection import Connection

HEAD_START: Final = 0.25
"""Seconds that an address has before the next one is tried beside it."""
Connect = Callable[[str], Awaitable[Connection]]


async def addresses_of(host: str, port: int) -> list[str]:
    """The host's addresses, the two families in turn, as the resolver orders them."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    first = [address for family, address in addresses if family == addresses[0][0]]
    others = [address for family, address in addresses if family != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def dial(host: str, port: int, connect: Connect) -> Connection:
    """The first connection that is made. Raises ``OSError`` of the first address when none is."""
    addresses = await addresses_of(host, port)
    if len(addresses) == 1:
        return await connect(addresses[0])
    return await _raced(addresses, connect)


async def _raced(addresses: list[str], connect: Connect) -> Connection:
    errors: list[BaseException] = []
    running: set[asyncio.Task[Connection]] = set()
    waiting = addresses[::-1]
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(_connected(connect, waiting.pop())))
            pause = HEAD_START if waiting else None
            done, _ = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
                errors.append(error)
    finally:
        for task in running:
            task.add_done_callback(_drop)
            task.cancel()
    raise errors[0] if errors else OSError("the host has no address")


async def _connected(connect: Connect, address: str) -> Connection:
    return await connect(address)


def _drop(task: asyncio.Task[Connection]) -> None:
    """Close a connection that was made too late; an error of its making is nobody's."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
