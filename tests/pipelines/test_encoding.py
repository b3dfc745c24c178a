"""Encoding references once and using them often; pixels to latents and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from anystory.pipelines.pixels import encode_pixels
from anystory.pipelines.unet.encoding import SubjectEncoding, stack_encodings

from .helpers import adapter_config, draw, pipeline, subject

RED, BLUE = (220, 30, 30), (30, 30, 220)


def test_encoded_subjects_take_the_subjects_place(pipe):
    red, blue = subject(RED, "red"), subject(BLUE, "blue")
    fresh = draw(pipe, subjects=[red, blue])
    encoded = pipe.encode_subjects([red, blue])
    assert all(isinstance(one, SubjectEncoding) for one in encoded)
    for _ in range(2):
        again = draw(pipe, subjects=encoded)
        assert np.array_equal(again.images, fresh.images)
        assert again.routing.names == (("red", "blue"),)


def test_encoded_and_fresh_subjects_mix_in_any_order(mini):
    red, blue = subject(RED), subject(BLUE)
    [encoded] = mini.encode_subjects([blue])
    mixed = draw(mini, ["a", "b"], subjects=[[red, encoded], [encoded]])
    fresh = draw(mini, ["a", "b"], subjects=[[red, blue], [blue]])
    np.testing.assert_allclose(mixed.images, fresh.images, atol=1e-4)


def test_lists_of_lists_keep_their_shape(mini):
    red, blue = subject(RED), subject(BLUE)
    rows = mini.encode_subjects([[red], [red, blue]])
    assert [len(row) for row in rows] == [1, 2]
    assert rows[0][0] is rows[1][0]
    assert mini.encode_subjects([]) == []


def test_settings_of_an_encoding_can_change_without_encoding_anew(mini):
    [encoded] = mini.encode_subjects([subject(RED)])
    weak = encoded.replace(scale=0.2, reference_scale=0.0, name="ghost", region=(0, 0, 1, 0.5))
    assert weak.tokens is encoded.tokens
    again = draw(mini, subjects=[weak])
    fresh = draw(mini, subjects=[subject(RED, scale=0.2, reference_scale=0.0, region=(0, 0, 1, 0.5))])
    assert np.array_equal(again.images, fresh.images)
    assert again.routing.names == (("ghost",),)
    with pytest.raises(ValueError, match="'image'.*encode a new Subject"):
        encoded.replace(image="other.png")
    with pytest.raises(ValueError, match="`scale`"):
        encoded.replace(scale=-1)


def test_the_prepared_reference_is_kept(mini):
    [encoded] = mini.encode_subjects([subject(RED)])
    assert encoded.prepared.image.size == (adapter_config().reference_size,) * 2
    assert len(encoded.prepared.sha256) == 64


def test_encodings_carry_no_gradient(mini):
    [encoded] = mini.encode_subjects([subject(RED)])
    assert not encoded.tokens.requires_grad


def test_encodings_of_different_adapters_do_not_mix(mini):
    [here] = mini.encode_subjects([subject(RED)])
    [there] = pipeline("sdxl").encode_subjects([subject(RED)])
    with pytest.raises(ValueError, match="different adapters"):
        stack_encodings([[here, there]])


def test_stacking_pads_with_absent_subjects(mini):
    red, blue = mini.encode_subjects([subject(RED), subject(BLUE)])
    encoded = stack_encodings([[red], [blue, red]])
    assert encoded.present.tolist() == [[True, False, True], [True, True, True]]
    assert torch.equal(encoded.tokens[1, 1], red.tokens)
    assert not encoded.tokens[0, 1].any()
    assert torch.equal(encoded.routing[0, 2], red.background_routing)
    assert encoded.projected.keys() == blue.projected.keys()
    for layer, (keys, values) in encoded.projected.items():
        assert torch.equal(keys[1, 0], blue.projected[layer][0])
        assert torch.equal(values[1, 1], red.projected[layer][1])


def kept_bytes(encoding: SubjectEncoding) -> int:
    """Bytes of the storages that an encoding holds on to, each once."""
    tensors = [encoding.tokens, encoding.routing, *encoding.features.values()]
    for projected in (encoding.projected, encoding.background_projected):
        tensors += [part for pair in projected.values() for part in pair]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def test_features_that_no_call_reads_are_not_kept(mini):
    """Keys and values stand in the place of `G`; the plain form, which reads `G` itself, makes it once more."""
    red, blue = subject(RED), subject(BLUE)
    encoded = mini.encode_subjects([red, blue])
    assert [one.features for one in encoded] == [{}, {}]
    plain = draw(mini, subjects=encoded, fast=False)
    assert np.array_equal(plain.images, draw(mini, subjects=[red, blue], fast=False).images)
    np.testing.assert_allclose(plain.images, draw(mini, subjects=encoded).images, atol=1e-4)
    mini.image_encoder, encoder = None, mini.image_encoder
    try:
        assert len(draw(mini, subjects=encoded).images) == 1
        with pytest.raises(ValueError, match="need `image_encoder`"):
            draw(mini, subjects=encoded, fast=False)
    finally:
        mini.image_encoder = encoder


def test_one_of_many_does_not_hold_on_to_all(mini):
    alone = mini.encode_subjects([subject(RED)])[0]
    of_six = mini.encode_subjects([subject((40 * i, 30, 30)) for i in range(6)])[0]
    small = sum(t.untyped_storage().nbytes() for t in (of_six.tokens, of_six.routing))
    assert kept_bytes(of_six) - small <= kept_bytes(alone)


@pytest.mark.parametrize(
    "settings",
    [
        {"scaling_factor": 0.25},
        {"scaling_factor": 0.5, "latents_mean": [1.0, 2, 3, 4], "latents_std": [2.0, 3, 4, 5]},
        {"scaling_factor": 0.5, "shift_factor": 0.1},
    ],
)
def test_latents_are_normalised_as_the_unet_wants_them(settings):
    sizes: dict[str, Any] = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae: Any = AutoencoderKL(**sizes, **blocks, **settings).eval()
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = encode_pixels(vae, pixels)
        mode = vae.encode(pixels).latent_dist.mean
    mean, std = settings.get("latents_mean", [0.0] * 4), settings.get("latents_std", [1.0] * 4)
    mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (mean, std))
    expected = (mode - mean - settings.get("shift_factor", 0.0)) / std * settings["scaling_factor"]
    torch.testing.assert_close(latents, expected)


@pytest.mark.parametrize("fails", [False, True])
def test_a_vae_that_overflows_in_half_precision_is_run_in_float32_and_put_back(fails, monkeypatch):
    vae = pipeline("sdxl").vae.to(torch.float16)
    assert vae.config.force_upcast
    seen = []
    encode = vae.encode

    def watch(pixels):
        seen.append((vae.dtype, pixels.dtype))
        return 1 / 0 if fails else encode(pixels)

    monkeypatch.setattr(vae, "encode", watch)
    with torch.no_grad(), pytest.raises(ZeroDivisionError) if fails else torch.no_grad():
        encode_pixels(vae, torch.zeros(1, 3, 8, 8))
    assert seen == [(torch.float32, torch.float32)]
    assert vae.dtype == torch.float16
