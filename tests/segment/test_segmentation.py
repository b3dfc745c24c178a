"""Borders on edges; masks, layers and overlay of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anystory.segment.edges import follow_edges
from anystory.segment.segmentation import Segmentation
from anystory.segment.tints import SLOT_COLOURS


def scene(height: int = 64, width: int = 64, edge: int = 21) -> np.ndarray:
    """Green, and red from a column on."""
    pixels = np.full((height, width, 3), (30, 160, 40), np.uint8)
    pixels[:, edge:] = (200, 30, 30)
    return pixels


def maps(border: float = 5.25, size: int = 16) -> np.ndarray:
    """(2, size, size): soft maps whose border lies near a cell, and what is left."""
    left = 1 / (1 + np.exp((np.arange(size) + 0.5 - border) * 1.5))
    left = np.tile(left.astype(np.float32), (size, 1))
    return np.stack([1 - left, left])


def test_a_border_moves_to_the_pictures_edge() -> None:
    """The map's own border is three columns away from the edge, in the middle of a cell."""
    smooth = Segmentation.of(Image.fromarray(scene()), ["red"], maps(6.0), np.ones(1), np.ones(1, bool), edges=False)
    found = Segmentation.of(Image.fromarray(scene()), ["red"], maps(6.0), np.ones(1), np.ones(1, bool))
    truth = scene()[..., 0] == 200
    assert (smooth.masks[0] ^ truth).sum() >= 2 * 64
    assert (found.masks[0] ^ truth).sum() <= 64


def test_on_a_flat_picture_maps_are_only_enlarged() -> None:
    found = follow_edges(maps(), np.full((64, 64, 3), 90, np.uint8))
    assert found.shape == (2, 64, 64)
    assert np.abs(np.diff(found[0], axis=1)).max() < 0.2
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (1200, 1100)])
def test_pictures_of_any_shape(size: tuple[int, int]) -> None:
    found = follow_edges(maps(), scene(*size, edge=size[1] // 3))
    assert found.shape == (2, *size)
    assert np.isfinite(found).all()


def of(present: tuple[bool, bool]) -> Segmentation:
    """The first claims the left quarter and a strip that the second claims more weakly; the rest is background."""
    slots = np.zeros((3, 8, 8), np.float32)
    slots[0, :, :3], slots[1, :, 2:6], slots[2] = 0.8, 0.6, 0.3
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    confidence = np.array([0.9 if one else 0.1 for one in present])
    return Segmentation.of(Image.fromarray(picture), ["a", "b"], slots, confidence, np.array(present), edges=False)


def test_who_is_absent_has_no_pixel_and_takes_none() -> None:
    both, second = of((True, True)), of((False, True))
    assert both.masks.sum(axis=(1, 2)).tolist() == [24, 24]
    assert second.masks.sum(axis=(1, 2)).tolist() == [0, 32], "the strip is the second's then"
    assert second.soft[0].max() > 0.7, "the soft map stays"
    assert second.present.tolist() == [False, True]


def test_layers_are_the_picture_taken_apart() -> None:
    found = of((True, True))
    layers = found.layers()
    assert [layer.mode for layer in layers] == ["RGBA"] * 3
    whole = Image.new("RGBA", found.image.size)
    for layer in layers:
        whole = Image.alpha_composite(whole, layer)
    assert np.array_equal(np.asarray(whole)[..., :3], np.asarray(found.image))
    assert np.asarray(layers[0])[~found.masks[0]].max() == 0, "what is cut away is not kept"
    assert [np.asarray(mask).max() for mask in found.mask_images()] == [255, 255]


def test_the_overlay_tints_each_subject() -> None:
    found = of((True, True))
    tinted = np.asarray(found.overlay(strength=1.0))
    for n in range(2):
        assert (tinted[found.masks[n]] == SLOT_COLOURS[n]).all()
    nobody = ~found.masks.any(axis=0)
    assert np.array_equal(tinted[nobody], np.asarray(found.image)[nobody])
    assert repr(found) == "Segmentation(8×8: 'a' 38%, 'b' 38%)"


def test_a_region_bounds_a_mask() -> None:
    slots = np.zeros((2, 4, 4), np.float32)
    slots[0], slots[1] = 0.9, 0.1
    region = np.zeros((4, 4), bool)
    region[:2] = True
    picture = Image.new("RGB", (4, 4))
    found = Segmentation.of(picture, ["a"], slots, np.ones(1), np.ones(1, bool), regions=[region], edges=False)
    assert np.array_equal(found.masks[0], region)
