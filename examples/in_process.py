"""Guarded generation in your own process, with a config of your own: `pip install railstream[worker]`, and no Redis."""

import asyncio
from pathlib import Path

from railstream import LLMRails, RailsConfig

CONFIG = Path(__file__).parent / "guarded"


async def main() -> None:
    rails = LLMRails(RailsConfig.from_path(str(CONFIG)))
    for question in ("Where do I write to?", "Shout, please!"):
        print(f"> {question}")
        async for text in rails.stream_async(messages=[{"role": "user", "content": question}]):
            print(text, end="", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main())
