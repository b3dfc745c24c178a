"""Pictures with a colour profile, wherever they are read."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from anystory.data.pixels import ReadLimits, decode_mask, decode_picture
from anystory.subjects import Subject
from anystory.subjects.pictures import load_mask, load_picture
from profiles import P3, SWAPPED, cmyk_profile, encoded, grey_profile, in_srgb, rgb_profile


def colours() -> np.ndarray:
    """Many colours, none at the border of what sRGB holds."""
    steps = np.linspace(60, 200, 8).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(32, 16, 3)


def saved(image: Image.Image, profile: bytes, suffix: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, suffix, icc_profile=profile)
    return data.getvalue()


@pytest.fixture
def p3(tmp_path):
    """A file in Display P3."""
    path = tmp_path / "p3.png"
    path.write_bytes(saved(Image.fromarray(colours()), rgb_profile(P3)))
    return path


def test_a_file_is_read_in_srgb(p3):
    found = load_picture(p3).rgb.astype(float)
    np.testing.assert_allclose(found, in_srgb(colours()), atol=2)
    assert np.abs(found - colours()).max() > 15
    np.testing.assert_array_equal(load_picture(Image.open(p3)).rgb, found)


def test_training_pictures_too(p3):
    found = decode_picture(p3.read_bytes(), "p3.png", ReadLimits())
    np.testing.assert_array_equal(found, load_picture(p3).rgb)


def test_references_too(tmp_path):
    red = Image.new("RGB", (64, 64), "white")
    red.paste((250, 20, 20), (16, 16, 48, 48))
    (tmp_path / "red.png").write_bytes(saved(red, rgb_profile(SWAPPED)))
    centre = np.asarray(Subject(tmp_path / "red.png").photos[0].prepare(64).image)[32, 32]
    assert centre[2] > 200 > 100 > centre[0]


def test_alpha_and_rotation_stay(tmp_path):
    rgba = Image.fromarray(colours())
    alpha = np.zeros((32, 16), np.uint8)
    alpha[:8] = 255
    alpha[8] = 100
    rgba.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    rgba.save(tmp_path / "p3.png", icc_profile=rgb_profile(P3), exif=exif)
    picture = load_picture(tmp_path / "p3.png")
    np.testing.assert_array_equal(picture.alpha, np.rot90(alpha, -1))
    np.testing.assert_allclose(picture.rgb, np.rot90(in_srgb(colours()), -1), atol=2)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_modes_that_are_not_rgb(mode):
    """A grey photo saved with a profile for colours, a palette with one."""
    grey = Image.fromarray(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16))
    image = grey.convert(mode)
    image.info["icc_profile"] = rgb_profile(P3)
    found = load_picture(image).rgb
    expected = in_srgb(np.asarray(image.convert("RGB")))
    np.testing.assert_allclose(found, expected, atol=2)


@pytest.mark.parametrize("sixteen_bits", [False, True])
def test_greys_with_a_profile_of_their_own(sixteen_bits):
    greys = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)
    image = Image.fromarray(greys.astype(np.uint16) * 257) if sixteen_bits else Image.fromarray(greys)
    image.info["icc_profile"] = grey_profile(1.5)
    found = load_picture(image).rgb
    np.testing.assert_allclose(found[1:, :, 0], encoded((greys[1:] / 255) ** 1.5), atol=2)
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("suffix", ["JPEG", "TIFF"])
def test_inks(tmp_path, suffix):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[4:8, :, 3] = 128  # half black
    inks[8:12, :, 1] = 255  # all of one ink: L* = 50
    path = tmp_path / "print"
    path.write_bytes(saved(Image.fromarray(inks, "CMYK"), cmyk_profile(), suffix))
    found = load_picture(path).rgb
    for rows, lightness in ((slice(1, 3), 100.0), (slice(5, 7), 100 * (1 - 128 / 255)), (slice(9, 11), 50.0)):
        light = ((lightness + 16) / 116) ** 3
        np.testing.assert_allclose(found[rows], encoded(np.full((2, 16, 3), light)), atol=3)


def test_srgb_under_any_name_leaves_every_pixel():
    image = Image.fromarray(colours())
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load_picture(image).rgb, colours())


@pytest.mark.parametrize(
    ("mode", "profile", "reason"),
    [
        ("RGB", b"nothing", "cannot open profile"),
        ("RGB", rgb_profile()[:200], "cannot"),
        ("CMYK", rgb_profile(), "it is for RGB, the picture is CMYK"),
        ("RGB", grey_profile(1.8), "it is for GRAY, the picture is RGB"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said_and_passed_over(mode, profile, reason):
    image = Image.fromarray(colours()).convert(mode)
    plain = load_picture(image).rgb
    image.info["icc_profile"] = profile
    with pytest.warns(UserWarning, match=rf"its colour profile cannot be used \(.*{reason}.*taken for sRGB"):
        found = load_picture(image).rgb
    np.testing.assert_array_equal(found, plain)


def test_masks_hold_no_colours():
    greys = np.linspace(0, 255, 1024).astype(np.uint8).reshape(32, 32)
    data = saved(Image.fromarray(greys), grey_profile(1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode_mask(data, "mask.png", ReadLimits()), greys)
        np.testing.assert_array_equal(load_mask(Image.open(io.BytesIO(data))), greys)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_a_mask_in_the_alpha(colour):
    """In one colour, black too, with anything under what cannot be seen."""
    alpha = np.zeros((16, 16), np.uint8)
    alpha[4:8], alpha[8] = 255, 90
    rgba = np.full((16, 16, 4), 77, np.uint8)
    rgba[alpha > 0, :3] = colour
    rgba[..., 3] = alpha
    np.testing.assert_array_equal(load_mask(Image.fromarray(rgba)), alpha)
    np.testing.assert_array_equal(decode_mask(saved(Image.fromarray(rgba), b""), "m.png", ReadLimits()), alpha)
