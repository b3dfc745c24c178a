"""A detector finds what it is told to, the surest first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.evaluation.metrics.detection import Detector
from evaluation.metrics.encoder_files import write_clip, write_detector, write_grounded_detector


def test_a_detector_finds_boxes_inside_the_picture(tmp_path: Path):
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8))
    folder = write_detector(tmp_path / "owl")
    found = Detector(folder, threshold=0.0).find(picture)
    assert 1 <= len(found) <= 16, "one for each patch"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for left, top, right, bottom in (one.box for one in found):
        assert left <= right
        assert top <= bottom
    middle = sorted(one.score for one in found)[len(found) // 2]
    surer = Detector(folder, threshold=middle).find(picture)
    assert [one.score for one in surer] == [one.score for one in found if one.score > middle]
    assert not Detector(folder, threshold=1.0).find(picture)


def test_grounding_dino_is_asked_in_its_own_way(tmp_path: Path):
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8))
    found = Detector(write_grounded_detector(tmp_path / "dino"), threshold=0.0).find(picture)
    assert len(found) == 6, "one for each query"
    assert all(0 <= one.score <= 1 for one in found)


def test_what_is_no_detector_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"detection model '.*clip' cannot be loaded .* leave --detector away"):
        Detector(write_clip(tmp_path / "clip"))
