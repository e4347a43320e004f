"""``python -m clients [NAME …]``: the table of clients; its exit code is 1 where a difference is nobody's design."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from harness.redis_server import RedisServer
from harness.stack import running_stack

from clients.known import CLIENTS
from clients.matrix import ONCE, Difference, compare, install


async def main(names: list[str], home: Path) -> int:
    chosen = [client for client in CLIENTS if not names or client.name in names]
    undesigned = 0
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory) / "redis") as redis:
        async with running_stack(Path(directory), redis.url, configs=ONCE) as stack:
            for client in chosen:
                try:
                    found = list(await compare(client, await install(client, home), stack))
                except RuntimeError as error:
                    print(f"{client.name}: not run: {error}")
                    continue
                open_ones = [difference for difference in found if not difference.reason]
                undesigned += len(open_ones)
                print(f"{client.name}: {len(found)} differences, {len(open_ones)} not by design")
                for difference in found:
                    show(difference)
    return 1 if undesigned else 0


def show(difference: Difference) -> None:
    print(f"  {difference.use}: {difference.reason or 'NOT BY DESIGN'}")
    print(f"    direct:  {dict(difference.direct)}\n    gateway: {dict(difference.through)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m clients", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(client.name for client in CLIENTS)}; all")
    parser.add_argument("--home", type=Path, default=Path(".clients"), help="where they are installed")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.names, options.home.resolve())))
