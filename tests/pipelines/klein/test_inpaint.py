"""Inpainting on FLUX.2 klein: the stock picture where it has to be, and the existing picture as a reference for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline
from PIL import Image

from anystory.pipelines.klein import AnyStoryFlux2KleinInpaintPipeline, AttentionRouting

from .tiny import FOX, PROMPT, ROBOT, pipeline, stock_of, subject

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
MASK = Image.fromarray(np.repeat(np.repeat(np.array([[0, 255]], np.uint8), 64, 0), 48, 1))
CALL: dict[str, Any] = {
    "image": SCENE,
    "mask_image": MASK,
    "strength": 0.8,
    "num_inference_steps": 4,
    "guidance_scale": 4.0,
    "max_sequence_length": 16,
    "text_encoder_out_layers": (1, 2, 3),
    "output_type": "latent",
}


@pytest.fixture(scope="module")
def pipe() -> Any:
    """The undistilled model, with guidance."""
    found = AnyStoryFlux2KleinInpaintPipeline.from_pipe(pipeline(distilled=False))
    found.set_progress_bar_config(disable=True)
    return found


def draw(pipe: Any, **arguments: Any) -> torch.Tensor:
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), **{**CALL, **arguments}).images


def test_the_stock_pipeline_bit_for_bit(pipe: Any) -> None:
    assert (pipe.config["reference_size"], pipe.config["is_distilled"]) == (64, False)
    stock = stock_of(pipe, Flux2KleinInpaintPipeline)
    assert torch.equal(draw(pipe), draw(stock))
    [fox] = pipe.encode_subjects([FOX])
    one = draw(stock, image_reference=fox.prepared[0].image)
    assert torch.equal(draw(pipe, subjects=[fox], isolation="off"), one)
    assert (draw(pipe, subjects=[fox]) - one).abs().max() > 1e-5


def test_both_forms_with_regions_and_schedules(pipe: Any) -> None:
    subjects = [subject((200, 90, 20), region=(0.5, 0, 1, 1), reference_end=0.5), ROBOT]
    for how in ({}, {"isolation": "strict", "text_gate": "padding"}, {"image_reference": SCENE.resize((64, 64))}):
        fast, plain = (draw(pipe, subjects=subjects, fast=fast, **how) for fast in (True, False))
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4 * float(plain.std()))


def test_routing_finds_places_in_three_steps_of_four(pipe: Any) -> None:
    how = AttentionRouting(throw_away=True, step=1)
    call = {**CALL, "strength": 0.75, "generator": torch.Generator().manual_seed(0)}
    found = pipe(PROMPT, subjects=[FOX, ROBOT], routing=how, **call)
    assert found.routing.steps == (0, 1, 2)
    with pytest.raises(ValueError, match="listens to step 3, counted from 0, of only 3"):
        draw(pipe, subjects=[FOX], routing=AttentionRouting(step=3), strength=0.75)


def test_what_is_missing_is_said(pipe: Any) -> None:
    for name in ("image", "mask_image"):
        with pytest.raises(ValueError, match=f"`{name}` must be a picture, got None"):
            draw(pipe, subjects=[FOX], **{name: None})
    with pytest.raises(ValueError, match="leaves none of 4 steps"):
        draw(pipe, subjects=[FOX], strength=0.1)
    large = Image.new("RGB", (2000, 1000))
    assert pipe._picture_size({"image": large}) == (720, 1440)
    assert pipe._picture_size({"image": torch.zeros(1, 16, 4, 6)}) == (64, 96)
