"""The checks that diffusers applies to its own pipelines: offloading, slicing, types, compilation, text apart.

What needs a GPU is run on the CPU as the execution device: the hooks are called in the same order, but memory is not
measured and no tensor really changes its place.
"""

from __future__ import annotations

import copy
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler
from diffusers.models.attention_processor import SlicedAttnProcessor

from anystory.models.patch_autoencoder import PatchAutoencoder

from . import helpers
from .helpers import KINDS, draw, generator, given, pipeline, pipeline_of, stock_of, subject

FOX = [subject(), subject((30, 30, 220), region=(0, 0, 0.5, 1))]


# --- offloading ---


@pytest.mark.parametrize("kind", list(KINDS))
def test_model_offload(kind):
    pipe = pipeline_of(kind)
    before = draw(pipe, subjects=FOX, **given(kind)).images
    pipe.enable_model_cpu_offload(device="cpu")
    assert np.array_equal(draw(pipe, subjects=FOX, **given(kind)).images, before)
    encoded = pipe.encode_subjects(FOX)
    assert np.array_equal(draw(pipe, subjects=encoded, **given(kind)).images, before)
    pipe.remove_all_hooks()
    assert not [name for part in pipe.components.values() if isinstance(part, torch.nn.Module)
                for name, module in part.named_modules() if hasattr(module, "_hf_hook")]  # fmt: skip


def test_model_offload_brings_one_model_in_at_a_time(monkeypatch):
    """Who would be on the device, as the hooks see it, when the U-Net runs: neither ReferenceNet nor any encoder."""
    pipe, inside, seen = pipeline("sdxl"), set(), []
    names: dict[int, str] = {id(part): name for name, part in pipe.components.items()}
    assert pipe.adapter is not None
    names[id(pipe.adapter.reference_net)] = "reference_net"
    come, go = accelerate.hooks.CpuOffload.pre_forward, accelerate.hooks.CpuOffload.init_hook

    def pre_forward(self, module, *args, **kwargs):
        result = come(self, module, *args, **kwargs)
        if self.prev_module_hook is not None:  # accelerate skips this where the one before is on the CPU already
            inside.discard(names[id(self.prev_module_hook.model)])
        inside.add(names[id(module)])
        seen.append(set(inside))
        return result

    def init_hook(self, module):
        inside.discard(names[id(module)])
        return go(self, module)

    monkeypatch.setattr(accelerate.hooks.CpuOffload, "pre_forward", pre_forward)
    monkeypatch.setattr(accelerate.hooks.CpuOffload, "init_hook", init_hook)
    pipe.enable_model_cpu_offload(device="cpu")
    draw(pipe, subjects=FOX)
    assert {name for now in seen for name in now} == {
        "text_encoder", "text_encoder_2", "image_encoder", "unet", "vae", "reference_net"
    }  # fmt: skip
    assert [now - {"vae"} for now in seen if "unet" in now] == [{"unet"}] * 2  # two steps
    assert not inside


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
@pytest.mark.parametrize("kind", ["text", "inpaint", "control"])
def test_sequential_offload(kind, layout, monkeypatch):
    """Every weight is on "meta" but while its own layer runs: nothing may read one otherwise."""
    offload = accelerate.cpu_offload
    # diffusers numbers its device; accelerate takes "cpu:0" for another one than "cpu" and fails on the difference.
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more)
    )
    pipe = pipeline_of(kind, layout)
    before = draw(pipe, subjects=FOX, **given(kind)).images
    pipe.enable_sequential_cpu_offload(device="cpu")
    for part in (pipe.unet, pipe.vae, pipe.image_encoder, pipe.adapter.reference_net):
        assert {parameter.device.type for parameter in part.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in pipe.adapter.routers.parameters()} == {"cpu"}
    assert np.array_equal(draw(pipe, subjects=FOX, **given(kind)).images, before)
    encoded = pipe.encode_subjects(FOX)
    assert np.array_equal(draw(pipe, subjects=encoded, **given(kind)).images, before)


# --- memory of the VAE and of attention ---


