"""A line about what takes a while, before it does. Nothing heavy is imported."""

from __future__ import annotations

import os
import sys

__all__ = ["announce"]


def announce(doing: str) -> None:
    """Say on standard error what starts now: "loading mini …". Of a launcher's processes only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"{doing} …", file=sys.stderr, flush=True)
