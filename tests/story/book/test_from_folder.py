"""A rendered book lettered and exported, without a model; and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.cli.flags.pages import PageFlags
from anystory.story.book.from_folder import contents_of, layout_of
from anystory.story.book.pages.templates import template_names
from anystory.story.book_folder import BOOK_FORMAT, BookIndex, CandidateFacts, IndexEntry, read_book, save_index
from anystory.story.schema import Story
from cli.refusals import refused
from story.book.books import panel

STORY: dict[str, Any] = {
    "title": "Two",
    "author": "Me",
    "layout": {"template": "two", "pages": ["full"], "page": "square"},
    "cast": {"fox": {"photos": "f.png", "colour": "#c04030"}, "robot": {"photos": "r.png", "name": "Rob"}},
    "panels": [
        {
            "prompt": "{fox} and {robot}",
            "narration": "One day",
            "dialogue": [{"fox": "Hello!"}, {"speaker": "Rob", "text": "Hm", "kind": "thought"}, {"A voice": "Oh"}],
            "transition": "fade",
        },
        {"prompt": "{robot}", "alt": "A robot alone"},
        "a meadow",
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A book of three panels as `render` leaves it."""
    place = tmp_path / "tale"
    entries = tuple(IndexEntry(key=key, prompt=key, subjects=()) for key in ("aa", "bb", "cc"))
    story = Story.model_validate(STORY)
    save_index(place, BookIndex(format=BOOK_FORMAT, source="s.yaml", story=story, model={}, panels=entries))
    for number, (entry, names) in enumerate(zip(entries, [("fox", "robot"), ("robot",), ()], strict=True), start=1):
        candidate = place / "panels" / entry.key / "1"
        candidate.mkdir(parents=True)
        art = panel(number)
        art.picture.save(candidate / "0001.png")
        facts = CandidateFacts(seed=1, origin="render", subjects=names)
        (candidate / "candidate.json").write_text(facts.model_dump_json())
        owners = np.zeros((48, 48), np.uint8)
        for index, name in enumerate(names, start=1):
            owners[art.masks[name]] = index
        Image.fromarray(owners).save(candidate / "owners.png")
    return place


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["story", "export", *map(str, arguments)])


def test_a_book_from_its_folder(folder) -> None:
    found = read_book(folder)
    book, layout = contents_of(found), layout_of(found)
    first, second, third = book.panels
    assert (book.title, book.author, book.language) == ("Two", "Me", "en")
    assert (first.narration, first.transition, first.alt) == ("One day", "fade", "fox and robot")
    assert [(line.speaker, line.name, line.kind, line.colour, line.text) for line in first.lines] == [
        ("fox", "Fox", "speech", "#c04030", "Hello!"),
        ("robot", "Rob", "thought", None, "Hm"),
        (None, "A voice", "speech", None, "Oh"),
    ]
    assert np.array_equal(first.masks["fox"], panel(1).masks["fox"])
    assert (set(second.masks), second.alt, third.masks) == ({"robot"}, "A robot alone", {})
    assert np.array_equal(np.asarray(third.picture), np.asarray(panel(3).picture))
    assert (layout.templates, layout.page, layout.cover, layout.right_to_left) == (
        ("full", "two"),
        "square",
        True,
        None,
    )


def test_export_writes_what_is_asked_for_into_the_book(folder) -> None:
    result = run(folder, "--to", "pdf,html", "--dpi", 40)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "export").iterdir()) == ["tale.html", "tale.pdf"]
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == ["pdf", "html"]
    assert len(pypdf.PdfReader(folder / "export" / "tale.pdf").pages) == 3
    assert not list(folder.glob(".*lock"))


def test_flags_go_before_the_story(folder, tmp_path) -> None:
    flags = ["--template", "full", "--page", "landscape", "--no-cover", "--direction", "rtl", "--letters", "9-9"]
    result = run(folder, "--to", "pdf", "--dpi", 40, "--out", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    reader = pypdf.PdfReader(tmp_path / "out" / "tale.pdf")
    assert len(reader.pages) == 3
    assert reader.pages[0].mediabox.width == 648
    root: Any = reader.trailer["/Root"]
    assert root["/ViewerPreferences"]["/Direction"] == "/R2L"


def test_help_names_every_template() -> None:
    said = str(PageFlags.__annotations__["template"])
    assert all(f"{name}," in said or f"{name};" in said for name in template_names())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--to", "docx"), "no format 'docx'"),
        (("--to", ","), "no format is named"),
        (("--letters", "big"), "--letters must be two sizes"),
        (("--letters", "12-7"), "smallest ≤ largest"),
        (("--template", "nine"), "no page template 'nine'"),
        (("--template", ","), "`templates` is empty"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, flags, words) -> None:
    assert words in refused(folder, "story", "export", folder, *flags)


def test_no_book_and_panels_that_are_not_drawn(folder, tmp_path) -> None:
    assert "is no book" in refused(tmp_path, "story", "export", tmp_path)
    (folder / "panels" / "bb" / "1" / "candidate.json").unlink()
    assert "panel 2 is not drawn yet: `anystory story render s.yaml" in refused(folder, "story", "export", folder)


def test_a_damaged_picture_names_its_panel(folder) -> None:
    (folder / "panels" / "bb" / "1" / "0001.png").write_bytes(b"no picture")
    assert "0001.png is damaged: draw panel 2 again" in refused(folder, "story", "export", folder)


def test_what_is_there_stays(folder) -> None:
    (folder / "export").mkdir()
    (folder / "export" / "tale.pdf").write_text("mine")
    assert "tale.pdf exists already" in refused(folder, "story", "export", folder)
    assert run(folder, "--dpi", 40, "--overwrite").exit_code == 0
    assert (folder / "export" / "tale.pdf").read_bytes().startswith(b"%PDF")
