"""The package's version, and where the files that ship with it lie. It imports nothing of ours."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ASSETS", "__version__"]

__version__ = "0.1.0"

ASSETS = Path(__file__).parent / "assets"
"""The embedded models, the demo's pictures and the attribute classifier."""
