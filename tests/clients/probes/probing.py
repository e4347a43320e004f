"""Run by a client's own interpreter: ask each use plain and streamed, and print what the application sees as JSON."""

import json
import os
import sys

BASE_URL = os.environ["PROBE_URL"]
MODEL = "testing"


def run(ask):
    """``ask(prompt, stream)`` returns the text, or raises as the client does."""
    seen = {}
    for name, prompt in json.load(sys.stdin).items():
        for stream in (False, True):
            use = name + (" streamed" if stream else "")
            try:
                seen[use] = {"text": ask(prompt, stream)}
            except Exception as error:  # what an application sees is what is compared
                seen[use] = described(error)
    print("\n" + json.dumps(seen))


def described(error):
    """The class, and the first status and code of the chain of causes."""
    shown = {"class": type(error).__name__}
    while error is not None:
        for name, key in (("status_code", "status"), ("http_status", "status"), ("code", "code")):
            value = getattr(error, name, None)
            if isinstance(value, (int, str)):
                shown.setdefault(key, value)
        error = error.__cause__
    return shown
