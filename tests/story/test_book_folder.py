"""Books read from disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.story.book_folder import (
    BOOK_FORMAT,
    BookIndex,
    CandidateFacts,
    IndexEntry,
    panel_folder,
    read_book,
    save_choices,
    save_index,
    save_scores,
)
from anystory.story.schema import Story

STORY = Story.model_validate(
    {
        "title": "T",
        "cast": {"mara": {"photos": "m.png", "variants": {"w": {"looks": "a fox"}}}},
        "panels": [
            {"prompt": "{mara} waving", "narration": "One day", "dialogue": [{"Mara": "Hi"}, {"A voice": "Oh"}]},
            "a meadow",
        ],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A book of two panels, the first of which has two candidates."""
    entries = (IndexEntry(key="aa", prompt="a fox", subjects=("mara",)), IndexEntry(key="bb", prompt="m", subjects=()))
    save_index(tmp_path, BookIndex(format=BOOK_FORMAT, source="s.yaml", story=STORY, model={}, panels=entries))
    for number in (1, 2):
        place = panel_folder(tmp_path, "aa") / str(number)
        place.mkdir(parents=True)
        facts = CandidateFacts(seed=number, origin="render", subjects=("mara",))
        (place / "candidate.json").write_text(facts.model_dump_json())
        Image.fromarray(np.full((4, 6), 1, np.uint8) * (np.arange(6) < number)).save(place / "owners.png")
    return tmp_path


def test_a_book_is_read_as_it_was_written(folder):
    book = read_book(folder)
    assert book.story == STORY
    assert book.story.cast["mara"].look("w").photos[0].image == "m.png"
    first, second = book.panels
    assert [(line.kind, line.speaker, line.name, line.text) for line in first.lines] == [
        ("narration", None, None, "One day"),
        ("speech", "mara", "Mara", "Hi"),
        ("speech", None, "A voice", "Oh"),
    ]
    assert (second.candidates, second.chosen) == ((), None)
    assert (first.alt, second.number) == ("mara waving", 2)
    with pytest.raises(ValueError, match="panels 1 to 2"):
        book.panel(3)


def test_the_best_candidate_is_shown_unless_another_is_chosen(folder):
    first = read_book(folder).panel(1).chosen
    assert first is not None
    assert first.number == 1, "the first, without scores"
    save_scores(folder, {"aa": {1: 0.25, 2: 0.5}})
    [panel, _] = read_book(folder).panels
    assert panel.chosen is not None
    assert panel.chosen.number == 2
    assert panel.chosen.masks()["mara"].sum() == 8
    save_choices(folder, {"aa": 1, "bb": 7})
    chosen = read_book(folder).panel(1).chosen
    assert chosen is not None
    assert chosen.number == 1
    assert chosen.sheet is None


def test_what_is_no_candidate_is_passed_over(folder):
    for name in ("3", "x", ".drawing-y"):
        (panel_folder(folder, "aa") / name).mkdir()
    assert [candidate.number for candidate in read_book(folder).panel(1).candidates] == [1, 2]


def test_no_book_and_damaged_ones_are_refused(folder, tmp_path_factory):
    with pytest.raises(ValueError, match="is no book"):
        read_book(tmp_path_factory.mktemp("empty"))
    good = json.loads((folder / "book.json").read_text())
    for bad in ("[]", "{", json.dumps({**good, "format": "x"}), json.dumps({**good, "panels": good["panels"][:1]})):
        (folder / "book.json").write_text(bad)
        with pytest.raises(ValueError, match="book.json"):
            read_book(folder)
    (folder / "book.json").write_text(json.dumps(good))
    (folder / "choices.json").write_text('{"aa": "x"}')
    with pytest.raises(ValueError, match="choices.json is damaged"):
        read_book(folder)
    (folder / "choices.json").unlink()
    (panel_folder(folder, "aa") / "1" / "candidate.json").write_text("{}")
    with pytest.raises(ValueError, match=r"candidate.json is damaged"):
        read_book(folder)
