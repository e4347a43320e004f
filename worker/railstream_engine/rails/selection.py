"""Which rails a request wants to run, from its ``options.rails``, as NeMo Guardrails writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from railstream.config import Flow
from railstream.errors import InvalidRequestError


def selection(options: Mapping[str, Any], stage: str) -> Callable[[str], bool] | None:
    """Whether a flow is to run; ``None`` when the request does not say.

    ``{"input": True, "output": ["self check output"]}``, or a list of the stages that are on.
    """
    rails = options.get("rails")
    if rails is None:
        return None
    if isinstance(rails, list):
        return _all if stage in rails else _none
    if not isinstance(rails, Mapping):
        raise InvalidRequestError("options.rails must be a mapping or a list of stages", param="options.rails")
    wanted = rails.get(stage)
    if wanted is None or wanted is True:
        return None
    if wanted is False:
        return _none
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        param = f"options.rails.{stage}"
        raise InvalidRequestError(f"{param} must be true, false or a list of flows", param=param)
    names = frozenset(wanted)
    return lambda flow: str(flow) in names or (isinstance(flow, Flow) and flow.name in names)


def _all(flow: str) -> bool:
    return True


def _none(flow: str) -> bool:
    return False
