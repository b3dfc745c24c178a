"""`anystory story`: stories from the command line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from pypdf import PdfReader
from typer.testing import CliRunner

from anystory.cli import app
from anystory.cli.story_render import parse_panels
from anystory.story.book_folder import read_book
from anystory.story.schema import json_schema
from story.conftest import STORY

runner = CliRunner()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def story(references: Path) -> Path:
    """A story beside its pictures."""
    path = references / "story.yaml"
    path.write_text(STORY)
    return path


def test_the_schema_is_printed_or_written(tmp_path):
    printed = runner.invoke(app, ["story", "schema"])
    assert json.loads(printed.stdout) == json_schema()
    out = tmp_path / "s.json"
    assert runner.invoke(app, ["story", "schema", "--out", str(out)]).exit_code == 0
    assert json.loads(out.read_text()) == json_schema()
    again = runner.invoke(app, ["story", "schema", "--out", str(out)])
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


def test_from_nothing_to_a_story(tmp_path):
    path = tmp_path / "mine.yaml"
    assert runner.invoke(app, ["story", "new", str(path)]).exit_code == 0
    assert runner.invoke(app, ["story", "new", str(path)]).exit_code == 2
    checked = runner.invoke(app, ["story", "check", str(path)])
    assert (checked.exit_code, checked.stdout) == (0, f"{path}: 3 panels, 0 errors, 0 warnings\n")
    path.write_text(path.read_text().replace("style: flat", "style: flut").replace("in a meadow", "in a medow"))
    checked = runner.invoke(app, ["story", "check", str(path)])
    assert checked.exit_code == 1
    assert f"error: {path}:14:8: there is no style 'flut'; the nearest are 'flat'" in checked.stdout
    assert "this model does not know the word 'medow'; it knows 'meadow'" in checked.stdout


def test_a_script_becomes_a_story(tmp_path):
    script = tmp_path / "s.md"
    script.write_text("# T\n## Panel\nMara waves\nMARA: Hi!\n")
    out = tmp_path / "s.yaml"
    done = runner.invoke(app, ["story", "import", str(script), "--out", str(out)])
    assert done.exit_code == 0, done.output
    checked = runner.invoke(app, ["story", "check", str(out)])
    assert checked.exit_code == 1
    assert "'mara' has no picture, but is in panel 1" in checked.stdout
    assert runner.invoke(app, ["story", "import", str(script), "--out", str(out)]).exit_code == 2
    bad = runner.invoke(app, ["story", "draft", "a fox", "--llm", str(tmp_path), "--out", str(tmp_path / "x.yaml")])
    assert (bad.exit_code, "cannot be loaded" in bad.stderr) == (2, True)


def test_a_story_is_rendered_and_rendered_again(story, model, tmp_path):
    command = ["story", "render", str(story), "--out", str(tmp_path / "book"), "--model", str(model), "--threads", "1"]
    first = runner.invoke(app, [*command, "--panels", "1,3", "--steps", "1"])
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["panel 1", "panel 3", str(tmp_path / "book")]
    assert lines[-1].endswith("2 pictures drawn, 0 panels as they were")
    again = runner.invoke(app, [*command, "--steps", "1"])
    assert again.stdout.splitlines()[-1].endswith("1 pictures drawn, 2 panels as they were")
    assert all(panel.chosen is not None for panel in read_book(tmp_path / "book").panels)


def test_a_panel_is_drawn_again_and_chosen(story, model, tmp_path):
    book = tmp_path / "book"
    render = ["render", str(story), "--out", str(book), "--model", str(model), "--threads", "1", "--panels", "1"]
    assert runner.invoke(app, ["story", *render]).exit_code == 0
    again = runner.invoke(app, ["story", "reroll", str(book), "1", "--seed", "9"])
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("panel 1, candidate 2: ")
    assert again.stdout.endswith("(seed 9)\n")
    chosen = runner.invoke(app, ["story", "choose", str(book), "1", "1"])
    assert chosen.stdout.startswith("panel 1, candidate 1: ")
    panel = read_book(book).panel(1)
    assert panel.chosen == panel.candidates[0]
    for words, said in (
        (["choose", str(book), "1", "3"], "panel 1 has no candidate 3: it has 1, 2"),
        (["choose", str(book), "7", "1"], "there is no panel 7"),
        (["reroll", str(tmp_path), "1"], "is no book"),
        (["reroll", str(book), "1", "--character", "Bo"], "'Bo' is not in panel 1, but red"),
    ):
        result = runner.invoke(app, ["story", *words])
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.slow
def test_the_guides_ten_commands_lead_from_nothing_to_a_pdf(tmp_path, monkeypatch):
    """With the embedded model, in the page's order; only with fewer steps."""
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs" / "stories.md").read_text(encoding="utf-8")
    block = guide[guide.index("## From nothing") : guide.index("## The story file")]
    found = [shlex.split(line, comments=True) for line in re.findall(r"(?m)^    anystory (.*)$", block)]
    assert [words[1] for words in found] == [
        *("new", "check", "render", "check", "reroll", "choose", "reroll", "render", "export", "export")
    ]
    for words in found:
        more = ["--steps", "2", "--threads", "1"] if words[1] == "render" else []
        result = runner.invoke(app, [*words, *more])
        assert result.exit_code == 0, (words, result.output)
    assert Path("BOOK/consistency.html").is_file()
    book = read_book(Path("BOOK"))
    assert [len(panel.candidates) for panel in book.panels] == [3, 5, 3]
    assert {path.name for path in Path("BOOK/export").iterdir()} == {"BOOK.pdf", "BOOK.epub", "BOOK.html", "BOOK.cbz"}
    pages = PdfReader("BOOK/export/BOOK.pdf").pages
    text = " ".join(" ".join(page.extract_text().split()) for page in pages)
    assert all(" ".join(line.text.split()) in text for panel in book.panels for line in panel.lines)
    assert len(pages) == 4


def test_bad_input_is_one_line_with_its_place(story, model, tmp_path):
    story.write_text(STORY.replace("Red waving", "'{Rod} waving'"))
    result = runner.invoke(app, ["story", "render", str(story), "--out", str(tmp_path / "b"), "--model", str(model)])
    assert result.exit_code == 2
    assert f"{story}:9:5: {{Rod}} is nobody of the cast" in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2 + result.stderr.count("warning:")


def test_numbers_of_panels():
    assert parse_panels(None) is None
    assert parse_panels("1, 3-5,4") == {1, 3, 4, 5}
    for text in ("", "a", "5-3", "1;2"):
        with pytest.raises(ValueError, match="--panels must be"):
            parse_panels(text)
