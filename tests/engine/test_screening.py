"""Pictures that a service withholds or marks, by diffusers' own parts."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from anystory.engine.backends.base import DrawnPicture
from anystory.engine.drawing import draw
from anystory.engine.errors import OptionError
from anystory.engine.screening import SMALLEST_MARKED, Screening, UnsafePicture, check_watermark
from safety_checkers import matching_bits, write_safety_checker

MARKS = find_spec("imwatermark") is not None


@pytest.fixture(scope="module")
def pictures(model, job) -> list[DrawnPicture]:
    """Two pictures of one job."""
    return list(draw(model, job, [1, 2]))


def test_what_the_checker_knows_is_withheld_and_the_rest_stays_as_it_is(pictures, tmp_path):
    bad, good = pictures
    screening = Screening(str(write_safety_checker(tmp_path, bad.image)))
    assert screening.checks
    assert screening(good) is good
    with pytest.raises(UnsafePicture, match="change the prompt, or take another seed"):
        screening(bad)


def test_without_being_asked_for_it_does_nothing(pictures):
    screening = Screening()
    assert not screening.checks
    assert screening(pictures[0]) is pictures[0]


def test_weights_that_are_no_safety_checkers_are_refused(pictures, tmp_path):
    """What lacks the concepts would pass everything."""
    folder = write_safety_checker(tmp_path, pictures[0].image, leave_out="concept_embeds_weights")
    with pytest.raises(ValueError, match="holds no safety checker: it lacks concept_embeds_weights"):
        Screening(str(folder))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="model.safetensors"):
        Screening(str(folder))
    with pytest.raises((ValueError, OSError)):
        Screening(str(tmp_path / "none"))


@pytest.mark.skipif(not MARKS, reason="invisible-watermark is not installed")
def test_the_watermark_can_be_read_again(pictures):
    pixels = np.random.default_rng(0).integers(60, 200, (8, 8, 3), np.uint8)
    size = (SMALLEST_MARKED + 44, SMALLEST_MARKED)
    large = replace(pictures[0], image=Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    marked = Screening(watermark=True)(large)
    assert (marked.image.size, marked.seed) == (size, large.seed)
    change = np.abs(np.asarray(marked.image).astype(int) - np.asarray(large.image))
    assert 0 < change.mean() < 3, "there, and hardly to be seen"
    assert matching_bits(marked.image) > 0.8 > matching_bits(large.image)
    with pytest.raises(ValueError, match="the watermark needs 256 pixels on each side, got 32×32"):
        Screening(watermark=True)(pictures[0])


@pytest.mark.skipif(MARKS, reason="invisible-watermark is installed")
def test_without_its_package_the_watermark_is_refused_at_once():
    for ask in (check_watermark, lambda: Screening(watermark=True)):
        with pytest.raises(OptionError, match="pip install invisible-watermark"):
            ask()


def test_the_checker_sees_what_clip_sees(pictures, tmp_path):
    """The extractor that lies beside the weights prepares the picture, not one of ours."""
    folder = Path(write_safety_checker(tmp_path, pictures[0].image))
    extractor = CLIPImageProcessor.from_pretrained(folder)
    assert extractor(pictures[0].image, return_tensors="pt").pixel_values.shape == torch.Size([1, 3, 16, 16])
