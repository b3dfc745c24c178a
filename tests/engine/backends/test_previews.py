"""Latents as small pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image

from anystory import AnyStoryPipeline
from anystory.engine.backends.previews import ColourMap, Previews, latent_colours
from anystory.pipelines.pixels import decode_latents, encode_pixels
from anystory.version import ASSETS
from pipelines import helpers

with Image.open(ASSETS / "demo" / "fox.png") as fox:
    FOX = np.asarray(Image.alpha_composite(Image.new("RGBA", fox.size, "white"), fox).convert("RGB").resize((128, 128)))


@pytest.fixture(scope="module")
def mini() -> AnyStoryPipeline:
    return AnyStoryPipeline.from_pretrained("mini")


class Shrinking(torch.nn.Module):
    """An autoencoder that mixes the colours of 8 × 8 pixels into four channels."""

    config = SimpleNamespace(scaling_factor=0.7, shift_factor=0.1)
    dtype = torch.float32

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        mixed = torch.einsum("ck,bkhw->bchw", torch.tensor([[1.0, 2, 0], [0, 1, -1], [3, 0, 1], [1, 1, 1]]), small)
        return SimpleNamespace(latents=mixed + 0.5)


def as_pixels(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_a_preview_of_the_embedded_model_is_the_picture(mini):
    """The shipped autoencoder decodes its latents itself."""
    side = mini.default_sample_size * mini.vae_scale_factor
    fox = np.asarray(Image.fromarray(FOX).resize((side, side), Image.Resampling.BOX))
    latents = encode_pixels(mini.vae, as_pixels(fox))[0].detach()
    preview = latent_colours(mini.vae, torch.device("cpu"))(latents)
    assert preview.size == (side, side)
    shown = np.asarray(preview).astype(float)
    assert np.abs(shown - fox).mean() < 12
    assert np.corrcoef(shown.ravel(), fox.ravel().astype(float))[0, 1] > 0.97


def test_latents_decode_to_what_was_encoded(mini):
    """`decode_latents` undoes what `encode_pixels` does after the encoder, for each way in which models note it."""
    vae = helpers.pipeline("sdxl").vae
    pixels = as_pixels(FOX)[..., :32, :32]
    ways = ({}, {"shift_factor": 0.3}, {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [0.5, 2.0, 1.5, 1.0]})
    with torch.no_grad():
        expected = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        for way in ways:
            vae.register_to_config(**way)
            torch.testing.assert_close(decode_latents(vae, encode_pixels(vae, pixels)), expected)


def test_a_map_shows_the_colours_of_the_picture():
    """A map fitted to an autoencoder whose latents are the colours, smaller, gives them back."""
    vae = Shrinking()
    latents = encode_pixels(vae, as_pixels(FOX))[0]
    preview = latent_colours(vae, torch.device("cpu"))(latents)
    assert preview.size == (16, 16)
    small = np.asarray(Image.fromarray(FOX).resize(preview.size, Image.Resampling.BOX)).astype(float)
    assert np.abs(np.asarray(preview).astype(float) - small).mean() < 2


def test_the_map_is_the_same_each_time_and_touches_no_global_generator(mini):
    before = torch.get_rng_state()
    maps = [ColourMap.fitted(mini.vae, torch.device("cpu")) for _ in range(2)]
    torch.testing.assert_close(maps[0].weight, maps[1].weight, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.get_rng_state(), before)


def test_sdxls_own_autoencoder_has_previews_too():
    pipe = helpers.pipeline("sdxl")
    latents = encode_pixels(pipe.vae, as_pixels(FOX)[..., :32, :32])[0].detach()
    assert ColourMap.fitted(pipe.vae, torch.device("cpu"))(latents).size == (16, 16)


def test_numbers_that_are_none_become_a_picture_all_the_same(mini):
    channels, scale = mini.vae.config.latent_channels, mini.vae_scale_factor
    none = torch.full((channels, 4, 4), torch.nan)
    assert latent_colours(mini.vae, torch.device("cpu"))(none).size == (4 * scale, 4 * scale)
    map_ = ColourMap.fitted(helpers.pipeline("sdxl").vae, torch.device("cpu"))
    assert map_(torch.full((4, 4, 4), torch.nan)).size == (4, 4)


def scheduler_after(kind: type, steps: int) -> tuple[object, list[torch.Tensor], torch.Tensor]:
    """A sampler with a perfect model, whose every prediction leads to the same clean latents, after some steps."""
    scheduler = kind()  # it predicts the noise
    scheduler.set_timesteps(10)
    draws = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(1, 4, 8, 8, generator=draws), torch.randn(1, 4, 8, 8, generator=draws)
    latents, seen = clean + noise * scheduler.sigmas[0], []
    for index, time in enumerate(scheduler.timesteps[:steps]):
        scheduler.scale_model_input(latents, time)
        predicted = (latents - clean) / scheduler.sigmas[index]
        latents = scheduler.step(predicted, time, latents, generator=draws).prev_sample
        seen.append(latents[0])
    return scheduler, seen, clean[0]


def test_clean_latents_follow_from_two_of_flow_matchings_steps():
    """A perfect model's velocity points from the clean latents to the noise."""
    draws = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(4, 8, 8, generator=draws), torch.randn(4, 8, 8, generator=draws)
    for stochastic in (False, True):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=stochastic)
        scheduler.set_timesteps(10)
        previews, latents = Previews(lambda: pytest.fail("nobody has asked for a preview")), noise
        times: Any = scheduler.timesteps
        for step, time in enumerate(times[:4]):
            latents = scheduler.step(noise - clean, time, latents, generator=draws).prev_sample  # pyright: ignore[reportArgumentType,reportAttributeAccessIssue]
            found = previews.clean(latents, scheduler)
            if stochastic or not step:
                assert found is latents
            else:
                torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)


