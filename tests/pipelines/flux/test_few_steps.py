"""FLUX.1-schnell, and LoRAs that draw in few steps."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline

from .tiny import FOX, ROBOT, build_pipeline, draw


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_schnell(steps: int) -> None:
    """It embeds no guidance: a call runs with any, and the picture does not depend on it."""
    pipe = build_pipeline(schnell=True)
    call: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": 0.0}
    found = draw(pipe, subjects=[FOX, ROBOT], **call)
    assert found.routing.steps == tuple(range(steps))
    plain = draw(pipe, subjects=[FOX, ROBOT], **call, fast=False).images
    torch.testing.assert_close(found.images, plain, rtol=0, atol=1e-5)
    assert (found.images - draw(pipe, **call).images).abs().mean() > 1e-3
    guided: dict[str, Any] = call | {"guidance_scale": 3.5}
    assert torch.equal(draw(pipe, subjects=[FOX, ROBOT], **guided).images, found.images)


def test_schnell_without_subjects_is_the_stock_pipeline() -> None:
    pipe = build_pipeline(schnell=True)
    known = inspect.signature(FluxPipeline.__init__).parameters
    stock = FluxPipeline(**{name: part for name, part in pipe.components.items() if name in known})
    stock.set_progress_bar_config(disable=True)
    assert torch.equal(draw(pipe, num_inference_steps=4).images, draw(stock, num_inference_steps=4).images)


def test_a_few_step_lora() -> None:
    pipe = build_pipeline()
    weight = pipe.transformer.single_transformer_blocks[1].proj_out.weight
    lora = {
        "transformer.single_transformer_blocks.1.proj_out.lora_A.weight": torch.randn(2, weight.shape[1]),
        "transformer.single_transformer_blocks.1.proj_out.lora_B.weight": torch.randn(weight.shape[0], 2),
    }
    call: dict[str, Any] = {"num_inference_steps": 8, "sigmas": [1.0, 0.6, 0.3], "subjects": [FOX, ROBOT]}
    before = draw(pipe, **call).images
    pipe.load_lora_weights(lora, adapter_name="turbo")
    found = draw(pipe, **call)
    assert found.routing.steps == (0, 1, 2)
    assert (found.images - before).abs().max() > 1e-4
