"""Which rails config and model serve a request, decided before anything is queued."""

from __future__ import annotations

from typing import Any, Final

from railstream.config import ConfigSet, RailsConfig
from railstream.errors import InvalidRequestError, ModelNotFoundError, StreamingNotSupportedError

from railstream_gateway.accept.chat_request import ChatRequest
from railstream_gateway.accept.passing import refuse_options
from railstream_gateway.accept.served import Served

MODELS_IN_MESSAGE: Final = 20


def resolve(configs: ConfigSet, request: ChatRequest) -> Served:
    """What serves a request; see `resolve_one`.

    Raises:
        InvalidRequestError: also for an option that the model does not pass to its provider.
    """
    served = resolve_one(configs, request.config_ids, request.model, request.options, stream=request.stream)
    refuse_options(served, request.provider_options)
    return served


def resolve_one(
    configs: ConfigSet, config_ids: tuple[str, ...], model: str | None, options: dict[str, Any], *, stream: bool
) -> Served:
    """The config that was named; else the default one, if it serves the model; else the one that does.

    Raises:
        UnknownConfigError: there is no config of that id.
        ModelNotFoundError: the model is not served, or not by the config that was named.
        StreamingNotSupportedError: the config's output rails cannot guard a stream.
        InvalidRequestError: the request would switch rails off, and the config does not allow it.
    """
    ids = config_ids or (_serving(configs, model),)
    config = configs.get(ids)
    served = Served(ids, config, _model(config, ids, model))
    _refuse_switching_off(config, ids, options)
    if stream and _guards_output(config, options) and not config.rails.output.streaming.enabled:
        raise StreamingNotSupportedError(
            f"config {'+'.join(ids)!r} has output rails and does not allow streaming them: "
            "set rails.output.streaming.enabled to true, or send stream: false",
            param="stream",
        )
    return served


def _serving(configs: ConfigSet, model: str | None) -> str:
    if model is None:
        return configs.default_id
    serving = configs.serving(model)
    if serving is None:
        raise _not_found(model, configs.models(), "here")
    return serving


def _model(config: RailsConfig, ids: tuple[str, ...], model: str | None) -> str:
    names = tuple(main.model for main in config.main_models)
    if not names:
        raise InvalidRequestError(
            f"config {'+'.join(ids)!r} names no main model: combine it with one that does",
            param="guardrails.config_id",
        )
    if model is None:
        return names[0]
    if model not in names:
        raise _not_found(model, names, f"by config {'+'.join(ids)!r}")
    return model


def _not_found(model: str, names: tuple[str, ...], where: str) -> ModelNotFoundError:
    known = ", ".join(names[:MODELS_IN_MESSAGE])
    return ModelNotFoundError(f"model {model!r} is not served {where}; served are {known}", param="model")


def _refuse_switching_off(config: RailsConfig, ids: tuple[str, ...], options: dict[str, Any]) -> None:
    """A client may add rails and never take them off, unless the config says so. It is told, not left to guess."""
    chosen = options.get("rails")
    if chosen is None or config.railstream.allow_request_rails:
        return
    for stage in ("input", "output", "tool_input", "tool_output"):
        flows = getattr(config.rails, stage).flows
        wanted = stage in chosen if isinstance(chosen, list) else chosen.get(stage, True)
        kept = flows if wanted is True else [flow for flow in flows if wanted and {flow.text, flow.name} & set(wanted)]
        if len(kept) < len(flows):
            off = ", ".join(repr(flow.text) for flow in flows if flow not in kept)
            raise InvalidRequestError(
                f"options.rails would switch off {off} of config {'+'.join(ids)!r}, which a request may not: "
                "railstream.allow_request_rails of the config allows it",
                param="options.rails",
                code="rails_locked",
            )


def _guards_output(config: RailsConfig, options: dict[str, Any]) -> bool:
    if not config.rails.output.flows:
        return False
    chosen = options.get("rails")
    if chosen is None or not config.railstream.allow_request_rails:
        return True
    return "output" in chosen if isinstance(chosen, list) else bool(chosen.get("output", True))
