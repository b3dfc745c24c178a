"""Segmenters by name: ONNX files as rembg keeps them, what is said of files that are none, and confidence."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory import Subject
from anystory.subjects.cutout import BUILT_IN_SEGMENTERS, LOW_CONFIDENCE, soft_cutout
from anystory.subjects.onnx_header import read_onnx_header
from anystory.subjects.onnx_models import ONNX_MODELS, find_onnx
from anystory.subjects.onnx_segmenter import OnnxSegmenter
from anystory.subjects.segmenter import find_segmenter
from onnx_files import write_onnx


def red_on_grey(size: tuple[int, int] = (80, 60)) -> np.ndarray:
    """(H, W, 3): a red rectangle 30 wide and 40 high on stripes of grey, so that no border is plain."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels[:, ::2] = 160
    pixels[10:50, 20:50] = (220, 30, 30)
    return pixels


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where rembg's models are looked for."""
    folder = tmp_path / "u2net"
    monkeypatch.setenv("U2NET_HOME", str(folder))
    return folder


# --- what goes in and what comes out ---


@pytest.mark.parametrize("model", ONNX_MODELS)
def test_each_model_scales_its_input_in_its_own_way(tmp_path, model):
    """The weights undo the model's scaling: only with that one the map is the sigmoid of a sum of colours in [0, 1]."""
    weights, offset = (1.5, -2.0, 0.7), 0.4
    path = write_onnx(tmp_path / f"{model}.onnx", model=model, weights=weights, offset=offset)
    colour = np.array((200, 120, 40))
    found = OnnxSegmenter(path)(np.full((30, 40, 3), colour, np.uint8))
    assert found is not None
    probability = 1 / (1 + np.exp(-(np.dot(weights, colour / 200) + offset)))
    assert 0.5 < probability < 0.8
    np.testing.assert_allclose(found.matte, 255 * (probability - 0.2) / 0.6, atol=2)


def test_a_subject_is_found_at_the_picture_s_size(tmp_path):
    path = write_onnx(tmp_path / "u2netp.onnx")
    prepared = Subject(red_on_grey(), segmenter=str(path)).prepare(64)
    assert prepared.cutout == str(path)
    np.testing.assert_allclose(prepared.box, (20, 10, 50, 50), atol=2)
    assert prepared.confidence > LOW_CONFIDENCE


@pytest.mark.parametrize(
    ("model", "shape", "size"),
    [
        ("u2netp", (1, 3, 48, 64), (48, 64)),
        ("u2netp", ("batch", 3, "height", "width"), (320, 320)),
        ("isnet-general-use", (1, 3, "height", "width"), (1024, 1024)),
        ("silueta", (1, 3, 96, 96), (96, 96)),
    ],
)
def test_the_input_s_size_is_the_file_s(tmp_path, model, shape, size):
    segmenter = OnnxSegmenter(write_onnx(tmp_path / f"{model}.onnx", model=model, inputs=[shape]))
    assert (segmenter.height, segmenter.width) == size
    found = segmenter(red_on_grey())
    assert found is not None
    assert (found.matte[30, 35], found.matte[2, 2]) == (255, 0)


def test_the_header_names_inputs_and_outputs_in_order(tmp_path):
    header = read_onnx_header(write_onnx(tmp_path / "u2netp.onnx").read_bytes())
    assert header.inputs == (("input.1", (1, 3, 48, 64)),)
    assert [one.name for one in header.outputs] == ["1959", "1958", "1957", "1956", "1955", "1954", "1953"]


def test_where_nothing_stands_out_no_subject_is_found(tmp_path):
    path = write_onnx(tmp_path / "u2netp.onnx", offset=-99)
    with pytest.raises(ValueError, match="found no subject against its background"):
        Subject(red_on_grey(), segmenter=str(path)).prepare(64)


# --- where files are found ---


