"""Story files read: the short forms, and every complaint with its line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anystory.story.positions import Mark, StoryProblems
from anystory.story.reading import read_story
from anystory.story.schema import Story, json_schema

STORY = """\
format: anystory-story/1
title: no
style: flat
layout: four
cast:
  mara: {looks: a fox, photos: mara.png, aliases: [Granny], variants: {winter: {looks: a fox in white, photos: w.png}}}
  bo: "@bo"
places:
  beach: on a beach
panels:
  - Mara waving
  - prompt: Mara waving to {bo}
    cast: [bo, {mara: {variant: winter, region: [0, 0, 0.5, 1]}}]
    size: 640x512
    narration: 2026-11-25
    dialogue:
      - mara: Hello!
      - {Bo: Psst, kind: whisper}
"""


def written(folder: Path, text: str, name: str = "story.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, name: str = "story.yaml") -> list[tuple[Mark, str]]:
    with pytest.raises(StoryProblems) as caught:
        read_story(written(folder, text, name))
    return [(problem.mark, problem.text) for problem in caught.value.problems]


def test_the_short_forms_and_texts_that_yaml_1_1_would_change(tmp_path):
    story = read_story(written(tmp_path, STORY)).story
    assert (story.title, story.layout.template, story.places["beach"].prompt) == ("no", "four", "on a beach")
    assert story.cast["bo"].library == "@bo"
    assert [photo.image for photo in story.cast["mara"].photos] == ["mara.png"]
    first, second = story.panels
    assert first.prompt == "Mara waving"
    assert second.size == (640, 512)
    assert second.narration == "2026-11-25"
    assert list(second.cast) == ["bo", "mara"]
    assert second.cast["mara"].variant == "winter"
    assert [(line.speaker, line.text, line.kind) for line in second.dialogue] == [
        ("mara", "Hello!", "speech"),
        ("Bo", "Psst", "whisper"),
    ]


def test_names_lead_to_ids_in_any_case(tmp_path):
    story = read_story(written(tmp_path, STORY)).story
    assert [story.member(name) for name in ("mara", "Mara", "MARA", "granny", "Bo", "Ann")] == [
        *["mara"] * 4, "bo", None,
    ]  # fmt: skip
    assert story.display_name("mara") == "Mara"


def test_a_variant_has_its_own_pictures_and_the_rest_of_the_character(tmp_path):
    mara = read_story(written(tmp_path, STORY)).story.cast["mara"]
    assert mara.look() is mara
    winter = mara.look("winter")
    assert (winter.looks, winter.photos[0].image, winter.segmenter) == ("a fox in white", "w.png", "auto")
    with pytest.raises(KeyError):
        mara.look("summer")


def test_a_variant_with_a_description_leaves_no_photos_of_the_character():
    look = {"photos": "a.png", "looks": "a fox", "variants": {"w": {"storyworld": "a blue fox"}}}
    winter = Story.model_validate({"title": "t", "cast": {"a": look}, "panels": ["p"]}).cast["a"].look("w")
    assert (winter.sources, winter.looks) == (("storyworld",), "a fox")


def test_json_is_read_too_with_places(tmp_path):
    story = {"$schema": "x.json", "title": "T\u00e9\U0001f600", "panels": [{"prompt": "p"}]}
    assert read_story(written(tmp_path, json.dumps(story), "s.json")).story.title == "Té😀"
    text = '{\n\t"title": "T",\n\t"panels": [{"prompt": "p", "seed": -1}]\n}'
    [(mark, said)] = problems(tmp_path, text, "s.json")
    assert mark == Mark(3, 37)
    assert "`seed`: should be greater than or equal to 0, got -1" in said
    assert problems(tmp_path, '{"title": }', "s.json")[0][0] == Mark(1, 11)


def test_all_complaints_at_once_each_with_its_place(tmp_path):
    text = """\
langauge: en
title: x
cast:
  mara: {photo: x.png}
  9x: a.png
panels:
  - prompt: p
    seed: -1
    cast: [mara, {fox: {region: [0, 0, 2, 1]}}]
  - narration: on
  - dialogue:
     - {speaker: x, text: y, kind: loud}
    prompt: ""
"""
    found = problems(tmp_path, text)
    assert [(mark, said.partition(", got")[0]) for mark, said in found] == [
        ((1, 1), "there is no entry `langauge` here"),
        ((4, 10), "there is no entry `photo` here"),
        ((5, 3), "'9x' must begin with a letter and have letters, digits, - and _ only"),
        ((8, 11), "`seed`: should be greater than or equal to 0"),
        ((9, 40), "`region`: should be less than or equal to 1"),
        ((10, 5), "`prompt` is missing"),
        ((12, 36), "`kind`: should be 'speech', 'thought', 'shout' or 'whisper'"),
    ]


@pytest.mark.parametrize(
    ("text", "mark", "said"),
    [
        ("", (1, 1), "is empty"),
        ("- a", (1, 1), "a story is a mapping"),
        ("title: x\npanels: []", (2, 9), "`panels`"),
        ("title: [", (1, 9), "is no YAML"),
        ("title: x\n\tpanels: y", (2, 1), "is no YAML"),
        ("title: x\npanels:\n  - {mara} waves", (3, 12), "a text that begins with { must be in quotes"),
        ("title: x\npanels:\n  - prompt: {mara}", (3, 13), "a text that begins with { must be in quotes"),
        ("title: x\ncast:\n  a: {looks: Who? A fox}", (3, 17), "within { } a text with a comma or a question"),
        ("title: x\ncast:\n  a: {looks: a fox, red}\npanels: [p]", (3, 21), "within { } a text with a comma"),
        ("title: x\ntitle: y\npanels: [p]", (2, 1), "'title' is there twice, first in line 1"),
        ("title: x\ncast:\n  a: x.png\n  a: y.png\npanels: [p]", (4, 3), "'a' is there twice, first in line 3"),
        ("title: x\nformat: anystory-story/9\npanels: [p]", (2, 9), "this version reads the format"),
        ("title: !!python/object:os.system x\npanels: [p]", (1, 8), "has the type"),
        ("? [a]\n: b", (1, 3), "a name must be a text"),
        ("a: &a [*a]", (1, 4), "too many or too deeply nested"),
        ("title: x\nlanguage: english\npanels: [p]", (2, 11), "`language`"),
        ("title: x\npanels: [{prompt: p, size: 0}]", (2, 28), "`size`"),
    ],
)
def test_what_is_no_story(tmp_path, text, mark, said):
    found = problems(tmp_path, text)
    assert found[0][0] == mark
    assert said in found[0][1]


def test_a_flood_of_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    assert "too many" in problems(tmp_path, "\n".join(lines))[0][1]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_story(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("title: é".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_story(path)


def test_the_schema_describes_every_entry_and_every_short_form():
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {field.alias or name for name, field in Story.model_fields.items()}
    assert all("description" in entry for entry in schema["properties"].values() if "$ref" not in entry)
    for name in ("CastMember", "StoryPhoto", "StoryPlace", "StoryPanel", "Style", "Layout", "Look"):
        assert {"type": "string"}.items() <= schema["$defs"][name]["anyOf"][1].items()
    used = {part for part in json.dumps(schema).split('"') if part.startswith("#/$defs/")}
    assert {part.rpartition("/")[2] for part in used} <= set(schema["$defs"])
