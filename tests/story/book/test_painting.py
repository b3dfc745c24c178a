"""Pages as pixels."""

from __future__ import annotations

import numpy as np
import pytest

from anystory.story.book.contents import Line
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import PageLayout, lay_out
from anystory.story.book.painting import baselines, panel_picture, rasterise
from story.book.books import book, panel


def test_a_page_has_its_pictures_in_their_frames_and_its_words_over_them(laid_out) -> None:
    page = laid_out.pages[1]
    pixels = np.asarray(rasterise(page, laid_out.typefaces, 72)).astype(int)
    assert pixels.shape == (page.height, page.width, 3)
    assert (pixels[:10] == 255).all()
    for on_page in page.panels:
        expected = np.asarray(panel_picture(on_page, 1.0)).astype(int)
        x, y = round(on_page.frame.x), round(on_page.frame.y)
        shown = pixels[y : y + expected.shape[0], x : x + expected.shape[1]]
        same = np.abs(shown - expected).max(axis=2) < 12
        covered = np.zeros(same.shape, bool)
        for words in on_page.words:
            box = words.box
            covered[
                round(box.y) - y - 3 : round(box.bottom) - y + 3, round(box.x) - x - 3 : round(box.right) - x + 3
            ] = 1
        assert same[~covered].mean() > 0.93  # tails and the frame's line are the rest
        assert same[covered].mean() < 0.3


def test_letters_are_as_sharp_as_the_page_whatever_the_picture_is(laid_out) -> None:
    """At twice the resolution, thin strokes are dark: they were not scaled up with the picture."""
    page = laid_out.pages[1]
    words = page.panels[0].words[0]
    pixels = np.asarray(rasterise(page, laid_out.typefaces, 288).convert("L"))
    line, x, y = baselines(words, right_to_left=False)[0]
    end = x + words.block.widths[0] * words.size
    part = pixels[round((y - words.size) * 4) : round(y * 4), round(x * 4) : round(end * 4)]
    assert line
    assert part.min() < 60
    assert ((part < 70) | (part > 200)).mean() > 0.9


def test_the_same_page_gives_the_same_pixels(laid_out) -> None:
    again = lay_out(laid_out.book, PageLayout(templates=("two", "full")), Typefaces("en", system=False))
    for page, other in zip(laid_out.pages, again.pages, strict=True):
        assert rasterise(page, laid_out.typefaces, 50).tobytes() == rasterise(other, again.typefaces, 50).tobytes()


def test_captions_end_on_the_right_from_right_to_left(backwards) -> None:
    caption = backwards.pages[1].panels[0].words[0]
    [(_, x, _)] = baselines(caption, right_to_left=True)
    assert x + caption.block.widths[0] * caption.size == pytest.approx(caption.box.right - caption.size / 2)


def test_balloons_have_a_light_tint_of_their_speakers_colour() -> None:
    line = Line(text="Hello", speaker="fox", colour="#ff0000")
    tinted = lay_out(book(panel(1, line)), PageLayout(cover=False), Typefaces("en", system=False))
    [words] = tinted.pages[0].panels[0].words
    pixels = np.asarray(rasterise(tinted.pages[0], tinted.typefaces, 72))
    red, green, blue = pixels[round(words.box.y + words.size * 0.35), round(words.box.centre[0])]
    assert red == 255
    assert green == blue == 214
