"""Another service reads an answer from the request's own Redis Stream: keys and events are a documented contract.

The id of a completion ends in its partition, two digits, which stand in the key as its cluster hash tag.
"""

import json
import os
from pathlib import Path
from urllib.request import Request, urlopen

from redis import Redis

URL = os.environ.get("EXAMPLE_URL", "http://127.0.0.1:8000")
TERMINAL = {b"finished", b"blocked", b"failed", b"cancelled"}


def redis_url() -> str:
    """That of the stack that `railstream up` runs here keeps its URL in a file for its owner."""
    if given := os.environ.get("EXAMPLE_REDIS"):
        return given
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    directory = Path(runtime) / "railstream" if runtime else Path("/tmp") / f"railstream-{os.getuid()}"
    return next(directory.glob("up-*.redis-url")).read_text(encoding="utf-8").strip()


def main() -> None:
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    request = Request(f"{URL}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        request_id = json.load(answer)["id"]
    key = f"railstream:{{{request_id[-2:]}}}:events:{request_id}"
    last = "0"
    with Redis.from_url(redis_url()) as redis:
        while True:
            for _, entries in redis.xread({key: last}, block=5000):
                for entry, fields in entries:
                    last = entry
                    if fields[b"event"] == b"chunk":
                        print(json.loads(fields[b"data"]).get("content") or "", end="", flush=True)
                    elif fields[b"event"] in TERMINAL:
                        print(f"\n{fields[b'event'].decode()}: {fields[b'data'].decode()}")
                        return


if __name__ == "__main__":
    main()
