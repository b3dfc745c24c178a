"""A job, before it is accepted and after. Nothing heavy is imported."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ENDED", "NewJob", "StoredJob", "new_job_id"]

ENDED = ("done", "failed", "cancelled")
"""States in which a job stays."""


def new_job_id() -> str:
    """An id that nobody can guess."""
    return f"job_{secrets.token_hex(12)}"


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to be accepted; its files lie in its folder already."""

    id: str = field(default_factory=new_job_id)
    owner: str
    """Whose it is: the name of an API key."""
    kind: str
    """"picture", "story" and the like: what the worker does."""
    work: dict[str, Any]
    """What the worker reads, as JSON."""
    cost: int = 1
    """Pictures; keys take turns by it."""
    alike: str | None = None
    """Jobs with the same text may be drawn together; None for alone."""
    repeat_key: str | None = None
    """The request's idempotency key."""
    digest: str | None = None
    """Of the request, to tell a repeated one from another one with the same key."""


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    """A job as it is kept."""

    number: int
    """In the order in which jobs were accepted."""
    id: str
    owner: str
    kind: str
    work: dict[str, Any]
    alike: str | None
    cost: int
    state: str
    cancel: bool
    """Somebody has asked for its end."""
    crashes: int
    """How often a worker died over it."""
    created: float
    started: float | None
    finished: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    """`type` and `message`."""
    repeat_key: str | None
    digest: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> StoredJob:
        """A row of the database."""
        values: dict[str, Any] = dict(row)
        for name in ("work", "result", "error"):
            values[name] = None if values[name] is None else json.loads(values[name])
        values["cancel"] = bool(values["cancel"])
        return cls(**values)
