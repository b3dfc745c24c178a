"""Panels drawn again, wholly or one character; nothing is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.engine.character_mask import feathered
from anystory.engine.record.reading import load_record
from anystory.story.book_folder import read_book
from anystory.story.runner.render import render_story
from anystory.story.runner.reroll import choose_candidate, reroll_panel


@pytest.fixture
def book(write, model, options, tmp_path) -> Path:
    file = write()
    render_story(file, tmp_path / "book", options, panels={2}, load=lambda _: model)
    for path in file.folder.iterdir():
        path.unlink()  # a book needs neither its story file nor its photos
    return tmp_path / "book"


def shown(book: Path) -> np.ndarray:
    candidate = read_book(book).panel(2).chosen
    assert candidate is not None
    with Image.open(candidate.picture) as picture:
        return np.asarray(picture)


def reroll(book: Path, model: Any, **more: Any) -> Any:
    return reroll_panel(read_book(book), 2, load=lambda _: model, **more)


def test_a_reroll_is_a_further_candidate_that_the_book_shows(book, model):
    first = shown(book)
    again = reroll(book, model, seed=9)
    assert (again.number, again.facts.seed, again.facts.origin) == (2, 9, "reroll")
    assert list(again.masks()) == ["red", "blue"]
    assert not np.array_equal(shown(book), first)
    assert load_record(again.record).seed == 9
    chosen = choose_candidate(read_book(book), 2, 1)
    assert chosen.number == 1
    np.testing.assert_array_equal(shown(book), first)


def test_a_seed_that_is_there_is_only_chosen(book, model):
    reroll(book, model, seed=9)
    choose_candidate(read_book(book), 2, 1)
    assert reroll(book, model, seed=9).number == 2
    assert len(read_book(book).panel(2).candidates) == 2
    seeds = {reroll(book, model).facts.seed for _ in range(2)}
    assert len(seeds) == 2


def test_one_character_is_drawn_again_inside_its_own_mask_only(book, model):
    before, masks = shown(book), read_book(book).panel(2).chosen.masks()  # type: ignore[union-attr]
    member = max(masks, key=lambda name: int(masks[name].sum()))
    again = reroll(book, model, character=member.upper(), seed=5)
    assert (again.facts.origin, again.facts.parent, again.facts.character) == ("redraw", 1, member)
    after = shown(book)
    changed = (before != after).any(axis=-1)
    assert changed.any()
    assert not changed[~masks[member]].any(), "outside its mask every bit stays"
    new = again.masks()
    other = next(name for name in masks if name != member)
    np.testing.assert_array_equal(new[other][~masks[member]], masks[other][~masks[member]])
    record = load_record(again.record)
    assert record.image is not None
    assert record.mask is not None
    assert not list(book.glob(".drawing-*"))
    third = reroll(book, model, seed=77)
    assert (third.facts.origin, load_record(third.record).image) == ("reroll", None)


def test_what_cannot_be_drawn_again(book, model):
    with pytest.raises(ValueError, match="panel 1 is not drawn yet"):
        reroll_panel(read_book(book), 1, load=lambda _: model)
    with pytest.raises(ValueError, match="there is no panel 9"):
        reroll_panel(read_book(book), 9, load=lambda _: model)
    with pytest.raises(ValueError, match="'maro' is not in panel 2, but red, blue"):
        reroll(book, model, character="maro")
    with pytest.raises(ValueError, match="panel 2 has no candidate 5: it has 1"):
        choose_candidate(read_book(book), 2, 5)
    with pytest.raises(ValueError, match="panel 1 has no candidate 1: it is not drawn yet"):
        choose_candidate(read_book(book), 1, 1)


def test_a_character_without_a_pixel_is_refused(book, model):
    candidate = read_book(book).panel(2).chosen
    assert candidate is not None
    with Image.open(candidate.folder / "owners.png") as owners:
        Image.new("L", owners.size, 1).save(candidate.folder / "owners.png")
    with pytest.raises(ValueError, match="'blue' has no pixel of panel 2"):
        reroll(book, model, character="blue")


def test_the_soft_edge_lies_inside_and_the_pictures_edge_is_none():
    mask = np.zeros((64, 64), bool)
    mask[20:50, :30] = True
    soft = feathered(mask)
    assert not soft[~mask].any()
    assert soft[35, 0] == soft[35, 15] == 255
    assert 0 < soft[20, 15] < soft[21, 15] <= 255
    assert not feathered(np.zeros((8, 8), bool)).any()
    assert feathered(np.ones((8, 8), bool)).min() == 255
