"""Uploads: by their content, within bounds, each with its owner."""

from __future__ import annotations

import struct
import zlib

import pytest

from anystory.serving.store.uploads import UploadStore

from ..conftest import png


@pytest.fixture
def uploads(database, data) -> UploadStore:
    return UploadStore(database, data, most_pixels=100 * 100, clock=lambda: 50.0)


@pytest.mark.parametrize(("form", "ending"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif")])
def test_a_picture_is_kept_by_its_content(uploads, form, ending):
    content = png(40, 30, form=form)
    upload = uploads.add("ann", content, "fox.exe")
    assert (upload.ending, upload.width, upload.height, upload.bytes) == (ending, 40, 30, len(content))
    assert uploads.path(upload).read_bytes() == content
    assert uploads.find(upload.id, "ann") == upload
    assert uploads.find(upload.id, "bob") is None
    assert uploads.held_by("ann") == len(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (png(101, 100), "101×100, more than 10,000 pixels"),
        (png()[:60], "damaged"),
        (png(form="BMP"), "in the format BMP, which is not taken: send it as PNG"),
    ],
    ids=["empty", "svg", "eps", "large", "cut off", "bmp"],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(uploads, data, content, message):
    with pytest.raises(ValueError, match=message) as told:
        uploads.add("ann", content, "the picture fox.png")
    assert "fox.png" in str(told.value)
    assert list(data.uploads.iterdir()) == []
    assert uploads.ids() == set()


def test_a_bomb_is_refused_before_it_is_decoded(uploads):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    content += struct.pack(">I", 4) + b"IDAT" + bytes(8)
    with pytest.raises(ValueError, match="pixels"):
        uploads.add("ann", content, "bomb")


def test_dropped_and_aged(uploads, data):
    first, second = uploads.add("ann", png(), "a"), uploads.add("ann", png(), "b")
    data.give("job_1", uploads.path(first), "a.png")
    uploads.drop(first)
    uploads.drop(first)
    assert uploads.ids() == {second.id}
    assert (data.job("job_1") / "given" / "a.png").read_bytes() == png()
    assert uploads.before(50.0) == []
    assert uploads.before(51.0) == [second]
