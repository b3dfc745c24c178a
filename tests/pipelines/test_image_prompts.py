"""diffusers' IP-Adapter in our pipelines: without subjects the stock picture, with them both terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.saved.public_files import ip_adapter_plus

from .helpers import KINDS, draw, given, picture, pipeline_of, stock_of, subject

PROMPT = picture(16, 16).rotate(90)
"""The picture that the IP-Adapter is given."""


def prompted(kind: str, scale: float = 1.0, layout: str = "sdxl") -> Any:
    """A tiny pipeline of a kind with an IP-Adapter-Plus loaded by diffusers' own loader."""
    pipe = pipeline_of(kind, layout)
    clip = pipe.image_encoder.config.hidden_size
    pipe.load_ip_adapter(ip_adapter_plus(pipe.unet, clip_dim=clip), subfolder=None, weight_name=None)
    pipe.set_ip_adapter_scale(scale)
    return pipe


def drawn(pipe: Any, kind: str, **arguments: Any) -> np.ndarray:
    return draw(pipe, **given(kind), **arguments).images


@pytest.mark.parametrize("kind", KINDS)
def test_without_subjects_it_is_the_stock_picture(kind):
    pipe = prompted(kind)
    found = drawn(pipe, kind, ip_adapter_image=PROMPT)
    assert np.array_equal(found, drawn(stock_of(pipe), kind, ip_adapter_image=PROMPT))
    assert np.abs(found - drawn(pipeline_of(kind), kind)).max() > 1e-2


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
@pytest.mark.parametrize("kind", ["text", "inpaint", "control inpaint"])
def test_beside_subjects_both_act(kind, layout):
    fox = [subject()]
    pipe = prompted(kind, layout=layout)
    both = drawn(pipe, kind, subjects=fox, ip_adapter_image=PROMPT)
    subjects_only = drawn(pipeline_of(kind, layout), kind, subjects=fox)
    prompt_only = drawn(pipe, kind, ip_adapter_image=PROMPT)
    assert min(np.abs(both - other).max() for other in (subjects_only, prompt_only)) > 1e-2
    pipe.set_ip_adapter_scale(0.0)
    silent = drawn(pipe, kind, subjects=fox, ip_adapter_image=PROMPT)
    np.testing.assert_allclose(silent, subjects_only, atol=1e-4)


def test_a_cross_attention_adds_both_terms():
    """What the IP-Adapter adds to the text's attention it adds to that with subjects, whatever the guidance."""
    pipe = prompted("text")
    layer = pipe.adapter.layers[1].cross_attention
    seen: dict[str, torch.Tensor] = {}

    def first(call: Any) -> torch.Tensor:
        """The layer's input in the first step, and what comes out."""
        outputs = []
        hook = pipe.unet.get_submodule(layer).register_forward_hook(
            lambda module, args, kwargs, output: outputs.append((args[0], output)), with_kwargs=True
        )
        call()
        hook.remove()
        return outputs[0]

    # Only in this layer does the IP-Adapter speak, so that its input is the same with and without.
    for name, processor in pipe.unet.attn_processors.items():
        if hasattr(processor, "scale"):
            processor.scale = [float(name.startswith(layer))]
    silent = {name: processor for name, processor in pipe.unet.attn_processors.items() if hasattr(processor, "scale")}
    for label, subjects, scale in (
        ("text", None, 0.0),
        ("prompt", None, 1.0),
        ("subjects", [subject()], 0.0),
        ("both", [subject()], 1.0),
    ):
        silent[f"{layer}.processor"].scale = [scale]
        into, seen[label] = first(lambda given=subjects: draw(pipe, subjects=given, ip_adapter_image=PROMPT))
        seen[f"{label} in"] = into
    # The subjects have changed what comes in; the same prompt on the same input is the reference.
    torch.testing.assert_close(seen["text in"], seen["prompt in"])
    torch.testing.assert_close(seen["subjects in"], seen["both in"])
    attention = pipe.unet.get_submodule(layer)
    text, prompts = attention_states(pipe)
    silent[f"{layer}.processor"].scale = [1.0]
    loud = attention(seen["both in"], encoder_hidden_states=(text, prompts))
    silent[f"{layer}.processor"].scale = [0.0]
    quiet = attention(seen["both in"], encoder_hidden_states=(text, prompts))
    torch.testing.assert_close(seen["both"] - seen["subjects"], loud - quiet, atol=1e-5, rtol=1e-4)
    assert (loud - quiet).abs().max() > 1e-3


def attention_states(pipe: Any) -> Any:
    """The text and the prompt's tokens as the cross-attentions get them."""
    found = []
    hook = (
        pipe.unet.down_blocks[1]
        .attentions[0]
        .transformer_blocks[0]
        .attn2.register_forward_pre_hook(
            lambda module, args, kwargs: found.append(kwargs["encoder_hidden_states"]), with_kwargs=True
        )
    )
    draw(pipe, ip_adapter_image=PROMPT)
    hook.remove()
    return found[0]


def test_masks_of_the_ip_adapter_hold_beside_subjects():
    pipe = prompted("text")
    nowhere = torch.zeros(1, 1, 32, 32)

    def masked(mask: torch.Tensor) -> np.ndarray:
        options = {"ip_adapter_masks": [mask]}
        return draw(pipe, subjects=[subject()], ip_adapter_image=[PROMPT], cross_attention_kwargs=options).images

    subjects_only = draw(pipeline_of("text"), subjects=[subject()]).images
    np.testing.assert_allclose(masked(nowhere), subjects_only, atol=1e-4)
    assert np.abs(masked(torch.ones_like(nowhere)) - subjects_only).max() > 1e-2


@pytest.mark.parametrize("subjects", [None, [subject()]])
def test_without_its_picture_it_is_refused_before_anything_runs(subjects):
    pipe = prompted("text")
    pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("the U-Net ran"))
    pipe.image_encoder.register_forward_pre_hook(lambda *_: pytest.fail("the image encoder ran"))
    with pytest.raises(ValueError, match=r"`ip_adapter_image` must be a picture.*unload_ip_adapter"):
        draw(pipe, subjects=subjects)


def test_unloading_it_leaves_what_subjects_need():
    pipe = prompted("text")
    encoder = pipe.image_encoder
    pipe.unload_ip_adapter()
    assert pipe.image_encoder is encoder
    np.testing.assert_array_equal(
        draw(pipe, subjects=[subject()]).images, draw(pipeline_of("text"), subjects=[subject()]).images
    )
    bare = pipeline_of("text", adapter=None)
    bare.load_ip_adapter(ip_adapter_plus(bare.unet, clip_dim=32), subfolder=None, weight_name=None)
    bare.unload_ip_adapter()
    assert bare.image_encoder is None  # as in diffusers


def test_the_prompts_picture_may_be_of_any_kind():
    pipe = prompted("text")
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    found = draw(pipe, ip_adapter_image=clear, subjects=[subject()]).images
    white = draw(pipe, ip_adapter_image=Image.new("RGB", (16, 16), "white"), subjects=[subject()]).images
    np.testing.assert_array_equal(found, white)
