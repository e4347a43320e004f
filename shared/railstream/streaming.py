"""Where NeMo Guardrails has its `StreamingHandler`: `from railstream.streaming import StreamingHandler`."""

from railstream import StreamingHandler

__all__ = ["StreamingHandler"]