def test_a_model_is_found_by_its_name_where_rembg_keeps_it(home, tmp_path, monkeypatch):
    write_onnx(home / "u2netp.onnx")
    assert find_onnx("u2netp") == home / "u2netp.onnx"
    assert Subject(red_on_grey(), segmenter="u2netp").prepare(64).cutout == "u2netp"
    monkeypatch.delenv("U2NET_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path / "data" / ".u2net", tmp_path / ".u2net"):
        path = write_onnx(folder / "silueta.onnx")
        assert find_onnx("silueta") == path
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_a_model_is_found_in_a_folder_and_at_a_path(home, tmp_path):
    path = write_onnx(tmp_path / "models" / "my-isnet-anime.v2.onnx", model="isnet-anime")
    for name in (path, path.with_suffix(""), path.parent):
        segmenter = find_segmenter(str(name))
        assert isinstance(segmenter, OnnxSegmenter)
        assert segmenter.model.name == "isnet-anime"
    write_onnx(path.with_name("u2net.onnx"))
    with pytest.raises(ValueError, match=r"several ONNX files: .* \(my-isnet-anime.v2.onnx, u2net.onnx\)"):
        find_segmenter(str(path.parent))


def test_a_model_that_is_not_there_says_where_to_get_it(home):
    with pytest.raises(ValueError, match=r"there is no .*u2net/u2netp\.onnx\. `anystory models get u2netp` says where"):
        find_segmenter("u2netp")
    with pytest.raises(ValueError, match=r"segmenter 'nowhere/u2netp\.onnx': no such file"):
        find_segmenter("nowhere/u2netp.onnx")


# --- files that are none ---


def damaged(kind: str, folder: Path) -> Path:
    path = write_onnx(folder / "u2netp.onnx")
    data = path.read_bytes()
    content = {
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:309c\nsize 4574861\n",
        "page": b"<!DOCTYPE html><html><head><title>Not found</title></head></html>" * 20,
        "picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200),
        "zeros": bytes(4000),
        "no graph": data[:10],
        "half": data[: len(data) // 2],
        "without its end": data[:-30],
        "weights of another size": data.replace(b"\x08\x03\x08\x01\x08\x01", b"\x08\x03\x08\x02\x08\x01", 1),
        "unconnected": data.replace(b"w3", b"x3", 1),
        "no text": data.replace(b"sum3", b"su\xff3", 1),
        "unknown operator": data.replace(b"Sigmoid", b"Sagmoid"),
    }[kind]
    assert content != data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "empty", "text", "page", "picture", "zeros", "no graph", "half", "without its end", "weights of another size",
        "unconnected", "no text", "unknown operator",
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_gives_one_sentence(tmp_path, capfd, kind):
    path = damaged(kind, tmp_path)
    with pytest.raises(ValueError, match=r"u2netp\.onnx' is damaged or no ONNX file of u2netp \(.*models get") as told:
        OnnxSegmenter(path)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_as_long_as_the_published_one_but_another_is_told(tmp_path):
    path = write_onnx(tmp_path / "u2netp.onnx")
    data = path.read_bytes()
    room = ONNX_MODELS["u2netp"].bytes - len(data) - 6
    head = b"\x9a\x06" + bytes([room & 127 | 128, room >> 7 & 127 | 128, room >> 14 & 127 | 128, room >> 21])
    path.write_bytes(data + head + bytes(room))  # field 99, which nobody reads
    with pytest.warns(UserWarning, match=r"u2netp\.onnx' is as long as the published file but not the same"):
        assert OnnxSegmenter(path)(red_on_grey()) is not None
    other = path.rename(tmp_path / "my-u2netp.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OnnxSegmenter(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": [(1, 3, 32, 32), (1, 3, 32, 32)]}, r"expected one input .* takes \(1, 3, 32, 32\) and \(1, 3, 32"),
        ({"inputs": [(1, 3, 32)]}, r"expected one input \(1, 3, height, width\), it takes \(1, 3, 32\)"),
        ({"inputs": [(1, 3, 9000, 32)]}, "input is 32×9000; expected sides between 16 and 4096"),
        ({"channels": 4}, r"expected a first output \(1, 1, height, width\), it gives \(1, 4, 48, 64\)"),
        ({"sigmoid": False}, "its map is not made of probabilities"),
        ({"offset": float("nan")}, "the weight 'b0' holds NaN or infinity"),
    ],
)
def test_models_of_another_kind_are_refused(tmp_path, options, words):
    path = write_onnx(tmp_path / "u2netp.onnx", **options)
    with pytest.raises(ValueError, match=words):
        OnnxSegmenter(path)(red_on_grey())


