"""Small drawings to build from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.identity import Identity, sample_identity
from anystory.storyworld.level import load_level
from anystory.storyworld.reference import render_reference
from anystory.storyworld.rng import stream

POSES = ("standing", "waving", "walking", "sitting", "cheering")
SIZE = 96
LOW = ["filter.least_side=64", "filter.least_sharpness=0"]
"""Settings for the tests' small drawings."""

DEADLY = """
import os
from anystory.data.build.steps.pair import PairOptions

class Deadly:
    name, version, Options = "deadly", 1, PairOptions

    def __init__(self, options):
        self.options = options

    def __call__(self, candidate):
        if candidate.key.startswith("bob") and not os.path.exists(os.environ["SPARE"]):
            os._exit(7)
        return [candidate]
"""
"""A module with a step of one's own that ends its process at Bob, unless the file $SPARE is there."""


def identity(number: int) -> Identity:
    return sample_identity(stream("tests of data build", number), load_level(1))


def drawn(who: Identity, pose: str, ground: tuple[int, int, int] = (214, 230, 240), size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8: the character over one colour, with room around it."""
    inner = size * 3 // 4
    character = Image.fromarray(render_reference(who, Appearance(pose=pose), inner), "RGBA")
    page = Image.new("RGBA", (size, size), (*ground, 255))
    page.alpha_composite(character, ((size - inner) // 2, (size - inner) // 2))
    return np.asarray(page.convert("RGB"))


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
