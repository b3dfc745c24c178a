"""What `anystory studio` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anystory.engine.options import ModelOptions

__all__ = ["StudioSettings"]


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """Where things lie, and what draws."""

    out: Path
    """Folder for pictures and stories."""
    library: Path | None = None
    """Of the characters; None for the default."""
    options: ModelOptions = field(default_factory=ModelOptions)
    """The model until somebody chooses another on the page."""
