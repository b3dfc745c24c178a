"""Several photos of one subject (D15): one token sequence, keys one after another, one slot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.pipelines.unet.encoding import stack_encodings
from anystory.subjects import Subject

from .helpers import draw, generator, subject

RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)


def photos(*colours: tuple[int, int, int], **settings: Any) -> Subject:
    """A subject with one photo per colour."""
    return Subject([subject(colour).image for colour in colours], **settings)


@torch.no_grad()
def test_tokens_are_of_one_sequence_and_features_stand_one_after_another(pipe):
    red, both, blue = pipe.encode_subjects([subject(RED), photos(RED, BLUE), subject(BLUE)])
    assert len(both.photos) == 2
    assert both.prepared is both.photos[0]
    seen = pipe.feature_extractor([photo.image for photo in both.photos], return_tensors="pt").pixel_values
    hidden = pipe.image_encoder(seen, output_hidden_states=True).hidden_states[-2]
    sequence = torch.cat([hidden[0], hidden[1]])[None]
    torch.testing.assert_close(both.tokens, pipe.adapter.subject_qformer(sequence)[0])
    torch.testing.assert_close(both.routing, pipe.adapter.routing_qformer(sequence)[0, 0])
    assert both.tokens.shape == red.tokens.shape
    [[plain_red, plain_both, plain_blue]] = pipe._encode_rows([[red, both, blue]], reuse=False)
    assert len(plain_both.features) == len(pipe.adapter.layers) - 1
    for layer, values in plain_both.features.items():
        torch.testing.assert_close(values, torch.cat([plain_red.features[layer], plain_blue.features[layer]]))
    for layer, (key, value) in both.projected.items():
        projection = pipe.adapter._projection(layer)
        source = plain_both.features.get(layer, both.tokens)
        torch.testing.assert_close(key, projection.to_k(source))
        torch.testing.assert_close(value, projection.to_v(source))


def test_one_photo_in_a_list_is_that_photo(pipe):
    alone, listed = (draw(pipe, subjects=[one]).images for one in (subject(RED), photos(RED)))
    assert np.array_equal(alone, listed)


def test_two_photos_are_one_slot_and_another_picture(pipe):
    fox = photos(RED, BLUE, name="fox")
    out = draw(pipe, subjects=[fox, subject(GREEN)])
    assert out.routing.names == (("fox", "subject 2"),)
    assert out.routing.maps().shape[0] == 3
    assert np.abs(out.images - draw(pipe, subjects=[subject(RED), subject(GREEN)]).images).max() > 1e-3


def test_the_order_of_photos_does_not_matter(pipe):
    one, other = (draw(pipe, subjects=[photos(*colours)]).images for colours in ((RED, BLUE), (BLUE, RED)))
    np.testing.assert_allclose(one, other, atol=1e-4)


# --- the same photo twice ---


@torch.no_grad()
def test_given_twice_every_image_token_weighs_twice(pipe):
    """Attn over [x; x; l] is attention over [x; l] with log 2 added to x: the QFormer's blocks by hand."""
    twice = pipe.encode_subjects([photos(RED, RED)])[0]
    seen = pipe.feature_extractor([twice.prepared.image], return_tensors="pt").pixel_values
    image = pipe.image_encoder(seen, output_hidden_states=True).hidden_states[-2]
    qformer = pipe.adapter.subject_qformer
    x, latents = qformer.proj_in(image), qformer.latents
    for block in qformer.layers:
        keys, queries = torch.cat([block.ln0(x), block.ln1(latents)], dim=1), block.ln1(latents)
        weight = torch.tensor([2.0] * x.shape[1] + [1.0] * latents.shape[1])
        heads = [part.unflatten(-1, (block.attn.heads, -1)).transpose(1, 2) for part in (
            block.attn.to_q(queries), block.attn.to_k(keys), block.attn.to_v(keys)
        )]  # fmt: skip
        scores = (heads[0] @ heads[1].transpose(-1, -2) / heads[0].shape[-1] ** 0.5).exp() * weight
        attended = (scores / scores.sum(-1, keepdim=True)) @ heads[2]
        latents = latents + block.attn.to_out[0](attended.transpose(1, 2).flatten(2))
        latents = latents + block.ff(latents)
    torch.testing.assert_close(twice.tokens, qformer.norm_out(qformer.proj_out(latents))[0], atol=1e-5, rtol=1e-4)


def test_given_twice_the_references_keys_weigh_twice(pipe):
    """Keys twice are the keys once with γ + log 2: the same picture as a doubled reference scale."""
    once, twice = pipe.encode_subjects([subject(RED), photos(RED, RED)])
    keys = {layer: pair for layer, pair in once.projected.items() if layer not in once.background_projected}
    doubled = replace(twice, photos=once.photos, projected=twice.projected | keys).replace(reference_scale=2.0)
    np.testing.assert_allclose(draw(pipe, subjects=[twice]).images, draw(pipe, subjects=[doubled]).images, atol=1e-4)
    assert np.abs(draw(pipe, subjects=[twice]).images - draw(pipe, subjects=[once]).images).max() > 1e-3


# --- different numbers of photos in one call ---


@pytest.mark.parametrize("fast", [True, False])
def test_subjects_with_different_numbers_of_photos_do_not_meet(pipe, fast):
    rows = [[subject(RED, reference_scale=0.7)], [photos(GREEN, BLUE), subject(RED)], [photos(RED, GREEN, BLUE)]]
    together = draw(pipe, ["a", "b", "c"], subjects=rows, generator=[*map(generator, range(3))], fast=fast)
    for i, prompt in enumerate("abc"):
        alone = draw(pipe, prompt, subjects=rows[i], generator=generator(i), fast=fast)
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=2e-4)


def test_the_shorter_is_repeated_and_says_how_often(mini):
    one, two, three = mini.encode_subjects([subject(RED), photos(RED, BLUE), photos(RED, GREEN, BLUE)])
    encoded = stack_encodings([[one, two], [three]])
    assert encoded.copies is not None
    assert encoded.copies.tolist() == [[6, 3], [2, 1]]
    references = encoded.projected.keys() - one.background_projected.keys()
    assert references
    for layer in references:
        for filled, of_one, of_two in zip(
            encoded.projected[layer], one.projected[layer], two.projected[layer], strict=True
        ):
            assert torch.equal(filled[0, 0], of_one.repeat(6, 1))
            assert torch.equal(filled[0, 1], of_two.repeat(3, 1))
    assert stack_encodings([[one], [one]]).copies is None
    assert stack_encodings([[two], [two]]).copies is None
    repeated = encoded.repeat_interleave(2).copies
    assert repeated is not None
    assert repeated.tolist() == [[6, 3], [6, 3], [2, 1], [2, 1]]


def test_photos_have_masks_of_their_own(mini):
    grey, mask = Image.new("RGB", (40, 40), (90, 90, 90)), np.zeros((40, 40), bool)
    mask[8:30, 8:30] = True
    [encoded] = mini.encode_subjects([Subject([subject(RED).image, grey], [None, mask])])
    assert [photo.cutout for photo in encoded.photos] == ["alpha", "mask"]
