"""API keys: a file that says who may use the server, and how much. It holds hashes, never the keys."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anystory.files import atomic_write
from anystory.input_files import read_text, why_invalid

__all__ = ["LOCAL", "ApiKey", "KeyRing", "RequestPace", "add_key"]


class ApiKey(BaseModel):
    """Somebody who may use the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
    """Whose jobs, characters and uploads are theirs alone."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the key."""
    queue: Annotated[int, Field(ge=1)] = 20
    """Jobs that may wait or run at the same time."""
    per_minute: Annotated[int, Field(ge=1)] = 120
    """Requests that may be made."""


LOCAL = ApiKey(name="local", sha256="0" * 64, queue=10**6, per_minute=10**6)
"""Everybody, on a server without keys: it answers this machine only."""


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[ApiKey, ...]


class KeyRing:
    """The keys of a server.

    Args:
        keys: All of them; none means that everybody is `LOCAL`.

    Raises:
        ValueError: a name or a key twice.
    """

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in keys]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"two keys have the {field} {min(twice)!r}: give each its own")
        self._keys: Mapping[str, ApiKey] = {key.sha256: key for key in keys}

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """The keys of a file.

        Raises:
            ValueError, OSError: it cannot be read, or holds something else.
        """
        return cls(_read(path))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, token: str | None) -> ApiKey | None:
        """Whose key a text is; without keys it does not matter."""
        if not self._keys:
            return LOCAL
        return None if token is None else self._keys.get(_digest(token))


def add_key(path: Path, name: str) -> str:
    """Make a key, and write its hash into a file of keys, made if missing.

    Returns:
        The key. It is not kept anywhere.

    Raises:
        ValueError: the name is taken or cannot be.
    """
    key = f"sk-anystory-{secrets.token_urlsafe(32)}"
    keys = _read(path) if path.exists() else ()
    try:
        keys = (*keys, ApiKey(name=name, sha256=_digest(key)))
    except ValidationError:
        raise ValueError(f"a key's name has up to 64 small letters, digits, - and _, got {name!r}") from None
    KeyRing(keys)
    with atomic_write(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(yaml.safe_dump({"keys": [one.model_dump() for one in keys]}, sort_keys=False))
    return key


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> tuple[ApiKey, ...]:
    remedy = "write it with `anystory serve --keys FILE --new-key NAME`"
    try:
        found: Any = yaml.safe_load(read_text(path, remedy))
        keys = _KeyFile.model_validate(found).keys
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())}): {remedy}") from None
    except ValidationError as error:
        raise ValueError(f"{path} is no file of keys ({why_invalid(error)}): {remedy}") from None
    if not keys:
        raise ValueError(f"{path} holds no key: {remedy}")
    return keys


class RequestPace:
    """How many requests each key has made in the last minute.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._left = dict[str, tuple[float, float]]()

    def wait(self, key: ApiKey) -> float:
        """Count a request.

        Returns:
            Seconds that it has to wait; 0 if it may come now, and only then does it count.
        """
        with self._lock:
            now = self._clock()
            left, when = self._left.get(key.name, (float(key.per_minute), now))
            left = min(float(key.per_minute), left + (now - when) * key.per_minute / 60)
            if left < 1:
                self._left[key.name] = (left, now)
                return (1 - left) * 60 / key.per_minute
            self._left[key.name] = (left - 1, now)
            return 0.0
