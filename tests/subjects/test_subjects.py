"""Subjects: every kind of picture in, a clean reference or a clear error out."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anystory import Subject
from anystory.subjects import fit_to_square
from anystory.subjects.pictures import MAX_PIXELS, load_mask, load_picture
from anystory.subjects.segmenter import _most_central

RED, BLUE, GREEN, WHITE = (200, 30, 30), (30, 30, 200), (30, 160, 30), (255, 255, 255)


def blob(background=WHITE, size=(80, 60), box=(20, 10, 50, 50), colour=RED) -> Image.Image:
    """A red rectangle 30 wide and 40 high on a plain background."""
    image = Image.new("RGB", size, background)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
    return image


def blob_mask(size=(80, 60), box=(20, 10, 50, 50)) -> Image.Image:
    return blob((0, 0, 0), size, box, WHITE).convert("L")


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(blob_mask(image.size))
    return image


def stored(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


def middle(prepared) -> tuple[int, ...]:
    side = prepared.image.width
    return prepared.image.getpixel((side // 2, side // 2))


def assert_is_the_blob(prepared, colour=RED, tolerance=3):
    """The 30 × 40 rectangle, cut out, over white, 4:3 upright in the square with 3/64 of margin above and below."""
    assert prepared.box == (20, 10, 50, 50)
    assert prepared.image.mode == "RGB"
    assert np.abs(np.subtract(middle(prepared), colour)).max() <= tolerance
    pixels = np.asarray(prepared.image).astype(int)
    np.testing.assert_allclose(pixels[prepared.mask == 0], 255, atol=1)
    side = prepared.image.width
    height = side / (1 + 6 / 64)
    assert prepared.mask.mean() * side * side == pytest.approx(height * height * 3 / 4, rel=0.06)


# --- what a subject may be given as ---


def png(image, path):
    return stored(image, path / "a.png")


SOURCES = {
    "path": lambda path: stored(with_alpha(blob()), path / "a.png"),
    "string": lambda path: str(stored(with_alpha(blob()), path / "a.png")),
    "webp": lambda path: stored(with_alpha(blob()), path / "a.webp", lossless=True),
    "pil": lambda path: with_alpha(blob()),
    "uint8 array": lambda path: np.asarray(with_alpha(blob())),
    "float array": lambda path: np.asarray(with_alpha(blob())) / 255,
    "float16 array": lambda path: (np.asarray(with_alpha(blob())) / 255).astype(np.float16),
    "uint16 array": lambda path: np.asarray(with_alpha(blob())).astype(np.uint16) * 257,
    "uint8 tensor": lambda path: torch.from_numpy(np.array(with_alpha(blob()))).permute(2, 0, 1),
    "float tensor": lambda path: torch.from_numpy(np.array(with_alpha(blob()))).permute(2, 0, 1) / 255,
    "bfloat16 tensor": lambda path: (torch.from_numpy(np.array(with_alpha(blob()))).permute(2, 0, 1) / 255).bfloat16(),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sources(kind, tmp_path):
    prepared = Subject(SOURCES[kind](tmp_path)).prepare(72)
    assert prepared.cutout == "alpha"
    assert_is_the_blob(prepared)


@pytest.mark.parametrize("size", [16, 64, 225])
def test_any_size(size):
    prepared = Subject(with_alpha(blob())).prepare(size)
    assert prepared.image.size == (size, size)
    assert prepared.mask.shape == (size, size)
    assert prepared.mask.dtype == np.float32
    assert prepared.mask.min() >= 0
    assert prepared.mask.max() == 1


# --- colour modes and formats ---


def test_palette_with_transparency(tmp_path):
    palette = Image.new("P", (80, 60), 0)
    palette.putpalette([*WHITE, *RED])
    palette.paste(1, (20, 10, 50, 50))
    path = stored(palette, tmp_path / "p.png", transparency=0)
    assert Image.open(path).mode == "P"
    prepared = Subject(path).prepare(72)
    assert prepared.cutout == "alpha"
    assert_is_the_blob(prepared)


def test_palette_without_transparency(tmp_path):
    path = stored(blob().convert("P"), tmp_path / "p.gif")
    prepared = Subject(path).prepare(72)
    assert prepared.cutout == "border"
    assert_is_the_blob(prepared, tolerance=30)  # dithered: the web palette has no such red


def test_grey_with_transparent_colour(tmp_path):
    path = stored(blob(colour=(90, 90, 90)).convert("L"), tmp_path / "g.png", transparency=255)
    prepared = Subject(path).prepare(72)
    assert prepared.cutout == "alpha"
    assert_is_the_blob(prepared, (90, 90, 90))


def test_sixteen_bit_grey(tmp_path):
    grey = np.full((60, 80), 65535, np.uint16)
    grey[10:50, 20:50] = 120 * 257
    path = stored(Image.fromarray(grey), tmp_path / "g16.png")
    assert Image.open(path).mode == "I;16"
    assert_is_the_blob(Subject(path).prepare(72), (120, 120, 120))


def test_cmyk(tmp_path):
    path = stored(blob().convert("CMYK"), tmp_path / "c.jpg", quality=95)
    assert Image.open(path).mode == "CMYK"
    prepared = Subject(path, blob_mask()).prepare(72)
    assert_is_the_blob(prepared, tolerance=12)


def test_grey_and_alpha(tmp_path):
    grey = blob(colour=(90, 90, 90)).convert("LA")
    grey.putalpha(blob_mask())
    assert_is_the_blob(Subject(stored(grey, tmp_path / "la.png")).prepare(72), (90, 90, 90))
    assert_is_the_blob(Subject(np.asarray(grey)).prepare(72), (90, 90, 90))


@pytest.mark.parametrize("mode", ["1", "L", "F", "I", "HSV", "YCbCr", "RGBX", "RGBa", "La", "PA"])
def test_every_pil_mode_is_read(mode):
    image = {
        "F": lambda: Image.fromarray(np.asarray(blob().convert("L"), np.float32) / 255),
        "I": lambda: Image.fromarray(np.asarray(blob().convert("L"), np.int32) * 257),
        "RGBa": lambda: with_alpha(blob()).convert("RGBa"),
        "La": lambda: with_alpha(blob()).convert("LA").convert("La"),
        "PA": lambda: with_alpha(blob()).convert("PA"),
    }.get(mode, lambda: blob().convert(mode))()
    assert image.mode == mode
    assert Subject(image, blob_mask()).prepare(72).box == (20, 10, 50, 50)


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90°: viewers turn it back clockwise
    path = stored(blob().transpose(Image.Transpose.ROTATE_90), tmp_path / "e.jpg", exif=exif, quality=95)
    assert Image.open(path).size == (60, 80)
    left, top, right, bottom = Subject(path).prepare(72).box
    np.testing.assert_allclose((left, top, right, bottom), (20, 10, 50, 50), atol=1)
    # A mask drawn on what the user saw has the turned size.
    assert Subject(path, blob_mask()).prepare(72).box == (20, 10, 50, 50)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_give_their_first_frame_and_a_warning(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    blob().save(path, save_all=True, append_images=[blob(colour=BLUE), blob(colour=GREEN)], lossless=True)
    with pytest.warns(UserWarning, match="3 frames: only frame 1 is used"):
        prepared = Subject(path).prepare(72)
    assert_is_the_blob(prepared)


# --- which way the subject is found ---


def test_an_opaque_alpha_is_no_alpha():
    prepared = Subject(blob().convert("RGBA")).prepare(72)
    assert prepared.cutout == "border"
    assert_is_the_blob(prepared)


def test_a_mask_goes_before_the_alpha():
    half = blob_mask(box=(20, 10, 50, 30))
    prepared = Subject(with_alpha(blob()), half).prepare(72)
    assert prepared.cutout == "mask"
    assert prepared.box == (20, 10, 50, 30)


def test_transparent_pixels_stay_out_whatever_the_mask_says():
    everything = np.ones((60, 80), bool)
    assert_is_the_blob(Subject(with_alpha(blob(GREEN)), everything).prepare(72))


MASKS = {
    "bool array": lambda: np.asarray(blob_mask()) > 0,
    "zeros and ones": lambda: (np.asarray(blob_mask()) > 0).astype(np.int64),
    "uint8 array": lambda: np.asarray(blob_mask()),
    "float array": lambda: np.asarray(blob_mask()) / 255,
    "PIL 1": lambda: blob_mask().convert("1"),
    "PIL RGB": lambda: blob_mask().convert("RGB"),
    "bool tensor": lambda: torch.from_numpy(np.array(blob_mask()) > 0),
    "tensor with a channel": lambda: torch.from_numpy(np.array(blob_mask()))[None] / 255,
    "PIL RGBA": lambda: with_alpha(Image.new("RGB", (80, 60), WHITE)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind):
    assert_is_the_blob(Subject(blob(GREEN), MASKS[kind]()).prepare(72))


def test_soft_edges_stay_soft():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[5:35, 5:35] = 255
    alpha[5:35, 20:35] = 128
    rgba = np.dstack([np.zeros((40, 40, 3), np.uint8), alpha])
    prepared = Subject(rgba).prepare(64)
    assert prepared.mask[32, 20] == pytest.approx(1)
    assert prepared.mask[32, 44] == pytest.approx(128 / 255, abs=0.01)
    assert prepared.image.getpixel((44, 32)) == pytest.approx((127,) * 3, abs=2)  # black, half over white


def test_white_inside_the_subject_survives_a_white_border():
    image = blob()
    ImageDraw.Draw(image).rectangle((28, 20, 41, 39), fill=WHITE)
    prepared = Subject(image).prepare(72)
    assert prepared.cutout == "border"
    assert middle(prepared) == WHITE
    assert prepared.mask[36, 36] == 1


def test_a_plain_border_may_be_noisy_and_the_subject_may_stand_on_an_edge():
    noise = np.random.default_rng(0).integers(-8, 9, (60, 80, 3))
    pixels = np.asarray(blob(GREEN, box=(20, 10, 50, 60))) + noise
    prepared = Subject(pixels.clip(0, 255).astype(np.uint8)).prepare(72)
    assert prepared.cutout == "border"
    assert prepared.box == (20, 10, 50, 60)


def test_jpeg_on_white(tmp_path):
    path = stored(blob(), tmp_path / "a.jpg", quality=70)
    prepared = Subject(path).prepare(72)
    np.testing.assert_allclose(prepared.box, (20, 10, 50, 50), atol=2)


def busy(size=(160, 120)) -> Image.Image:
    """A red disc before two stripes of background colour: no side is plain."""
    ramp = np.linspace(40, 220, size[0])[None, :, None]
    pixels = np.concatenate([np.full((size[1] // 2, size[0], 3), (60, 90, 200)) * 0 + ramp * (0.3, 0.5, 1)] * 2)
    pixels[size[1] // 2 :] = ramp * (0.3, 0.9, 0.3)
    image = Image.fromarray(pixels.astype(np.uint8))
    ImageDraw.Draw(image).ellipse((50, 25, 110, 95), fill=RED)
    return image


def test_grabcut_finds_a_subject_on_a_busy_background():
    prepared = Subject(busy()).prepare(64)
    assert prepared.cutout == "grabcut"
    np.testing.assert_allclose(prepared.box, (50, 25, 111, 96), atol=3)
    assert np.abs(np.subtract(middle(prepared), RED)).max() <= 3


def test_grabcut_is_the_same_every_time():
    rng = np.random.default_rng(1)
    image = Image.fromarray((np.asarray(busy()) + rng.integers(0, 30, (120, 160, 3))).clip(0, 255).astype(np.uint8))
    first, second = (Subject(image, segmenter="grabcut").prepare(64).mask for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_none_takes_the_whole_picture():
    prepared = Subject(blob(GREEN), segmenter="none").prepare(72)
    assert (prepared.cutout, prepared.box) == ("none", (0, 0, 80, 60))


def test_border_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="found no subject.*'border'"):
        Subject(busy(), segmenter="border").prepare(64)


@pytest.mark.parametrize("segmenter", ["auto", "border", "grabcut"])
def test_a_picture_of_nothing(segmenter):
    with pytest.raises(ValueError, match="found no subject against its background.*mask"):
        Subject(Image.new("RGB", (50, 50), GREEN), segmenter=segmenter).prepare(64)


def test_a_model_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="segmenter.*cannot be used as an image-segmentation model.*safetensors"):
        Subject(blob(), segmenter=str(tmp_path / "nothing")).prepare(64)


def test_a_model_by_name(tmp_path):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 1], mlp_ratios=[1, 1], decoder_hidden_size=8, id2label={0: "background", 1: "fox"},
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config)
    # Every pixel is a fox's.
    torch.nn.init.zeros_(model.decode_head.classifier.weight)
    model.decode_head.classifier.bias = torch.nn.Parameter(torch.tensor([-9.0, 9.0]))
    model.save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    prepared = Subject(blob(), segmenter=str(tmp_path)).prepare(64)
    assert (prepared.cutout, prepared.box) == (str(tmp_path), (0, 0, 80, 60))


def test_of_a_models_segments_the_central_one_is_the_subject():
    def mask(*box):
        return blob_mask(box=box)

    segments = [
        {"label": "fox", "mask": mask(0, 0, 20, 60)},
        {"label": "bear", "mask": mask(30, 20, 50, 40)},
        {"label": "background", "mask": mask(0, 0, 80, 60)},
    ]
    assert _most_central(segments) is segments[1]
    assert _most_central(segments[2:]) is None


# --- refused pictures ---


@pytest.mark.parametrize("size", [17, 72])
@pytest.mark.parametrize(
    "given",
    [
        lambda: Subject(with_alpha(blob())),
        lambda: Subject(blob(GREEN), blob_mask(), name="Ann", scale=0.5),
        lambda: Subject(busy()),
        lambda: Subject(blob(GREEN), segmenter="none"),
        lambda: Subject([with_alpha(blob()), blob(GREEN)], [None, blob_mask()]),
    ],
)
def test_a_subject_that_was_read_is_prepared_alike(given, size):
    subject, read = given(), given().read()
    assert (read.name, read.scale, read.segmenter) == (subject.name, subject.scale, subject.segmenter)
    assert len(read.photos) == len(subject.photos)
    assert repr(read.image) == repr(read.read().image)
    for one, other in zip(subject.photos, read.photos, strict=True):
        before, after = one.prepare(size), other.prepare(size)
        np.testing.assert_array_equal(np.asarray(after.image), np.asarray(before.image))
        np.testing.assert_array_equal(after.mask, before.mask)
        for entry in ("sha256", "cutout", "confidence", "box"):
            assert getattr(after, entry) == getattr(before, entry)


def test_a_subject_that_was_read_needs_its_files_no_more(tmp_path):
    path, mask = stored(blob(GREEN), tmp_path / "fox.png"), stored(blob_mask(), tmp_path / "mask.png")
    read = Subject(path, mask).read()
    path.unlink()
    mask.unlink()
    assert_is_the_blob(read.prepare(72))
    assert repr(read) == f"Subject({str(path)!r})"
    with pytest.raises(FileNotFoundError):
        Subject(path).read()


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"fox\.png.*no such file"):
        Subject(tmp_path / "fox.png").prepare(64)


def test_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        Subject(tmp_path).prepare(64)


@pytest.mark.parametrize("data", [b"", b"hello, I am a text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_not_a_picture(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png.*not a picture that can be read"):
        Subject(path).prepare(64)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, Image.registered_extensions()[f".{suffix}"])
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * kept)])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}.*(damaged|not a picture)"):
        Subject(path, segmenter="none").prepare(64)


def png_claiming(width: int, height: int) -> bytes:
    """A tiny file whose header promises a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8001, 10_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    with pytest.raises(ValueError, match=f"too large.*{MAX_PIXELS:,} pixels"):
        Subject(path).prepare(64)


