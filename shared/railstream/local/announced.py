"""The Redis of a running `railstream up`, announced in a file, so that the other commands find it without its password.

The file holds the URL and can be read by its owner alone. Whoever runs the stack holds a lock on it: a file without a
lock was left behind by a stack that was killed, and is removed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO, TypeVar

from railstream.errors import ConfigurationError
from railstream.settings import Settings

SUFFIX: Final = ".redis-url"

S = TypeVar("S", bound=Settings)


def directory() -> Path:
    """``$XDG_RUNTIME_DIR/railstream``, else ``railstream-<user id>`` among the temporary files.

    Raises:
        ConfigurationError: it belongs to somebody else, who could read the password or give us a URL.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "railstream" if base else Path(tempfile.gettempdir()) / f"railstream-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = path.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise ConfigurationError(f"directory {str(path)!r} must belong to you alone: remove it, or set XDG_RUNTIME_DIR")
    return path


@contextmanager
def announcing(redis_url: str, port: int) -> Iterator[Path | None]:
    """Keep a file with the URL for as long as the context lasts; ``None`` where no file can be kept.

    ``port``: of the stack's gateway.
    """
    try:
        path = directory() / f"up-{port}{SUFFIX}"
        file = open(path, "a+", encoding="utf-8", opener=_private)  # noqa: SIM115  # closed below
    except (OSError, ConfigurationError):
        yield None
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{redis_url}\n")
        file.flush()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another stack's file is in it
                path.parent.rmdir()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def announced() -> dict[Path, str]:
    """The URLs of the stacks that run now, by file."""
    try:
        files = sorted(directory().glob(f"up-*{SUFFIX}"))
    except (OSError, ConfigurationError):
        return {}
    found = {}
    for path in files:
        with path.open(encoding="utf-8") as file:
            if _is_left_behind(file):
                path.unlink(missing_ok=True)
            else:
                found[path] = file.read().strip()
    return found


def _is_left_behind(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def with_local_redis(settings: S) -> S:
    """The settings, with the Redis of the `railstream up` that runs here where no Redis was named.

    Raises:
        ConfigurationError: several stacks run, and none was named.
    """
    if "redis_url" in settings.model_fields_set:
        return settings
    found = announced()
    if len(found) > 1:
        names = ", ".join(f'--redis-url "$(cat {path})"' for path in found)
        raise ConfigurationError(f"several `railstream up` run here; name the Redis of one: {names}")
    return settings.model_copy(update={"redis_url": next(iter(found.values()))}) if found else settings
