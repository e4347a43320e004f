"""Operations that depend on each other: checked for unknown names and cycles before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from railstream.errors import InvalidRequestError

Edges = Mapping[str, Sequence[str]]
"""What each operation waits for, in the order in which the operations were given."""


def check_graph(edges: Edges, param: str = "operations") -> None:
    """Raises `InvalidRequestError`: an operation waits for one that is not there, or for itself in the end."""
    for id, needed in edges.items():
        for name in needed:
            if name not in edges:
                known = ", ".join(list(edges)[:20])
                raise InvalidRequestError(
                    f"operation {id!r} waits for {name!r}, which is not one of {known}",
                    param=param,
                    code="unknown_operation",
                )
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        circle = " -> ".join(map(repr, reversed(error.args[1])))
        raise InvalidRequestError(f"the operations wait in a circle: {circle}", param=param, code="cycle") from None


def in_turn(edges: Mapping[str, Sequence[str]], branches: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The edges, and one more for operations of one branch that may else run at once: a branch has one writer.

    They go in the order in which they are given, wherever the graph leaves that open.
    """
    rank = {id: place for place, id in enumerate(TopologicalSorter(edges).static_order())}
    given = {id: place for place, id in enumerate(edges)}
    depth: dict[str, int] = {}
    for id in sorted(edges, key=rank.__getitem__):
        depth[id] = 1 + max((depth[needed] for needed in edges[id]), default=0)
    last: dict[str, str] = {}
    turned = {id: tuple(dict.fromkeys(needed)) for id, needed in edges.items()}
    for id in sorted(edges, key=lambda id: (depth[id], given[id])):
        branch = branches.get(id, "")
        if not branch:
            continue
        before = last.get(branch)
        if before is not None and before not in turned[id]:
            turned[id] = (*turned[id], before)
        last[branch] = id
    return turned


def with_context(instruction: str, answers: Mapping[str, str]) -> str:
    """An instruction, after the answers of the operations that it builds on: this is what the model reads."""
    if not answers:
        return instruction
    return "\n\n".join([*(f"[{id}]\n{text}" for id, text in answers.items()), instruction])