def test_clean_latents_follow_from_two_of_eulers_steps():
    scheduler, (first, second), clean = scheduler_after(EulerDiscreteScheduler, 2)
    previews = Previews(lambda: pytest.fail("nobody has asked for a preview"))
    scheduler._step_index = 1  # pyright: ignore[reportAttributeAccessIssue]
    assert previews.clean(first, scheduler) is first  # nothing to compare with
    scheduler._step_index = 2  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(previews.clean(second, scheduler), clean, atol=1e-3, rtol=1e-3)
    assert (second - clean).std() > 1


@pytest.mark.parametrize("zero_snr", [False, True])
def test_clean_latents_follow_from_two_of_unipcs_steps(zero_snr: bool) -> None:
    """A perfect model's velocity: UniPC's correction then changes nothing, and its latents have unit variance."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=zero_snr, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(10)
    draws = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(1, 4, 8, 8, generator=draws), torch.randn(1, 4, 8, 8, generator=draws)
    previews = Previews(lambda: pytest.fail("nobody has asked for a preview"))

    def mixed(sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        return (clean + sigma * noise) / (1 + sigma**2) ** 0.5, (noise - sigma * clean) / (1 + sigma**2) ** 0.5

    latents, _ = mixed(float(scheduler.sigmas[0]))
    for index, time in enumerate(scheduler.timesteps):
        _, velocity = mixed(float(scheduler.sigmas[index]))
        latents = scheduler.step(velocity, time, latents).prev_sample  # pyright: ignore
        found = previews.clean(latents[0], scheduler)
        if index:
            torch.testing.assert_close(found, clean[0], atol=2e-2, rtol=2e-2)
        else:
            assert found.equal(latents[0])  # nothing to compare with


def test_latents_of_other_samplers_are_shown_as_they_are():
    scheduler, (first, second), _ = scheduler_after(EulerAncestralDiscreteScheduler, 2)
    previews = Previews(lambda: pytest.fail("nobody has asked for a preview"))
    assert previews.clean(first, scheduler) is first
    assert previews.clean(second, scheduler) is second
