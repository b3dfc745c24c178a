"""Every pipeline: stock without subjects, subjects with their settings, sizes, batches, conversion, save and load."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

import anystory

from . import helpers
from .helpers import KINDS, SIZE, draw, generator, given, mask, picture, pipeline, pipeline_of, stock_of, subject

RED, BLUE = (220, 30, 30), (30, 30, 220)
STEPS = {kind: 2 if "image" in kind or "inpaint" in kind else 4 for kind in KINDS}


@pytest.fixture(scope="module", params=[(kind, layout) for kind in KINDS for layout in ("sdxl", "mini")], ids=str)
def both(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A kind and a pipeline of it, on each layout; not to be changed."""
    kind, layout = request.param
    return kind, pipeline_of(kind, layout)


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_pipeline_is_public():
    for kind in KINDS.values():
        assert getattr(anystory, kind.__name__) is kind


def test_without_subjects_it_is_the_stock_pipeline(both):
    kind, pipe = both
    for arguments in ({"guidance_scale": 1.0}, {"num_images_per_prompt": 2}):
        ours = draw(pipe, **given(kind), **arguments)
        stock = draw(stock_of(pipe), **given(kind), **arguments)
        assert np.array_equal(ours.images, stock.images)
        assert ours.routing is None


def test_subjects_change_the_picture(kind):
    pipe = pipeline_of(kind)
    plain, red, blue = (draw(pipe, subjects=who, **given(kind)).images for who in ([], [subject(RED)], [subject(BLUE)]))
    assert np.abs(red - plain).max() > 1e-3
    assert np.abs(red - blue).max() > 1e-3


def test_size_routing_and_regions(both):
    kind, pipe = both
    out = draw(pipe, subjects=[subject(RED, "red", region=(0, 0, 0.5, 1)), subject(BLUE)], **given(kind, 56, 40))
    assert out.images.shape == (1, 40, 56, 3)
    assert out.routing.steps == tuple(range(STEPS[kind]))
    assert (out.routing.height, out.routing.width) == (40, 56)
    red, blue = out.routing.masks()
    assert red[:, : 28 - 7].all()
    assert not red[:, 28 + 7 :].any()
    assert not blue[:, : 28 - 7].any()


