"""`segment` on FLUX.1: shapes, the same masks for the same noise, and whose map is whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from anystory.segment.segmentation import Segmentation

from .tiny import FOX, ROBOT, draw, pipeline, subject

PICTURE = np.tile(np.linspace(0, 255, 96, dtype=np.uint8)[None, :, None], (64, 1, 3))


def found(subjects: Any = (FOX, ROBOT), **arguments: Any) -> Segmentation:
    return pipeline().segment(PICTURE, list(subjects), **arguments)


def test_two_subjects_and_a_background() -> None:
    result = found()
    assert (result.masks.shape, result.names) == ((2, 64, 96), ("fox", "robot"))
    assert not result.masks.all(axis=0).any()
    assert np.array_equal(found().soft, result.soft)
    other = torch.Generator().manual_seed(1)
    assert not np.array_equal(found(generator=other).soft, result.soft)


def test_a_map_follows_its_reference() -> None:
    one, other = found(), found((ROBOT, FOX))
    assert np.abs(one.soft[0] - one.soft[1]).max() > 0.01
    np.testing.assert_allclose(other.soft, one.soft[::-1], atol=1e-4)


def test_a_single_subject_has_a_background_too() -> None:
    soft = found((FOX,)).soft
    assert soft.max() - soft.min() > 0.01


def test_levels_scales_and_encodings_count() -> None:
    plain = found().soft
    assert np.abs(found(levels=(0.6,)).soft - plain).max() > 1e-4
    assert np.abs(found((FOX, subject((30, 60, 200), reference_scale=0.0))).soft - plain).max() > 1e-6
    np.testing.assert_allclose(found(pipeline().encode_subjects([FOX, ROBOT])).soft, plain, atol=1e-6)


def test_errors_without_references_are_the_base_models() -> None:
    one, other = (pipeline().routing_evidence(PICTURE, [who]).errors for who in (FOX, ROBOT))
    assert np.array_equal(one[:, 1], other[:, 1])
    assert np.abs(one[:, 0] - other[:, 0]).max() > 0


def test_the_pipeline_draws_as_before() -> None:
    before = draw(subjects=[FOX, ROBOT]).images
    found()
    assert torch.equal(draw(subjects=[FOX, ROBOT]).images, before)