def test_a_long_thin_picture_costs_no_square():
    strip = np.zeros((2, 2_000_000, 3), np.uint8)
    prepared = Subject(strip, segmenter="none").prepare(32)
    assert prepared.mask.any()


BAD_ARRAYS = {
    "NaN": (np.full((4, 4, 3), np.nan), "16|48.*NaN"),
    "infinite": (np.full((4, 4, 3), np.inf), "NaN or infinite"),
    "0…255 floats": (np.full((4, 4, 3), 200.0), r"\[0, 1\].*x / 255"),
    "-1…1 floats": (np.full((4, 4, 3), -1.0), r"\[0, 1\].*\(x \+ 1\) / 2"),
    "ints": (np.zeros((4, 4, 3), np.int64), "uint8.*int64"),
    "bools": (np.zeros((4, 4), bool), "uint8.*bool"),
    "objects": (np.full((4, 4), None), "uint8.*object"),
    "channels first": (np.zeros((3, 20, 20), np.uint8), "channels come last.*transpose"),
    "batch": (np.zeros((2, 20, 20, 3), np.uint8), "take one of the batch"),
    "five channels": (np.zeros((20, 20, 5), np.uint8), r"\(20, 20, 5\)"),
    "no pixels": (np.zeros((0, 20, 3), np.uint8), "no pixels.*20×0"),
    "no float pixels": (np.zeros((0, 20, 3)), "no pixels.*20×0"),
    "tensor batch": (torch.zeros(1, 3, 8, 8), "take one of the batch"),
    "tensor channels last": (torch.zeros(8, 9, 3), r"\(C, H, W\).*\(8, 9, 3\)"),
    "NaN tensor": (torch.full((3, 8, 8), torch.nan), "NaN"),
    "PIL without pixels": (Image.new("RGB", (0, 7)), "no pixels.*0×7"),
    "PIL floats": (Image.fromarray(np.full((4, 4), 3.5, np.float32)), r"\[0, 1\].*x / 255"),
    "PIL 32 bit": (Image.fromarray(np.full((4, 4), 70000, np.int32)), "0…65535.*70000"),
    "number": (7, "expected a path"),
    "nothing": (None, "expected a path"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays(kind):
    source, message = BAD_ARRAYS[kind]
    with pytest.raises(ValueError, match=message):
        Subject(source).prepare(64)


def test_too_large_an_array():
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (8001, 8000, 3))  # a view: no memory is used
    with pytest.raises(ValueError, match="too large: 8000×8001"):
        load_picture(huge)


def test_fully_transparent():
    image = blob()
    image.putalpha(0)
    with pytest.raises(ValueError, match="all of it is transparent"):
        Subject(image).prepare(64)


# --- refused masks ---


def test_empty_mask():
    with pytest.raises(ValueError, match="mask .* is empty.*brightest is 90 of 255.*white where the subject is"):
        Subject(blob(), np.full((60, 80), 90, np.uint8)).prepare(64)


def test_mask_of_another_size():
    with pytest.raises(ValueError, match="mask .* is 60×80, but its picture .* is 80×60"):
        Subject(blob(), blob_mask((60, 80))).prepare(64)


def test_mask_of_transparent_pixels_only():
    with pytest.raises(ValueError, match="covers only transparent pixels"):
        Subject(with_alpha(blob()), blob_mask(box=(0, 0, 10, 10))).prepare(64)


def test_mask_with_nan():
    with pytest.raises(ValueError, match="mask .*NaN"):
        load_mask(np.full((4, 4), np.nan))


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": -0.1}, "`scale` must be a number ≥ 0, got -0.1"),
        ({"scale": float("nan")}, "`scale`.*nan"),
        ({"scale": True}, "`scale`.*True"),
        ({"reference_scale": "strong"}, "`reference_scale`.*'strong'"),
        ({"scale_start": 0.6, "scale_end": 0.5}, "`scale_start` and `scale_end`.*0.6 and 0.5"),
        ({"reference_end": 1.5}, "`reference_start` and `reference_end`.*1.5"),
        ({"name": " "}, "`name`"),
        ({"segmenter": None}, "`segmenter`.*None"),
        ({"region": (0, 0, 1)}, "`region`.*four numbers"),
        ({"region": (0, 0, 40, 60)}, "fractions of width and height, not pixels"),
        ({"region": (0.5, 0, 0.5, 1)}, "x0 < x1"),
        ({"region": (0, float("nan"), 1, 1)}, "`region`"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Subject("fox.png", **settings)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match="`size`"):
        Subject(blob()).prepare(size)


def test_repr_is_short_and_names_what_differs():
    assert repr(Subject("fox.png")) == "Subject('fox.png')"
    subject = Subject(np.zeros((9, 9, 3), np.uint8), name="Ann", scale=0.5, region=(0.0, 0.0, 0.5, 1.0))
    assert repr(subject) == "Subject(<array (9, 9, 3) uint8>, name=Ann, scale=0.5, region=(0.0, 0.0, 0.5, 1.0))"
    assert len(repr(Subject(blob()).prepare(64))) < 120


# --- regions ---


def test_a_box_covers_pixels_by_their_share():
    mask = Subject(blob(), region=(0.25, 0.0, 0.625, 0.5)).region_mask(4, 4)
    assert mask.dtype == np.float32
    np.testing.assert_allclose(mask, [[0, 1, 0.5, 0]] * 2 + [[0] * 4] * 2)


@pytest.mark.parametrize("as_box", [list, np.array])
def test_boxes_may_be_lists_and_arrays(as_box):
    assert Subject(blob(), region=as_box([0.0, 0.0, 0.5, 1.0])).region_mask(8, 8).mean() == pytest.approx(0.5)


@pytest.mark.parametrize("size", [(30, 40), (120, 160), (60, 80)])
def test_a_mask_region_is_stretched_to_the_picture(size):
    mask = Subject(blob(), region=blob_mask()).region_mask(*size)
    assert mask.shape == size
    assert mask.mean() == pytest.approx(30 * 40 / (80 * 60), rel=0.02)
    assert mask[size[0] // 2, size[1] // 2] == 1


def test_an_empty_region_is_refused():
    with pytest.raises(ValueError, match="region .* is empty"):
        Subject(blob(), region=np.zeros((8, 8), bool)).region_mask(8, 8)
    with pytest.raises(ValueError, match="no region"):
        Subject(blob()).region_mask(8, 8)


# --- hashes and the fit ---


def test_the_hash_is_that_of_the_file(tmp_path):
    import hashlib

    path = png(blob(), tmp_path)
    assert load_picture(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_hash_of_pixels_tells_shapes_apart():
    flat = np.zeros((2, 8, 3), np.uint8)
    assert load_picture(flat).sha256 != load_picture(flat.reshape(4, 4, 3)).sha256
    assert load_picture(flat).sha256 == load_picture(Image.fromarray(flat)).sha256


def test_fit_without_margin_fills_the_square():
    rgb = np.zeros((10, 20, 3), np.uint8)
    matte = np.full((10, 20), 255, np.uint8)
    image, mask, box = fit_to_square(rgb, matte, 20, margin=0)
    np.testing.assert_array_equal(mask, np.pad(np.ones((10, 20)), ((5, 5), (0, 0))))
    np.testing.assert_array_equal(np.asarray(image)[..., 0], 255 * (1 - mask))
    assert box == (0, 0, 20, 10)


# --- several photos ---


def test_photos_are_subjects_of_one_picture_each():
    both = Subject([blob(), with_alpha(blob(GREEN))], [blob_mask(), None], name="Ann", scale=0.5)
    first, second = both.photos
    assert (first.image, first.mask is None, second.mask) == (both.image[0], False, None)
    assert (second.name, second.scale) == ("Ann", 0.5)
    assert first.photos == (first,)
    assert [photo.prepare(64).cutout for photo in both.photos] == ["mask", "alpha"]
    assert repr(both).startswith("Subject([<PIL RGB ")
    with pytest.raises(ValueError, match="has 2 photos: prepare each of its `photos`"):
        both.prepare(64)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ([], None, "`image` must be a picture or a list of at least one, got \\[\\]"),
        ([["a.png"]], None, "`image` must be a picture or a list of at least one"),
        ("a.png", ["m.png"], "`mask` must be one mask for one picture, got a list of 1"),
        (["a.png", "b.png"], "m.png", "`mask` must be a list with a mask or None for each of 2 photos, got 'm.png'"),
        (["a.png", "b.png"], ["m.png"], "`mask` must be a list with a mask or None for each of 2 photos"),
    ],
)
def test_photos_and_masks_that_do_not_match(image, mask, message):
    with pytest.raises(ValueError, match=message):
        Subject(image, mask)
