"""The picture that is drawn over, and what of it stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.engine.source import drawing_size, load_source


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with a picture `scene.png` and a mask `mask.png` of its size, white in the right half."""
    folder = tmp_path / "scene"
    folder.mkdir()
    y, x = np.mgrid[:24, :32]
    rgb = np.stack([x * 8, y * 10, np.full_like(x, 99)], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "scene.png")
    Image.fromarray(((x >= 16) * 255).astype(np.uint8)).save(folder / "mask.png")
    return folder


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK"])
def test_scenes_of_every_mode(scene, mode):
    path = scene / ("scene.tif" if mode == "CMYK" else "mode.png")
    with Image.open(scene / "scene.png") as image:
        image.convert(mode).save(path)
    source = load_source(path, scene / "mask.png")
    assert (source.image.mode, source.image.size) == ("RGB", (32, 24))
    if mode in ("RGBA", "CMYK"):
        with Image.open(scene / "scene.png") as image:
            np.testing.assert_allclose(np.asarray(source.image), np.asarray(image), atol=1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (64, 64)), ((40, 24), (40, 24)), ((41, 23), (40, 24)), ((4000, 1000), (128, 32)), ((9, 900), (8, 640))],
)
def test_the_size_that_is_drawn(size, expected):
    assert drawing_size(size, 64 * 64, 8) == expected
