"""The StoryWorld table: cases, scoring by hand-made readings, statistics, and one evaluation from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.evaluation.bootstrap import Bootstrap, estimate
from anystory.evaluation.storyworld.cases import Case, draw_cases, group_of, instance_masks
from anystory.evaluation.storyworld.run import Row, recorded_steps
from anystory.evaluation.storyworld.scores import match, routing_scores, score, sharpness_score
from anystory.evaluation.storyworld.table import Column, Results
from anystory.evaluation.storyworld.variants import VARIANTS, parse_rows
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier, CharacterReading, Reading
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union
from anystory.storyworld.identity import is_heldout
from anystory.storyworld.level import load_level
from anystory.storyworld.render import render_scene


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(draw_cases(8, level=1, split="heldout", size=64))


def perfect(case: Case, **changes: dict[str, str]) -> Reading:
    """The reading of a judge that never errs; `changes` overrides attributes of characters, `_0`, `_1`, …"""
    characters = [
        CharacterReading(mask=mask, attributes=true.attributes | changes.get(f"_{i}", {}), confidence={})
        for i, (true, mask) in enumerate(zip(case.characters, instance_masks(case), strict=True))
    ]
    return Reading(place=case.scene.place, light=case.scene.light, characters=characters)


def of_group(cases: list[Case], group: str) -> Case:
    return next(case for case in cases if case.group == group)


# --- cases ---


def test_cases_are_heldout_in_fixed_shares_and_always_the_same(cases):
    assert [case.group for case in cases].count("one") == 2
    assert [case.group for case in cases].count("two") == 4
    assert [case.group for case in cases].count("alike") == 2
    for case in cases:
        assert group_of(case.scene) == case.group
        assert all(is_heldout(placement.identity) for placement in case.scene.placements)
        assert len(case.references) == len(case.characters)
        assert all("kind" in true.visible for true in case.characters) or case.group != "one"
    again = list(draw_cases(8, level="level1", split="heldout", size=64))
    assert [case.index for case in again] == [case.index for case in cases]
    assert all(np.array_equal(a.drawn.image, b.drawn.image) for a, b in zip(again, cases, strict=True))


def test_the_true_scene_is_drawn_once_at_each_size():
    for case in draw_cases(4, level=1, split="heldout", size=64, picture=32):
        assert case.drawn.image.shape == (64, 64, 3)
        assert np.array_equal(case.true, render_scene(case.scene, 32).image)
    case = next(draw_cases(4, level=1, split="heldout", size=64))
    assert case.true is case.drawn.image


def test_what_a_reference_hides_is_not_asked_for(cases):
    for case in cases:
        for true in case.characters:
            for attribute, value in true.attributes.items():
                assert not (value == "" and attribute in true.visible), "a colour of nothing cannot be seen"


def test_a_level_with_more_characters_has_a_quarter_of_such_scenes():
    groups = [case.group for case in draw_cases(8, level="level1-three", split="heldout", size=32)]
    assert {name: groups.count(name) for name in groups} == {"one": 2, "alike": 2, "three": 2, "two": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 3}, "at least 4"),
        ({"split": "secret"}, "unknown split 'secret'"),
        ({"level": replace(load_level(1), max_characters=1)}, "one character only"),
    ],
)
def test_bad_cases_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        list(draw_cases(**({"number": 4, "level": 1, "split": "heldout", "size": 64} | changes)))


# --- scores ---


def test_truth_scores_everything(cases):
    for case in cases:
        scores = score(case, perfect(case))
        for measure, (hits, trials) in scores.items():
            assert hits == (0 if measure == "leak" else trials), measure
        assert scores["identity"][1] == scores["coarse"][1] + scores["fine"][1]
        assert scores["identity"][1] == sum(len(true.visible - {"pose", "view"}) for true in case.characters)


def test_a_wrong_attribute_is_one_miss_and_no_leak(cases):
    case = of_group(cases, "one")
    true = case.characters[0].attributes["primary"]
    scores = score(case, perfect(case, _0={"primary": "red" if true != "red" else "blue"}))
    assert scores["coarse"] == (1.0, 2.0)
    assert scores["fine"][0] == scores["fine"][1]
    assert "leak" not in scores


def test_the_others_value_is_a_leak(cases):
    case = next(
        c for c in cases
        if c.group != "one"
        and c.characters[0].attributes["primary"] != c.characters[1].attributes["primary"]
        and all("primary" in true.visible for true in c.characters)
    )  # fmt: skip
    stolen = case.characters[1].attributes["primary"]
    scores = score(case, perfect(case, _0={"primary": stolen}))
    assert scores["leak"][0] == 1
    assert scores["identity"][0] == scores["identity"][1] - 1


def test_sharpness_is_the_share_of_the_true_scenes_differences():
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 200
    faint = edge // 2
    assert sharpness_score(edge, edge)["sharpness"][0] == pytest.approx((200 / 127.5) ** 2 * 8 * 3)
    hits, trials = sharpness_score(faint, edge)["sharpness"]
    assert hits / trials == pytest.approx(0.25)


def test_characters_are_matched_by_who_they_are_not_by_where(cases):
    case = of_group(cases, "two")
    reading = perfect(case)
    swapped = replace(reading, characters=reading.characters[::-1])
    assert match(case, swapped.characters) == reading.characters
    assert score(case, swapped) == score(case, reading)


def test_a_missing_character_has_nothing_right_and_an_extra_one_counts(cases):
    case = of_group(cases, "two")
    reading = perfect(case)
    alone = score(case, replace(reading, characters=reading.characters[:1]))
    own = len(case.characters[0].visible - {"pose", "view"})
    assert alone["identity"][0] == own
    assert alone["count"] == (0.0, 1.0)
    assert alone["kind"] == (1.0, 2.0)
    crowd = score(case, replace(reading, characters=[*reading.characters, reading.characters[0]]))
    assert crowd["count"] == (0.0, 1.0)
    assert crowd["identity"] == score(case, reading)["identity"]
    nobody = score(case, replace(reading, characters=[]))
    assert nobody["identity"][0] == nobody["leak"][0] == 0


def test_routing_is_compared_with_the_character_that_a_subject_became(cases):
    case = of_group(cases, "two")
    reading = perfect(case)
    masks = instance_masks(case)
    nothing = [np.zeros_like(mask) for mask in masks]
    found = routing_scores(
        case,
        replace(reading, characters=reading.characters[::-1]),
        {"right": masks, "swapped": masks[::-1], "no": nothing},
    )
    assert found["right"] == (2.0, 2.0)
    assert found["swapped"] == (0.0, 2.0)
    assert found["no"] == (0.0, 2.0)
    half = np.zeros((4, 4), bool)
    half[:2] = True
    assert intersection_over_union(half, np.ones((4, 4), bool)) == 0.5
    assert intersection_over_union(nothing[0], nothing[0]) == 0


def test_moments_are_the_ends_of_steps():
    assert recorded_steps(25) == {"25": 5, "50": 11, "100": 24}
    assert recorded_steps(1) == {"25": 0, "50": 0, "100": 0}


# --- statistics ---


def test_intervals_are_about_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    scores = [{"hit": (float(rng.random() < 0.7), 1.0)} for _ in range(400)]
    found = estimate(*Bootstrap(400).ratio(scores, "hit", np.ones(400, bool)))
    error = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * error, rel=0.15)


def test_nothing_tried_is_no_number():
    found = estimate(*Bootstrap(3).ratio([{}, {}, {}], "hit", np.ones(3, bool)))
    assert found.value != found.value
    assert found.to_dict()["value"] is None


def test_bars_compare_rows_on_the_same_pictures(cases):
    perfect_scores = [
        score(case, perfect(case)) | {"refined 100": (0.9, 1.0), "coarse 100": (0.5, 1.0), "sharpness": (0.6, 0.8)}
        for case in cases
    ]
    blind = [s | {"fine": (0.0, s["fine"][1])} for s in perfect_scores]
    rows = [
        Row(variant=VARIANTS[n], scores=s)
        for n, s in (
            ("full", perfect_scores),
            ("clip-only", blind),
            ("no-router", perfect_scores),
            ("ceiling", perfect_scores),
        )
    ]
    results = Results(cases, rows)
    bars = {bar.name: bar for bar in results.bars()}
    assert bars["one subject: identity, share of the ceiling"].holds
    assert bars["fine detail lost with ReferenceNet off"].estimate.value == 1.0
    assert bars["fine detail lost with ReferenceNet off"].holds
    assert bars["routing IoU: refined − coarse"].holds
    assert bars["sharpness, share of true scenes'"].estimate.value == pytest.approx(0.75)
    assert not bars["leak with the router off / on"].holds, "no leak anywhere is no doubling"
    assert results.cell("full", Column("one", "identity", ("one",))).value == 1.0


# --- end to end ---


def test_rows_are_named(tmp_path):
    assert [row.name for row in parse_rows("ceiling, full")] == ["full", "ceiling"]
    with pytest.raises(ValueError, match="no row best"):
        parse_rows("best")


def test_an_evaluation_from_end_to_end(tmp_path: Path):
    torch.manual_seed(0)
    AttributeClassifier(ClassifierConfig.of_level(1)).save(tmp_path / "judge")  # fresh weights: any reading will do
    arguments = ["eval", "storyworld", "--n", "4", "--steps", "2", "--judge", str(tmp_path / "judge"), "--threads", "1"]
    arguments += ["--rows", "full,no-router,oracle,clip-only,prompt-only,ceiling"]
    arguments += ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "table.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["pictures"] == {"one": 1, "two": 2, "alike": 1, "three": 0}
    assert table["rows"]["ceiling"]["prompt"]["sharpness"]["value"] > 0
    assert set(table["rows"]) == {"full", "clip-only", "no-router", "oracle", "prompt-only", "ceiling"}
    full = table["rows"]["full"]
    assert full["identity"]["one"]["trials"] > 0
    assert full["routing"]["refined 100 %"]["trials"] == 7
    assert table["rows"]["no-router"]["routing"]["refined 100 %"]["trials"] == 0
    assert len(table["bars"]) == 13
    pictures = {p.parent.name: Image.open(p).tobytes() for p in sorted((tmp_path / "out").glob("pictures/*/*.png"))}
    assert len(set(pictures.values())) == 6, "every row draws another picture"
    assert Image.open(tmp_path / "out" / "page.png").width > 500

    # A second call reads the rows that are there: a changed score shows that it was not drawn anew.
    kept = tmp_path / "out" / "full.json"
    row = json.loads(kept.read_text())
    row["scores"] = [s | {"count": [1.0, 1.0]} for s in row["scores"]]
    kept.write_text(json.dumps(row))
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "table.json exists already" in refused.stderr
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    assert json.loads((tmp_path / "table.json").read_text())["rows"]["full"]["prompt"]["count"]["value"] == 1.0
    # Other settings do not replace them, but when told to.
    arguments[arguments.index("--steps") + 1] = "1"
    arguments[arguments.index("--json") + 1] = str(tmp_path / "other.json")
    refused = CliRunner().invoke(app, [*arguments, "--rows", "full"])
    assert refused.exit_code == 2
    assert "full.json is a row of another model, judge or settings" in refused.stderr
    assert json.loads(kept.read_text()) == row
    assert CliRunner().invoke(app, [*arguments, "--rows", "full", "--overwrite"]).exit_code == 0
    assert json.loads(kept.read_text())["key"] != row["key"]
    # Another sampler draws another picture.
    before = Image.open(tmp_path / "out" / "pictures" / "full" / "000000.png").tobytes()
    arguments += ["--rows", "full", "--overwrite", "--scheduler", "DDIMScheduler"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((tmp_path / "other.json").read_text())["settings"]["scheduler"] == "DDIMScheduler"
    assert Image.open(tmp_path / "out" / "pictures" / "full" / "000000.png").tobytes() != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "best"], "no row best"),
        (["--out", "{file}"], "is a file"),
        (["--judge", "{folder}"], "is not an attribute classifier's folder"),
        (["--model", "{folder}"], "model"),
        (["--scheduler", "Fast"], "diffusers has no scheduler 'Fast'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], said: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    places = {"file": tmp_path / "file", "folder": tmp_path / "folder"}
    result = CliRunner().invoke(app, ["eval", "storyworld", "--n", "4", *(a.format(**places) for a in arguments)])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
