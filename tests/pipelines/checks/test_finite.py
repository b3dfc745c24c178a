"""NaN and infinity are an error with a reason, not a black picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ..helpers import KINDS, draw, given, pipeline, pipeline_of, subject

TWO = [subject(), subject((30, 30, 220), region=(0, 0, 0.5, 1))]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("subjects", [None, TWO], ids=["without subjects", "with"])
def test_an_absurd_guidance(kind, subjects):
    pipe = pipeline_of(kind, "mini")
    with pytest.raises(FloatingPointError, match=r"the picture .*: guidance 1e\+30; try a lower"):
        draw(pipe, subjects=subjects, **given(kind), guidance_scale=1e30, output_type="pil")
    draw(pipe, subjects=subjects, **given(kind))  # and nothing is left behind


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_every_kind_of_output_is_looked_at(output_type):
    pipe: Any = pipeline("mini")
    pipe.unet.conv_out.bias.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="weights of unet hold such values: `anystory models verify`"):
        draw(pipe, output_type=output_type)


@pytest.mark.parametrize("part", ["unet", "adapter", "vae", "image_encoder", "text_encoder_2"])
def test_a_damaged_part_is_named(part):
    pipe: Any = pipeline("mini")
    for parameter in getattr(pipe, part).parameters():
        parameter.data.view(-1)[-1] = float("inf")
    with pytest.raises(FloatingPointError, match=f"the weights of {part} hold such values"):
        draw(pipe, subjects=TWO, output_type="pil")


def spoil(pipe, step, timestep, tensors):
    tensors["latents"][-1] = float("nan")
    return tensors


def test_which_of_a_batch(mini):
    with pytest.raises(FloatingPointError, match="pictures 3 are not made of numbers"):
        draw(mini, ["a", "b", "c"], callback_on_step_end=spoil)


def test_half_precision_is_suspected(mini):
    pipe: Any = pipeline("mini").to(torch.float16)
    with pytest.raises(FloatingPointError, match="in float16, which overflows easily: try bfloat16"):
        draw(pipe, callback_on_step_end=spoil)


def test_the_processor_is_otherwise_the_stock_one(mini):
    out = draw(mini, output_type="pil").images
    assert np.array_equal(np.asarray(out[0]), (draw(mini).images[0] * 255).round().astype(np.uint8))
