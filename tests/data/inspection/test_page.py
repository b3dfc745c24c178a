"""The page that shows a data set: complete, self-contained, and honest about what it holds."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from anystory.data.inspection.charts import bar_chart, histogram
from anystory.data.inspection.page import write_page
from anystory.data.manifest import write_manifest
from anystory.data.shards.writer import ShardWriter
from anystory.data.sources import evenly, open_source
from data.samples import make_sample


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    def pictures(self, alternative: str) -> list[np.ndarray]:
        sources = [found["src"] or "" for tag, found in self.tags if tag == "img" and found["alt"] == alternative]
        files = (io.BytesIO(base64.b64decode(source.partition(",")[2])) for source in sources)
        return [np.asarray(Image.open(file).convert("RGB")) for file in files]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path / "shards", "set") as writer:
        for i in range(8):
            caption = "" if i == 6 else f"<script>alert({i})</script> & more"
            record, files = make_sample(f"k{i}", subjects=1 + i % 2, caption=caption, licence="CC <1>")
            writer.add(record, files.__getitem__)
    return tmp_path / "shards"


def test_the_page_shows_samples_and_loads_nothing(shards: Path, tmp_path: Path) -> None:
    path = write_page(open_source(shards), tmp_path / "page", show=4)
    other = write_page(open_source(shards), tmp_path / "other", show=4, workers=1)
    assert path.read_bytes() == other.read_bytes()
    page = Page(path.read_text(encoding="utf-8"))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    assert all(str(found["src"]).startswith("data:image/") for tag, found in page.tags if tag == "img")
    assert not re.search(r"url\(|@import|https?://", path.read_text(encoding="utf-8"))
    assert [found["id"] for _, found in page.tags if str(found.get("class")) == "card" and "id" in found] == [
        "s0",
        "s2",
        "s4",
    ]
    for words in ("all 8 samples were read; 1 of them are bad", "<script>alert(2)</script> & more", "CC <1>: 7"):
        assert words in page.text
    assert "k6: the caption is empty" in page.text


def test_pictures_are_the_sample_s(shards: Path, tmp_path: Path) -> None:
    page = Page(write_page(open_source(shards), tmp_path, show=8).read_text(encoding="utf-8"))
    targets, masks = page.pictures("the target"), page.pictures("its masks")
    assert len(targets) == len(masks) == 7
    assert len(page.pictures("a reference")) == 3 * 1 + 4 * 2
    record, files = make_sample("k1", subjects=2)
    assert np.array_equal(targets[1], np.asarray(Image.open(io.BytesIO(files[record.image]))))
    grey = masks[1].max(axis=-1) - masks[1].min(axis=-1) == 0
    mask = np.asarray(Image.open(io.BytesIO(files["k1/mask0.png"]))) > 127
    mask |= np.asarray(Image.open(io.BytesIO(files["k1/mask1.png"]))) > 127
    assert np.array_equal(grey, ~mask)  # colour is where a subject is, and nowhere else


def test_a_manifest_is_shown_too(tmp_path: Path) -> None:
    record, files = make_sample("a", subjects=1, place="a/target.png")
    record = record.model_copy(update={"subjects": (record.subjects[0].model_copy(update={"mask": None}),)})
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    write_manifest([record], tmp_path / "manifest.jsonl")
    page = Page(write_page(open_source(tmp_path), tmp_path / "page").read_text(encoding="utf-8"))
    assert "no mask" in page.text
    assert len(page.pictures("the place")) == 1


def test_what_is_shown_is_spread_evenly() -> None:
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly(range(2), 5) == [0, 1]


def test_charts_have_the_right_bars() -> None:
    chart = ElementTree.fromstring(bar_chart({1: 4, 3: 8}))
    bars = chart.findall("rect")
    assert [bar.findtext("title") for bar in bars] == ["1: 4", "2: 0", "3: 8"]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] == pytest.approx(heights[2] / 2)
    assert heights[1] == 0
    spread = ElementTree.fromstring(histogram([0.0, 0.1, 0.9, 1.0], "{:.0%}", bins=2))
    assert [bar.findtext("title") for bar in spread.findall("rect")] == ["0% – 50%: 2", "50% – 100%: 2"]
    assert [text.text for text in spread.findall("text")][-2:] == ["0%", "100%"]
    assert len(ElementTree.fromstring(histogram([3, 3, 3], "{:.0f}")).findall("rect")) == 1
    assert len(ElementTree.fromstring(bar_chart(dict.fromkeys(range(100), 1))).findall("rect")) == 20
    assert "no data" in histogram([], "{}")
