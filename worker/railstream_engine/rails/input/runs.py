"""Which texts of a request a provider can put beside each other, so that a model reads them as one.

A place is a path into ``[*messages, params]``. A run of *speech* is what the messages of one turn say: their contents,
refusals and thoughts, in the order in which they stand and each kind by itself. A run of *values* is what a model reads
after each other, each in quotes: a list of strings, such as ``stop``, what stands in like places of one turn or of the
options, such as the descriptions of tools, calls' arguments and other JSON in texts, an option's texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NamedTuple

from railstream.message_keys import KNOWN_KEYS, Path
from railstream.messages import parts_of, texts_in

Message = Mapping[str, Any]
INSTRUCTIONS: Final = ("system", "developer")
"""Roles whose messages some providers take out of the conversation."""
SPOKEN: Final = (
    "reasoning_content", "reasoning", "thinking", "content", "text", "input_text", "output_text", "transcript",
    "refusal", "data", "file_data", "url",
)  # fmt: skip
"""Known keys of what a message says, in the order in which a provider writes them; files count by their text."""
ARGUMENTS: Final = ("arguments", "input")
BESIDE: Final = frozenset({"id", "tool_call_id", "call_id", "tool_use_id", "name", "title", "signature"})
"""Keys of texts that a model does not read as a part of what stands before and behind them."""


class Leaf(NamedTuple):
    """A text, and where it stands."""

    path: Path
    text: str
    fixed: bool
    """It cannot be rewritten where it stands."""


@dataclass(frozen=True, slots=True)
class Run:
    leaves: tuple[Leaf, ...]
    is_speech: bool
    """False: it is a run of values, which a person would not read as one number."""

    @property
    def messages(self) -> set[int]:
        """The positions of its messages; that of the options is the number of all messages."""
        return {int(leaf.path[0]) for leaf in self.leaves}


def runs_in(messages: Sequence[Message], params: Mapping[str, Any]) -> list[Run]:
    """Every run of two texts or more, each once."""
    leaves = [_leaves(value, at) for at, value in enumerate((*messages, params))]
    spoken = [[leaf for leaf in own if _is_spoken(leaf)] for own in leaves]
    found: dict[tuple[tuple[Path, bool], ...], Run] = {}
    groups = [[leaf for at in group for leaf in spoken[at]] for group in turns(messages)]
    groups += [list(own) for _, own in groupby(spoken[-1], lambda leaf: leaf.path[1])]
    for group in groups:
        for view in _views(group):
            _add(found, view, is_speech=True)
    for positions in (*turns(messages), [len(messages)]):
        for values in _values([leaf for at in positions for leaf in leaves[at] if not leaf.fixed]):
            _add(found, values, is_speech=False)
    for _, own in groupby(leaves[-1], lambda leaf: leaf.path[1]):
        _add(found, [leaf for leaf in own if not leaf.fixed and _key(leaf) not in BESIDE], is_speech=False)
    return list(found.values())


def turns(messages: Sequence[Message]) -> list[list[int]]:
    """Which messages a provider may merge into one turn, by their positions; a message is in several groups.

    Messages in a row count, of one role or of one side: some providers give a tool's results in the user's turn. A
    message without content does not keep its neighbours apart. Some providers move the system's and developer's
    messages out of the conversation, into one text.
    """
    found = [[at for at, message in enumerate(messages) if message.get("role") in INSTRUCTIONS]]
    others = [at for at, message in enumerate(messages) if message.get("role") not in INSTRUCTIONS]
    for keeps_apart in (_has_content, _has_text):
        kept = [at for at in others if keeps_apart(messages[at])]
        roles = [messages[at].get("role") for at in kept]
        found += _in_a_row(kept, roles)
        found += _in_a_row(kept, [role == "assistant" for role in roles])
    found += [[at] for at in others]
    return [list(group) for group in dict.fromkeys(map(tuple, found)) if group]


def _in_a_row(positions: Sequence[int], keys: Sequence[Any]) -> list[list[int]]:
    groups: list[list[int]] = []
    for number, at in enumerate(positions):
        if number and keys[number] == keys[number - 1]:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def _has_content(message: Message) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call") or parts_of(message))


def _has_text(message: Message) -> bool:
    return _has_content(message) or any(map(_is_spoken, _leaves(message, 0)))


def _add(found: dict[tuple[tuple[Path, bool], ...], Run], leaves: Sequence[Leaf], *, is_speech: bool) -> None:
    if len(leaves) > 1:
        found.setdefault(tuple((leaf.path, leaf.fixed) for leaf in leaves), Run(tuple(leaves), is_speech))


def _views(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    """What of a turn a provider may pass on: its content, all that it says, also in another order, each key alone."""
    for form in _forms(leaves):
        known = [leaf for leaf in form if _key(leaf) in SPOKEN]
        yield [leaf for leaf in known if leaf.path[1] == "content" and _key(leaf) in ("content", "text")]
        yield known
        yield sorted(known, key=lambda leaf: (leaf.path[0], _rank(leaf)))
        yield form
        for key in dict.fromkeys(map(_key, form)):
            yield [leaf for leaf in form if _key(leaf) == key]


def _forms(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    """The texts as they were sent; and with what an encoded file says in the place of its letters."""
    yield [leaf for leaf in leaves if not leaf.fixed]
    files = {leaf.path: leaf for leaf in reversed(leaves) if leaf.fixed}
    if files:
        yield list(dict.fromkeys(files.get(leaf.path, leaf) for leaf in leaves))


def _leaves(value: Mapping[str, Any], at: int) -> list[Leaf]:
    """The strings in a message or in the options, and what encoded files in them say; no keys, no numbers."""
    return [
        Leaf((at, *text.path), text.text, text.fixed)
        for text in texts_in(value)
        if not text.fixed or isinstance(value_at(value, text.path), str)
    ]


def _is_spoken(leaf: Leaf) -> bool:
    """Whether it is what a message says, or stands under a key that nobody knows."""
    return _key(leaf) in SPOKEN or _key(leaf) not in KNOWN_KEYS


def _values(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    """The lists of strings, the arguments of each call and of all, what stands in like places, and the JSON in it."""
    lists: dict[Path, list[Leaf]] = {}
    alike: dict[Path, list[Leaf]] = {}
    for leaf in leaves:
        place = _place(leaf)
        if place != leaf.path:
            lists.setdefault(place, []).append(leaf)
        alike.setdefault(tuple("*" if isinstance(step, int) else step for step in place), []).append(leaf)
    yield from lists.values()
    for texts in alike.values():
        yield texts
        decoded = [
            [Leaf((*leaf.path, *path), text, True) for path, text in _strings(_decoded(leaf.text), ())]
            for leaf in texts
        ]
        yield from decoded
        yield [leaf for inside in decoded for leaf in inside]


def _place(leaf: Leaf) -> Path:
    """Of an item of a list the list, of a value in arguments all of them, and else the leaf's own path."""
    steps = [at for at, step in enumerate(leaf.path) if step in ARGUMENTS]
    if steps and steps[0] < len(leaf.path) - 1:
        return leaf.path[: steps[0] + 1]
    return leaf.path[:-1] if isinstance(leaf.path[-1], int) else leaf.path


def _strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str) and value:
        yield path, value
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif _is_list(value):
        items = enumerate(value)
    for name, item in items:
        yield from _strings(item, (*path, name))


def _decoded(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _key(leaf: Leaf) -> str:
    return next((step for step in reversed(leaf.path) if isinstance(step, str)), "")


def _rank(leaf: Leaf) -> int:
    top = leaf.path[1]
    return SPOKEN.index(top) if top in SPOKEN else len(SPOKEN)


def value_at(value: Any, path: Path) -> Any:
    """What stands at a path."""
    for step in path:
        value = value[step]
    return value