def test_a_file_s_name_must_say_its_kind(tmp_path):
    with pytest.raises(ValueError, match=r"name must say which kind of model .*u2netp, u2net, .*isnet-anime into the"):
        find_segmenter(str(write_onnx(tmp_path / "model.onnx")))


def test_a_folder_named_like_a_file(tmp_path):
    (tmp_path / "u2netp.onnx").mkdir()
    with pytest.raises(ValueError, match=r"u2netp\.onnx' is a folder without a model"):
        find_segmenter(str(tmp_path / "u2netp.onnx"))


# --- confidence ---


def test_what_is_given_is_certain():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:50] = True
    given = Subject(red_on_grey(), mask).prepare(64)
    alpha = Subject(np.dstack((red_on_grey(), mask.astype(np.uint8) * np.uint8(255)))).prepare(64)
    whole = Subject(red_on_grey(), segmenter="none").prepare(64)
    assert [(one.cutout, one.confidence) for one in (given, alpha, whole)] == [("mask", 1), ("alpha", 1), ("none", 1)]


def camouflaged() -> Image.Image:
    """A disc of the same blotches as all around it, a little redder."""
    rng = np.random.default_rng(0)
    blotches = rng.integers(0, 256, (12, 16, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(blotches).resize((160, 120), Image.Resampling.BICUBIC)).astype(int)
    y, x = np.mgrid[:120, :160]
    pixels[(x - 80) ** 2 + (y - 60) ** 2 < 900] += (90, 0, 0)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_grabcut_knows_when_colours_do_not_tell():
    clear = BUILT_IN_SEGMENTERS["grabcut"](red_on_grey((160, 120)))
    unclear = BUILT_IN_SEGMENTERS["grabcut"](np.asarray(camouflaged()))
    assert clear is not None
    assert unclear is not None
    assert unclear.confidence < LOW_CONFIDENCE < 0.8 < clear.confidence


def test_an_uncertain_cut_out_is_said_once():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        prepared = [Subject(camouflaged()).prepare(size) for size in (32, 64)]
    assert [str(one.message).partition(":")[0] for one in told] == ["image <PIL RGB 160×120>"]
    assert f"by grabcut, confidence {prepared[0].confidence:.2f}" in str(told[0].message)
    assert "anystory cutout" in str(told[0].message)


def test_a_soft_map_is_less_certain_than_a_sharp_one():
    sharp = np.zeros((40, 40), np.uint8)
    sharp[10:30, 10:30] = 255
    soft = np.where(sharp > 0, 180, 60).astype(np.uint8)
    values = [soft_cutout(matte, "x") for matte in (sharp, soft)]
    assert [one and one.confidence for one in values] == [1.0, 0.0]
    assert soft_cutout(np.full((40, 40), 120, np.uint8), "x") is None


def test_haze_and_specks_are_no_part_of_the_subject():
    found = np.zeros((60, 80), np.uint8)
    found[10:50, 20:50] = 240
    found[30:40, 30:40] = 150  # where the network hesitates
    found[5:8, 60:75] = 100  # haze that surrounds nothing
    found[55, 70] = 255  # a speck
    cut = soft_cutout(found, "x")
    assert cut is not None
    np.testing.assert_array_equal(np.argwhere(cut.matte).min(0), (10, 20))
    np.testing.assert_array_equal(np.argwhere(cut.matte).max(0), (49, 49))
    assert (cut.matte[12, 22], cut.matte[35, 35]) == (255, 165)
