"""Folders as people have them, drawn with StoryWorld."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anystory.storyworld import dataset
from data.build.folders import POSES, SIZE, drawn, identity, save


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three subjects with three photos each, captioned in three ways."""
    folder = tmp_path / "photos"
    for number, name in enumerate(("ann", "bob", "cat")):
        for place, pose in enumerate(POSES[:3]):
            save(drawn(identity(number), pose, (200, 220 - 40 * place, 240)), folder / name / f"IMG_{place}.png")
    (folder / "ann" / "IMG_0.txt").write_text("Ann stands there\n", encoding="utf-8")
    (folder / "bob" / "captions.txt").write_text("IMG_1.png\tBob waves\n", encoding="utf-8")
    (folder / "captions.csv").write_text('file,caption\ncat/IMG_2.png,"a cat, walking"\n', encoding="utf-8")
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two pictures of two characters: one with a label map, one with a mask per name and references of one of them."""
    folder = tmp_path / "scenes"
    found = [i for i in range(60) if dataset.pairs(i, size=32)["count"] == 2][:2]
    first, second = (dataset.pairs(i, size=SIZE) for i in found)
    save(first["image"], folder / "party.png")
    save(first["instances"], folder / "party.mask.png")
    (folder / "party.txt").write_text(first["caption"], encoding="utf-8")
    save(second["image"], folder / "beach.png")
    for number, name in enumerate(("ann", "bob"), 1):
        save((second["instances"] == number).astype(np.uint8) * 255, folder / f"beach.mask.{name}.png")
    save(second["references"][0], folder / "references" / "ann" / "front.png")
    return folder


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """Write frames (H, W, 3) uint8 as a video file; skips where PyAV is not installed."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `video`)")

    def write(path: Path, frames: list[np.ndarray], rate: int = 4) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
            for pixels in frames:
                for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return write
