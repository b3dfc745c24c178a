"""Everything that is wrong with a story, before anything is drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anystory.engine.options import ModelOptions
from anystory.story.check import check_story
from anystory.story.model_facts import model_digest, model_facts
from anystory.story.positions import Problem, StoryProblems


def told(problems: list[Problem]) -> list[tuple[int, int, str]]:
    return [
        (problem.mark.line, problem.mark.column, problem.text) for problem in sorted(problems, key=lambda p: p.mark)
    ]


def test_a_story_without_faults(write):
    findings = check_story(write())
    assert (findings.errors, findings.warnings) == ([], [])
    findings.raise_errors()


def test_page_templates_that_there_are_not(write):
    file = write("""\
        title: t
        layout: {template: nine, pages: [full, fuor]}
        panels: [night]
    """)
    said = told(check_story(file).errors)
    assert [(line, column) for line, column, _ in said] == [(2, 20), (2, 40)]
    assert "no page template 'nine'" in said[0][2]
    assert "the nearest are 'four'" in said[1][2]
    assert check_story(write("title: t\nlayout: webtoon\npanels: [night]\n")).errors == []


def test_every_fault_at_once_with_its_place(write):
    file = write("""\
        title: t
        style: flatt
        cast:
          mara: {looks: a fox, photos: none.png, library: "@mara"}
          bo: {looks: a robot, aliases: [Mara]}
          cy: {storyworld: a chair}
          dee: {photos: [red.png, {image: red.png, mask: gone.png}]}
        places:
          sea: {prompt: on a beach, picture: sea.png}
        panels:
          - {id: a, prompt: "Bo, {maro} and {dee@wet}", place: see, style: inky}
          - {id: a, prompt: "{", cast: [bob], absent: [nobody]}
          - {prompt: " ", dialogue: [{bo: Hi}, {Ed: Ha}], cast: {dee: {variant: dry}}}
    """)
    findings = check_story(file)
    assert [(line, column, text.partition(";")[0]) for line, column, text in told(findings.errors)] == [
        (2, 8, "there is no style 'flatt'"),
        (4, 3, "has library and photos: give one of them"),
        (4, 32, "there is no file none.png"),
        (5, 3, "'bo' has the name 'mara', which 'mara' has already: give them other names"),
        (5, 3, "'bo' has no picture, but is in panel 1: give it `photos`, `library` or `storyworld`, or list it under"
               " the panel's `absent`"),
        (6, 20, "'a chair' names no kind of character: use one of fox, bear, rabbit, robot, penguin, frog, cat, mouse,"
                " owl, dragon, elephant, snowman, child, lion"),
        (7, 50, "there is no file gone.png"),
        (9, 38, "there is no file sea.png"),
        (11, 21, "{maro} is nobody of the cast"),
        (11, 21, "'dee' has no variant 'wet'"),
        (11, 56, "there is no place 'see'"),
        (11, 68, "there is no style 'inky'"),
        (12, 10, "the id 'a' belongs to panel 1 already"),
        (12, 21, "has a brace without its other half: names stand in {…}"),
        (12, 33, "'bob' is nobody of the cast"),
        (12, 48, "'nobody' is nobody of the cast"),
        (13, 14, "`prompt` is empty: say what is seen"),
        (13, 40, "'Ed' is nobody of the cast"),
        (13, 63, "'dee' has no variant 'dry'"),
    ]  # fmt: skip
    with pytest.raises(StoryProblems, match=r"story.yaml:2:8: there is no style 'flatt'; the nearest are 'flat'"):
        findings.raise_errors()


def test_who_has_no_words_is_a_warning(write):
    file = write("""\
        title: t
        cast: {red: {photos: red.png}, bo: {storyworld: a wibbly blue fox}}
        panels: [Red and bo]
    """)
    [first, second] = told(check_story(file).warnings)
    assert first[:2] == (2, 8)
    assert "prompts keep the name 'Red'" in first[2]
    assert second[:2] == (2, 49)
    assert "wibbly" in second[2]


@pytest.mark.parametrize(
    "panel",
    [
        '{prompt: "{red@winter} and {red@summer} waving"}',
        '{prompt: "{red@winter} waving", cast: {red: {variant: summer}}}',
    ],
)
def test_two_looks_of_one_character_in_a_panel_are_refused(write, panel):
    variants = "{winter: {photos: red.png}, summer: {photos: blue.png}}"
    file = write(
        f"title: t\ncast: {{red: {{looks: a fox, photos: red.png, variants: {variants}}}}}\npanels: [{panel}]\n"
    )
    [(line, _, text)] = told(check_story(file).errors)
    assert (line, text) == (3, "'red' is here as summer and as winter: in one panel somebody has one look")
    fine = write(
        f"title: t\ncast: {{red: {{looks: a fox, photos: red.png, variants: {variants}}}}}\n"
        'panels: [{prompt: "{red@winter} waving to Red", cast: {red: {variant: winter}}}]\n'
    )
    assert not check_story(fine).errors


def test_what_the_model_cannot_do(write):
    file = write("""\
        title: t
        style: mine
        styles: {mine: in glitter}
        cast:
          red: {looks: a fox, photos: red.png}
          blue: {looks: a robot, photos: blue.png}
          x: {looks: a bear, photos: red.png}
        places: {sea: on a beech}
        panels:
          - {prompt: Red and Blue and X waving, place: sea}
          - {prompt: Red tangoing, negative: fog}
    """)
    facts = model_facts(ModelOptions())
    assert facts is not None
    found = told(check_story(file, replace(facts, max_subjects=2)).warnings)
    assert [(line, column, text.partition(";")[0]) for line, column, text in found] == [
        (3, 16, "this model does not know the word 'glitter'"),
        (8, 15, "this model does not know the word 'beech'"),
        (10, 14, "panel 1 has 3 subjects, and this model was trained with at most 2: it may mix them up"),
        (11, 14, "this model does not know the word 'tangoing'"),
        (11, 38, "this model does not know the word 'fog'"),
    ]


def test_the_end_of_a_prompt_that_the_model_does_not_read_is_a_warning(write):
    file = write(
        """\
        title: t
        cast: {red: {looks: a fox, photos: red.png}}
        places: {meadow: in a meadow}
        panels:
          - {prompt: Red waving, place: meadow}
          - {prompt: "Red waving WAVING", place: meadow}
    """.replace("WAVING", "and waving " * 40)
    )
    facts = model_facts(ModelOptions())
    assert facts is not None
    [(line, column, text)] = told(check_story(file, facts).warnings)
    assert (line, column) == (6, 14)
    assert text.startswith("this model does not read the end of panel 2's whole prompt: 'waving")
    assert text.endswith("in a meadow'"), "of the prompt with words for names and places"
    broken = write(
        """\
        title: t
        cast: {red: {storyworld: nobody}}
        panels: ["Red WAVING"]
    """.replace("WAVING", "waving " * 80)
    )
    assert check_story(broken, facts).errors, "a prompt that cannot be made is not measured"


def test_a_model_without_an_adapter_draws_no_cast(write, tiny, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for part in tiny.iterdir():
        if part.name != "adapter":
            (bare / part.name).symlink_to(part)
    facts = model_facts(ModelOptions(model=str(bare)))
    assert facts is not None
    assert facts.max_subjects == 0
    assert {(line, text) for line, _, text in told(check_story(write(), facts).errors)} == {
        (9, "panel 1 has subjects, and this model draws none: it has no adapter"),
        (10, "panel 2 has subjects, and this model draws none: it has no adapter"),
    }
    assert model_facts(ModelOptions(model="nobody/has-this")) is None


def test_flux2_klein_draws_subjects_without_an_adapter(tmp_path):
    index = {"_class_name": "Flux2KleinPipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    facts = model_facts(ModelOptions(model=str(tmp_path)))
    assert facts is not None
    assert facts.max_subjects == 4


def test_a_model_counts_by_its_content_not_by_its_place(tiny, tmp_path):
    moved = tmp_path / "moved"
    moved.symlink_to(tiny)
    plain = model_digest(ModelOptions(model=str(tiny)))
    assert model_digest(ModelOptions(model=str(moved), threads=3, tiling=True)) == plain
    assert model_digest(ModelOptions(model=str(tiny), scheduler="DDIMScheduler")) != plain
    assert model_digest(ModelOptions()) != plain
    assert model_digest(ModelOptions(model="nobody/has-this")) == model_digest(ModelOptions(model="nobody/has-this"))
