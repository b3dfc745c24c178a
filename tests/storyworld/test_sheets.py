"""Contact sheets and mask pictures."""

from __future__ import annotations

import numpy as np
import pytest

from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_scene
from anystory.storyworld.sheets import contact_sheet, mask_picture, world_sheet


def test_pictures_lie_in_rows() -> None:
    pictures = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, 3)
    assert sheet.shape == (2 * 12 + 4, 3 * 12 + 4, 3)
    assert (sheet[4:12, 16:24] == 10).all()
    assert (sheet[16:24, 4:12] == 30).all()
    assert (sheet[16:24, 28:36] == 255).all()


def test_a_world_sheet_shows_the_scenes_of_its_seeds() -> None:
    sheet, captions = world_sheet(5, rows=1, columns=2, size=32)
    assert captions == [sample_scene(5).caption, sample_scene(6).caption]
    assert (sheet[4:36, 40:72] == render_scene(sample_scene(6), 32).image).all()


def test_a_mask_picture_has_a_colour_for_each_character() -> None:
    picture = mask_picture(np.arange(5, dtype=np.uint8)[None])
    assert len({tuple(colour) for colour in picture[0]}) == 5


def test_bad_sheets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([], 3)
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], 3)
    with pytest.raises(ValueError, match="column"):
        contact_sheet([np.zeros((8, 8, 3), np.uint8)], 0)
    with pytest.raises(ValueError, match="row"):
        world_sheet(rows=0)
