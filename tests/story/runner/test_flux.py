"""A story on FLUX.1: what the runner takes from any model, and what that one does not draw."""

from __future__ import annotations

import pytest
from PIL import Image

from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.engine.record.reading import load_record
from anystory.story.book_folder import read_book
from anystory.story.positions import StoryProblems
from anystory.story.runner.render import render_story
from anystory.story.runner.reroll import reroll_panel
from pipelines.flux.tiny import pipeline

STORY = """\
title: One
size: 96x64
steps: 1
cast:
  red: {looks: a fox, photos: red.png}
  blue: {looks: a robot, photos: {image: blue.png, mask: blue-mask.png}}
places: {sea: on a beach}
panels:
  - {prompt: Red, place: sea}
"""


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux") / "tiny"
    pipeline().save_pretrained(folder)
    return ModelOptions(model=str(folder), threads=1)


def test_panels_are_drawn_with_their_masks_and_drawn_again(flux, write, tmp_path):
    """With one subject FLUX.1 has no routing."""
    model = load(flux)
    done = render_story(write(STORY + "  - Red and Blue\n"), tmp_path / "book", flux, load=lambda _: model)
    assert len(done.drawn) == 2
    chosen = read_book(tmp_path / "book").panel(1).chosen
    both = read_book(tmp_path / "book").panel(2).chosen
    assert chosen is not None
    assert both is not None
    record = load_record(chosen.record)
    assert (record.prompt, record.background_seed) == ("a fox on a beach", None)
    with Image.open(chosen.picture) as picture:
        assert picture.size == (96, 64)
    assert chosen.masks() == {}
    assert {name: mask.shape for name, mask in both.masks().items()} == {"red": (64, 96), "blue": (64, 96)}
    again = reroll_panel(read_book(tmp_path / "book"), 1, seed=3, load=lambda _: model)
    assert again.picture.read_bytes() != chosen.picture.read_bytes()
    assert render_story(write(STORY.replace("sea}", "sea, seed: 3}")), tmp_path / "book", flux).kept == 1


def test_what_it_does_not_draw_is_told_with_its_place(flux, write, tmp_path):
    story = write(STORY.replace("sea}", "sea, negative: fog}\n  - {prompt: day, size: 40x64}"))
    with pytest.raises(StoryProblems, match="multiples of 16, got 40×64"):
        render_story(story, tmp_path / "book", flux, load=lambda options: pytest.fail("it was loaded"))
    story = write(STORY.replace("place: sea}", "place: sea, negative: fog}"))
    with pytest.raises(StoryProblems) as caught:
        render_story(story, tmp_path / "book", flux, load=lambda options: pytest.fail("it was loaded"))
    [problem] = caught.value.problems
    assert problem.mark == (9, 41)
    assert "needs true CFG on FLUX.1" in problem.text
