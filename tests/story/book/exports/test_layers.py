"""Panels as layers."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from anystory.story.book.exports import layers
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import PageLayout, lay_out
from anystory.story.book.painting import panel_picture
from story.book.books import FOX, book, panel


def opened(path) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
    """Layers by name, the uppermost first, and what they give together."""
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("mimetype") == b"image/openraster"
        assert Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))).size <= (256, 256)

        def read(name: str) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGBA"))

        stack = ElementTree.fromstring(archive.read("stack.xml"))
        rows = stack.findall("stack/layer")
        merged = read("mergedimage.png")
        assert merged.shape[:2] == (int(stack.attrib["h"]), int(stack.attrib["w"]))
        return [(row.attrib["name"], read(row.attrib["src"])) for row in rows], merged


def test_subjects_and_background_add_up_to_the_picture(laid_out, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layers, "_SHORTEST", 160)
    layers.write_layers(laid_out, tmp_path, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"panel-00{number}.ora" for number in (1, 2, 3)]
    for on_page in (one for page in laid_out.pages[1:] for one in page.panels):
        found, merged = opened(tmp_path / f"panel-{on_page.panel.number:03}.ora")
        assert [name for name, _ in found] == ["lettering", "robot", "fox", "background"]
        owned = [layer[..., 3] for _, layer in found[1:]]
        assert set(np.unique(owned)) <= {0, 255}
        assert (np.sum(np.array(owned) == 255, axis=0) == 1).all()
        picture = panel_picture(on_page, merged.shape[1] / on_page.frame.width)
        together = np.zeros_like(merged)
        for _, layer in found[:0:-1]:
            together = np.where(layer[..., 3:] == 255, layer, together)
        assert np.array_equal(together[..., :3], np.asarray(picture))
        lettering = found[0][1]
        clear = lettering[..., 3] == 0
        assert np.array_equal(merged[clear], together[clear])
        assert (lettering[..., 3] == 255).any()


def test_a_subjects_layer_is_its_mask(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layers, "_SHORTEST", 96)
    made = lay_out(book(panel(7)), PageLayout(cover=False), Typefaces("en", system=False))
    layers.write_layers(made, tmp_path, 10)
    [robot, fox, background], _ = opened(tmp_path / "panel-007.ora")
    left, top, right, bottom = (2 * side for side in FOX)
    inside = np.zeros((96, 96), bool)
    inside[top:bottom, left:right] = True
    assert (fox[1][..., 3] == 255)[inside].mean() > 0.98
    assert (fox[1][..., 3] == 255)[~inside].mean() < 0.01
    assert (robot[0], background[0]) == ("robot", "background")
    layers.write_layers(made, tmp_path / "..", 10)
    assert (tmp_path / ".." / "panel-007.ora").read_bytes() == (tmp_path / "panel-007.ora").read_bytes()


def test_a_part_that_touches_only_another_subject_is_that_ones() -> None:
    fox, robot = np.zeros((2, 40, 40), bool)
    fox[10:30, 2:16] = True
    robot[12:30, 22:36] = True
    fox[6:12, 24:34] = True  # the robot's hat
    robot[18:22, 6:10] = True  # the fox's scarf
    fox[18:22, 6:10] = False
    fox[2:4, 2:4] = True  # a raised paw, alone in the background
    owned = layers.whole_subjects({"fox": fox, "robot": robot})
    assert owned["robot"][6:30, 24:34].all()
    assert owned["fox"][10:30, 2:16].all()
    assert owned["fox"][2:4, 2:4].all(), "a part that touches nobody stays whose it is"
    assert not (owned["fox"] & owned["robot"]).any()
    assert (owned["fox"] | owned["robot"]).sum() == (fox | robot).sum()
    assert layers.whole_subjects({}) == {}
    nobody = layers.whole_subjects({"fox": fox, "robot": np.zeros_like(robot)})
    assert np.array_equal(nobody["fox"], fox)
