"""Storyboards and scripts made stories, starters, and drafts by a language model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from anystory.engine.options import ModelOptions
from anystory.story.check import check_story
from anystory.story.drafting import draft_story, load_writer
from anystory.story.importing.read import import_story
from anystory.story.looks import story_wordings
from anystory.story.model_facts import model_facts
from anystory.story.positions import StoryProblems
from anystory.story.prompts import panel_prompt
from anystory.story.reading import read_story
from anystory.story.schema import Story
from anystory.story.starting import SCHEMA_FILE, write_starter, write_story

STORYBOARD = {
    "故事梗概": "小明的一天",
    "角色表": [
        {"alias": "ROLE-A", "角色名": "小明", "简单描述": "男孩", "simple_prompt": "a boy in a red cap.. "},
        {"alias": "ROLE-AB", "simple_prompt": " a dog."},
    ],
    "分镜头": [
        {
            "序号": 2,
            "prompt": "ROLE-A walks, ROLE-A sings",
            "act_roles": ["ROLE-A", "ROLE-AB"],
            "旁白": "早上",
            "出场角色": ["x"],
        },
        {"序号": 1, "prompt": "xROLE-AB runs", "场景描述": "公园"},
    ],
}


def imported(folder: Path, name: str, text: str) -> dict:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return import_story(path)


def test_a_storyboard_means_what_it_means_to_its_authors(tmp_path):
    found = imported(tmp_path, "s.json", json.dumps(STORYBOARD, ensure_ascii=False))
    story = Story.model_validate(found)
    assert (story.title, story.language) == ("小明的一天", "zh")
    assert {member: who.looks for member, who in story.cast.items()} == {
        "ROLE-A": "a boy in a red cap.. ".rstrip(".").strip(), "ROLE-AB": "a dog",
    }  # fmt: skip
    assert story.display_name("ROLE-A") == "小明"
    first, second = story.panels
    assert (first.id, first.narration, list(first.cast)) == ("shot-2", "早上", ["ROLE-AB"])
    assert (second.prompt, second.alt) == ("x{ROLE-AB} runs", "公园")
    words = story_wordings(story)
    boy = words["ROLE-A", None].full
    assert panel_prompt(story, first, words).text == f"{boy} walks, {boy} sings, with a dog"
    assert panel_prompt(story, second, words).text == "xa dog runs"


def test_a_bad_storyboard_is_told_whole_with_lines(tmp_path):
    text = """{
 "角色表": [{"alias": "A"}, {"alias": "B", "simple_prompt": "x"}, {"alias": "B", "simple_prompt": "y"}],
 "分镜头": [{"序号": 1, "prompt": "B"},
  {"序号": 1, "prompt": "B", "act_roles": ["C"]},
  {"prompt": ""}]}"""
    with pytest.raises(StoryProblems) as caught:
        imported(tmp_path, "s.json", text)
    assert [(problem.mark.line, problem.text) for problem in caught.value.problems] == [
        (2, "needs a text 'simple_prompt'"),
        (2, "the alias 'B' is there twice"),
        (4, "'序号' is that of an earlier shot"),
        (4, "'C' is no alias of '角色表'"),
        (5, "needs a text 'prompt'"),
    ]
    for bad in ("{}", '{"分镜头": []}', '{"分镜头": 3}'):
        with pytest.raises(StoryProblems):
            imported(tmp_path, "s.json", bad)


MARKDOWN = """\
# The lost balloon
Author: Me

## Cast
- Mara: a fox (mara.png)
- **Bo**: a robot

## Panel 1: On the beach
Mara waving
at the sea.

> One morning.

MARA: Hello!
Bo (whispering): Hi: there.

## Panel
Bo sitting
ED: I am new.
"""

FOUNTAIN = """\
Title: The lost balloon
Author: Me

EXT. BEACH - DAY

Mara waves.

NARRATOR
One morning.

MARA (V.O.)
(shouting)
Hello!
Who is there?

Bo comes.