def test_a_prompt_in_a_list_gives_the_picture_that_it_gives_alone(kind):
    pipe = pipeline_of(kind, "mini")
    with torch.no_grad():  # a certain posterior: for a batch, inpainting draws from the first generator only
        pipe.vae.encoder[-1].weight[4:] = 0
        pipe.vae.encoder[-1].bias[4:] = -30
    rows, arguments = [[subject(RED)], [subject(BLUE), subject(RED)]], given(kind)
    noise = {"latents": torch.randn(4, 4, 8, 8, generator=generator())} if "inpaint" in kind else {}
    many = [*map(generator, range(4))]
    together = draw(pipe, ["a", "b"], subjects=rows, num_images_per_prompt=2, generator=many, **arguments, **noise)
    for i in range(4):
        own = {name: value[i : i + 1] for name, value in noise.items()}
        alone = draw(pipe, "ab"[i // 2], subjects=rows[i // 2], generator=generator(i), **arguments, **own)
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=2e-4)


def test_scales_follow_the_steps_that_are_made(kind):
    pipe, seen = pipeline_of(kind, "mini"), []

    def look(_, args, kwargs):
        cond = kwargs["cross_attention_kwargs"]["subject_conditioning"]
        seen.append((cond.scales[0, 0].item(), cond.reference_scales[0, 0].item()))

    pipe.unet.register_forward_pre_hook(look, with_kwargs=True)
    draw(
        pipe, subjects=[subject(RED, scale=0.8, reference_scale=2.0, scale_start=0.5, reference_end=0.5)], **given(kind)
    )
    half = STEPS[kind] // 2
    np.testing.assert_allclose(seen, [(0, 2)] * half + [(0.8, 0)] * half)


def test_the_callers_callback_runs(kind):
    pipe, steps = pipeline_of(kind, "mini"), []

    def blank(_, step, timestep, tensors):
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    out = draw(pipe, subjects=[subject()], **given(kind), callback_on_step_end=blank, output_type="latent")
    assert steps == list(range(STEPS[kind]))
    assert not out.images.any()


# --- nothing remains ---


@pytest.mark.parametrize("fails", ["no", "in a callback", "in the U-Net"])
def test_stock_pipelines_draw_as_before(kind, fails):
    pipe = pipeline_of(kind, "mini")
    stock, arguments = stock_of(pipeline_of("text", "mini")), given(kind)
    stock = StableDiffusionXLPipeline(
        **{name: pipe.components[name] for name in stock.components}, add_watermarker=False
    )
    stock.set_progress_bar_config(disable=True)
    before, config = draw(stock).images, dict(pipe.unet.config)
    processors, weights = dict(pipe.unet.attn_processors), {k: v.clone() for k, v in pipe.unet.state_dict().items()}

    def callback(_, step, timestep, tensors):
        if fails == "in a callback":
            raise RuntimeError("enough")
        return tensors

    handle = pipe.unet.mid_block.register_forward_pre_hook(lambda *_: 1 / 0) if fails == "in the U-Net" else None
    expected = contextlib.nullcontext() if fails == "no" else pytest.raises((RuntimeError, ZeroDivisionError))
    with expected:
        draw(pipe, subjects=[subject()], **arguments, callback_on_step_end=callback)
    if handle is not None:
        handle.remove()
    assert np.array_equal(draw(stock).images, before)
    assert pipe.unet.attn_processors == processors
    assert dict(pipe.unet.config) == config
    assert not pipe.unet._forward_pre_hooks
    assert all(torch.equal(value, weights[name]) for name, value in pipe.unet.state_dict().items())


# --- from_pipe ---


def test_conversion_shares_every_component(kind):
    text = pipeline("mini", default_call={"num_inference_steps": 3, "guidance_scale": 3.0, "strength": 0.9})
    text.unet.to(torch.bfloat16)
    assert text.adapter is not None
    extra = {"controlnet": helpers.controlnet(text.unet, 4)} if "control" in kind else {}
    pipe = KINDS[kind].from_pipe(text, **extra)
    for name, part in text.components.items():
        assert pipe.components[name] is part
    assert (text.unet.dtype, text.vae.dtype, text.adapter.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert pipe.config["default_call"] == text.config["default_call"]
    assert pipe.watermark is None
    assert pipe._progress_bar_config == {"disable": True}
    back = anystory.AnyStoryPipeline.from_pipe(pipe)
    text.unet.float()
    assert np.array_equal(draw(back, subjects=[subject()]).images, draw(text, subjects=[subject()]).images)


def test_conversion_from_and_to_diffusers():
    text = pipeline("sdxl")
    stock: Any = StableDiffusionXLInpaintPipeline.from_pipe(stock_of(text))
    extra = {name: text.components[name] for name in ("adapter", "image_encoder", "feature_extractor")}
    pipe = anystory.AnyStoryInpaintPipeline.from_pipe(stock, **extra)
    assert pipe.unet is stock.unet
    pipe.set_progress_bar_config(disable=True)
    assert draw(pipe, subjects=[subject()], **given("inpaint")).routing.steps == (0, 1)
    again: Any = StableDiffusionXLPipeline.from_pipe(pipe)
    assert again.unet is text.unet
    with pytest.raises(ValueError, match="AnyStoryPipeline lacks controlnet: use .*from_pipe\\(pipe, controlnet=…\\)"):
        anystory.AnyStoryControlNetPipeline.from_pipe(text)
    with pytest.raises(ValueError, match="AnyStoryPipeline has no component or setting 'controlnet'"):
        anystory.AnyStoryPipeline.from_pipe(text, controlnet=None)


def test_save_and_load(kind, tmp_path):
    pipe = pipeline_of(kind, "mini")
    pipe.save_pretrained(tmp_path)
    again = KINDS[kind].from_pretrained(tmp_path, add_watermarker=False)
    again.set_progress_bar_config(disable=True)
    arguments = given(kind) | {"subjects": [subject()]}
    np.testing.assert_allclose(draw(again, **arguments).images, draw(pipe, **arguments).images, atol=1e-5)
    if "control" in kind:
        assert isinstance(again.controlnet, ControlNetModel)
    else:  # one folder serves all pipelines
        other = anystory.AnyStoryImg2ImgPipeline.from_pretrained(tmp_path, add_watermarker=False)
        assert other.config["default_call"] == pipe.config["default_call"]


# --- what each kind is for ---


def test_the_more_strength_the_less_of_the_picture_remains():
    pipe = pipeline_of("image")
    far = []
    for strength in (0.25, 0.5, 1.0):
        arguments = given("image") | {"num_inference_steps": 8, "strength": strength, "output_type": "latent"}
        out = draw(pipe, subjects=[subject()], **arguments)
        assert len(out.routing.steps) == 8 * strength
        with torch.no_grad():
            start = pipe.vae.encode(pipe.image_processor.preprocess(picture())).latent_dist.mode()
        far.append((out.images - start * pipe.vae.config.scaling_factor).abs().mean().item())
    assert far == sorted(far)


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
@pytest.mark.parametrize("kind", ["inpaint", "control inpaint"])
def test_what_the_mask_leaves_alone_stays(kind, layout):
    """Outside the mask the latents end as those of the picture, whoever the subject is; inside they do not."""
    pipe = pipeline_of(kind, layout)
    arguments = given(kind) | {"output_type": "latent", "strength": 1.0}
    red, blue = (draw(pipe, subjects=[subject(colour)], **arguments).images for colour in (RED, BLUE))
    middle = red.shape[-1] // 2
    assert torch.equal(red[..., :middle], blue[..., :middle])
    assert (red[..., middle:] - blue[..., middle:]).abs().max() > 1e-2
    with torch.no_grad():
        sure = pipe.vae.encode(pipe.image_processor.preprocess(picture())).latent_dist
    low, high = ((sure.mean + sign * 6 * sure.std) * pipe.vae.config.scaling_factor for sign in (-1, 1))
    assert ((low <= red) & (red <= high))[..., :middle].all()


def test_inpainting_on_wide_latents_is_inpainting_on_four_channels():
    """A U-Net of 8 channels that ignores the last four, beside the same one of 4."""
    four = pipeline("mini")
    eight = pipeline("mini", latent_channels=8, text_encoder_2=four.text_encoder_2)
    narrow, wide = four.unet.state_dict(), eight.unet.state_dict()
    for name, value in narrow.items():
        if name in ("conv_in.weight", "conv_out.weight", "conv_out.bias"):
            wide[name].zero_()
            wide[name][tuple(slice(0, size) for size in value.shape)] = value
        else:
            wide[name].copy_(value)
    eight.unet.load_state_dict(wide)
    stock: Any = helpers.stock_of(anystory.AnyStoryInpaintPipeline.from_pipe(four))
    ours = anystory.AnyStoryInpaintPipeline.from_pipe(eight, adapter=None)
    with torch.no_grad():
        latents = torch.randn(1, 8, 8, 8, generator=generator())
        posterior = stock.vae.encode(stock.image_processor.preprocess(picture())).latent_dist
    for pipe, noise in ((stock, latents[:, :4]), (ours, latents)):
        mean = torch.nn.functional.pad(posterior.mean, (0, 0, 0, 0, 0, noise.shape[1] - 4))
        pipe._encode_vae_image = lambda mean=mean, **_: mean
        pipe._noise = noise
    arguments = given("inpaint") | {"output_type": "latent", "strength": 1.0}
    a, b = (draw(pipe, **arguments, latents=pipe._noise).images for pipe in (stock, ours))
    np.testing.assert_allclose(b[:, :4], a, atol=1e-5)


def test_a_unet_made_for_inpainting_takes_the_plain_ones_adapter():
    plain = pipeline("sdxl")
    unet = helpers.unet(64, 16, in_channels=9)
    adapter = plain.adapter
    pipe = anystory.AnyStoryInpaintPipeline.from_pipe(plain, unet=unet)
    assert pipe.adapter is adapter
    out = draw(pipe, subjects=[subject()], **given("inpaint"))
    stock: Any = StableDiffusionXLInpaintPipeline(
        **{name: part for name, part in pipe.components.items() if name != "adapter"}, add_watermarker=False
    )
    stock.set_progress_bar_config(disable=True)
    assert out.routing.steps == (0, 1)
    assert unet.config.in_channels == 9
    assert np.array_equal(draw(pipe, **given("inpaint")).images, draw(stock, **given("inpaint")).images)


def test_inpainting_a_cutout_around_the_mask():
    pipe = pipeline_of("inpaint")
    small = Image.new("L", (64, 64), 0)
    small.paste(255, (40, 40, 56, 56))
    arguments = given("inpaint") | {"image": picture(64, 64), "mask_image": small, "output_type": "pil"}
    out = draw(pipe, subjects=[subject()], **arguments, padding_mask_crop=4)
    assert out.images[0].size == (64, 64)
    assert (out.routing.height, out.routing.width) == (SIZE, SIZE)
    drawn, kept = np.asarray(out.images[0]), np.asarray(picture(64, 64))
    assert np.array_equal(drawn[:36], kept[:36])
    assert (drawn[42:54, 42:54] != kept[42:54, 42:54]).any()


@pytest.mark.parametrize("kind", ["control", "control image", "control inpaint"])
def test_the_controlnet_acts_with_subjects(kind):
    pipe, fox = pipeline_of(kind), [subject()]
    strong, off, guessed = (
        draw(pipe, subjects=fox, **given(kind), **arguments).images
        for arguments in ({}, {"controlnet_conditioning_scale": 0.0}, {"guess_mode": True})
    )
    without = KINDS[kind.removeprefix("control").strip() or "text"].from_pipe(pipe)
    arguments = given(kind)
    arguments.pop("control_image", None)
    if kind == "control":
        arguments.pop("image")
    elif kind == "control image":
        arguments = given("image")
    np.testing.assert_allclose(off, draw(without, subjects=fox, **arguments).images, atol=1e-5)
    assert np.abs(strong - off).max() > 1e-3
    assert np.abs(guessed - strong).max() > 1e-3


def test_several_controlnets():
    text = pipeline("sdxl")
    nets = [helpers.controlnet(text.unet, 2, seed) for seed in (1, 2)]
    pipe = anystory.AnyStoryControlNetPipeline.from_pipe(text, controlnet=nets)
    pose = picture(40, 24)
    out = draw(pipe, subjects=[subject()], image=[pose, pose.rotate(180)], controlnet_conditioning_scale=[1.0, 0.5])
    assert out.images.shape == (1, 24, 40, 3)


@pytest.mark.parametrize("kind", ["image", "control", "control image", "control inpaint"])
@pytest.mark.parametrize("form", ["picture", "list", "array", "batch", "tensor", "odd size"])
def test_pictures_in_every_form(kind, form):
    """The routing record's size, which we read off the argument, is that of the picture that diffusers draws."""
    pipe = pipeline_of(kind)
    forms: dict[str, Any] = {
        "picture": picture(56, 40),
        "list": [picture(56, 40)],
        "array": np.asarray(picture(56, 40), np.float32)[None] / 255,
        "batch": torch.rand(1, 3, 40, 56, generator=generator()),
        "tensor": [torch.rand(3, 40, 56, generator=generator())],
        "odd size": picture(57, 41),
    }
    arguments = given(kind, 56, 40)
    for name in ("width", "height"):
        arguments.pop(name, None)
    for name in ("image", "control_image"):
        if name in arguments:
            arguments[name] = forms[form]
    out = draw(pipe, subjects=[subject()], **arguments)
    assert out.images.shape == (1, 40, 56, 3)
    assert (out.routing.height, out.routing.width) == (40, 56)


def test_a_picture_of_any_size_that_the_vae_takes():
    """The mini's factor is 4: image to image has no rule of 8."""
    out = draw(pipeline_of("image", "mini"), subjects=[subject()], **given("image", 36, 44))
    assert out.images.shape == (1, 44, 36, 3)


def test_latents_as_the_picture():
    pipe = pipeline_of("image")
    arguments = given("image") | {"image": torch.randn(1, 4, 12, 20, generator=generator())}
    out = draw(pipe, subjects=[subject()], **arguments)
    assert out.images.shape == (1, 24, 40, 3)
    assert (out.routing.height, out.routing.width) == (24, 40)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("image", {"image": None}, "`image` must be a picture, got None"),
        ("image", {"image": "fox.png"}, "`image` must be a PIL image.*got str 'fox.png'"),
        ("image", {"image": []}, "`image` must be a PIL image.*got list"),
        (
            "image",
            {"image": Image.new("RGB", (64, 1))},
            "`image` cannot be used as a picture: height and width must be > 0",
        ),
        ("image", {"strength": 1.5}, "`strength` must be a number from 0 to 1, got 1.5"),
        ("image", {"strength": float("nan")}, "`strength` must be a number from 0 to 1, got nan"),
        ("image", {"strength": 0.1}, "`strength` 0.1 leaves none of 4 steps"),
        ("inpaint", {"strength": 0.1}, "`strength` 0.1 leaves none of 4 steps"),
        ("inpaint", {"mask_image": None}, "`mask_image` must be a picture, got None"),
        ("inpaint", {"height": 36}, "`height` must be a multiple of 8, got 36"),
        ("control", {"image": None}, "`image` must be a picture"),
        ("control image", {"control_image": None}, "`control_image` must be a picture"),
    ],
)
def test_bad_arguments(kind, change, message):
    pipe = pipeline_of(kind)
    with pytest.raises((ValueError, TypeError), match=message):
        draw(pipe, subjects=[subject()], **(given(kind) | change))
    assert not pipe.unet._forward_pre_hooks
    assert mask().size == picture().size
