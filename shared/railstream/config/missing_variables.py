"""Which environment variables the models of a set of configs need and do not have, said before a request fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from railstream.config.models import Model
from railstream.config.rails_config import RailsConfig
from railstream.errors import ConfigurationError


def sentence(model: Model) -> str:
    """What is missing for a model; empty when nothing is."""
    variables = model.missing_variables
    if not variables:
        return ""
    names = " and ".join(variables)
    kind = "variables" if len(variables) > 1 else "variable"
    verb = "are" if len(variables) > 1 else "is"
    return (
        f"model {model.model!r} ({model.engine}) needs the environment {kind} {names}, which {verb} not set; "
        "set it where the worker runs"
    )


def missing(config: RailsConfig) -> Iterator[str]:
    """One sentence for each model of the config that cannot be called."""
    yield from dict.fromkeys(filter(None, map(sentence, config.models)))


def of_all(configs: Iterable[RailsConfig]) -> list[str]:
    """One line for each config and model that cannot be called.

    Raises:
        ConfigurationError: that is true of every config, so nothing could be served.
    """
    found = {config.id: list(missing(config)) for config in configs}
    lines = [f"config {id!r}: {problem}" for id, problems in found.items() for problem in problems]
    if found and all(found.values()):
        raise ConfigurationError("no config can be served: " + "; ".join(lines))
    return lines
