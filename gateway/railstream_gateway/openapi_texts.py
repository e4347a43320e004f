"""One line for each field of the bodies and answers that the OpenAPI document shows."""

from __future__ import annotations

from typing import Any, Final

OPENAI: Final = "As OpenAI's; it goes to the provider as it is."
EVERYWHERE: Final = {
    "id": "Its id.",
    "object": "What kind of object it is.",
    "created": "Unix seconds.",
    "updated": "Unix seconds.",
    "model": "Name of the model.",
    "status": "queued, running, cancelling, or how it ended: finished, blocked, failed, cancelled.",
    "usage": "Tokens, as the provider counted them.",
    "config_id": "Id of a rails config. Not given: the default one.",
    "config_ids": "Ids of several configs, whose rails run together: the stricter of each pair holds.",
    "thread_id": "NeMo Guardrails' thread: the messages before are kept on the server. 16 characters or more.",
    "context": "Variables for prompts and actions of rails.",
    "options": "NeMo Guardrails' generation options.",
    "messages": "The conversation so far, the latest message last.",
    "guardrails": "Which rails run, and with what.",
    "railstream": "What neither OpenAI nor NeMo Guardrails has a key for.",
    "stream": "Answer as server-sent events.",
    "temperature": OPENAI,
    "max_tokens": OPENAI,
    "session": "Id of a session that the request belongs to.",
    "branch": "Branch of the session; `main` when it is not given.",
    "name": "A name.",
    "metadata": "Anything of the client's, kept and given back.",
    "data": "The entries.",
    "error": "What went wrong.",
    "finish_reason": "stop, length, tool_calls, content_filter, or what the provider says.",
    "role": "Who says it.",
    "content": "The text, or its parts.",
    "refusal": "A refusal in place of the text.",
    "type": "Which kind it is.",
}
FIELDS: Final[dict[str, dict[str, str]]] = {
    "ChatBody": {
        "model": "One of `GET /v1/models`. Not given: the main model of the config.",
        "stream_options": "`include_usage`: a last chunk with the tokens.",
        "n": "How many choices.",
        "stop": "Where the answer ends: a text, or several.",
        "tools": "Functions that the model may call. Calls are read by the rails, whole.",
        "response_format": "Structured output. A block is then a refusal, never prose in place of JSON.",
        "metadata": OPENAI,
    },
    "Ours": {"models": "Several models answer at once, each as one choice."},
    "Options": {
        "rails": "Which rails run. A client may add rails, never switch one off.",
        "log": "Which parts of the generation log the answer includes.",
        "llm_params": "Options for the calls of models.",
    },
    "LogOptions": {
        "activated_rails": "The rails that ran, and what they decided.",
        "llm_calls": "Each call of a model, with its tokens.",
    },
    "StreamOptions": {"include_usage": "A last chunk with the tokens."},
    "FlowBody": {
        "operations": "What is to be generated, and in which order.",
        "max_concurrent": "Operations that run at once, at most.",
        "on_failure": "What the failure of an operation means for those that do not wait for it.",
    },
    "FlowOperation": {
        "instruction": "What is asked; not given: the messages of the flow.",
        "branch": "Operations of one branch run in order; each gets the branch's earlier messages.",
        "depends_on": "Operations that must have finished first.",
        "context_from": "Operations whose answers stand before the instruction.",
    },
    "FlowAnswer": {"operations": "What came of each operation."},
    "FlowOperationAnswer": {
        "index": "Index of its choice in the stream.",
        "text": "Its answer.",
        "reason": "Why it was skipped.",
        "status": "queued, running, finished, failed or skipped.",
    },
    "Session": {"branches": "Its branches."},
    "Branch": {"messages": "How many messages it has.", "from": "The branch that it was made of.", "at": "Where."},
    "BranchBody": {"from": "The branch to go on from.", "at": "A message of it; not given: its end."},
    "SessionMessage": {
        "request_id": "The request that it came with.",
        "operation": "The operation of a flow that it came with.",
        "partial": "It was cut: by a block, a failure or a cancel.",
    },
    "Deleted": {"deleted": "Whether it is gone."},
    "ErrorObject": {
        "message": "For a person: quotes the value, and says what to do.",
        "type": "invalid_request_error, guardrails_violation, upstream_error, rate_limit_error, …",
        "param": "The field, the flow or the deadline that it is about.",
        "code": "For a program.",
    },
    "ChatCompletion": {"choices": "The answers.", "guardrails": "What the rails did, where something is to be told."},
    "CompletionChoice": {"index": "From 0.", "message": "The answer.", "logprobs": "Log probabilities, if asked for."},
    "CompletionMessage": {
        "tool_calls": "Functions that the model wants called.",
        "reasoning_content": "What a reasoning model thought, where the rails let it pass.",
    },
    "CompletionUsage": {
        "prompt_tokens": "Input, cached tokens included.",
        "completion_tokens": "Output, reasoning included.",
        "total_tokens": "Their sum.",
    },
    "CheckResult": {
        "status": "passed, modified or blocked.",
        "content": "The text that was checked last, as the rails leave it, or the refusal.",
        "rail": "The flow that blocked.",
    },
    "Model": {"owned_by": "Always railstream."},
    "Ready": {
        "status": "ready or unavailable.",
        "redis": "Redis takes writes.",
        "workers": "Living workers that serve a pool of this gateway.",
        "pools": "Living workers by pool.",
        "unserved_pools": "Pools without a worker: their requests wait.",
        "draining": "This gateway stops.",
    },
    "Alive": {"status": "alive."},
}


def add_texts(schemas: dict[str, Any]) -> None:
    """A description for each property that has none. A reference keeps its own beside it (OpenAPI 3.1)."""
    for name, schema in schemas.items():
        own = FIELDS.get(name, {})
        for field, property in schema.get("properties", {}).items():
            text = own.get(field) or EVERYWHERE.get(field) or OPENAI
            property.setdefault("description", text)
