"""The metrics page: what an in-process reader of the SDK holds, as Prometheus text (format 0.0.4).

Names follow OpenTelemetry's mapping: dots become underscores, units become suffixes, counters end in ``_total``.
Written here, because the exporter package is a pre-release that brings a second metrics library with its registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNITS: Final = {"s": "seconds", "By": "bytes", "%": "percent"}
"""Units that our instruments use. Annotations in braces, such as ``{token}``, add nothing to a name."""
_INVALID = re.compile(r"[^a-zA-Z0-9_:]+")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metric_name(name: str, unit: str, *, counter: bool = False) -> str:
    """The Prometheus name of an instrument, without the suffixes of a histogram's series."""
    plain = _INVALID.sub("_", name)
    suffix = UNITS.get(unit, "")
    if suffix and not plain.endswith(suffix):
        plain = f"{plain}_{suffix}"
    return f"{plain}_total" if counter and not plain.endswith("_total") else plain


def render(data: Any, resource: Mapping[str, Any]) -> bytes:
    """The page for an SDK ``MetricsData`` of cumulative temporality, or for ``None``: nothing recorded yet.

    ``resource`` says who speaks: it becomes ``target_info``, which is there from the start.
    """
    lines = _family("target_info", "gauge", "Target metadata", [_sample("target_info", _labels(resource), 1)])
    for measured in data.resource_metrics if data is not None else ():
        for scope in measured.scope_metrics:
            for metric in scope.metrics:
                lines += _metric(metric)
    return "".join(f"{line}\n" for line in lines).encode()


def _metric(metric: Any) -> list[str]:
    points = metric.data.data_points
    if points and hasattr(points[0], "bucket_counts"):
        name = metric_name(metric.name, metric.unit)
        samples = [line for point in points for line in _histogram(name, point)]
        return _family(name, "histogram", metric.description, samples)
    counter = getattr(metric.data, "is_monotonic", False)
    name = metric_name(metric.name, metric.unit, counter=counter)
    samples = [_sample(name, _labels(point.attributes), point.value) for point in points]
    return _family(name, "counter" if counter else "gauge", metric.description, samples)


def _family(name: str, kind: str, description: str, samples: Iterable[str]) -> list[str]:
    text = description.replace("\\", r"\\").replace("\n", r"\n")
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]


def _histogram(name: str, point: Any) -> Iterator[str]:
    labels, below = _labels(point.attributes), 0
    for bound, count in zip((*point.explicit_bounds, "+Inf"), point.bucket_counts, strict=True):
        below += count
        edge = f'le="{bound if isinstance(bound, str) else _number(bound)}"'
        yield _sample(f"{name}_bucket", f"{labels},{edge}" if labels else edge, below)
    yield _sample(f"{name}_sum", labels, point.sum)
    yield _sample(f"{name}_count", labels, point.count)


def _sample(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}"


def _labels(attributes: Mapping[str, Any] | None) -> str:
    pairs = sorted((attributes or {}).items())
    return ",".join(f'{_INVALID.sub("_", key)}="{str(value).translate(_ESCAPES)}"' for key, value in pairs)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
