"""What `railstream up` prints when everything is ready: where it is, who answers, and how to try it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from railstream.config import ConfigSet, missing_variables
from railstream.config.models import SCRIPTED

QUESTION = "Why is the sky blue?"

CURL = """curl -N {url}/v1/chat/completions -H 'content-type: application/json'{curl_key} \\
  -d '{body}'"""

PYTHON = """from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
messages = [{{"role": "user", "content": "{question}"}}]
for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)"""

REDIS = """Its Redis: redis-cli -u "$(cat {file})"
The commands `ps`, `show`, `workers`, `usage` and `dead` find it by themselves, for example: {command} ps

"""

FOR_AN_LLM = "Set OPENAI_API_KEY to serve OpenAI, or give --config DIR to serve your own rails configs."

WELCOME = """Railstream is ready: {url}

{who}

{curl}

{python}

{redis}Ctrl-C stops everything."""


def welcome(url: str, configs: ConfigSet, *, wants_key: bool, url_file: Path | None = None) -> str:
    """The examples in it can be copied as they stand. ``url_file`` holds the URL of the stack's own Redis, if any."""
    model = next(iter(configs.models()), "MODEL")
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": QUESTION}]})
    key = "YOUR_KEY" if wants_key else "not-needed"
    curl_key = f" -H 'authorization: Bearer {key}'" if wants_key else ""
    return WELCOME.format(
        url=url,
        who=_who_answers(configs),
        curl=CURL.format(url=url, curl_key=curl_key, body=body),
        python=PYTHON.format(url=url, key=key, question=QUESTION, model=model),
        redis=REDIS.format(file=shlex.quote(str(url_file)), command=_command()) if url_file else "",
    )


def _command() -> str:
    """How this `railstream` was called: it may not be on the PATH."""
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == "railstream" else "railstream"


def _who_answers(configs: ConfigSet) -> str:
    config = configs.get()
    main = config.model_of("main")
    if main is None:
        return f"Config {config.id!r} has no main model: requests must name one of another config."
    others = [model for model in configs.models() if model != main.model]
    answers = f"{main.model} ({main.engine}) answers, by config {config.id!r}."
    problems = list(missing_variables.missing(config))
    if main.engine == SCRIPTED:
        answers = f"{main.model} answers: a demo that recites a script, no LLM."
        answers += f"\n{FOR_AN_LLM}" if len(configs.ids) == 1 else ""
    lines = [f"Config {config.id!r} cannot answer: {'; '.join(problems)}." if problems else answers]
    lines += [f"Served too: {', '.join(others)}."] if others else []
    lines += _without_keys(configs, config.id)
    return "\n".join(lines)


def _without_keys(configs: ConfigSet, default: str) -> Iterator[str]:
    for config in configs:
        for problem in missing_variables.missing(config) if config.id != default else ():
            yield f"Not by config {config.id!r}: {problem}."
