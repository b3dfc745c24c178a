"""Square crops: picture and masks move together, subjects stay inside, and SDXL hears where the crop was."""

from __future__ import annotations

import random

import numpy as np
import pytest

from anystory.data.bad_samples import BadSample
from anystory.data.reading import Target
from anystory.data.stream.crops import KEEP, Square, choose_square, cut_square
from anystory.data.stream.references import reference_square
from anystory.subjects import Subject
from anystory.subjects.arrays import rgba_on_white


def target(size: tuple[int, int], *boxes: tuple[int, int, int, int], masked: bool = True) -> Target:
    """Subjects are boxes (top, left, bottom, right); subject i's pixels have the colour (50 + 50 i, row, column)."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([np.zeros(size), rows % 256, columns % 256], axis=-1).astype(np.uint8)
    masks = np.zeros((len(boxes), *size), bool)
    for i, (top, left, bottom, right) in enumerate(boxes):
        masks[i, top:bottom, left:right] = True
        image[masks[i], 0] = 50 + 50 * i
    return Target(image, masks, masked)


def test_picture_and_masks_are_cut_alike() -> None:
    found = target((60, 100), (10, 20, 40, 35), (20, 60, 50, 80))
    for seed in range(20):
        square = choose_square(found, 24, random.Random(seed))
        image, instances, kept, _ = cut_square(found, square, square.side)
        assert kept == (0, 1)
        inside = np.s_[square.top : square.top + square.side, square.left : square.left + square.side]
        assert np.array_equal(image, found.image[inside])
        assert np.array_equal(instances, np.array([0, 1, 2])[image[..., 0] // 50])


def test_resized_masks_follow_the_picture() -> None:
    found = target((64, 64), (16, 16, 48, 32))
    for side in (32, 128):
        instances = cut_square(found, Square(0, 0, 64), side).instances
        box = slice(side // 4, side * 3 // 4), slice(side // 4, side // 2)
        assert instances[box].all()
        assert np.count_nonzero(instances) == side * side // 8


def test_random_crops_keep_every_subject_mostly_inside() -> None:
    found = target((80, 120), (10, 30, 70, 50), (10, 60, 70, 85))
    squares = [choose_square(found, 32, random.Random(seed)) for seed in range(100)]
    assert len({square.side for square in squares}) > 5
    for top, left, side in squares:
        assert 0 <= top <= 80 - side
        assert 0 <= left <= 120 - side
        inside = found.masks[:, top : top + side, left : left + side].sum((1, 2)) / found.masks.sum((1, 2))
        assert inside.min() >= KEEP


def test_a_crop_is_no_smaller_than_the_resolution_where_it_can_be() -> None:
    found = target((80, 120), (30, 50, 50, 70))
    assert min(choose_square(found, 70, random.Random(seed)).side for seed in range(50)) >= 70
    assert {choose_square(found, 500, random.Random(seed)).side for seed in range(5)} == {80}


def test_without_a_generator_it_is_the_middle_unless_that_cuts_subjects() -> None:
    assert choose_square(target((60, 100), (10, 30, 50, 70)), 32, None) == (0, 20, 60)
    assert choose_square(target((100, 60), (10, 10, 30, 30)), 32, None).top < 20
    assert choose_square(target((60, 100), (0, 0, 1, 1), masked=False), 32, None) == (0, 20, 60)


def test_subjects_at_both_ends_of_a_panorama_cannot_all_stay() -> None:
    found = target((40, 400), (0, 0, 40, 30), (0, 370, 40, 400))
    _, instances, kept, _ = cut_square(found, choose_square(found, 32, None), 32)
    assert kept in ((0,), (1,))
    assert set(np.unique(instances)) == {0, 1}  # renumbered: what is left is subject 1
    with pytest.raises(BadSample, match="no subject lies inside"):
        cut_square(found, Square(0, 180, 40), 32)


def test_the_size_condition_is_in_pixels_of_the_resized_original() -> None:
    found = target((60, 100), (10, 30, 50, 70))
    assert cut_square(found, Square(4, 20, 50), 100).size_condition.tolist() == [60, 100, 8, 40, 100, 100]


def test_mirroring_mirrors_everything() -> None:
    found = target((60, 100), (10, 20, 40, 35))
    plain, mirrored = (cut_square(found, Square(0, 10, 60), 60, flip=flip) for flip in (False, True))
    assert np.array_equal(mirrored.image, plain.image[:, ::-1])
    assert np.array_equal(mirrored.instances, plain.instances[:, ::-1])
    assert mirrored.size_condition.tolist() == [60, 100, 0, 30, 60, 60]  # the same crop of the mirrored original


def test_a_reference_is_what_drawing_would_see() -> None:
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 255, (50, 30, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    rgba[10:40, 5:20, 3] = 255
    rgba[10:12, 5:20, 3] = 100
    prepared = Subject(rgba).prepare(32)
    square = reference_square(rgba, 32)
    assert np.abs(rgba_on_white(square).astype(int) - np.asarray(prepared.image)).max() <= 2
    assert np.array_equal(square[..., 3], np.rint(prepared.mask * 255))
