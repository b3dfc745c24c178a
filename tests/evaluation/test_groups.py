"""Further groups of StoryWorld cases: what each is hard in, what is measured on them, and one run from end to end."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anystory.cli import app
from anystory.evaluation.benchmarks.results import read_scores
from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.storyworld.cases import Case, instance_masks
from anystory.evaluation.storyworld.group_scores import add_backgrounds, group_scores, read_all
from anystory.evaluation.storyworld.groups import EXTENDED, draw_groups, group_scene, parse_groups
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier, CharacterReading, Reading
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.identity import is_heldout
from anystory.storyworld.language.captions import vocabulary, words
from anystory.storyworld.level import load_level
from anystory.storyworld.render import render_scene

LEVEL = load_level(1)
SEEN = range(12)


def differing(group: str, index: int) -> set[str]:
    """The attributes in which the two characters of a case differ."""
    scene, _ = group_scene(group, index, LEVEL, "heldout")
    first, second = (asdict(placement.identity) for placement in scene.placements)
    return {name for name in first if first[name] != second[name]}


@pytest.mark.parametrize("group", EXTENDED)
def test_all_identities_are_held_out_and_cases_are_always_the_same(group: str):
    for index in SEEN:
        scene, references = group_scene(group, index, LEVEL, "heldout")
        assert all(is_heldout(placement.identity) for placement in scene.placements)
        assert len(references) == len(scene.placements)
        assert group_scene(group, index, LEVEL, "heldout") == (scene, references)
    trained, _ = group_scene(group, 0, LEVEL, "train")
    assert not any(is_heldout(placement.identity) for placement in trained.placements)


def test_as_many_characters_as_the_name_says_all_of_other_kinds():
    for count, group in enumerate(("one", "two", "three", "four", "five"), start=1):
        for index in SEEN:
            scene, _ = group_scene(group, index, LEVEL, "heldout")
            kinds = [placement.identity.kind for placement in scene.placements]
            assert len(set(kinds)) == len(kinds) == count
            assert all(kind in words(scene.caption) for kind in kinds)
    drawn = render_scene(group_scene("five", 0, LEVEL, "heldout")[0], 64)
    assert set(np.unique(drawn.instances)) == {0, 1, 2, 3, 4, 5}
    assert all((drawn.instances == number).sum() > 60 for number in range(1, 6))


def test_look_alikes_differ_in_what_their_group_says():
    for index in SEEN:
        assert "kind" not in differing("same-kind", index)
        assert differing("same-colours", index) == {"pattern"}
        wear = differing("one-wear", index)
        assert 1 <= len(wear) <= 2
        assert len({name.removesuffix("_colour") for name in wear}) == 1
        assert wear & {"headwear", "neckwear", "accessory"}


def test_far_references_have_another_pose_and_view():
    for index in SEEN:
        scene, references = group_scene("far", index, LEVEL, "heldout")
        for placement, reference in zip(scene.placements, references, strict=True):
            assert placement.appearance.pose != reference.pose
            assert placement.appearance.view != reference.view


def test_long_prompts_are_long_and_known():
    known = {*vocabulary(), ","}
    lengths = []
    for index in SEEN:
        said = words(group_scene("long", index, LEVEL, "heldout")[0].caption)
        assert set(said) <= known
        lengths.append(len(said))
    assert max(lengths) <= 38, "what the embedded model reads"
    assert np.mean(lengths) > 28


def test_places_come_in_pairs_with_other_characters():
    for pair in range(4):
        (a, _), (b, _) = (group_scene("place", 2 * pair + i, LEVEL, "heldout") for i in range(2))
        assert (a.place, a.light, a.decor) == (b.place, b.light, b.decor)
        assert a.placements != b.placements
        assert group_scene("place-apart", 2 * pair, LEVEL, "heldout")[0] == a
    assert len({group_scene("place", 2 * pair, LEVEL, "heldout")[0].decor for pair in range(4)}) == 4


def test_groups_are_named():
    assert parse_groups("far, five") == ["five", "far"]
    assert parse_groups("all") == list(EXTENDED)
    for text in ("near", "", ","):
        with pytest.raises(ValueError, match="--groups: no group"):
            parse_groups(text)
    with pytest.raises(ValueError, match="at least 1 case"):
        next(draw_groups(["one"], 0, level=1, split="heldout", size=16))
    with pytest.raises(ValueError, match="too few kinds"):
        next(draw_groups(["five"], 1, level=replace(LEVEL, kinds=LEVEL.kinds[:4]), split="heldout", size=16))


# --- scores ---


@pytest.fixture(scope="module")
def two() -> Case:
    return next(case for case in draw_groups(["two"], 6, level=1, split="heldout", size=64) if said(case))


def said(case: Case) -> bool:
    true = case.characters[0]
    return case.pose_is_said(0) and "pose" in true.visible and case.appearances[0].pose != true.attributes["pose"]


def seen(case: Case, **changes: str) -> Reading:
    """A perfect reading, but for changes of the first character."""
    characters = [
        CharacterReading(mask=mask, attributes=true.attributes | (changes if not i else {}), confidence={})
        for i, (true, mask) in enumerate(zip(case.characters, instance_masks(case), strict=True))
    ]
    return Reading(place=case.scene.place, light=case.scene.light, characters=characters)


def test_a_pose_is_the_prompts_or_the_references(two: Case):
    right = group_scores(two, seen(two), 3)
    copied = group_scores(two, seen(two, pose=two.appearances[0].pose), 3)
    assert right["pose asked"][0] == right["pose asked"][1]
    assert right["copied pose"][0] == 0
    assert copied["copied pose"][0] == 1
    assert copied["pose asked"][0] == right["pose asked"][0] - 1


def test_a_kind_that_is_there_twice_is_a_double(two: Case):
    reading = seen(two)
    assert group_scores(two, reading, 3)["doubled"] == (0, 1)
    twice = replace(reading, characters=[*reading.characters, reading.characters[0]])
    assert group_scores(two, twice, 3)["doubled"] == (1, 1)
    crowd = group_scores(two, reading, 1)
    assert "count" not in crowd, "the classifier cannot count so many"
    assert "doubled" not in crowd


def test_crowds_are_read_inside_their_masks(two: Case):
    classifier = AttributeClassifier.fresh(replace(ClassifierConfig.of_level(1), max_characters=1), seed=0)
    pixels = torch.from_numpy(two.drawn.image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    masks = np.stack(instance_masks(two))
    [reading] = read_all(classifier, pixels, [two], [masks])
    assert len(reading.characters) == 2
    assert all(np.array_equal(one.mask, mask) for one, mask in zip(reading.characters, masks, strict=True))
    [alone] = read_all(classifier, pixels, [two], [None])
    assert len(alone.characters) <= 1


def test_backgrounds_of_a_place_are_compared(two: Case):
    rng = np.random.default_rng(0)
    first = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
    second, who = first.copy(), np.zeros((64, 64), bool)
    second[20:40, 20:40] = 0
    who[20:40, 20:40] = True
    cases = [replace(two, group="place", pair=0), replace(two, group="place", pair=0), two]
    scores: list[Scores] = [{}, {}, {}]
    add_backgrounds(cases, [first, second, first], [who & False, who, who], scores)
    assert scores[0] == scores[2] == {}
    assert scores[1]["background"][0] == pytest.approx(1)


# --- end to end ---


def test_groups_from_end_to_end(tmp_path: Path):
    out = tmp_path / "out"
    arguments = ["eval", "storyworld", "--groups", "five,place", "--n", "4", "--steps", "2", "--rows", "full,ceiling"]
    arguments += ["--threads", "1", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "groups.json")])
    assert result.exit_code == 0, result.output
    assert "five *" in result.stdout
    assert "more characters than the model was trained with" in result.stdout
    groups = json.loads((tmp_path / "groups.json").read_text())["groups"]
    assert groups["five"]["beyond_training"]
    assert not groups["place"]["beyond_training"]
    assert groups["place"]["rows"]["ceiling"]["background"]["trials"] == 2
    assert groups["place"]["rows"]["ceiling"]["background"]["value"] > 0.8
    assert "count" not in groups["five"]["rows"]["full"]
    assert len(list(out.glob("pictures/full/*.png"))) == 8
    assert len(read_scores(out / "scores" / "full").pictures) == 8
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    both = ["eval", "compare", str(out / "scores" / "full"), str(out / "scores" / "ceiling"), "--group", "place"]
    compared = CliRunner().invoke(app, both)
    assert compared.exit_code == 0, compared.output
    assert "identity" in compared.stdout


def test_an_unknown_group_is_told_in_one_line():
    result = CliRunner().invoke(app, ["eval", "storyworld", "--groups", "six"])
    assert result.exit_code == 2
    assert "--groups: no group six: choose from all, one, two" in result.stderr
