"""Equal subjects in one picture: the first one has the pixels, whatever the rounding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from .helpers import draw, pipeline, subject

RED, BLUE = subject(name="red"), subject((30, 30, 220), name="blue")
LEFT, RIGHT, MIDDLE = (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0.25, 0, 0.75, 1)


def drawn(pipe: Any, *subjects: Any, **arguments: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The picture, the masks of its subjects, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        out = draw(pipe, subjects=list(subjects), **arguments)
    return out.images, out.routing.masks(), [str(one.message) for one in said if one.category is UserWarning]


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
@pytest.mark.parametrize(
    "twin", [RED, subject(name="twin"), subject(name="twin", scale=0.2)], ids=["same", "equal", "other scale"]
)
def test_the_first_of_two_equal_subjects_has_all(layout, twin):
    pipe = pipeline(layout)
    picture, masks, said = drawn(pipe, RED, BLUE, twin)
    alone, expected, nothing = drawn(pipe, RED, BLUE)
    np.testing.assert_allclose(picture, alone, atol=1e-5)
    assert np.array_equal(masks[:2], expected)
    assert not masks[2].any()
    assert nothing == []
    [line] = said
    assert line.startswith(f"'red' and {twin.name!r} are the same picture")


def test_it_is_said_once_for_all_prompts(mini):
    _, _, said = drawn(mini, RED, RED, RED, prompt=["a", "b"], num_images_per_prompt=2)
    assert len(said) == 1


def test_encodings_may_be_equal_too(mini):
    [red] = mini.encode_subjects([RED])
    _, masks, said = drawn(mini, red, red.replace(name="other"))
    assert not masks[1].any()
    assert "'red' and 'other'" in said[0]


def owners(pipe: Any, *regions: Any) -> tuple[np.ndarray, int]:
    """Who owns each column of the coarsest layer's four, for one subject with these regions; how much was said."""
    [encoded] = pipe.encode_subjects([RED])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        out = draw(pipe, subjects=[encoded.replace(region=region) for region in regions])
    owner = out.routing.maps(layer=0).argmax(axis=0)
    assert owner.shape == (4, 4)
    assert (owner == owner[0]).all()
    return owner[0], len([one for one in said if one.category is UserWarning])


def test_twins_with_regions_of_their_own_are_both_drawn(mini):
    columns, said = owners(mini, LEFT, RIGHT)
    assert (columns.tolist(), said) == ([0, 0, 1, 1], 0)


def test_of_overlapping_regions_the_second_keeps_the_rest(mini):
    columns, said = owners(mini, LEFT, MIDDLE)
    assert (columns.tolist(), said) == ([0, 0, 1, 2], 1)
    columns, said = owners(mini, MIDDLE, MIDDLE)
    assert (columns.tolist(), said) == ([2, 0, 0, 2], 1)


def test_one_with_a_region_and_one_without_do_not_meet(mini):
    _, _, said = drawn(mini, RED, subject(region=LEFT))
    assert said == []


def test_without_the_router_there_is_nothing_to_settle(mini):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        draw(mini, subjects=[RED, RED], use_router=False)


def test_other_pictures_of_one_name_are_no_twins(mini):
    _, masks, said = drawn(mini, subject(name="fox"), subject((30, 30, 220), name="fox"))
    assert said == []
    assert len(masks) == 2
