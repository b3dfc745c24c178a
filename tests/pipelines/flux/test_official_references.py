"""`official=True`: references prepared as the authors' code does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from anystory.models.flux.embedder import pooled_mask
from anystory.pipelines.flux.encoding import pack
from anystory.subjects import Subject

from .tiny import FOX, REFERENCE, draw, pipeline


def photo() -> tuple[Image.Image, Image.Image]:
    """A wide one with colours everywhere, and a mask with soft edges, not in its middle."""
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize((90, 60), Image.Resampling.BICUBIC)
    mask = np.zeros((60, 90), dtype=np.uint8)
    mask[20:58, 10:40] = 255
    mask[20:58, 8:10] = mask[20:58, 40:42] = 100
    return picture, Image.fromarray(mask)


@torch.no_grad()
def test_the_whole_picture_is_squashed() -> None:
    """Step by step what the authors' code does, by diffusers' and transformers' own processors."""
    pipe: Any = pipeline()
    picture, mask = photo()
    [found] = pipe.encode_subjects([Subject(picture, mask)], official=True, generator=torch.Generator().manual_seed(3))

    extractor = pipe.feature_extractor
    seen = extractor(picture, return_tensors="pt").pixel_values
    flat = extractor(mask.convert("RGB"), resample=0, do_normalize=False, return_tensors="pt").pixel_values
    states = pipe.image_encoder(seen * flat).last_hidden_state
    on_states = pooled_mask(flat.mean(dim=1, keepdim=True), round(states.shape[1] ** 0.5))
    torch.testing.assert_close(found.reference.appearance, pipe.adapter.appearance(states, on_states)[0])
    torch.testing.assert_close(found.reference.routing, pipe.adapter.routing(states, on_states)[0])

    pixels = VaeImageProcessor(vae_scale_factor=16).preprocess(picture, height=REFERENCE, width=REFERENCE)
    small = np.asarray(mask.resize((REFERENCE, REFERENCE), Image.Resampling.NEAREST), dtype=np.float32) / 255
    cut = torch.from_numpy(small)[None, None]
    drawn = pipe.vae.encode(pixels * cut).latent_dist.sample(torch.Generator().manual_seed(3))
    latents = pack((drawn - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor)
    torch.testing.assert_close(found.reference.latents, latents[0])
    assert torch.equal(found.reference.mask, pooled_mask(cut, REFERENCE // 16)[0])
    assert found.prepared.box == (8, 20, 42, 58)


def test_latents_follow_the_generator() -> None:
    first, again, other = (draw(subjects=[FOX], seed=seed, official=True).images for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(subjects=[FOX], seed=3).images)
    assert not torch.equal(first, other)


def test_ours_keeps_the_shape_and_needs_no_generator() -> None:
    picture, mask = photo()
    [one], [two] = (pipeline().encode_subjects([Subject(picture, mask)]) for _ in range(2))
    assert torch.equal(one.reference.latents, two.reference.latents)
    rows, columns = (np.flatnonzero((one.prepared.mask > 0.5).any(axis=axis)) for axis in (1, 0))
    assert len(rows) / len(columns) == pytest.approx(38 / 32, abs=0.1)


def test_a_picture_that_was_cut_already_is_refused() -> None:
    with pytest.raises(ValueError, match="was cut out by `read`, and the whole picture is wanted"):
        draw(subjects=[FOX.read()], official=True)