@pytest.mark.parametrize("kind", ["text", "image", "inpaint"])
def test_vae_slicing_and_tiling(kind):
    pipe = pipeline_of(kind)
    arguments = given(kind) | {"subjects": FOX, "num_images_per_prompt": 2}
    before = draw(pipe, **arguments).images
    pipe.vae.enable_slicing()
    np.testing.assert_allclose(draw(pipe, **arguments).images, before, atol=1e-5)
    pipe.vae.disable_slicing()
    pipe.vae.enable_tiling()
    assert np.array_equal(draw(pipe, **arguments).images, before)  # smaller than a tile
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 24, 12
    tiled = draw(pipe, **arguments).images
    assert tiled.shape == before.shape
    assert 0 < np.abs(tiled - before).mean() < 0.1  # single pixels at the seams may be far apart


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_attention_slicing(layout):
    """Ours takes the place of the sliced processors for a call, and gives it back."""
    pipe = pipeline(layout)
    before = draw(pipe, subjects=FOX).images
    pipe.enable_attention_slicing()
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, before, atol=1e-4)
    assert all(isinstance(one, SlicedAttnProcessor) for one in pipe.unet.attn_processors.values())
    pipe.disable_attention_slicing()
    assert np.array_equal(draw(pipe, subjects=FOX).images, before)


def test_fused_projections():
    pipe = pipeline("sdxl")
    before = draw(pipe, subjects=FOX).images
    pipe.fuse_qkv_projections()
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, before, atol=1e-4)
    pipe.unfuse_qkv_projections()
    np.testing.assert_allclose(draw(pipe, subjects=FOX).images, before, atol=1e-4)


# --- types ---


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
@pytest.mark.parametrize("kind", ["text", "inpaint", "control image"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(kind, layout, dtype):
    pipe = pipeline_of(kind, layout)
    exact = draw(pipe, subjects=FOX, **given(kind)).images
    if layout == "sdxl":
        pipe.vae.register_to_config(force_upcast=False)  # diffusers' own upcasting is tested in test_encoding
    pipe.to(dtype)
    assert {parameter.dtype for parameter in pipe.adapter.parameters()} == {dtype}
    out = draw(pipe, subjects=FOX, **given(kind))
    assert np.isfinite(out.images).all()
    assert np.abs(out.images - exact).mean() < 0.1
    np.testing.assert_allclose(out.routing.maps(step=0).sum(axis=0), 1, atol=2e-2)
    [encoded, _] = pipe.encode_subjects(FOX)
    assert encoded.tokens.dtype == dtype


def test_an_adapter_of_another_type_than_the_unet():
    pipe: Any = pipeline("mini")
    exact, without = draw(pipe, subjects=FOX).images, draw(pipe).images
    pipe.adapter.to(torch.bfloat16)
    # How much bf16 rounds away depends on the processor.
    rounded = np.abs(draw(pipe, subjects=FOX).images - exact).mean()
    assert 0 < rounded < 0.6 * np.abs(without - exact).mean()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("part", ["adapter", "unet"])
def test_weights_stored_in_eight_bits(part, fast):
    """Layer by layer they are cast to what they work in; what reads them beside the layers must do so, too."""
    pipe: Any = pipeline("mini")
    two = [FOX[0], subject((30, 30, 220))]
    exact = draw(pipe, subjects=two).images
    rounded = copy.deepcopy(getattr(pipe, part))
    getattr(pipe, part).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert torch.float8_e4m3fn in {parameter.dtype for parameter in getattr(pipe, part).parameters()}
    images = draw(pipe, subjects=two, fast=fast).images
    for own, stored in zip(rounded.parameters(), getattr(pipe, part).parameters(), strict=True):
        own.data = stored.data.float()
    same: Any = KINDS["text"].from_pipe(pipe, **{part: rounded})
    np.testing.assert_allclose(images, draw(same, subjects=two).images, atol=1e-4)
    assert 1e-4 < np.abs(images - exact).mean() < 0.2


# --- an autoencoder of another kind ---


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_tiny_autoencoder(kind):
    """It has latents, and no distribution of them."""
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), upsampling_scaling_factor=2,
    ).eval()  # fmt: skip
    pipe = pipeline_of(kind, "sdxl", vae=tiny)
    out = draw(pipe, subjects=FOX, **given(kind))
    assert np.isfinite(out.images).all()
    assert np.abs(out.images - draw(pipe, **given(kind)).images).max() > 1e-4


