"""The sweep as a picture: CPU per chunk of each part, by open streams and by workers, as SVG of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

PARTS: Final = {"redis": "#c0504d", "gateway": "#4f81bd", "worker": "#9bbb59"}
"""From the bottom of each bar to its top."""
WIDTH, HEIGHT = 380, 260
LEFT, TOP, BOTTOM = 46, 48, 44
GAP = 20


def draw(sweep: Mapping[str, Mapping[Any, Any]], path: Path, *, budget: float, about: str) -> None:
    """Two charts beside each other; ``budget`` is the line that the bars should stay under."""
    charts = [
        _chart(0, "by open streams (1 worker, 2,500 chunks/s)", sweep["streams"], budget),
        _chart(WIDTH + GAP, "by workers (200 open streams)", sweep["workers"], budget),
    ]
    whole = 2 * WIDTH + GAP
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {HEIGHT + 24}" font-family="sans-serif">'
    ground = f'<rect width="{whole}" height="{HEIGHT + 24}" fill="#ffffff"/>'
    headline = _text(LEFT, 15, "CPU-seconds per 100,000 chunks: Redis, gateway and worker together", size=12)
    lines = [
        frame,
        ground,
        headline,
        *charts,
        _legend(),
        _text(LEFT, HEIGHT + 18, about, size=9, fill="#777777"),
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _chart(left: float, title: str, costs: Mapping[Any, Any], budget: float) -> str:
    most = max([budget * 1.15, *(cost["all"]["cpu_s_per_100k"] * 1.1 for cost in costs.values())])
    ground = HEIGHT - BOTTOM
    scale = (ground - TOP) / most
    parts = [_text(left + LEFT, 32, title, size=10)]
    for tick in _ticks(most):
        height = ground - tick * scale
        parts.append(_line(left + LEFT, height, left + WIDTH - 8, height, "#e4e4e4"))
        parts.append(_text(left + LEFT - 6, height + 4, f"{tick:g}", size=10, anchor="end"))
    step = (WIDTH - LEFT - 8) / len(costs)
    for place, (name, cost) in enumerate(costs.items()):
        parts += _bar(left + LEFT + place * step, step, ground, scale, str(name), cost)
    height = ground - budget * scale
    parts.append(_line(left + LEFT, height, left + WIDTH - 8, height, "#555555", dashed=True))
    parts.append(_text(left + WIDTH - 8, height - 4, f"budget {budget:g}", size=9, anchor="end"))
    return "\n".join(parts)


def _bar(left: float, step: float, ground: float, scale: float, name: str, cost: Mapping[str, Any]) -> list[str]:
    parts, height = [], ground
    for part, colour in PARTS.items():
        size = max(0.0, cost[part]["cpu_s_per_100k"]) * scale
        height -= size
        parts.append(
            f'<rect x="{left + step * 0.2:.1f}" y="{height:.1f}" width="{step * 0.6:.1f}" height="{size:.1f}" '
            f'fill="{colour}"/>'
        )
    centre = left + step / 2
    parts.append(_text(centre, height - 4, f"{cost['all']['cpu_s_per_100k']:.1f}", size=10, anchor="middle"))
    parts.append(_text(centre, ground + 15, name, size=10, anchor="middle"))
    return parts


def _legend() -> str:
    parts = []
    for place, (part, colour) in enumerate(PARTS.items()):
        left = LEFT + place * 80
        parts.append(f'<rect x="{left}" y="{HEIGHT - 14}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(left + 14, HEIGHT - 5, part, size=10))
    return "\n".join(parts)


def _ticks(most: float) -> Sequence[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if most / step <= 8)
    return [tick * step for tick in range(int(most / step) + 1)]


def _text(x: float, y: float, said: str, *, size: int, anchor: str = "start", fill: str = "#333333") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{escape(said)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'
