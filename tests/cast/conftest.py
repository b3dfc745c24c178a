"""A library with nobody in it, and pictures to fill it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`red.png` and `green.png`, discs with an alpha; `blue.png`, a square on noise, with `blue-mask.png`; `plain.png`,
    a disc on a plain ground; and what is no photo of anybody: `empty.png`, `text.png`, `small-mask.png`."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:40, :56]
    disc = (x - 24) ** 2 + (y - 20) ** 2 < 220
    for name, colour in {"red": (200, 40, 40), "green": (40, 180, 60)}.items():
        pixels = np.zeros((40, 56, 4), np.uint8)
        pixels[disc] = (*colour, 255)
        pixels[18:22, 20:28, :3] = 250
        Image.fromarray(pixels).save(folder / f"{name}.png")
    ground = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    square = np.zeros((40, 56), bool)
    square[8:32, 12:36] = True
    ground[square] = (40, 40, 200)
    Image.fromarray(ground).save(folder / "blue.png")
    Image.fromarray(square.astype(np.uint8) * 255).save(folder / "blue-mask.png")
    plain = np.full((40, 56, 3), 240, np.uint8)
    plain[disc] = (220, 30, 30)
    Image.fromarray(plain).save(folder / "plain.png")
    Image.fromarray(np.zeros((40, 56, 4), np.uint8)).save(folder / "empty.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / "small-mask.png")
    (folder / "text.png").write_text("no picture")
    return folder
