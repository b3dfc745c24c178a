"""`anystory generate --image`, `--mask` and several photos, and their replay, on a tiny model with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anystory import AnyStoryImg2ImgPipeline, AnyStoryInpaintPipeline, Subject
from anystory.cli.flags.photos import split_photos
from anystory.cli.flags.subject import parse_subjects
from anystory.engine.source import SourcePicture, load_source
from profiles import SWAPPED, in_srgb, rgb_profile

from .test_generate import generate, run

SIDE = 32
"""The tiny model's own size."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with a picture `scene.png` and a mask `mask.png` of its size, white in the right half."""
    folder = tmp_path / "scene"
    folder.mkdir()
    y, x = np.mgrid[:24, :32]
    rgb = np.stack([x * 8, y * 10, np.full_like(x, 99)], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "scene.png")
    Image.fromarray(((x >= 16) * 255).astype(np.uint8)).save(folder / "mask.png")
    return folder


def test_drawing_over_a_picture_is_the_pipelines(model, references, scene, tmp_path):
    out = tmp_path / "out"
    given = ["-s", references / "red.png", "--image", scene / "scene.png"]
    result = generate(model, out, *given, "--strength", 0.7, "--scale", "1:0.8", "--reference-scale", "1:1.5")
    assert result.exit_code == 0, result.output
    pipe = AnyStoryImg2ImgPipeline.from_pretrained(model, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        "f r",
        image=Image.open(scene / "scene.png"),
        strength=0.7,
        subjects=[Subject(references / "red.png", scale=0.8, reference_scale=1.5)],
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "0001.png")), np.asarray(expected))
    record = json.loads((out / "0001.json").read_text())
    assert (record["width"], record["height"], record["strength"], record["mask"]) == (32, 24, 0.7, None)
    assert record["image"]["original"] == str(scene / "scene.png")
    assert (record["subjects"][0]["scale"], record["subjects"][0]["reference_scale"]) == (0.8, 1.5)


