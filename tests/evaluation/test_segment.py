"""`eval segment`: who is looked for, and what counts as right, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from anystory.evaluation.segment.scores import map_scores, mask_scores
from anystory.evaluation.segment.table import SegmentResults
from anystory.evaluation.segment.trials import Trial, draw_scenes, trials_of
from anystory.evaluation.storyworld.cases import Case
from anystory.segment.fusion import Evidence
from anystory.storyworld.identity import is_heldout


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(draw_scenes(6, level="level1", split="heldout", size=32))


def test_scenes_have_two_characters_a_third_of_them_alike(cases: Sequence[Case]) -> None:
    assert [case.group for case in cases].count("alike") == 2
    assert all(len(case.references) == 2 for case in cases)
    assert all(is_heldout(placement.identity) for case in cases for placement in case.scene.placements)
    assert {case.group for case in draw_scenes(8, level="level1", split="heldout", size=32, alone=True)} >= {"one"}


def test_an_absent_subject_is_not_in_the_scene(cases: Sequence[Case]) -> None:
    trials = list(trials_of(cases))
    assert [trial.absent for trial in trials[:2]] == ["none", "any"]
    for trial in trials:
        own = cases[trial.index]
        if trial.absent == "none":
            assert np.array_equal(trial.truth, trial.others)
            continue
        assert trial.truth.any(axis=(1, 2)).tolist() == [True, False]
        stranger, character = trial.subjects[1]
        assert stranger != trial.index
        if trial.absent == "alike":
            assert cases[stranger].kinds[character] in own.kinds
    assert [trial.subjects for trial in trials_of(cases)] == [trial.subjects for trial in trials]
    assert [trial.subjects for trial in trials_of(cases, seed=1)] != [trial.subjects for trial in trials]


def trial(present: tuple[bool, bool] = (True, True)) -> Trial:
    """Two characters: the left and the right quarter of a picture of 8 × 8."""
    others = np.zeros((2, 8, 8), bool)
    others[0, :, :2] = others[1, :, 6:] = True
    truth = others & np.array(present)[:, None, None]
    absent = "none" if all(present) else "any"
    picture = np.zeros((8, 8, 3), np.uint8)
    return Trial(
        index=0, group="alike", absent=absent, picture=picture, references=(), subjects=(), truth=truth, others=others
    )


def test_right_swapped_and_empty_masks() -> None:
    own = trial()
    assert mask_scores(own, own.truth) == {"iou": (2, 2), "identity": (2, 2), "kept": (2, 2)}
    assert mask_scores(own, own.truth[::-1]) == {"iou": (0, 2), "identity": (0, 2), "kept": (2, 2)}
    assert mask_scores(own, np.zeros_like(own.truth)) == {"iou": (0, 2), "identity": (0, 2), "kept": (0, 2)}
    half = own.truth.copy()
    half[0, 4:] = False
    assert mask_scores(own, half)["iou"] == (1.5, 2)


def test_an_absent_subjects_mask_is_to_be_empty() -> None:
    beside = trial((True, False))
    found = mask_scores(beside, beside.truth)
    assert found["empty beside any"] == (1, 1)
    assert found["iou beside any"] == (1, 1)
    assert "empty" not in found
    assert mask_scores(beside, ~beside.truth)["empty beside any"] == (0, 1)


def test_single_maps() -> None:
    own = trial()
    small = own.truth.reshape(2, 4, 2, 4, 2).mean(axis=(2, 4))
    odds = np.stack([8 * small - 4, 4 - 8 * small])[None].astype(np.float32)
    found = Evidence(layers=("right", "wrong"), odds=odds, errors=np.ones((1, 2, 4, 4), np.float32))
    scores = map_scores(own, found, (0.3,))
    assert scores["iou 0.3 right"][0] > 1.2
    assert scores["iou 0.3 wrong"] == (0, 2)
    assert scores["iou 0.3"] == (0, 2), "their mean says nothing, and that is background"


def test_bars_and_intervals() -> None:
    good = mask_scores(trial(), trial().truth) | mask_scores(trial((True, False)), trial((True, False)).truth)
    results = SegmentResults(groups=("alike",) * 4, scores=(good,) * 4, layers=(), levels=())
    assert [bar.holds for bar in results.bars()] == [True, True, True]
    bad = {name: (0.0, trials) for name, (_, trials) in good.items()}
    worse = replace(results, scores=(good, bad, bad, bad))
    assert [bar.holds for bar in worse.bars()] == [False, False, False]
    found = worse.cell("iou")
    assert (found.value, found.trials) == (0.25, 8)
    assert found.low < 0.25 < found.high
