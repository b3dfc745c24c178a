"""Reading a sample: what comes out, and each thing that is refused."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from anystory.data.bad_samples import BadSample
from anystory.data.pixels import ReadLimits, decode_mask, encode_png
from anystory.data.reading import read_sample
from anystory.data.records import MOST_SUBJECTS, SampleRecord
from data.samples import jpeg, make_sample

Files = dict[str, bytes]


def npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def tiff(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "TIFF")
    return data.getvalue()


def grey(size: tuple[int, int], value: int) -> bytes:
    return encode_png(np.full(size, value, np.uint8))


def test_a_good_sample_is_what_its_files_show() -> None:
    record, files = make_sample("a", place="a/place.png")
    files["a/place.png"] = grey((20, 30), 7)
    sample = read_sample(record, files.__getitem__)
    assert np.array_equal(sample.image, np.asarray(Image.open(io.BytesIO(files["a/target.png"]))))
    assert sample.masks.shape == (2, 48, 64)
    assert sample.masks.dtype == bool
    assert sample.masked
    assert sample.masks[1][20].nonzero()[0].tolist() == list(range(34, 62))
    assert [photos[0].shape for photos in sample.references] == [(40, 30, 4)] * 2
    for photos in sample.references:
        assert np.array_equal(photos[0][..., 3].nonzero()[0].min(), 4)
        assert photos[0][..., 3].max() == 255
    assert sample.place is not None
    assert sample.place.shape == (20, 30, 3)
    assert (sample.caption, sample.licence, sample.key) == ("2 things", "CC0-1.0", "a")


def test_a_lone_subject_without_a_mask_owns_every_pixel() -> None:
    record, files = make_sample("a", subjects=1)
    record = record.model_copy(update={"subjects": (record.subjects[0].model_copy(update={"mask": None}),)})
    sample = read_sample(record, files.__getitem__)
    assert sample.masks.all()
    assert not sample.masked


def test_a_little_overlap_goes_to_the_later_subject() -> None:
    record, files = make_sample("a")
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 29:62] = 255  # subject 0 ends at 30: one column of 28 is shared
    files["a/mask1.png"] = encode_png(mask)
    masks = read_sample(record, files.__getitem__).masks
    assert not (masks[0] & masks[1]).any()
    assert masks[1].sum() == 32 * 33


def test_every_photo_of_a_subject_is_read() -> None:
    record, files = make_sample("a", subjects=1)
    subject = record.subjects[0]
    photos = (*subject.references, subject.references[0].model_copy(update={"image": "more.png"}))
    record = record.model_copy(update={"subjects": (subject.model_copy(update={"references": photos}),)})
    with pytest.raises(BadSample, match=r"reference more\.png is missing"):
        read_sample(record, files.__getitem__)
    files["more.png"] = grey((20, 20), 3)
    assert [photo.shape for photo in read_sample(record, files.__getitem__).references[0]] == [(40, 30, 4), (20, 20, 4)]


def test_masks_of_other_kinds_mean_the_same() -> None:
    wanted = np.zeros((4, 6), bool)
    wanted[1:3, 2:5] = True
    colour = np.zeros((4, 6, 4), np.uint8)
    colour[wanted] = 255
    kinds = {"a.npy": npy(wanted), "b.npy": npy(wanted.astype(np.float32)), "c.png": encode_png(colour)}
    kinds["d.tif"] = tiff(wanted.astype(np.float32))
    for name, data in kinds.items():
        assert np.array_equal(decode_mask(data, name, ReadLimits()) > 127, wanted), name


def rename(record: SampleRecord, **changes: str) -> SampleRecord:
    """Change the first subject's `mask` or the sample's fields."""
    mask = changes.pop("mask", record.subjects[0].mask)
    first = record.subjects[0].model_copy(update={"mask": mask})
    return record.model_copy(update={**changes, "subjects": (first, *record.subjects[1:])})


def without(name: str) -> Callable[[SampleRecord, Files], SampleRecord]:
    def change(record: SampleRecord, files: Files) -> SampleRecord:
        del files[name]
        return record

    return change


def put(name: str, data: bytes) -> Callable[[SampleRecord, Files], SampleRecord]:
    """Give a file of the sample another content; under a new name it becomes the target or the first mask."""

    def change(record: SampleRecord, files: Files) -> SampleRecord:
        files[name] = data
        if name.startswith("new-mask"):
            return rename(record, mask=name)
        return rename(record, image=name) if name.startswith("new") else record

    return change


def cut(name: str) -> Callable[[SampleRecord, Files], SampleRecord]:
    def change(record: SampleRecord, files: Files) -> SampleRecord:
        files[name] = files[name][: len(files[name]) * 2 // 3]
        return record

    return change


def with_nan(dtype: type) -> np.ndarray:
    array = np.full((48, 64), 0.5, dtype)
    array[3, 4] = np.nan
    return array


DEFECTS = {
    "missing target": (without("a/target.png"), "missing_file", "file a/target.png is missing"),
    "missing mask": (without("a/mask1.png"), "missing_file", "a/mask1.png"),
    "missing reference": (without("a/photo1.jpeg"), "missing_reference", "reference a/photo1.jpeg is missing"),
    "missing reference mask": (without("a/photo1-mask.png"), "missing_file", "a/photo1-mask.png"),
    "truncated target": (cut("a/target.png"), "unreadable_image", "a/target.png"),
    "truncated reference": (cut("a/photo1.jpeg"), "unreadable_image", "damaged"),
    "no picture": (put("a/target.png", b"<html>404</html>"), "unreadable_image", "not a picture"),
    "empty file": (put("a/mask0.png", b""), "unreadable_image", "a/mask0.png"),
    "bomb": (put("a/target.png", grey((300, 400), 1)), "too_many_pixels", "400×300: more than 100,000 pixels"),
    "bomb in npy": (put("new.npy", npy(np.zeros((400, 300)))), "too_many_pixels", "300×400"),
    "too small": (put("a/target.png", grey((20, 64), 1)), "too_small", "64×20"),
    "small reference": (put("a/photo0.png", grey((4, 4), 1)), "too_small", "reference a/photo0.png is 4×4"),
    "mask of another size": (put("a/mask0.png", grey((64, 48), 255)), "mask_size", "48×64, but a/target.png is 64×48"),
    "reference mask of another size": (put("a/photo1-mask.png", grey((9, 9), 255)), "mask_size", "9×9"),
    "black mask": (put("a/mask0.png", grey((48, 64), 0)), "empty_mask", "brightest pixel is 0"),
    "mask of ones": (put("a/mask0.png", grey((48, 64), 1)), "empty_mask", "brightest pixel is 1"),
    "same mask twice": (
        put("a/mask0.png", grey((48, 64), 255)),
        "overlapping_masks",
        "also belongs to another subject",
    ),
    "black reference mask": (put("a/photo1-mask.png", grey((40, 30), 9)), "empty_reference", "at most 9 of 255"),
    "NaN in a npy target": (put("new.npy", npy(with_nan(np.float32))), "not_finite", "1 values that are NaN"),
    "inf in a npy mask": (put("new-mask.npy", npy(with_nan(np.float64) * np.inf)), "not_finite", "new-mask.npy"),
    "NaN in a TIFF": (put("new.tif", tiff(with_nan(np.float32))), "not_finite", "new.tif"),
    "pickle in a npy": (put("new.npy", npy(np.array([{}], dtype=object))), "unreadable_image", "complete .npy"),
    "npy cut short": (put("new.npy", npy(np.zeros((48, 64)))[:-9]), "unreadable_image", "complete .npy"),
    "colours out of range": (put("new.npy", npy(np.full((48, 64), 200.0))), "unreadable_image", "must lie in"),
    "no caption": (lambda record, files: rename(record, caption=" \n"), "empty_caption", "caption is empty"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_named(defect: str) -> None:
    change, reason, words = DEFECTS[defect]
    record, files = make_sample("a")
    record = change(record, files)
    with pytest.raises(BadSample, match=words) as caught:
        read_sample(record, files.__getitem__, limits=ReadLimits(max_pixels=100_000))
    assert caught.value.reason == reason


def test_a_true_bomb_is_refused_from_its_header() -> None:
    """A PNG whose header says 30000 × 30000 and that holds next to nothing."""
    data = bytearray(grey((64, 64), 1))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    record, files = make_sample("a")
    files["a/target.png"] = bytes(data)
    with pytest.raises(BadSample) as caught:
        read_sample(record, files.__getitem__)
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (
            9_215,
            r"with 2 masks \(64×48\) the pictures and masks of the sample have 9,216 pixels together: more than 9,215",
        ),
        (11_615, r"with reference a/photo1\.jpeg \(30×40\) .* 11,616 "),
        (12_815, r"with mask a/photo1-mask\.png \(30×40\) .* 12,816 "),
        (13_415, r"with place a/place\.png \(30×20\) .* 13,416 "),
    ],
)
def test_all_pictures_and_masks_of_a_sample_count_together(most: int, words: str) -> None:
    record, files = make_sample("a", place="a/place.png")  # 64×48 and two masks, two photos of 30×40, a mask of one
    files["a/place.png"] = grey((20, 30), 7)
    with pytest.raises(BadSample, match=words) as caught:
        read_sample(record, files.__getitem__, limits=ReadLimits(max_sample_pixels=most))
    assert caught.value.reason == "too_many_pixels"
    assert read_sample(record, files.__getitem__, limits=ReadLimits(max_sample_pixels=13_416)).key == "a"


def test_too_many_masks_are_refused_before_any_is_decoded() -> None:
    """254 masks of 64 million pixels would fill 16 GB."""
    record, files = make_sample("a", size=(2048, 4096))
    record = record.model_copy(update={"subjects": record.subjects[:1] * MOST_SUBJECTS})
    del files["a/mask0.png"]  # it would be told if anybody looked for it
    with pytest.raises(BadSample, match=r"with 254 masks \(4096×2048\) .* 2,139,095,040 pixels") as caught:
        read_sample(record, files.__getitem__)
    assert caught.value.reason == "too_many_pixels"


def test_a_bad_sample_crosses_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(BadSample("mask_size", "too wide")))
    assert (error.reason, str(error)) == ("mask_size", "too wide")


def test_limits_are_checked() -> None:
    cases: list[dict[str, Any]] = [{"max_pixels": 0}, {"max_overlap": 2.0}, {"min_side": 0}, {"max_sample_pixels": 0}]
    for wrong in cases:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReadLimits(**wrong)


def test_jpeg_targets_are_read() -> None:
    record, files = make_sample("a")
    files["a/target.png"] = jpeg(np.zeros((48, 64, 3), np.uint8))  # told by its content, not by its name
    assert read_sample(record, files.__getitem__).image.max() == 0


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"abc"


@pytest.mark.parametrize(
    "data",
    [npy_header("(1000000, 1000000)"), npy_header("(-1, 5)"), npy_header("((3, 5"), b"PK\x03\x04 no zip"],
    ids=["more than memory holds", "negative", "torn header", "zip"],
)
def test_damaged_npy_files_are_bad_samples(data: bytes) -> None:
    with pytest.raises(BadSample, match=r"new\.npy is not a complete \.npy file") as caught:
        decode_mask(data, "new.npy", ReadLimits())
    assert caught.value.reason == "unreadable_image"


MODULES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""What Pillow calls the libraries that it may be built without."""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_however_a_picture_is_damaged_it_is_a_bad_sample(kind: str) -> None:
    """Pillow's decoders fail in many ways, among them TypeError (TIFF) and RuntimeError (AVIF)."""
    if kind in MODULES and not features.check(MODULES[kind]):
        pytest.skip(f"Pillow is built without {kind}")
    rng = np.random.default_rng(0)
    data = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(data, kind)
    whole = np.frombuffer(data.getvalue(), np.uint8)
    bad = 0
    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(0, min(len(whole), 250), 4)
        damaged[places] = rng.integers(0, 256, 4)
        try:
            decode_mask(damaged.tobytes(), "a.tif", ReadLimits())
        except BadSample:
            bad += 1
    assert bad


