"""How a server is run, and what it takes. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anystory.engine.options import ModelOptions

__all__ = ["Bounds", "ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The largest that a request may ask for or send."""

    body: int = 32 * 2**20
    """Bytes of a request."""
    upload_pixels: int = 16_000_000
    """Pixels of a picture that is sent."""
    storage: int = 2**30
    """Bytes of the uploads that a key may hold at a time."""
    prompt: int = 4000
    """Characters of a prompt."""
    pictures: int = 10
    """Of one request."""
    pixels: int = 2048 * 2048
    """Of a picture that is drawn."""
    steps: int = 100
    subjects: int = 8
    """In a picture."""
    photos: int = 8
    """Of a subject."""
    characters: int = 500
    """Of a key."""
    panels: int = 64
    """Of a story."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server is run."""

    data: Path
    """The folder of everything that it keeps; see `store.data_folder`."""
    model: ModelOptions
    devices: tuple[str, ...]
    """A worker process for each."""
    bounds: Bounds = field(default_factory=Bounds)
    batch: int = 4
    """Pictures that are drawn together, where requests are alike; 1 for none."""
    queue: int = 100
    """Jobs that may wait or run at the same time."""
    keep_hours: float = 24
    """How long results and uploads are kept."""
    drain_seconds: float = 60
    """How long running jobs have to end when the server is stopped."""
    metadata: bool = True
    """Whether pictures hold their records."""
    safety_checker: str | None = None
    """Folder or hub id of a diffusers safety checker; None without."""
    watermark: bool = False
    """Whether pictures get an invisible watermark."""
