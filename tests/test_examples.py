"""The stories in examples/: without a fault, and drawn and exported by one command each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from anystory.cli import app
from anystory.engine.options import ModelOptions
from anystory.story.book_folder import Book, read_book
from anystory.story.check import check_story
from anystory.story.looks import story_wordings
from anystory.story.model_facts import model_facts
from anystory.story.prompts import panel_prompt
from anystory.story.reading import read_story
from anystory.story.schema import Story, json_schema

EXAMPLES = Path(__file__).parents[1] / "examples"
STORIES = sorted(EXAMPLES.glob("*.yaml"))

runner = CliRunner()


@pytest.fixture(params=STORIES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Each story."""
    return request.param


def test_the_schema_beside_them_is_the_current_one() -> None:
    """If not: anystory story schema --out examples/anystory-story.schema.json --overwrite"""
    assert json.loads((EXAMPLES / "anystory-story.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_a_story_has_no_fault_and_no_word_that_mini_does_not_know(path: Path) -> None:
    findings = check_story(read_story(path), model_facts(ModelOptions(model="mini")))
    assert [str(problem) for problem in (*findings.errors, *findings.warnings)] == []


def test_a_story_is_a_whole_one_within_what_mini_draws(path: Path) -> None:
    story = read_story(path).story
    wordings = story_wordings(story)
    prompts = [panel_prompt(story, panel, wordings) for panel in story.panels]
    assert len(prompts) >= 8
    assert 2 <= len({member for prompt in prompts for member in prompt.subjects} & set(story.cast)) <= 4
    assert {1, 2} == {len(prompt.subjects) for prompt in prompts}
    assert len({panel.place for panel in story.panels}) >= 3
    assert len({light for prompt in prompts for light in ("day", "night") if light in prompt.text}) == 2
    lines = [line for panel in story.panels for line in panel.dialogue]
    assert {line.kind for line in lines} == {"speech", "thought", "shout", "whisper"}
    assert all(panel.narration or panel.dialogue for panel in story.panels)


def test_who_speaks_is_in_the_picture_and_every_picture_is_described(path: Path) -> None:
    story = read_story(path).story
    wordings = story_wordings(story)
    for panel in story.panels:
        there = panel_prompt(story, panel, wordings).subjects
        assert {story.member(line.speaker) for line in panel.dialogue} <= set(there), panel.prompt
        assert panel.alt, panel.prompt
        assert panel.seed is not None, panel.prompt


def test_the_typography_is_that_of_books(path: Path) -> None:
    """Quotation marks and apostrophes are curly, dots are an ellipsis, a dash has no double hyphen."""
    story = read_story(path).story
    for text in texts(story):
        assert not re.search(r"""["'`]|\.\.\.|--| {2}""", text), text
        opening, closing = ("„", "“") if story.language == "de" else ("“", "”")
        assert text.count(opening) == text.count(closing), text


def texts(story: Story) -> list[str]:
    """Everything that is lettered or read aloud."""
    found = [story.title]
    for panel in story.panels:
        found += [panel.narration, panel.alt, *(line.text for line in panel.dialogue)]
    return found


def test_two_panels_are_drawn_and_become_a_book(tmp_path: Path) -> None:
    """With the embedded model itself: the story in German, a panel with a variant and one with two characters."""
    whole = yaml.safe_load((EXAMPLES / "wem-gehoert-der-hut.yaml").read_text(encoding="utf-8"))
    story = tmp_path / "short.yaml"
    story.write_text(json.dumps(whole | {"panels": whole["panels"][1:3], "steps": 2}), encoding="utf-8")
    book = draw(story, tmp_path / "book")
    assert [set(panel.chosen.masks()) for panel in book.panels if panel.chosen] == [{"lotte"}, {"lotte", "otto"}]
    page = (tmp_path / "book" / "export" / "book.html").read_text(encoding="utf-8")
    assert "Wem gehört der Hut?" in page
    assert "Otto, ist das dein Hut?" in page


def test_a_whole_story_becomes_a_book(path: Path, tmp_path: Path) -> None:
    book = draw(path, tmp_path / "book")
    assert all(panel.chosen for panel in book.panels)
    assert (tmp_path / "book" / "export" / "book.pdf").read_bytes().startswith(b"%PDF")


def draw(story: Path, book: Path) -> Book:
    """Render and export."""
    for words in (["render", story, "--out", book, "--threads", "1"], ["export", book, "--to", "pdf,html"]):
        result = runner.invoke(app, ["story", *map(str, words)])
        assert result.exit_code == 0, result.output
    return read_book(book)
