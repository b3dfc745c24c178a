"""`from_pipe`: nothing that a pipeline was told is lost on the way to another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import FusedAttnProcessor2_0

from ..helpers import KINDS, draw, pipeline, pipeline_of, stock_of, subject


def test_settings_of_another_class_come_back():
    """Text to image has no aesthetics score, no `strength` and no cosxl: they wait."""
    first = KINDS["image"].from_pipe(pipeline("mini"), requires_aesthetics_score=True)
    again = KINDS["image"].from_pipe(KINDS["text"].from_pipe(first))
    assert again.config["requires_aesthetics_score"] is True
    through_two = KINDS["inpaint"].from_pipe(KINDS["text"].from_pipe(KINDS["text"].from_pipe(first)))
    assert through_two.config["requires_aesthetics_score"] is True
    assert KINDS["image"].from_pipe(again, requires_aesthetics_score=False).config["requires_aesthetics_score"] is False


def test_settings_survive_the_stock_pipeline():
    pipe = pipeline("sdxl", default_call={"guidance_scale": 3.0})
    stock = type(stock_of(pipe)).from_pipe(pipe)
    back = KINDS["text"].from_pipe(stock, adapter=pipe.adapter)
    assert back.config["default_call"] == {"guidance_scale": 3.0}


def test_what_is_fused_can_be_undone_elsewhere():
    pipe = pipeline("sdxl")
    before = draw(pipe, subjects=[subject()]).images
    pipe.fuse_qkv_projections()
    other = KINDS["text"].from_pipe(pipe)
    other.unfuse_qkv_projections()
    np.testing.assert_allclose(draw(other, subjects=[subject()]).images, before, atol=1e-4)
    assert not any(isinstance(one, FusedAttnProcessor2_0) for one in other.unet.attn_processors.values())


def test_the_bar_is_a_copy():
    pipe = pipeline("mini")
    other = KINDS["image"].from_pipe(pipe)
    other._progress_bar_config["disable"] = False
    assert pipe._progress_bar_config["disable"] is True


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_another_type(name):
    pipe = pipeline("mini")
    other = KINDS["image"].from_pipe(pipe, **{name: torch.bfloat16})
    assert {other.unet.dtype, other.vae.dtype, other.adapter.dtype, other.image_encoder.dtype} == {torch.bfloat16}
    assert other.unet is pipe.unet
    assert KINDS["text"].from_pipe(other).unet.dtype == torch.bfloat16  # and nothing converts it back


def test_what_no_class_knows_is_refused():
    with pytest.raises(ValueError, match="has no component or setting 'strength'"):
        KINDS["text"].from_pipe(pipeline_of("image", "mini"), strength=0.5)