def test_a_float_tiff_is_turned_as_its_exif_data_say() -> None:
    """Once: Pillow itself turns TIFF files when they are loaded."""
    pixels = np.zeros((4, 6), np.float32)
    pixels[0, 0] = 1
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "TIFF", tiffinfo={0x112: 6})
    mask = decode_mask(data.getvalue(), "a.tif", ReadLimits())
    assert mask.shape == (6, 4)
    assert mask[0, 3] == 255


def test_a_subject_that_others_cover_wholly_is_refused_at_any_limit() -> None:
    record, files = make_sample("a")
    files["a/mask0.png"] = files["a/mask1.png"]
    with pytest.raises(BadSample, match=r"nothing of mask a/mask0\.png is left") as caught:
        read_sample(record, files.__getitem__, limits=ReadLimits(max_overlap=1))
    assert caught.value.reason == "overlapping_masks"


def test_why_a_reference_cannot_be_read_is_told() -> None:
    record, files = make_sample("a")

    def read(name: str) -> bytes:
        if name == "a/photo0.png":
            raise PermissionError(13, "Permission denied")
        return files[name]

    with pytest.raises(BadSample, match=r"reference a/photo0\.png cannot be read: Permission denied") as caught:
        read_sample(record, read)
    assert caught.value.reason == "missing_reference"
