"""Page templates, frames, and what they show of pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from anystory.story.book.pages.frames import GUTTER, crop_window, cropped, frames
from anystory.story.book.pages.templates import template, template_names

NAMES = ("full", "two", "strip", "three", "four", "six", "webtoon")


def test_the_templates() -> None:
    assert set(template_names()) == set(NAMES)
    assert [template(name).count for name in template_names()] == sorted(template(name).count for name in NAMES)
    assert {name: template(name).count for name in NAMES} == {
        "full": 1, "two": 2, "strip": 3, "three": 3, "four": 4, "six": 6, "webtoon": 6,
    }  # fmt: skip
    for name in ("nine", "../../x", ""):
        with pytest.raises(ValueError, match="no page template"):
            template(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.8])
@pytest.mark.parametrize("page", [(432, 648), (576, 576), (648, 432)])
def test_frames_lie_on_the_page_apart_and_lose_at_most_a_third(name, aspect, page) -> None:
    chosen = template(name)
    boxes, height = frames(chosen, [aspect] * chosen.count, *page, right_to_left=False)
    assert len(boxes) == chosen.count
    assert chosen.fit_height or height == page[1]
    for box in boxes:
        assert min(box.x, box.y) > 0
        assert box.right < page[0] + 1e-6
        assert box.bottom < height + 1e-6
        ratio = box.width / box.height / aspect
        assert 0.65 < ratio < 1 / 0.65
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other, GUTTER - 0.01)
    assert 0 <= cropped(chosen, [aspect] * chosen.count, *page) < 0.35


def test_rows_begin_on_the_right_from_right_to_left() -> None:
    left, _ = frames(template("four"), [1.0] * 4, 500, 600, right_to_left=False)
    right, _ = frames(template("four"), [1.0] * 4, 500, 600, right_to_left=True)
    for one, other in zip(left, right, strict=True):
        assert other.x == pytest.approx(500 - one.right)
        assert other.y == one.y
    assert left[0].x < left[1].x


def test_a_square_picture_on_a_square_page_loses_nothing() -> None:
    for name in ("full", "four"):
        assert cropped(template(name), [1.0] * template(name).count, 576, 576) < 0.01


def test_a_strip_with_fewer_panels_and_a_column() -> None:
    [first, second], height = frames(template("strip"), [1.0, 1.0], 500, 999, right_to_left=False)
    assert first.width == pytest.approx(second.width)
    assert height == pytest.approx(first.height + 44)
    boxes, height = frames(template("webtoon"), [1.0, 2.0, 0.5], 500, 999, right_to_left=False)
    assert [box.width / box.height for box in boxes] == pytest.approx([1.0, 2.0, 0.5])
    assert height == pytest.approx(boxes[-1].bottom + 22)


def test_a_window_is_as_large_as_can_be_and_shows_the_subjects() -> None:
    mask = np.zeros((100, 200), bool)
    mask[20:80, 150:180] = True
    window = crop_window(200, 100, 1.0, {"fox": mask})
    assert (window.width, window.height) == (100, 100)
    assert window.x <= 150
    assert window.right >= 180
    assert crop_window(200, 100, 1.0, {}).x == pytest.approx(50, abs=2)
    assert crop_window(200, 100, 4.0, {}).height == 50
