"""LoRAs on the base: they act on pictures with subjects as if they were part of its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from .helpers import draw, given, pipeline, pipeline_of, stock_of, subject

peft = pytest.importorskip("peft")

RANK = 2
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Two LoRA folders for the tiny "mini" U-Net, random weights."""
    from diffusers.utils import convert_state_dict_to_diffusers

    folders = []
    for seed in (1, 2):
        unet = pipeline("mini").unet
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            unet.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights=False))
        layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(unet))
        folders.append(tmp_path_factory.mktemp(f"lora{seed}"))
        StableDiffusionXLPipeline.save_lora_weights(folders[-1], unet_lora_layers=layers)
    return folders


def merged(folders: list[Any], weights: list[float], kind: str = "text") -> Any:
    """A pipeline whose U-Net's weights are W + Σ w B A, added by hand."""
    from safetensors.torch import load_file

    pipe = pipeline_of(kind, "mini")
    parameters = dict(pipe.unet.named_parameters())
    for folder, weight in zip(folders, weights, strict=True):
        state = load_file(folder / "pytorch_lora_weights.safetensors")
        for name, down in state.items():
            if ".lora_A." in name or ".lora.down." in name:
                up = state[name.replace(".lora_A.", ".lora_B.").replace(".lora.down.", ".lora.up.")]
                layer = name.removeprefix("unet.").replace(".lora_A", "").replace(".lora.down", "")
                parameters[layer].data += weight * up @ down
    return pipe


FOX = [subject(), subject((30, 30, 220), region=(0, 0, 0.5, 1))]


@pytest.mark.parametrize("kind", ["text", "inpaint", "control"])
def test_a_lora_is_a_change_of_the_bases_weights(files, kind):
    pipe = pipeline_of(kind, "mini")
    before = draw(pipe, subjects=FOX, **given(kind)).images
    pipe.load_lora_weights(files[0])
    loaded = draw(pipe, subjects=FOX, **given(kind)).images
    assert np.abs(loaded - before).max() > 1e-3
    np.testing.assert_allclose(
        loaded, draw(merged(files[:1], [1.0], kind), subjects=FOX, **given(kind)).images, atol=1e-4
    )
    pipe.unload_lora_weights()
    assert np.array_equal(draw(pipe, subjects=FOX, **given(kind)).images, before)


def test_scales_and_several_loras(files):
    pipe = pipeline("mini")
    for i, folder in enumerate(files):
        pipe.load_lora_weights(folder, adapter_name=f"lora{i}")
    pipe.set_adapters(["lora0", "lora1"], [0.7, 0.4])
    expected = draw(merged(files, [0.7, 0.4]), subjects=FOX).images
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, expected, atol=1e-4)
    half = draw(pipe, subjects=FOX, cross_attention_kwargs={"scale": 0.5}).images
    np.testing.assert_allclose(half, draw(merged(files, [0.35, 0.2]), subjects=FOX).images, atol=1e-4)
    pipe.disable_lora()
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, draw(pipeline("mini"), subjects=FOX).images, atol=1e-5)


def test_fused_and_unfused(files):
    pipe = pipeline("mini")
    before = draw(pipe, subjects=FOX).images
    pipe.load_lora_weights(files[0])
    pipe.fuse_lora(lora_scale=0.7)
    fused = draw(pipe, subjects=FOX).images
    np.testing.assert_allclose(fused, draw(merged(files[:1], [0.7]), subjects=FOX).images, atol=1e-4)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    # Taking away what was added rounds the weights.
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, before, atol=1e-4)


def test_the_references_are_encoded_without_the_lora(files):
    """ReferenceNet has weights of its own: an encoding serves with any LoRA."""
    pipe = pipeline("mini")
    encoded = pipe.encode_subjects(FOX)
    pipe.load_lora_weights(files[0])
    assert np.array_equal(draw(pipe, subjects=encoded).images, draw(pipe, subjects=FOX).images)


def test_the_stock_pipeline_keeps_its_lora(files):
    pipe = pipeline("mini")
    pipe.load_lora_weights(files[0])
    stock = stock_of(pipe)
    before = draw(stock).images
    draw(pipe, subjects=FOX)
    with pytest.raises(ZeroDivisionError):
        draw(pipe, subjects=FOX, callback_on_step_end=lambda *_: 1 / 0)
    assert np.array_equal(draw(stock).images, before)
    assert np.abs(before - draw(pipeline("mini")).images).max() > 1e-3