def test_with_a_mask_the_rest_stays_pixel_for_pixel(model, references, scene, tmp_path):
    out = tmp_path / "out"
    given = ["-s", references / "red.png", "--image", scene / "scene.png", "--mask", scene / "mask.png"]
    result = generate(model, out, *given)
    assert result.exit_code == 0, result.output
    assert (out / "0001-routing.png").is_file()
    before, after = (np.asarray(Image.open(path)) for path in (scene / "scene.png", out / "0001.png"))
    assert np.array_equal(before[:, :16], after[:, :16])
    assert (before[:, 16:] != after[:, 16:]).mean() > 0.5
    pipe = AnyStoryInpaintPipeline.from_pretrained(model, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        "f r",
        image=Image.open(scene / "scene.png"),
        mask_image=Image.open(scene / "mask.png"),
        strength=1.0,
        width=32,
        height=24,
        subjects=[Subject(references / "red.png")],
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    np.testing.assert_array_equal(after[:, 16:], np.asarray(expected)[:, 16:])


def test_a_scene_with_a_profile_and_a_mask_in_an_alpha(model, references, scene, tmp_path):
    """What stays looks as it did: the result is sRGB, and says no other profile."""
    with Image.open(scene / "scene.png") as image:
        before = np.asarray(image)
        image.save(scene / "profiled.png", icc_profile=rgb_profile(SWAPPED))
    with Image.open(scene / "mask.png") as mask:
        black = Image.new("RGBA", mask.size, (0, 0, 0, 0))
        black.putalpha(mask)
        black.save(scene / "alpha.png")
    out, given = tmp_path / "out", ["-s", references / "red.png"]
    result = generate(model, out, *given, "--image", scene / "profiled.png", "--mask", scene / "alpha.png")
    assert result.exit_code == 0, result.output
    with Image.open(out / "0001.png") as drawn:
        assert "icc_profile" not in drawn.info
        stayed = np.asarray(drawn)[:, :16].astype(float)
    np.testing.assert_allclose(stayed, in_srgb(before, SWAPPED)[:, :16], atol=2)
    again = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert "byte for byte" in again.output


def test_replay_of_both_when_the_originals_are_gone(model, references, scene, tmp_path):
    out = tmp_path / "out"
    photos = f"{references / 'red.png'}+{references / 'blue.png'}:{references / 'blue-mask.png'}"
    given = ["-s", photos, "--image", scene / "scene.png"]
    for more in (["--strength", 0.6, "--size", "40x24"], ["--mask", scene / "mask.png"]):
        assert generate(model, out, *given, *more).exit_code == 0
    for folder in (references, scene):
        shutil.rmtree(folder)
    for number in (1, 2):
        result = run("replay", "--trust-paths", out / f"{number:04d}.json", "--out", tmp_path / "again")
        assert result.exit_code == 0, result.output
        assert "the same picture, byte for byte" in result.stdout
    again = json.loads((tmp_path / "again" / "0002.json").read_text())
    for file in (again["image"], again["mask"], *(photo["image"] for photo in again["subjects"][0]["more"])):
        assert (tmp_path / "again" / file["file"]).is_file()
    kept = json.loads((out / "0001.json").read_text())["image"]["file"]
    Image.new("RGB", (32, 24)).save(out / kept)
    result = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert f"{kept}: another content" in result.stdout


def test_a_base_without_subjects_draws_over_too(model, scene, tmp_path):
    assert generate(model, tmp_path / "out", "--image", scene / "scene.png").exit_code == 0


def test_several_photos_are_the_subjects_list(model, references, tmp_path):
    out = tmp_path / "out"
    red, blue, mask = (references / name for name in ("red.png", "blue.png", "blue-mask.png"))
    result = generate(model, out, "-s", f"{red}+{blue}:{mask}", "--no-sheet")
    assert result.exit_code == 0, result.output
    [subject] = json.loads((out / "0001.json").read_text())["subjects"]
    assert (subject["name"], subject["cutout"], [photo["cutout"] for photo in subject["more"]]) == (
        "red",
        "alpha",
        ["mask"],
    )


# --- refusals, all before anything is written ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "{red}"], "--image is missing: a mask and a strength say what of it is drawn over"),
        (["--strength", "0.5"], "--image is missing: a mask and a strength say what of it is drawn over"),
        (["--image", "nowhere.png"], "the picture to draw over 'nowhere.png': no such file"),
        (["--image", "{red}", "--mask", "{scene}"], "is 32×24, but the image"),
        (["--image", "{red}", "--size", "36"], "must be a multiple of 8, got 36"),
        (["--image", "{red}", "--strength", "0.2"], "`strength` 0.2 leaves none of 3 steps"),
        (["-s", "{red}", "--scale", "1"], "--scale must be I:VALUE, such as 1:0.8; got '1'"),
        (["-s", "{red}", "--scale", "1:strong"], "--scale must be I:VALUE"),
        (["-s", "{red}", "--scale", "1:-1"], "`scale` must be a number ≥ 0, got -1.0"),
        (["-s", "{red}", "--scale", "1:nan"], "`scale` must be a number ≥ 0, got nan"),
        (["-s", "{red}", "--reference-scale", "2:1"], "--reference-scale 2:1: there is no subject 2"),
        (["-s", "{red}", "--scale", "1:1", "--scale", "1:2"], "subject 1 has a scale already"),
        (["-s", "{red}+nowhere.png"], "nowhere.png: no such file"),
        (["-s", "{red}+{red}:nowhere.png"], "there is no mask 'nowhere.png'"),
    ],
)
def test_refusals(model, references, scene, tmp_path, arguments, message):
    paths = {"red": references / "red.png", "scene": scene / "scene.png"}
    result = generate(model, tmp_path / "out", *(argument.format(**paths) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


# --- parts ---


def test_a_plus_inside_a_name_is_no_separator(tmp_path):
    names = ["a+b.png", "c.png", "m+1.png"]
    odd, plain, mask = (tmp_path / name for name in names)
    for path in (odd, plain, mask):
        path.touch()
    assert split_photos(str(odd)) == [(odd, None)]
    assert split_photos(f"{odd}+{plain}:{mask}+{odd}:{plain}") == [(odd, None), (plain, mask), (odd, plain)]
    [subject] = parse_subjects([f"{plain}+{odd}"], [], ["1:0.5"])
    assert (subject.name, subject.settings) == ("c", {"scale": 0.5})
    assert subject.photos == ((plain, None), (odd, None))


def test_transparent_parts_are_white_and_a_grey_mask_mixes(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4), 128, np.uint8)).save(tmp_path / "m.png")
    source = load_source(tmp_path / "a.png", tmp_path / "m.png")
    assert source.image.getpixel((0, 0)) == (10, 20, 30)
    assert source.image.getpixel((3, 3)) == (255, 255, 255)
    mixed = source.keep_rest(Image.new("RGB", (4, 4), (110, 120, 130)))
    np.testing.assert_allclose(np.asarray(mixed)[0, 0], np.array([60, 70, 80]), atol=1)
    drawn = Image.new("RGB", (4, 4))
    assert SourcePicture(source.image, None).keep_rest(drawn) is drawn