# --- torch.compile ---


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_compiled_without_a_break(layout):
    """`fullgraph` refuses any break in the whole U-Net, with recording and regions; another call compiles nothing."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    pipe = pipeline(layout)
    calls: list[dict[str, Any]] = [
        {"subjects": FOX},
        {"subjects": [subject((1, 200, 3), scale_start=0.5), FOX[1]], "prompt": "b"},
    ]
    before = [draw(pipe, **call) for call in calls]
    pipe.unet = torch.compile(pipe.unet, backend="eager", fullgraph=True)
    graphs = []
    for call, expected in zip(calls, before, strict=True):
        out = draw(pipe, **call)
        np.testing.assert_allclose(out.images, expected.images, atol=1e-4)
        np.testing.assert_allclose(out.routing.maps(), expected.routing.maps(), atol=1e-3)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == 1  # caches are filled before the first step
    assert not counters["graph_break"]


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_compiled_repeated_blocks(layout):
    """One graph for every block that reads references, one for the first, which has none to read; then no more."""
    from torch._dynamo.utils import counters

    pipe = pipeline(layout)
    calls: list[dict[str, Any]] = [
        {"subjects": FOX},
        {"subjects": [subject((1, 200, 3), scale_start=0.5), FOX[1]], "prompt": "b"},
    ]
    before = [draw(pipe, **call) for call in calls]
    torch.compiler.reset()
    counters.clear()
    pipe.unet.compile_repeated_blocks(backend="eager", fullgraph=True)
    for call, expected in zip(calls, before, strict=True):
        out = draw(pipe, **call)
        np.testing.assert_allclose(out.images, expected.images, atol=1e-4)
        np.testing.assert_allclose(out.routing.maps(), expected.routing.maps(), atol=1e-3)
        assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_a_compiled_block(guidance):
    """One transformer block with our processors by itself."""
    torch.compiler.reset()
    pipe = pipeline("mini")
    before = draw(pipe, subjects=FOX, guidance_scale=guidance).images
    block: Any = pipe.unet.mid_block.attentions[0].transformer_blocks[0]
    block.compile(backend="eager", fullgraph=True)
    np.testing.assert_allclose(draw(pipe, subjects=FOX, guidance_scale=guidance).images, before, atol=1e-4)


# --- text apart ---


def embeddings(pipe: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
    embeds, negative, pooled, negative_pooled = pipe.encode_prompt(prompts, negative_prompt=["bad"] * len(prompts))
    return {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": negative_pooled,
    }


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_text_can_be_encoded_apart(layout):
    """By a pipeline of nothing but text encoders; the other has none."""
    whole = pipeline(layout)
    parts: dict[str, Any] = dict.fromkeys(("unet", "image_encoder", "feature_extractor", "adapter"))
    text = KINDS["text"].from_pipe(whole, **parts)
    rest = KINDS["text"].from_pipe(whole, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None)
    given = embeddings(text, ["a fox"])
    apart = draw(rest, None, subjects=FOX, **given)
    assert np.array_equal(apart.images, draw(whole, subjects=FOX, negative_prompt="bad").images)


@pytest.mark.parametrize("kind", ["text", "inpaint", "control"])
def test_long_prompts(kind):
    """Several windows of text one after another. The same window twice is that window: the mean of equal values."""
    pipe = pipeline_of(kind)
    once = embeddings(pipe, ["a fox"])
    long = {name: value.repeat(1, 3, 1) if value.ndim == 3 else value for name, value in once.items()}
    expected = draw(pipe, None, subjects=FOX, **once, **given(kind)).images
    np.testing.assert_allclose(draw(pipe, None, subjects=FOX, **long, **given(kind)).images, expected, atol=1e-4)
    other = embeddings(pipe, ["b robot"])
    both = {name: torch.cat([once[name], other[name]], dim=1) if once[name].ndim == 3 else once[name] for name in once}
    assert np.abs(draw(pipe, None, subjects=FOX, **both, **given(kind)).images - expected).max() > 1e-4


def test_weighted_prompts():
    """As weighting libraries do it: the embeddings of some words scaled."""
    pipe = pipeline("sdxl")
    plain = embeddings(pipe, ["a fox"])
    weighted = plain | {"prompt_embeds": plain["prompt_embeds"].clone()}
    weighted["prompt_embeds"][:, 2] *= 1.4
    one, other = (draw(pipe, None, subjects=FOX, **given).images for given in (plain, weighted))
    assert np.abs(one - other).max() > 1e-4


# --- sizes ---


@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 24), (24, 136), (56, 72)])
def test_any_multiple_of_eight(height, width):
    """With SDXL's factor of 8 these give odd latents, which the U-Net halves with rounding up, twice."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = PatchAutoencoder(
            latent_channels=4, block_out_channels=(16, 16, 16, 16), encoder_width=16, norm_num_groups=8
        ).eval()
    pipe = pipeline("mini", vae=vae)
    assert pipe.vae_scale_factor == 8
    out = draw(pipe, subjects=[FOX[0], subject((9, 9, 9), region=(0, 0, 1, 0.5))], height=height, width=width)
    assert out.images.shape == (1, height, width, 3)
    assert out.routing.masks().shape == (2, height, width)
    h, w = height // 8, width // 8
    assert out.routing.maps(layer=0, slot=0).shape == ((h + 1) // 2, (w + 1) // 2)


# --- the rest ---


def test_the_same_call_gives_the_same_picture():
    for kind in KINDS:
        pipe = pipeline_of(kind, "mini")
        one, other = (draw(pipe, subjects=FOX, **given(kind), generator=generator(3)).images for _ in range(2))
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", list(KINDS))
def test_callback_tensors(kind):
    """Every tensor that diffusers' pipeline lets a callback see, it sees with subjects too."""
    pipe, seen = pipeline_of(kind), []
    wanted = [name for name in type(pipe)._callback_tensor_inputs if name not in ("negative_add_time_ids",)]
    stock, stock_seen = stock_of(pipe), []

    def look(into):
        return lambda _pipe, _step, _time, tensors: into.append({k: v.shape for k, v in tensors.items()}) or tensors

    arguments = given(kind)
    for one, into in ((pipe, seen), (stock, stock_seen)):
        more = {"subjects": FOX} if one is pipe else {}
        try:
            draw(one, **arguments, **more, callback_on_step_end=look(into), callback_on_step_end_tensor_inputs=wanted)
        except KeyError as error:  # some names are declared by diffusers and not there in its own call
            assert one is pipe
            wanted.remove(error.args[0])
            draw(one, **arguments, **more, callback_on_step_end=look(into), callback_on_step_end_tensor_inputs=wanted)
    assert [list(step) for step in seen] == [list(step) for step in stock_seen]


def test_the_scheduler_may_be_swapped_between_calls():
    pipe = pipeline("mini")
    before = draw(pipe, subjects=FOX).images
    own = pipe.scheduler
    pipe.scheduler = EulerDiscreteScheduler.from_config(
        own.config, use_karras_sigmas=True, rescale_betas_zero_snr=False
    )
    assert np.abs(draw(pipe, subjects=FOX).images - before).max() > 1e-4
    pipe.scheduler = own
    assert np.array_equal(draw(pipe, subjects=FOX).images, before)


def test_a_pipeline_without_an_image_encoder_draws_what_is_encoded():
    """Encodings are made once, and the encoders can then be freed."""
    pipe = pipeline("mini")
    before = draw(pipe, subjects=FOX).images
    encoded = pipe.encode_subjects(FOX)
    light = helpers.AnyStoryPipeline.from_pipe(pipe, image_encoder=None, feature_extractor=None)
    assert np.array_equal(draw(light, subjects=encoded).images, before)
