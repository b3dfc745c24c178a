"""Every scheduler that SDXL is compatible with, and those of few-step LoRAs: what is recorded, when scales hold."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler, LCMScheduler, TCDScheduler

from .helpers import draw, given, pipeline, pipeline_of, stock_of, subject

COMPATIBLE = sorted(EulerDiscreteScheduler._compatibles)
SECOND_ORDER = {
    "DPMSolverSDEScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
}
"""Schedulers that look twice per step, but once in the last."""
NEEDS = {"LMSDiscreteScheduler": "scipy", "DPMSolverSDEScheduler": "torchsde"}


def scheduled(name: str, **settings: Any) -> Any:
    """A tiny pipeline with a scheduler of that name."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    pipe = pipeline("sdxl")
    kind = getattr(diffusers, name)
    if name == "DPMSolverSDEScheduler":
        settings["noise_sampler_seed"] = 0  # it draws its noise by itself, not from the call's generator
    # EDM's schedule has no betas; everything else converts from Euler's, as diffusers' guides do it.
    pipe.scheduler = kind() if name == "EDMEulerScheduler" else kind.from_config(pipe.scheduler.config, **settings)
    return pipe


def watch(pipe: Any) -> list[tuple[float, float]]:
    """(scale, reference scale) of the first subject at each U-Net call from now on."""
    seen = []

    def look(_: Any, args: Any, kwargs: Any) -> None:
        cond = (kwargs["cross_attention_kwargs"] or {}).get("subject_conditioning")
        if cond is not None:
            seen.append((cond.scales[0, 0].item(), cond.reference_scales[0, 0].item()))

    pipe.unet.register_forward_pre_hook(look, with_kwargs=True)
    return seen


@pytest.mark.parametrize("name", COMPATIBLE)
def test_records_and_schedules(name):
    pipe, steps = scheduled(name), 4
    seen = watch(pipe)
    fox = subject(scale=0.8, scale_start=0.5, reference_scale=2.0, reference_end=0.5)
    out = draw(pipe, subjects=[fox], num_inference_steps=steps)
    calls = len(pipe.scheduler.timesteps)
    assert calls == {"PNDMScheduler": 13}.get(name, 2 * steps - 1 if name in SECOND_ORDER else steps)
    assert np.isfinite(out.images).all()
    assert out.routing.steps == tuple(range(calls))
    np.testing.assert_allclose(out.routing.timesteps, pipe.scheduler.timesteps.float(), rtol=1e-4)
    late = [i / calls >= 0.5 for i in range(calls)]
    np.testing.assert_allclose(seen, [(0.8, 0.0) if second else (0.0, 2.0) for second in late], rtol=1e-6)


@pytest.mark.parametrize("name", COMPATIBLE)
def test_the_stock_picture_and_the_subjects(name):
    """Without subjects the stock picture, before and after one with them; the two differ."""
    pipe = scheduled(name)
    stock = stock_of(pipe)
    before = draw(stock, num_inference_steps=4).images
    fox = draw(pipe, subjects=[subject()], num_inference_steps=4).images
    assert np.abs(fox - before).max() > 1e-3
    for one in (pipe, stock):
        assert np.array_equal(draw(one, num_inference_steps=4).images, before)


@pytest.mark.parametrize("kind", ["image", "inpaint", "control inpaint"])
@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "UniPCMultistepScheduler"])
def test_with_a_part_of_the_steps(name, kind):
    """`strength` cuts second-order steps at a whole one; scales count the calls that are left."""
    pipe = pipeline_of(kind)
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    seen = watch(pipe)
    out = draw(pipe, subjects=[subject(scale_end=0.5)], **given(kind))
    calls = 3 if name in SECOND_ORDER else 2
    assert out.routing.steps == tuple(range(calls))
    assert [scale for scale, _ in seen] == [float(i / calls < 0.5) for i in range(calls)]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (LCMScheduler, {}),
        (TCDScheduler, {}),
        (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    ],
)
@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize("guidance_scale", [0.0, 1.5])
def test_few_steps(kind, settings, steps, guidance_scale):
    """LCM, TCD and Lightning LoRAs run so, with and without guidance."""
    pipe = scheduled(kind.__name__, **settings)
    arguments: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
    if kind is TCDScheduler:
        arguments["eta"] = 0.3
    out = draw(pipe, subjects=[subject()], **arguments)
    assert np.isfinite(out.images).all()
    assert out.routing.steps == tuple(range(steps))
    plain = draw(pipe, **arguments).images
    assert np.abs(out.images - plain).max() > 1e-3
    assert np.array_equal(plain, draw(stock_of(pipe), **arguments).images)
