"""Pictures, captions and masks find each other by names as people and systems write them; the rest is counted."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.data.build.candidates import Rejected, Rejection
from anystory.data.build.sources import listing, subjects
from anystory.data.build.sources.base import SourceOptions
from anystory.data.build.sources.scenes import MaskedScenes
from anystory.data.build.sources.subjects import SubjectFolders
from anystory.data.build.sources.videos import VideoOptions, Videos
from anystory.subjects.pictures import HEIF_ENDINGS, load_picture
from data.build.folders import LOW, drawn, identity, save

NFC, NFD = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


def pixels(value: int = 90, size: int = 24) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def photos_of(folder: Path) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """{picture: caption}, {picture: mask}, and (reason, what) of all that is left out."""
    left_out: list[Rejection] = []
    photos = [photo for item in SubjectFolders(folder, SourceOptions()).items(left_out) for photo in item.photos]
    captions = {photo.image: photo.caption for photo in photos}
    masks = {photo.image: file for photo in photos for _, file in photo.masks}
    return captions, masks, [(one.reason, one.what) for one in left_out]


# --- endings ---


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPG", "apng", "jp2", "ppm", "tga", "tif", "webp", "avif"])
def test_what_pillow_reads_is_read(tmp_path, ending):
    save(pixels(), tmp_path / "ann" / f"1.{ending}")
    source = SubjectFolders(tmp_path, SourceOptions())
    found = source.read(next(source.items()))
    assert not isinstance(found, Rejected)
    np.testing.assert_allclose(found.photos[0].rgb, pixels(), atol=2)


def test_heic_is_read_where_pillow_heif_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra `heif`)")
    (tmp_path / "ann").mkdir()
    pillow_heif.from_pillow(Image.fromarray(pixels(size=64))).save(tmp_path / "ann" / "1.HEIC", quality=100)
    source = SubjectFolders(tmp_path, SourceOptions())
    found = source.read(next(source.items()))
    assert not isinstance(found, Rejected)
    np.testing.assert_allclose(found.photos[0].rgb, pixels(size=64), atol=3)


def test_without_pillow_heif_its_files_are_counted_and_the_remedy_named(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "PICTURES", listing.PICTURES - HEIF_ENDINGS)
    monkeypatch.setattr(subjects, "PICTURES", listing.PICTURES)
    save(pixels(), tmp_path / "ann" / "1.png")
    (tmp_path / "ann" / "2.HEIC").write_bytes(b"x")
    left_out: list[Rejection] = []
    list(SubjectFolders(tmp_path, SourceOptions()).items(left_out))
    assert [(one.reason, one.detail) for one in left_out] == [
        ("ending_heic", "ann/2.HEIC: reading it needs pillow-heif (pip install 'anystory[heif]')")
    ]


def test_files_of_other_kinds_are_counted_by_their_endings(tmp_path):
    save(pixels(), tmp_path / "ann" / "1.png")
    for name in ("1.jxl", "2.JXL", "a.pdf", "LICENCE", ".hidden"):
        (tmp_path / "ann" / name).write_bytes(b"x")
    _, _, left_out = photos_of(tmp_path)
    assert left_out == [
        ("ending_jxl", "ann/1.jxl"),
        ("ending_jxl", "ann/2.JXL"),
        ("ending_none", "ann/LICENCE"),
        ("ending_pdf", "ann/a.pdf"),
    ]


def test_pipes_and_dead_links_are_told_and_not_waited_for(tmp_path):
    save(pixels(), tmp_path / "ann" / "1.png")
    os.mkfifo(tmp_path / "ann" / "2.png")
    (tmp_path / "ann" / "3.png").symlink_to(tmp_path / "nowhere.png")
    captions, _, left_out = photos_of(tmp_path)
    assert list(captions) == ["ann/1.png"]
    assert left_out == [("no_file", "ann/2.png"), ("no_file", "ann/3.png")]


def test_a_folder_of_other_kinds_says_which(tmp_path):
    for name in ("1.jxl", "2.jxl", "a.pdf"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no photos in it .*; it has 2 × \.jxl, 1 × \.pdf"):
        list(SubjectFolders(tmp_path, SourceOptions()).items())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heic", r"HEIF, which needs pillow-heif|damaged"),
        (b"\xff\x0a\xcb\x06\x00", "it is JPEG XL"),
    ],
)
def test_other_kinds_under_a_known_ending_are_named(tmp_path, data, words):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        load_picture(tmp_path / "a.jpg")


def test_videos_count_pictures_and_pictures_count_videos(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "clip.mp4").write_bytes(b"x")
    save(pixels(), tmp_path / "ann" / "1.png")
    assert photos_of(tmp_path)[2] == [("ending_mp4", "ann/clip.mp4")]
    left_out: list[Rejection] = []
    list(Videos(tmp_path, VideoOptions()).items(left_out))
    assert [(one.reason, one.what) for one in left_out] == [("ending_png", "ann/1.png")]


# --- captions ---


@pytest.mark.parametrize(
    ("picture", "row"),
    [
        (f"{NFC}/1.png", f"{NFD}/1.png"),
        (f"{NFD}/1.png", f"{NFC}/1.png"),
        ("ann/1.png", "ann\\1.png"),
        ("ann/1.png", ".\\ann\\1.png"),
        ("Ann/IMG_1.PNG", "ann/img_1.png"),
        ("ann/1.png", " ./ann//1.png "),
    ],
)
def test_rows_find_their_pictures_whatever_wrote_the_name(tmp_path, picture, row):
    save(pixels(), tmp_path / picture)
    (tmp_path / "captions.csv").write_text(f"file,caption\n{row},she waves\n", encoding="utf-8")
    captions, _, left_out = photos_of(tmp_path)
    assert (list(captions.values()), left_out) == (["she waves"], [])


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (f"{NFC}.png", f"{NFD}.txt"),
        (f"{NFD}.png", f"{NFC}.caption"),
        ("IMG_1.PNG", "img_1.TXT"),
        ("1.png", "1.caption"),
        ("1.png", "1.png.txt"),
    ],
)
def test_texts_beside_find_their_pictures_whatever_wrote_the_name(tmp_path, picture, text):
    save(pixels(), tmp_path / "ann" / picture)
    (tmp_path / "ann" / text).write_text("she waves\n", encoding="utf-8")
    captions, _, left_out = photos_of(tmp_path)
    assert (list(captions.values()), left_out) == (["she waves"], [])


def test_a_name_in_other_letters_does_not_take_what_is_anothers(tmp_path):
    for name, value in (("A.png", 10), ("a.png", 200)):
        save(pixels(value), tmp_path / "x" / name)
    if len(list((tmp_path / "x").iterdir())) < 2:
        pytest.skip("this file system ignores case")
    (tmp_path / "x" / "a.txt").write_text("small", encoding="utf-8")
    save(pixels(), tmp_path / "y" / "B.png")
    save(pixels(), tmp_path / "y" / "b.png")
    (tmp_path / "captions.csv").write_text("file,caption\ny/B.png,large\n", encoding="utf-8")
    captions, _, left_out = photos_of(tmp_path)
    assert captions == {"x/A.png": "", "x/a.png": "small", "y/B.png": "large", "y/b.png": ""}
    assert left_out == []


def test_captions_that_belong_to_nothing_are_told(tmp_path):
    save(pixels(), tmp_path / "ann" / "1.png")
    save(pixels(), tmp_path / "deep" / "bob" / "1.png")
    (tmp_path / "captions.csv").write_text(
        "file,caption\nann/1.png,first\nann/2.png,nobody\nann/1.png,last\n", encoding="utf-8"
    )
    (tmp_path / "ann" / "captions.txt").write_text("1.png\tAnn\n", encoding="utf-8")
    (tmp_path / "ann" / "3.txt").write_text("nobody", encoding="utf-8")
    (tmp_path / "deep" / "captions.csv").write_text("file,caption\nbob/1.png,Bob\nbob/2.png,no\n", encoding="utf-8")
    left_out: list[Rejection] = []
    items = list(SubjectFolders(tmp_path, SourceOptions()).items(left_out))
    assert [photo.caption for item in items for photo in item.photos] == ["Ann", "Bob"]
    assert {(one.unit, one.detail) for one in left_out} == {
        ("row", "captions.csv captions 'ann/2.png', and there is no such file"),
        ("row", "captions.csv captions 'ann/1.png' more than once: its last row is taken"),
        ("row", "deep/captions.csv captions 'bob/2.png', and there is no such file"),
        ("file", "ann/3.txt is the caption of no file: expected a picture or video of the same name beside it"),
    }


@pytest.mark.parametrize(
    ("folder", "subject"), [("10_ann woman", "ann woman"), ("3_rex", "rex"), ("1_", "1_"), ("ann_2", "ann_2")]
)
def test_folders_of_kohya_are_named_without_their_repeats(tmp_path, folder, subject):
    save(pixels(), tmp_path / folder / "1.png")
    (item,) = SubjectFolders(tmp_path, SourceOptions()).items()
    assert (item.where, item.photos[0].subjects) == (folder, (subject,))


# --- masks ---


def test_two_pictures_of_one_stem_share_no_mask(tmp_path):
    for name in ("1.jpg", "1.png"):
        save(pixels(), tmp_path / "ann" / name)
    save(pixels(255)[..., 0], tmp_path / "ann" / "1.mask.png")
    _, masks, left_out = photos_of(tmp_path)
    assert (masks, left_out) == ({}, [("shared_mask", "ann/1.mask.png")])
    save(pixels(255)[..., 0], tmp_path / "ann" / "1.jpg.mask.png")
    _, masks, _ = photos_of(tmp_path)
    assert masks == {"ann/1.jpg": "ann/1.jpg.mask.png"}


@pytest.mark.parametrize("mask", ["img_1.mask.png", "IMG_1.Mask.PNG", "IMG_1.JPG.mask.png"])
def test_masks_in_other_letters(tmp_path, mask):
    save(pixels(), tmp_path / "ann" / "IMG_1.JPG")
    save(pixels(255)[..., 0], tmp_path / "ann" / mask)
    captions, masks, left_out = photos_of(tmp_path)
    assert (list(captions), masks, left_out) == (["ann/IMG_1.JPG"], {"ann/IMG_1.JPG": f"ann/{mask}"}, [])


def test_a_second_mask_is_told(tmp_path):
    save(pixels(), tmp_path / "ann" / "1.jpg")
    for mask in ("1.mask.ann.png", "1.mask.bob.png", "1.mask.bmp", "1.mask.png"):
        save(pixels(255)[..., 0], tmp_path / "ann" / mask)
    _, masks, left_out = photos_of(tmp_path)
    assert masks == {"ann/1.jpg": "ann/1.mask.bmp"}
    assert {what for reason, what in left_out if reason == "spare_mask"} == {
        "ann/1.mask.png",
        "ann/1.mask.ann.png",
        "ann/1.mask.bob.png",
    }


def test_scenes_in_other_letters_and_references_of_nobody(tmp_path):
    save(pixels(), tmp_path / f"{NFC}.JPG")
    save(pixels(255)[..., 0], tmp_path / f"{NFD}.mask.Ann.png")
    save(pixels(), tmp_path / "references" / "ann" / "1.png")
    save(pixels(), tmp_path / "references" / "anne" / "1.png")
    left_out: list[Rejection] = []
    (item,) = MaskedScenes(tmp_path, SourceOptions()).items(left_out)
    assert item.photos[0].masks == (("Ann", f"{NFD}.mask.Ann.png"),)
    assert [photo.image for photo in item.photos[1:]] == ["references/ann/1.png"]
    assert [(one.reason, one.what) for one in left_out] == [("lost_reference", "references/anne/1.png")]


# --- as a user sees it ---


def test_the_report_and_the_dry_run_count_what_became_nothing(tmp_path):
    for number in range(2):
        save(drawn(identity(0), ("standing", "waving")[number]), tmp_path / "photos" / "ann" / f"{number}.jfif")
    (tmp_path / "photos" / "ann" / "2.jxl").write_bytes(b"x")
    (tmp_path / "photos" / "captions.csv").write_text("file,caption\nann/7.png,nobody\n", encoding="utf-8")
    call = ["data", "build", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--workers", "1"]
    call += [part for setting in LOW for part in ("--set", setting)]
    dry = CliRunner().invoke(app, [*call, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "left out: 1 × ending_jxl, for example ann/2.jxl is of a kind that is not read here" in dry.stdout
    assert "left out: 1 × lost_caption, for example captions.csv captions 'ann/7.png'" in dry.stdout
    built = CliRunner().invoke(app, call, env={"COLUMNS": "160"})
    assert built.exit_code == 0, built.output
    assert "ending_jxl" in built.stdout
    rejected = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["rejected"]
    assert (rejected["ending_jxl"]["files"], rejected["lost_caption"]["rows"]) == (1, 1)
    assert rejected["ending_jxl"]["examples"] == ["ann/2.jxl is of a kind that is not read here"]
