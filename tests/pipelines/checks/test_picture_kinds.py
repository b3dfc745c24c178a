"""Pictures and masks of every kind, in every pipeline that takes one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.pipelines.checks.pictures import as_drawn
from profiles import SWAPPED, grey_profile, rgb_profile

from ..helpers import KINDS, SIZE, draw, given, picture, pipeline_of, stock_of, subject

HALF = np.zeros((SIZE, SIZE), np.uint8)
"""White in the right half."""
HALF[:, SIZE // 2 :] = 255


def see(value: Any, kind: str = "scene", latent_channels: int = 4) -> Any:
    return as_drawn({"image": value}, {"image": kind}, latent_channels)["image"]  # pyright: ignore[reportArgumentType]


def pixels(value: Any) -> np.ndarray:
    """(H, W[, C]) in 0…255 of what is handed to diffusers."""
    if isinstance(value, list):
        (value,) = value
    if isinstance(value, torch.Tensor):
        value = np.moveaxis(value.numpy().reshape(value.shape[-3:]), 0, -1).squeeze() * 255
    return np.asarray(value).astype(float)


RGB = np.asarray(picture())
GREY = np.asarray(picture().convert("L"))
CLEAR = np.dstack([RGB, HALF])
"""Transparent in the left half."""
OVER = {ground: np.where(HALF[..., None] > 0, RGB, ground) for ground in (0, 255)}


def scenes() -> dict[str, tuple[Any, np.ndarray]]:
    """{what: (picture, what a person sees on white)}."""
    threes = np.dstack([GREY] * 3)
    palette = picture().convert("P", colors=16)
    clear_palette = picture().quantize(16)
    clear_palette.info["transparency"] = 3
    where = np.asarray(clear_palette)[..., None] == 3
    turned = picture().rotate(90, expand=True)
    turned.getexif()[0x0112] = 6
    swapped = picture()
    swapped.info["icc_profile"] = rgb_profile(SWAPPED)
    black = np.dstack([HALF] * 3)
    return {
        "RGBA": (Image.fromarray(CLEAR), OVER[255]),
        "opaque RGBA": (picture().convert("RGBA"), RGB),
        "L": (Image.fromarray(GREY), threes),
        "LA": (Image.fromarray(np.dstack([GREY, HALF])), np.where(HALF[..., None] > 0, threes, 255)),
        "P": (palette, np.asarray(palette.convert("RGB"))),
        "P with a transparent colour": (clear_palette, np.where(where, 255, np.asarray(clear_palette.convert("RGB")))),
        "1": (Image.fromarray(HALF).convert("1"), black),
        "CMYK": (picture().convert("CMYK"), RGB),
        "I;16": (Image.fromarray(GREY.astype(np.uint16) * 257), threes),
        "F": (Image.fromarray(GREY.astype(np.float32) / 255), threes),
        "turned": (turned, RGB),
        "another profile": (swapped, np.asarray(RGB)[..., ::-1]),
        "uint8": (RGB, RGB),
        "uint8 with alpha": (CLEAR, OVER[255]),
        "grey uint8": (GREY, threes),
        "uint16": (RGB.astype(np.uint16) * 257, RGB),
        "bool": (HALF > 0, black),
        "grey floats": (GREY / 255, threes),
        "floats with alpha": (CLEAR / 255, OVER[255]),
        "a batch": (RGB[None], RGB),
        "a batch of greys": (GREY[None], threes),
        "uint8 tensor": (torch.from_numpy(RGB.copy()).permute(2, 0, 1), RGB),
        "grey tensor": (torch.from_numpy(GREY / 255)[None, None], threes),
        "flat tensor": (torch.from_numpy(GREY / 255), threes),
        "bool tensor": (torch.from_numpy(HALF > 0)[None], black),
        "uint8 tensor with alpha": (torch.from_numpy(CLEAR).permute(2, 0, 1)[None], OVER[255]),
        "a list": ([Image.fromarray(CLEAR)], OVER[255]),
    }


@pytest.mark.parametrize("name", scenes())
def test_scenes(name):
    scene, expected = scenes()[name]
    found = pixels(see(scene))
    assert found.shape == (SIZE, SIZE, 3)
    if name == "another profile":  # but for the gamma, red is blue
        assert np.corrcoef(found[..., 0].ravel(), expected[..., 0].ravel())[0, 1] > 0.99
    else:
        np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("value", [picture(), RGB / 255, torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8) * 2 - 1])
def test_what_diffusers_reads_rightly_stays(value):
    assert see(value) is see(value, "map") is value


def test_latents_stay_latents():
    latents = torch.randn(1, 4, 8, 8)
    assert see(latents) is latents
    with_alpha = torch.rand(1, 4, 8, 8)
    assert see(with_alpha, latent_channels=8).shape == (1, 3, 8, 8)
    assert see(torch.randn(1, 8, 8, 8), latent_channels=8).shape == (1, 8, 8, 8)


@pytest.mark.parametrize("value", [Image.fromarray(CLEAR), CLEAR, torch.from_numpy(CLEAR / 255).permute(2, 0, 1)[None]])
def test_where_a_map_is_transparent_nothing_is(value):
    np.testing.assert_allclose(pixels(see(value, "map")), OVER[0], atol=1)


def test_maps_and_masks_hold_no_colours():
    depth = Image.fromarray(np.dstack([GREY] * 3))
    depth.info["icc_profile"] = rgb_profile(SWAPPED)
    assert see(depth, "map") is depth
    mask = Image.fromarray(GREY).convert("LA")
    mask.info["icc_profile"] = grey_profile(1.0)
    np.testing.assert_array_equal(pixels(see(mask, "mask")), GREY)


def masks() -> dict[str, Any]:
    """The right half in every way."""
    white, black, threes = np.full((SIZE, SIZE, 3), 255, np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8), [HALF] * 3
    palette = Image.fromarray(HALF).convert("P")
    return {
        "white with alpha": Image.fromarray(np.dstack([white, HALF])),
        "black with alpha": Image.fromarray(np.dstack([black, HALF])),
        "opaque RGBA": Image.fromarray(np.dstack([*threes, white[..., 0]])),
        "LA": Image.fromarray(np.dstack([white[..., 0], HALF])),
        "P": palette,
        "1": Image.fromarray(HALF).convert("1"),
        "I;16": Image.fromarray(HALF.astype(np.uint16) * 257),
        "CMYK": Image.fromarray(np.dstack(threes)).convert("CMYK"),
        "RGB": Image.fromarray(np.dstack(threes)),
        "bool": HALF > 0,
        "0 and 1": HALF // 255,
        "uint8": HALF,
        "uint8 in colours": np.dstack(threes),
        "uint8 with alpha": np.dstack([white, HALF]),
        "a batch of bools": HALF[None] > 0,
        "bool tensor": torch.from_numpy(HALF > 0),
        "tensor of 0 and 1": torch.from_numpy(HALF // 255)[None],
        "uint8 tensor": torch.from_numpy(HALF)[None, None],
        "tensor in colours": torch.from_numpy(np.stack(threes) / 255)[None],
        "tensor with alpha": torch.from_numpy(np.stack([*white.transpose(2, 0, 1), HALF]) / 255)[None],
    }


@pytest.fixture(scope="module")
def painter() -> Any:
    return pipeline_of("inpaint")


@pytest.fixture(scope="module")
def half_drawn(painter) -> np.ndarray:
    """With the mask as diffusers' guides give it."""
    return draw(painter, **given("inpaint")).images


