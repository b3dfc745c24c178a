"""The animatic, at a small size."""

from __future__ import annotations

import numpy as np
import pytest

from anystory.story.book.exports import animatic
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import LaidOutBook, PageLayout, lay_out
from story.book.books import book, panel

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    for name, value in {"WIDTH": 320, "HEIGHT": 180, "RATE": 6, "_CAPTION_SIZES": (12.0, 9.0)}.items():
        monkeypatch.setattr(animatic, name, value)


def made(*panels) -> LaidOutBook:
    return lay_out(book(*panels), PageLayout(templates=("full",), cover=False), Typefaces("en", system=False))


def film(path) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_caption_stays_as_long_as_it_takes_to_read(tmp_path) -> None:
    text = "a caption that takes four seconds to read, or so I hope."
    animatic.write_animatic(made(panel(1, narration=text), panel(2)), tmp_path / "a.mp4", 0)
    frames = film(tmp_path / "a.mp4")
    expected = round(len(text) / 14 * 6) + round(0.4 * 6) + round(2.5 * 6)
    assert frames.shape == (expected, 180, 320, 3)
    band = frames[:, 172:, 8:40].astype(int).mean(axis=(1, 2, 3))
    captioned = round(len(text) / 14 * 6)
    assert band[: captioned - 1].max() < 0.6 * band[captioned + 1 : captioned + 3].min()
    animatic.write_animatic(made(panel(1, narration=text), panel(2)), tmp_path / "b.mp4", 0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_camera_moves_towards_the_subjects_and_back(tmp_path) -> None:
    art = panel(1)
    inward, outward = (animatic._Camera(art, inward=inward) for inward in (True, False))
    assert np.array_equal(inward.view(0.0), outward.view(1.0))
    assert not np.array_equal(inward.view(0.0), inward.view(1.0))
    assert inward.view(0.5).shape == (180, 320, 3)


@pytest.mark.parametrize("how", ["cut", "fade", "dissolve", "wipe"])
def test_transitions(how) -> None:
    white, black = np.full((180, 320, 3), 255, np.uint8), np.zeros((180, 320, 3), np.uint8)
    frames = list(animatic._change(white, black, how, backwards=False))
    assert len(frames) == (0 if how == "cut" else 4)
    lights = [frame.mean() for frame in frames]
    assert lights == sorted(lights, reverse=True)
    if how == "wipe":
        assert frames[0][:, 0].max() == 0
        assert frames[0][:, -1].min() == 255
        [first, *_] = animatic._change(white, black, how, backwards=True)
        assert first[:, -1].max() == 0


def test_a_caption_that_does_not_fit_is_refused_with_its_panel(tmp_path) -> None:
    laid_out = made(panel(3, narration="one"))
    long = LaidOutBook(book(panel(3, narration="word " * 200)), laid_out.pages, laid_out.typefaces, False)
    with pytest.raises(ValueError, match="panel 3: .* too long for a caption"):
        animatic.write_animatic(long, tmp_path / "a.mp4", 0)
