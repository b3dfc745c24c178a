"""The largest numbers that options take: beyond them torch fails, or a machine is lost to a mistyped digit."""

from __future__ import annotations

from anystory.engine.errors import OptionError

__all__ = ["MOST_PICTURES", "MOST_PIXELS", "MOST_SEED", "MOST_STEPS", "MOST_THREADS", "MOST_WORKERS", "check_seeds"]

MOST_SEED = 2**32 - 1
"""What every generator that draws for us takes."""
MOST_STEPS = 1000
"""Sampling steps: a model is trained with as many levels of noise, and more tell it nothing."""
MOST_PICTURES = 100_000
MOST_PIXELS = 64_000_000
"""Pixels of a picture that is drawn: as many as of one that is read."""
MOST_THREADS = 1024
MOST_WORKERS = 1024


def check_seeds(first: int, count: int) -> None:
    """Refuse seeds one after another of which the last is too large.

    Raises:
        OptionError: it is.
    """
    if first + count - 1 > MOST_SEED:
        raise OptionError("seed", f"{first} with {count} pictures goes past the largest seed, {MOST_SEED}: begin lower")