@pytest.mark.parametrize("name", masks())
def test_masks(name, painter, half_drawn):
    found = draw(painter, **given("inpaint") | {"mask_image": masks()[name]}).images
    np.testing.assert_array_equal(found, half_drawn)


def test_soft_masks_and_several_stay_what_they_are():
    soft = torch.rand(3, 8, 8)
    assert see(soft, "mask") is soft
    floats = np.random.default_rng(0).random((8, 8))
    assert see(floats, "mask") is floats


@pytest.mark.parametrize("subjects", [None, [subject()]])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "text"])
def test_every_pipeline_takes_them(kind, subjects):
    """With an alpha and in grey, in each of a pipeline's arguments, as the same pictures in plain RGB."""
    pipe = pipeline_of(kind)
    arguments = given(kind)
    for name in arguments.keys() & {"image", "control_image"}:
        ground = 0 if name == "control_image" or kind == "control" else 255
        for value, plain in (
            (Image.fromarray(CLEAR), Image.fromarray(OVER[ground].astype(np.uint8))),
            (Image.fromarray(GREY), Image.fromarray(np.dstack([GREY] * 3))),
        ):
            found = draw(pipe, subjects=subjects, **arguments | {name: value}).images
            np.testing.assert_array_equal(found, draw(pipe, subjects=subjects, **arguments | {name: plain}).images)
    if subjects is None:
        np.testing.assert_array_equal(draw(pipe, **arguments).images, draw(stock_of(pipe), **arguments).images)


@pytest.mark.parametrize("crop", [None, 8])
def test_what_is_not_painted_looks_the_same(painter, crop):
    """Also with `padding_mask_crop`, which puts the drawn part into the given picture."""
    scene = picture()
    scene.info["icc_profile"] = rgb_profile(SWAPPED)
    options = given("inpaint") | {"image": scene, "output_type": "pil", "padding_mask_crop": crop}
    found = np.asarray(draw(painter, **options).images[0]).astype(float)
    assert "icc_profile" not in draw(painter, **options).images[0].info  # sRGB
    seen = pixels(see(scene))
    if crop is not None:
        np.testing.assert_array_equal(found[:, : SIZE // 4], seen[:, : SIZE // 4])
    assert np.abs(seen - np.asarray(scene)).max() > 30
    options["image"] = see(scene)
    np.testing.assert_array_equal(np.asarray(draw(painter, **options).images[0]), found)


def test_a_controlnet_reads_a_map():
    """Text to image has its map under the name that other pipelines have for a scene."""
    posed = pipeline_of("control", "mini")
    options = given("control") | {"num_inference_steps": 1, "guidance_scale": 1.0}
    clear = options["image"].convert("RGBA")
    clear.putalpha(Image.new("L", (SIZE, SIZE), 0))
    found = draw(posed, **options | {"image": clear}).images
    np.testing.assert_array_equal(found, draw(posed, **options | {"image": Image.new("RGB", (SIZE, SIZE))}).images)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((8, 8), 3.0), r"`image` <array \(8, 8\) float64>: floats must lie in \[0, 1\]"),
        (np.zeros((8, 8, 3), np.int64), "colours must be uint8, uint16, or floats"),
        (np.zeros((2, 3, 8, 5), np.uint8), "an array must have the shape"),
        (Image.new("RGBA", (0, 4)), "has no pixels"),
    ],
)
def test_what_is_no_picture_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        see(value)
