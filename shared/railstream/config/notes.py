"""What is worth saying of a config that is not wrong: keys without effect, and where NeMo Guardrails differs."""

from __future__ import annotations

from collections.abc import Iterator

from railstream.config.base import Section
from railstream.config.flows import Flow
from railstream.config.rails_config import RailsConfig


def notes(config: RailsConfig) -> tuple[str, ...]:
    """One sentence each."""
    return (*_without_effect(config), *_differences(config), *_worker_loss(config))


def _without_effect(config: RailsConfig) -> Iterator[str]:
    if "streaming" in config.model_fields_set:
        yield "`streaming` has no effect: every model streams; output rails have `rails.output.streaming.enabled`"
    for model in config.models:
        if not model.used:
            yield f"the model {model.model!r} of type {model.type!r} is never called: there are no dialog rails"
        if model.cache is not None and model.cache.enabled:
            yield f"`cache` of the model {model.model!r} has no effect: each check asks the model"
    if config.tracing.adapters:
        yield "`tracing.adapters` has no effect: spans leave over OTLP, as the OTEL_* variables say"
    for name, section in config.rails.config:
        if isinstance(section, Section) and "retrieval" in section.model_fields_set:
            yield f"`rails.config.{name}.retrieval` has no effect: there is no retrieval step"


def _worker_loss(config: RailsConfig) -> Iterator[str]:
    for model in config.main_models:
        if config.on_worker_loss_of(model.model) == "continue" and not model.continues:
            yield (
                f"`on_worker_loss: continue` relies on {model.model!r} to continue a trailing assistant message; most "
                f"models of {model.engine!r} answer it instead, which doubles text. `regenerate` compares first"
            )


def _differences(config: RailsConfig) -> Iterator[str]:
    flows, streaming = config.rails.output.flows, config.rails.output.streaming
    if flows and not streaming.enabled:
        yield "streaming requests are refused with 400 until `rails.output.streaming.enabled` is True, as in NeMo"
        return
    windows = [flow.text for flow in flows if _is_window(flow)]
    if not windows:
        if {"chunk_size", "context_size", "stream_first"} & streaming.model_fields_set:
            yield "chunk_size, context_size and stream_first have no effect: no output rail judges windows"
        return
    if streaming.stream_first:
        yield f"stream_first: True shows text before {', '.join(windows)} has checked it; False never does"
    elif "stream_first" not in streaming.model_fields_set:
        yield "stream_first is False unless set (NeMo: True): no text is shown before its check"
    if streaming.strategy == "documented":
        size, context = streaming.chunk_size, streaming.context_size
        yield (
            f"each check sees {context} deltas of context and up to {size} new ones, as NeMo's manual says; NeMo 0.24 "
            f"itself moves on by {max(size - context, 1)} only: `strategy: rolling` does that"
        )


def _is_window(flow: Flow) -> bool:
    return flow.built_in is None or flow.built_in.kind == "window"
