"""What folders are read as, and what is said about those that cannot be."""

from __future__ import annotations

import os
import re
import struct
import zlib
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from anystory.data.build.candidates import Candidate, Rejected, Rejection
from anystory.data.build.sources import frames, subjects
from anystory.data.build.sources.base import Item, SourceOptions, item_key
from anystory.data.build.sources.scenes import MaskedScenes
from anystory.data.build.sources.subjects import SubjectFolders
from anystory.data.build.sources.videos import VideoOptions, Videos
from anystory.data.pixels import ReadLimits
from anystory.data.records import check_key
from data.build.folders import drawn, identity, save

OPTIONS = SourceOptions()


def read(source: SubjectFolders | MaskedScenes | Videos, item: Item) -> Candidate:
    found = source.read(item)
    assert isinstance(found, Candidate), found
    return found


def left_out(source: SubjectFolders | MaskedScenes | Videos) -> list[Rejection]:
    """What of the folder became part of no item."""
    found: list[Rejection] = []
    list(source.items(found))
    return found


def grey(value: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_items_are_folders_in_order_and_masks_are_no_photos(photos):
    save(np.full((96, 96), 255, np.uint8), photos / "cat" / "IMG_1.mask.png")
    save(grey(0), photos / "zoo" / "big" / "bear" / "1.jpg")
    save(grey(0), photos / ".thumbs" / "1.jpg")
    items = list(SubjectFolders(photos, OPTIONS).items())
    assert [item.where for item in items] == ["ann", "bob", "cat", "zoo/big/bear"]
    assert [len(item.photos) for item in items] == [3, 3, 3, 1]
    assert items[2].photos[1].masks == (("cat", "cat/IMG_1.mask.png"),)
    assert items[2].files.count("cat/IMG_1.mask.png") == 1


def test_loose_photos_are_one_subject_unless_there_are_others(tmp_path):
    save(grey(1), tmp_path / "rex" / "a.png")
    save(grey(9), tmp_path / "rex" / "b.png")
    (item,) = SubjectFolders(tmp_path / "rex", OPTIONS).items()
    assert (item.where, len(item.photos)) == ("rex", 2)
    save(grey(1), tmp_path / "loose.png")
    assert [item.where for item in SubjectFolders(tmp_path, OPTIONS).items()] == ["rex"]
    assert [(one.reason, one.what) for one in left_out(SubjectFolders(tmp_path, OPTIONS))] == [("loose", "loose.png")]


@pytest.mark.parametrize("kind", [SubjectFolders, MaskedScenes, Videos])
def test_folders_that_are_none_or_empty(tmp_path, kind):
    pytest.importorskip("av")
    options = kind.Options()
    with pytest.raises(ValueError, match="no such folder"):
        list(kind(tmp_path / "nothing", options).items())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        list(kind(tmp_path / "file", options).items())
    with pytest.raises(ValueError, match="no (photos|pictures|videos) in it"):
        list(kind(tmp_path, options).items())


@pytest.mark.parametrize("where", ["ann", "Ann/1.jpg", "Ångström & sons/ä.png", "日本/猫", "a" * 300, "a.b.c"])
def test_keys_are_valid_and_tell_paths_apart(where):
    assert check_key(item_key(where) + "-000") == item_key(where) + "-000"
    assert item_key(where) != item_key(where + " ")


def test_captions_come_from_the_file_beside_then_the_folder_then_the_root(photos):
    items = {item.where: item for item in SubjectFolders(photos, OPTIONS).items()}
    found = {photo.image: photo.caption for item in items.values() for photo in item.photos if photo.caption}
    assert found == {
        "ann/IMG_0.png": "Ann stands there",
        "bob/IMG_1.png": "Bob waves",
        "cat/IMG_2.png": "a cat, walking",
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("captions.csv", "name,words\n", 'must name the columns "file" and "caption"'),
        ("captions.txt", "a.png no tab\n", "a tab and the caption, got 'a.png no tab'"),
        ("captions.txt", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_caption_files_that_cannot_be_read(tmp_path, name, text, message):
    save(grey(1), tmp_path / "a" / "a.png")
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        list(SubjectFolders(tmp_path, OPTIONS).items())


def test_large_pictures_are_made_smaller_with_their_masks(tmp_path):
    pixels = np.zeros((400, 200, 3), np.uint8)
    pixels[:200] = 255
    save(pixels, tmp_path / "a" / "1.png")
    save(pixels[..., 0], tmp_path / "a" / "1.mask.png")
    source = SubjectFolders(tmp_path, SourceOptions(longest=100))
    (photo,) = read(source, next(source.items())).photos
    matte = photo.instances[0].matte
    assert matte is not None
    assert (photo.rgb.shape, matte.shape, photo.original) == ((100, 50, 3), (100, 50), (400, 200))
    np.testing.assert_array_equal(matte, photo.rgb[..., 0])


def test_a_transparent_background_is_the_mask(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 10:30] = (200, 10, 10, 255)
    save(pixels, tmp_path / "a" / "1.png")
    source = SubjectFolders(tmp_path, OPTIONS)
    (photo,) = read(source, next(source.items())).photos
    np.testing.assert_array_equal(photo.instances[0].matte, pixels[..., 3])
    assert tuple(photo.rgb[0, 0]) == (255, 255, 255)


def test_scenes_find_references_of_their_own_and_of_all(scenes):
    save(grey(5), scenes / "references" / "party" / "2" / "x.png")
    beach, party = MaskedScenes(scenes, OPTIONS).items()
    assert [(p.image, p.subjects, p.target) for p in beach.photos] == [
        ("beach.png", (), True),
        ("references/ann/front.png", ("ann",), False),
    ]
    assert party.photos[0].labels == "party.mask.png"
    assert [photo.image for photo in party.photos[1:]] == ["references/party/2/x.png"]


def test_label_maps_of_palettes_and_16_bits_and_the_void(tmp_path):
    from PIL import Image

    labels = np.zeros((20, 30), np.uint8)
    labels[:5], labels[5:10], labels[10:12] = 1, 7, 255
    save(grey(3, 30)[:20], tmp_path / "p.png")
    palette = Image.fromarray(labels, "P")
    palette.putpalette([0, 0, 0, 200, 0, 0] + [9] * 762)
    for image in (palette, Image.fromarray(labels.astype(np.uint16))):
        image.save(tmp_path / "p.mask.png")
        source = MaskedScenes(tmp_path, OPTIONS)
        (photo,) = read(source, next(source.items())).photos
        assert [instance.name for instance in photo.instances] == ["1", "7"]
        np.testing.assert_array_equal(photo.instances[1].matte, (labels == 7) * 255)


def test_scenes_whose_masks_cannot_be_used(tmp_path):
    names = ("bare", "colour", "empty", "size")
    for name in names:
        save(grey(3), tmp_path / f"{name}.png")
    save(grey(3), tmp_path / "colour.mask.png")
    save(grey(0)[..., 0], tmp_path / "empty.mask.png")
    save(grey(255, 20)[..., 0], tmp_path / "size.mask.ann.png")
    save(grey(255, 20)[..., 0], tmp_path / "lost.mask.png")
    source = MaskedScenes(tmp_path, OPTIONS)
    found = [source.read(item) for item in source.items()]
    assert [(one.reason, one.what) for one in left_out(source)] == [("lost_mask", "lost.mask.png")]
    assert all(isinstance(one, Rejected) and one.bad for one in found)
    assert [one.reason for one in found if isinstance(one, Rejected)] == [
        "no_mask", "unusable_mask", "unusable_mask", "mask_size",
    ]  # fmt: skip
    sentences = [one.detail for one in found if isinstance(one, Rejected)]
    assert "bare.mask.png (a label map) or bare.mask.NAME.png" in sentences[0]
    assert "one number per pixel" in sentences[1]
    assert "the mask of ann in size.png is 20×20, the picture 64×64" in sentences[3]


def clip(count: int) -> list[np.ndarray]:
    return [grey(5 * number) for number in range(count)]


def test_frames_lie_apart_in_time(tmp_path, write_video):
    """Ten seconds at 4 frames a second, 5 grey levels a frame: a frame's brightness says when it was taken."""
    write_video(tmp_path / "ann.mp4", clip(40))
    for seconds, most, expected in ((2.0, 100, (0, 2, 4, 6, 8)), (0.5, 4, (0, 2.5, 5, 7.5)), (4.1, 8, (0, 4.25, 8.5))):
        source = Videos(tmp_path, VideoOptions(seconds=seconds, frames=most))
        photos = read(source, next(source.items())).photos
        times = [float(photo.name.removesuffix("s").rpartition("@")[2]) for photo in photos]
        assert times == pytest.approx(expected, abs=1e-6)
        for photo, time in zip(photos, times, strict=True):
            assert photo.rgb.mean() == pytest.approx(20 * time, abs=3)
            assert [instance.name for instance in photo.instances] == ["ann"]


def test_videos_that_cannot_be_read(tmp_path, write_video):
    av = pytest.importorskip("av")
    whole = write_video(tmp_path / "a.avi", [drawn(identity(n), "standing") for n in range(40)])
    data = whole.read_bytes()
    (tmp_path / "b-half.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "c-text.mp4").write_text("no video " * 100)
    with av.open(str(tmp_path / "d-sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    source = Videos(tmp_path, VideoOptions(seconds=1.0, frames=8))
    a, b, c, d = (source.read(item) for item in source.items())
    assert isinstance(a, Candidate)
    assert len(a.photos) == 8
    assert isinstance(b, Candidate), "what there is of a broken download is used"
    assert 2 <= len(b.photos) < 8
    assert isinstance(c, Rejected)
    assert (c.reason, c.bad) == ("unreadable", True)
    assert isinstance(d, Rejected)
    assert d.reason == "no_frames"
    assert "only sound" in d.detail


def write_png_frames(path: Path, frames: list[np.ndarray]) -> Path:
    """A video of PNG pictures, each of its own size."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for number, pixels in enumerate(frames):
            encoder = av.CodecContext.create("png", "w")
            encoder.height, encoder.width = pixels.shape[:2]
            encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 1)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 1)
            for packet in [*encoder.encode(frame), *encoder.encode()]:
                packet.stream = stream
                container.mux(packet)
    return path


def test_videos_of_too_many_pixels_are_refused_before_a_frame_is_decoded(tmp_path, write_video, monkeypatch):
    bomb = write_png_frames(tmp_path / "a.mov", [grey(5)] * 3)
    data = bytearray(bomb.read_bytes())
    for place in (found.start() for found in re.finditer(b"IHDR", bytes(data))):  # small files, each 20000×10000
        data[place + 4 : place + 12] = struct.pack(">ii", 20_000, 10_000)
        data[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(data[place : place + 17]))
    bomb.write_bytes(data)
    source = Videos(tmp_path, VideoOptions())
    found = source.read(next(source.items()))
    assert isinstance(found, Rejected)
    # The size is known as soon as one frame is decoded: it never was.
    assert (found.reason, found.bad) == ("unreadable", True)
    assert found.detail == "a.mov is a video whose frames have more than 64,000,000 pixels, or no size at all"
    monkeypatch.setattr(frames, "MAX_PIXELS", 1000)
    for name in ("a.avi", "a.mp4", "a.mkv"):
        write_video(tmp_path / name, clip(3))
    for item in source.items():
        found = source.read(item)
        assert isinstance(found, Rejected)
        assert "more than 1,000 pixels" in found.detail


def test_a_frame_that_is_larger_than_the_first_ones(tmp_path, monkeypatch):
    write_png_frames(tmp_path / "a.mov", [grey(5, 16), grey(90, 16), grey(5, 64), grey(90, 64)])
    monkeypatch.setattr(frames, "MAX_PIXELS", 2000)
    source = Videos(tmp_path, VideoOptions(seconds=1))
    found = read(source, next(source.items()))
    assert [photo.rgb.shape for photo in found.photos] == [(16, 16, 3)] * 2
    assert [dropped.reason for dropped in found.dropped] == ["unreadable"]


def few_pixels(monkeypatch, module, most: int) -> None:
    monkeypatch.setattr(module, "ReadLimits", partial(ReadLimits, max_sample_pixels=most))


def test_what_an_item_holds_in_memory_is_limited(photos, scenes, tmp_path, write_video, monkeypatch):
    """Three photos of 96×96; a scene of two subjects with two masks; five frames of 64×64."""
    few_pixels(monkeypatch, subjects, 2 * 96 * 96)
    for item in SubjectFolders(photos, OPTIONS).items():
        found = read(SubjectFolders(photos, OPTIONS), item)
        assert [photo.name for photo in found.photos] == [f"{item.where}/IMG_0.png", f"{item.where}/IMG_1.png"]
        assert [(one.reason, one.what, one.bad) for one in found.dropped] == [
            ("too_many_pixels", f"{item.where}/IMG_2.png", False)
        ]
        assert f"with {item.where}/IMG_2.png (96×96) the pictures and masks of {item.where} have" in str(found.dropped)
    assert len(read(SubjectFolders(photos, SourceOptions(longest=64)), item).photos) == 3, "they are counted small"
    for item in MaskedScenes(scenes, OPTIONS).items():
        refused = MaskedScenes(scenes, OPTIONS).read(item)
        assert isinstance(refused, Rejected)
        assert refused.reason == "too_many_pixels"
        assert f"with {item.where} and 2 masks (96×96)" in refused.detail
    few_pixels(monkeypatch, frames, 3 * 64 * 64)
    write_video(tmp_path / "clips" / "ann.mp4", clip(40))
    source = Videos(tmp_path / "clips", VideoOptions(seconds=2.0))
    found = read(source, next(source.items()))
    assert len(found.photos) == 3
    assert [one.reason for one in found.dropped] == ["too_many_pixels"]


def test_without_pyav_there_is_a_sentence(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'anystory\[video\]'"):
        list(Videos(tmp_path, VideoOptions()).items())


def test_names_that_are_not_utf8_are_left_out(tmp_path):
    save(grey(1), tmp_path / "a" / "1.png")
    wrong = tmp_path / "a" / "w\udce4.png"
    try:
        wrong.write_bytes((tmp_path / "a" / "1.png").read_bytes())
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes UTF-8 names only")
    (item,) = SubjectFolders(tmp_path, OPTIONS).items()
    assert len(item.photos) == 1
    assert [one.detail for one in left_out(SubjectFolders(tmp_path, OPTIONS))] == [
        "a/w\\udce4.png: the name is not UTF-8. Rename it"
    ]


def test_a_link_to_a_folder_around_it_is_not_followed_for_ever(photos):
    (photos / "ann" / "again").symlink_to(photos)
    (photos / "cat" / "up").symlink_to(photos.parent)
    (photos / "dan").symlink_to(photos / "bob")
    items = list(SubjectFolders(photos, OPTIONS).items())
    assert [(one.reason, one.what) for one in left_out(SubjectFolders(photos, OPTIONS))] == [
        ("link", str(photos / "ann/again")),
        ("link", str(photos / "cat/up")),
    ]
    assert [item.where for item in items] == ["ann", "bob", "cat", "dan"]


def test_a_folder_that_cannot_be_opened_is_told(photos, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("bob"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert [item.where for item in SubjectFolders(photos, OPTIONS).items()] == ["ann", "cat"]
    (told, *_) = left_out(SubjectFolders(photos, OPTIONS))
    assert (told.reason, told.detail) == ("closed_folder", f"{photos / 'bob'}: Permission denied")


def test_masks_have_any_picture_s_ending_and_lost_ones_are_told(photos):
    save(np.full((96, 96), 255, np.uint8), photos / "cat" / "IMG_1.mask.PNG")
    save(np.full((96, 96), 255, np.uint8), photos / "cat" / "IMG_7.mask.png")
    items = list(SubjectFolders(photos, OPTIONS).items())
    assert items[2].photos[1].masks == (("cat", "cat/IMG_1.mask.PNG"),)
    assert [(one.reason, one.what) for one in left_out(SubjectFolders(photos, OPTIONS))] == [
        ("lost_mask", "cat/IMG_7.mask.png")
    ]


def test_captions_of_several_lines_and_odd_separators(tmp_path):
    for name in "ab":
        save(grey(1), tmp_path / "x" / f"{name}.png")
    (tmp_path / "captions.csv").write_text('file,caption\nx/a.png,"one\ntwo"\nx/b.png,"c\u2028d"\n', encoding="utf-8")
    (item,) = SubjectFolders(tmp_path, OPTIONS).items()
    assert [photo.caption for photo in item.photos] == ["one two", "c d"]
    (tmp_path / "captions.csv").unlink()
    (tmp_path / "captions.txt").write_text("x/a.png\tone\x85two\r\nx/b.png\tc\u2028d\n", encoding="utf-8")
    (item,) = SubjectFolders(tmp_path, OPTIONS).items()
    assert [photo.caption for photo in item.photos] == ["one two", "c d"]
    (tmp_path / "captions.csv").write_text("file,caption\nx/a.png," + "w" * 200_000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions\.csv is not a readable table \(field larger"):
        list(SubjectFolders(tmp_path, OPTIONS).items())


def test_pictures_that_are_no_label_maps(tmp_path):
    """Neither may become hundreds of subjects, each with a mask of the picture's size."""
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    soft = np.full((64, 64), 255, np.uint8)
    soft[:8] = np.arange(8 * 64).reshape(8, 64) // 4
    for name, mask in (("depth", ramp), ("soft", soft)):
        save(grey(3), tmp_path / f"{name}.png")
        save(mask, tmp_path / f"{name}.mask.png")
    source = MaskedScenes(tmp_path, OPTIONS)
    depth, soft = (source.read(item) for item in source.items())
    for found, words in ((depth, "more than 254"), (soft, "soft edges of one subject: name it soft.mask.NAME.png")):
        assert isinstance(found, Rejected)
        assert (found.reason, found.bad, words in found.detail) == ("unusable_mask", True, True), found.detail


def test_a_label_map_is_turned_as_its_picture(tmp_path):
    from PIL import Image

    labels = np.zeros((20, 30), np.uint8)
    labels[0, 0] = 1
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "p.jpg", exif=turned)
    Image.fromarray(labels).save(tmp_path / "p.mask.png", exif=turned)
    source = MaskedScenes(tmp_path, OPTIONS)
    (photo,) = read(source, next(source.items())).photos
    matte = photo.instances[0].matte
    assert matte is not None
    assert (matte.shape, np.argwhere(matte).tolist()) == ((30, 20), [[0, 19]])
