"""Maps fused: by equal weights, by given ones, by fitted ones; written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anystory.segment.fitting import Sample, fit_fusion
from anystory.segment.fusion import Evidence, Fusion, Presence, pooled_evidence

from .evidence import GRID, LAYERS, boxes, evidence

FUSION = Fusion(
    levels=(0.2, 0.4),
    layers=LAYERS,
    weights=((1.0, 0.0, 0.0), (0.5, 0.25, 0.0)),
    bias=-0.5,
    presence=Presence(weights=(0.1,) * 12, bias=0.2),
    threshold=0.4,
)


def test_equal_weights_are_a_mean() -> None:
    found = evidence(boxes(0), 0)
    scores = np.concatenate([found.odds.mean(axis=(0, 1)), np.zeros((1, GRID, GRID))])
    expected = np.exp(scores) / np.exp(scores).sum(axis=0)
    np.testing.assert_allclose(Fusion(levels=(0.2, 0.4)).probabilities(found), expected, rtol=1e-5)


def test_weights_and_bias() -> None:
    found = evidence(boxes(0), 0)
    scores = found.odds[0, 0] + 0.5 * found.odds[1, 0] + 0.25 * found.odds[1, 1] - 0.5
    probabilities = FUSION.probabilities(found)
    np.testing.assert_allclose(np.log(probabilities[:2] / probabilities[2]), scores, rtol=1e-4, atol=1e-5)


def test_without_presence_the_peak_counts() -> None:
    found = evidence(boxes(0), 0)
    plain = replace(FUSION, presence=None, threshold=0.9)
    probabilities, confidence, present = plain.fused(found)
    np.testing.assert_array_equal(confidence, probabilities[:2].max(axis=(1, 2)))
    np.testing.assert_array_equal(present, confidence >= 0.9)


def test_pooled_evidence_by_hand() -> None:
    odds = np.zeros((1, 1, 2, 1, 2), np.float32)
    odds[0, 0] = [[[3.0, -1.0]], [[1.0, 2.0]]]
    found = Evidence(layers=("one",), odds=odds, errors=np.array([[[[0.5, 1.0]], [[1.0, 1.0]]]], np.float32))
    probabilities = np.array([[[0.75, 0.25]], [[0.0, 0.5]], [[0.25, 0.25]]], np.float32)
    first, second = pooled_evidence(found, probabilities)
    expected = [
        0.75 * 3 - 0.25,  # its own log-odds inside its map
        0.75 * (3 - 1) + 0.25 * (-1 - 2),  # against the strongest other
        np.log(1 / (0.75 * 0.5 + 0.25)),  # how much smaller the error is there
        0.75,
        0.75**2 + 0.25**2,
        np.log(0.5 + 1e-3),
        np.log(0.5 + 1e-3),
    ]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second[:3], [2.0, 2.0 - 0, np.log(1.0)], atol=1e-6)


def test_other_levels_take_what_each_layer_weighs_on_average() -> None:
    other = FUSION.at((0.1, 0.3, 0.5), draws=4)
    assert (other.levels, other.draws, other.bias) == ((0.1, 0.3, 0.5), 4, -0.5)
    np.testing.assert_allclose(other.weights, [[0.5, 0.25 / 3, 0.0]] * 3)
    assert other.presence is None, "it was fitted to other levels"
    assert FUSION.at(None, None) == FUSION
    assert FUSION.at((0.2, 0.4), None) == FUSION


def test_json_and_back() -> None:
    assert Fusion.from_dict(json.loads(json.dumps(FUSION.to_dict()))) == FUSION
    assert Fusion.from_dict(json.loads(json.dumps(Fusion().to_dict()))) == Fusion()


@pytest.mark.parametrize(
    "change",
    [
        {"levels": [0.5, 0.2]},
        {"levels": None},
        {"layers": []},
        {"weights": [[1.0, 2.0]]},
        {"bias": float("nan")},
        {"threshold": 2.0},
        {"draws": 0},
        {"presence": {"weights": [1.0]}},
        {"presence": {"weights": [1.0], "bias": 0.0}},
        {"more": 1},
    ],
)
def test_a_damaged_entry_says_what_to_do(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`segmentation` cannot be read .*anystory adapter segmentation"):
        Fusion.from_dict(FUSION.to_dict() | change)


def test_weights_for_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for other layers .*anystory adapter segmentation"):
        replace(FUSION, layers=("a", "b", "c")).probabilities(evidence(boxes(0), 0))


# --- fitting ---


def samples(count: int) -> list[Sample]:
    found = []
    for seed in range(count):
        for there in ((True, True), (True, False)):
            truth = boxes(seed, there)
            found.append(Sample(found=evidence(truth, seed), truth=truth))
    return found


def test_a_fit_finds_who_tells_the_truth_and_who_is_absent() -> None:
    fusion = fit_fusion(samples(24), Fusion(levels=(0.2, 0.4)))
    weights = np.array(fusion.weights)
    assert (weights[:, 0] > 3 * np.abs(weights[:, 1])).all()
    assert (weights[:, 2] < 0).all()
    emptied, kept, right = [], [], []
    for seed in range(100, 120):
        truth = boxes(seed, (True, False))
        probabilities, _, present = fusion.fused(evidence(truth, seed))
        kept.append(present[0])
        emptied.append(not present[1])
        small = truth.reshape(2, GRID, 4, GRID, 4).mean(axis=(2, 4))
        right.append(((probabilities[0] > 0.5) == (small[0] > 0.5)).mean())
    assert np.mean(emptied) >= 0.8
    assert np.mean(kept) >= 0.8
    assert np.mean(right) >= 0.95
    assert fit_fusion(samples(24), Fusion(levels=(0.2, 0.4))) == fusion


@pytest.mark.parametrize("chosen", [[], [0, 1], list(range(0, 40, 2))])
def test_too_little_to_fit(chosen: list[int]) -> None:
    given = samples(20)
    with pytest.raises(ValueError, match="a fit needs at least 5 pictures"):
        fit_fusion([given[i] for i in chosen], Fusion(levels=(0.2, 0.4)))
