"""What a message says: the one reading of OpenAI's messages that rails, prompts, limits and views share.

`text_of` is what a person would call its text. `texts_in` is everything in it that a model can read: every string and
every unknown key counts as text, unless it belongs to a closed set.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from railstream.message_keys import KNOWN_KEYS, NAMING, Path, is_closed, is_free
from railstream.provider_options import NUMBERS

Message = Mapping[str, Any]

_DATA_URL: Final = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.DOTALL | re.IGNORECASE)
_MEDIA: Final = re.compile(
    r"(image/(png|jpe?g|gif|webp|bmp|tiff|heic|heif|avif)|audio/(wav|x-wav|mp3|mpeg|mp4|ogg|flac|webm|aac|opus)"
    r"|video/(mp4|webm|mpeg|quicktime)|application/pdf)?",
    re.IGNORECASE,
)
_MEDIA_PLACES: Final = frozenset({"url", "image_url", "data", "file_data"})
_MAGIC: Final = (
    b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"%PDF-", b"ID3", b"\xff\xfb",
    b"\xff\xf3", b"\xff\xf1", b"fLaC", b"OggS", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba",
)  # fmt: skip
"""How the files begin that a model sees or hears, and no rail reads. (MP4, HEIC and AVIF: ``ftyp`` at byte 4.)"""
_ID: Final = re.compile(r"[A-Za-z0-9_.:|-]{1,64}")
_OPTION_NUMBERS: Final = frozenset({
    "n", "seed", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "presence_penalty",
    "frequency_penalty", "top_logprobs",
}) | NUMBERS  # fmt: skip
_SCHEMA_NUMBERS: Final = frozenset({
    "index", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems",
    "maxItems", "multipleOf",
})  # fmt: skip


class Text(NamedTuple):
    """One text of a value: where it stands, and what it says."""

    path: Path
    text: str
    fixed: bool = False
    """It cannot be rewritten where it stands: a key, or the text inside of an encoded file."""


def parts_of(message: Message) -> list[str]:
    """The texts of a message's content, part by part: a string is one part, ``null`` is none."""
    content = message.get("content")
    if isinstance(content, str):
        return [content] if content else []
    found = []
    for part in content if isinstance(content, Sequence) and not isinstance(content, bytes) else ():
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str) and text:
            found.append(text)
    return found


def text_of(message: Message) -> str:
    """The text of a message's content. Parts stand in lines of their own: a model does not read them as one word."""
    return "\n".join(parts_of(message))


def last_text(messages: Sequence[Message], role: str) -> str:
    """The text of the last message of a role; empty when there is none."""
    return next((text_of(message) for message in reversed(messages) if message.get("role") == role), "")


def texts_in(value: Any) -> list[Text]:
    """Every text of a message, or of request options, in the order in which it stands."""
    return list(_walk(value, ()))


def each_text_in(values: Sequence[Any]) -> Iterator[Text]:
    """The texts of several messages or options, one after the other, for whoever stops early or reads in turns."""
    for value in values:
        yield from _walk(value, ())


def other_texts(message: Message) -> list[str]:
    """What a message says beside its content: names, calls, file names, unknown keys; ids of calls are no text."""
    return [text.text for text in texts_in(message) if not (_is_content(text) or _is_id(text))]


def _is_content(text: Text) -> bool:
    """Whether it is what `parts_of` gives."""
    path = text.path
    if text.fixed or path[:1] != ("content",):
        return False
    return len(path) <= 2 or (len(path) == 3 and path[2] == "text")


def _is_id(text: Text) -> bool:
    return text.path[-1:] in (("id",), ("tool_call_id",)) and _ID.fullmatch(text.text) is not None


def replaced(value: Any, texts: Mapping[Path, str]) -> Any:
    """A copy of the value in which the texts at these paths are others."""
    if () in texts:
        return texts[()]
    heads: dict[str | int, dict[Path, str]] = {}
    for path, text in texts.items():
        heads.setdefault(path[0], {})[path[1:]] = text
    if isinstance(value, Mapping):
        return {name: replaced(item, heads[name]) if name in heads else item for name, item in value.items()}
    return [replaced(item, heads[at]) if at in heads else item for at, item in enumerate(value)]


def _walk(value: Any, path: Path) -> Iterator[Text]:
    if isinstance(value, str):
        yield from _string(value, path)
    elif isinstance(value, Mapping):
        names_are_free = path[-1:] and (path[-1] in NAMING or is_free(path))
        for name, item in value.items():
            if name not in KNOWN_KEYS or names_are_free:
                yield Text(path, str(name), fixed=True)
            if isinstance(item, str) and value.get("type") != "text" and _is_media_place(path, name):
                yield from _file(item, (*path, name))
            else:
                yield from _walk(item, (*path, name))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for at, item in enumerate(value):
            yield from _walk(item, (*path, at))
    elif isinstance(value, int | float) and not isinstance(value, bool) and path and not _is_option(value, path):
        yield Text(path, str(value), fixed=True)


def _is_option(number: float, path: Path) -> bool:
    """Whether a number says nothing to a model: an option of the call, or a small bound of a schema."""
    if len(path) == 1 and path[0] in _OPTION_NUMBERS:
        return True
    return path[-1] in _SCHEMA_NUMBERS and abs(number) < 10_000


def _is_media_place(path: Path, name: str) -> bool:
    return path[:1] == ("content",) and name in _MEDIA_PLACES


def _string(value: str, path: Path) -> Iterator[Text]:
    if not value or is_closed(value, path):
        return
    yield Text(path, value)
    url = _DATA_URL.fullmatch(value) if value[:5].lower() == "data:" else None
    if url is not None:
        yield from _readings(_bytes_of(url[3]) if url[2] else None, url[3], path)


def _file(value: str, path: Path) -> Iterator[Text]:
    """A text where a model expects a file: only what is one, by its bytes, is left to the model's eyes and ears."""
    url = _DATA_URL.fullmatch(value) if value[:5].lower() == "data:" else None
    encoded = value if url is None else url[3] if url[2] else ""
    data = _bytes_of(encoded)
    if data and (url is None or _MEDIA.fullmatch(url[1])) and _is_media(data, path):
        return
    if url is not None:
        yield from _string(value, path)
    else:
        yield Text(path, value)
        yield from _readings(data, "", path)


def _is_media(data: bytes, path: Path) -> bool:
    if _utf8(data) is not None:
        return False
    return path[-2:] == ("input_audio", "data") or data.startswith(_MAGIC) or data[4:8] == b"ftyp"


def _readings(data: bytes | None, escaped: str, path: Path) -> Iterator[Text]:
    """What an encoded file may say, in the encodings that a provider may take it for."""
    if data is None:
        texts = [unquote(escaped)]
    elif (text := _utf8(data)) is not None:
        texts = [text]
    else:
        texts = [data.decode("latin-1"), data.decode("utf-16-le", "replace"), data.decode("utf-16-be", "replace")]
    for text in texts:
        if text and text != escaped:
            yield Text(path, text, fixed=True)


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _bytes_of(data: str) -> bytes | None:
    """What base64 stands for, in either alphabet and without its padding too; ``None`` of what is none."""
    try:
        standard = data.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