BO
Me.
"""


def test_markdown_scripts(tmp_path):
    story = Story.model_validate(imported(tmp_path, "s.md", MARKDOWN))
    assert (story.title, story.author) == ("The lost balloon", "Me")
    assert {member: (who.name, who.looks) for member, who in story.cast.items()} == {
        "mara": ("Mara", "a fox"), "bo": ("Bo", "a robot"), "ed": ("Ed", None),
    }  # fmt: skip
    assert story.cast["mara"].photos[0].image == "mara.png"
    first, second = story.panels
    assert (first.prompt, first.place, first.narration) == ("Mara waving at the sea.", "on-the-beach", "One morning.")
    assert story.places["on-the-beach"].prompt == "on the beach"
    assert [(line.speaker, line.text, line.kind) for line in first.dialogue] == [
        ("mara", "Hello!", "speech"), ("bo", "Hi: there.", "whisper"),
    ]  # fmt: skip
    assert (second.prompt, second.place, second.dialogue[0].speaker) == ("Bo sitting", None, "ed")


def test_fountain_scripts(tmp_path):
    story = Story.model_validate(imported(tmp_path, "s.fountain", FOUNTAIN))
    assert (story.title, story.author, list(story.cast)) == ("The lost balloon", "Me", ["mara", "bo"])
    first, second = story.panels
    assert (first.prompt, first.narration) == ("Mara waves.", "One morning.")
    assert [(line.text, line.kind) for line in first.dialogue] == [("Hello! Who is there?", "shout")]
    assert (second.prompt, first.place, second.place) == ("Bo comes.", "beach-day", "beach-day")


def test_what_is_no_script(tmp_path):
    with pytest.raises(StoryProblems, match="has no panels"):
        imported(tmp_path, "s.md", "Just a text.\n")
    with pytest.raises(ValueError, match="expected a storyboard"):
        import_story(tmp_path / "s.docx")
    with pytest.raises(FileNotFoundError):
        import_story(tmp_path / "none.md")


def test_imported_stories_are_written_with_the_schema(tmp_path):
    path = tmp_path / "out" / "story.yaml"
    write_story(path, imported(tmp_path, "s.md", MARKDOWN), "Imported.\nTwice.")
    lines = path.read_text().splitlines()
    assert lines[:3] == [f"# yaml-language-server: $schema=./{SCHEMA_FILE}", "# Imported.", "# Twice."]
    assert read_story(path).story.title == "The lost balloon"
    assert (path.parent / SCHEMA_FILE).is_file()
    with pytest.raises(FileExistsError):
        write_story(path, {"title": "t", "panels": ["p"]})


def test_the_starter_is_a_story_that_the_embedded_model_knows(tmp_path):
    path = tmp_path / "mine.yaml"
    write_starter(path)
    assert "anystory story check mine.yaml" in path.read_text()
    findings = check_story(read_story(path), model_facts(ModelOptions()))
    assert (findings.errors, findings.warnings) == ([], [])
    with pytest.raises(FileExistsError):
        write_starter(path)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model with random weights that talks in words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["<unk>", "<end>", "a", "fox", "waves", "{", "beach", "and", "sings", "moon"]
    plain = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    folder = tmp_path_factory.mktemp("llm")
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_positions=128, n_embd=16, n_layer=1, n_head=2, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_any_language_model_drafts_a_whole_story(llm, tmp_path):
    drafted = draft_story("a fox on a beach", 3, load_writer(str(llm)))
    path = tmp_path / "story.yaml"
    write_story(path, drafted)
    story = read_story(path).story
    assert len(story.panels) == 3
    assert check_story(read_story(path)).errors == []


def test_a_draft_is_what_the_model_says_line_by_line():
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return ['"The {moon}"\nand more', "A fox waves.", ""][len(asked) - 1]

    assert draft_story("a fox", 1, answer) == {
        "title": "The (moon)", "panels": [{"prompt": "A fox waves.", "narration": "…"}],
    }  # fmt: skip
    assert asked[-1].splitlines() == [
        "The story: a fox", "Title: The (moon)", "Panel 1 of 1, what is seen: A fox waves.",
        "Panel 1 of 1, narration:",
    ]  # fmt: skip


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"--llm .* cannot be loaded"):
        load_writer(str(tmp_path))
