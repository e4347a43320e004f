"""A connection that breaks in mid-answer goes on after the last event that it has seen, at any gateway.

``continue`` keeps the generation going while nobody reads; without it, a client that leaves is a client that cancels.
"""

import json
import os
from collections.abc import Iterable, Iterator
from urllib.request import Request, urlopen

URL = os.environ.get("EXAMPLE_URL", "http://127.0.0.1:8000")
CHUNKS_BEFORE_THE_CUT = 3


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """The id and the data of each server-sent event; comments are keep-alives."""
    event_id = ""
    for line in lines:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, value


def text_of(data: str) -> str:
    chunk = json.loads(data)
    return str(chunk["choices"][0]["delta"].get("content") or "") if chunk.get("choices") else ""


def main() -> None:
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    headers = {"X-Railstream-On-Disconnect": "continue", "content-type": "application/json"}
    completions = f"{URL}/v1/chat/completions"
    last, chunks = "", 0
    with urlopen(Request(completions, json.dumps(body).encode(), headers), timeout=60) as answer:
        request_id = answer.headers["x-request-id"]
        for event_id, data in events(answer):
            print(text_of(data), end="", flush=True)
            last, chunks = event_id, chunks + 1
            if chunks == CHUNKS_BEFORE_THE_CUT:
                break  # leaving the `with` closes the connection
    print(f"[cut after {last}]", end="", flush=True)
    again = f"{completions}/{request_id}?stream=true"
    with urlopen(Request(again, headers={"Last-Event-ID": last}), timeout=60) as answer:
        for _, data in events(answer):
            if data == "[DONE]":
                break
            print(text_of(data), end="", flush=True)
    print()


if __name__ == "__main__":
    main()
