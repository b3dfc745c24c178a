"""Scores of pictures whose features are known, means over stories, intervals, and two runs compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from anystory.evaluation.benchmarks.across import diversities, story_scores
from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject, check_cases
from anystory.evaluation.benchmarks.compare import compare_runs
from anystory.evaluation.benchmarks.looks import PictureLook, References
from anystory.evaluation.benchmarks.measures import MEASURES, score_picture
from anystory.evaluation.benchmarks.results import RunScores, ScoredPicture, read_scores
from anystory.evaluation.bootstrap import Bootstrap, Scores, estimate

HERE = Path("there.png")


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def case(*names: str, key: str = "k", story: str = "s") -> BenchmarkCase:
    subjects = tuple(BenchmarkSubject(name=name, image=HERE, compared=(HERE,)) for name in names)
    return BenchmarkCase(key=key, prompt="p", subjects=subjects, cluster=story, group="g")


def seen(whole: float, *cut: float | None, text: float = 0, found: int = -1) -> PictureLook:
    """A picture whose features are angles: its own, and those of its subjects; None is missing."""
    rows = np.concatenate([np.full((1, 2), np.nan) if one is None else at(one) for one in cut] or [np.zeros((0, 2))])
    return PictureLook(
        whole={"DINO": at(whole)[0], "CLIP": at(whole)[0]},
        subjects={"DINO": rows, "CLIP": rows},
        text=at(text)[0],
        doubled=np.array([False] * len(cut)),
        cut=bool(cut),
        found=found,
    )


def given(*degrees: float, mirrored: float = 90) -> References:
    features = {"DINO": at(*degrees), "CLIP": at(*degrees)}
    return References(whole=features, cut=features, mirrored=at(degrees[0], mirrored))


def value(scores: Scores, measure: str) -> float:
    total, trials = scores[measure]
    return total / trials


def test_a_picture_of_two_subjects():
    found = score_picture(case("fox", "owl"), seen(0, 30, None, text=60), [given(60), given(0)])
    assert value(found.picture, "DINO") == pytest.approx((0.5 + 1) / 2)
    assert value(found.picture, "M-DINO") == pytest.approx(0.5)
    assert value(found.picture, "CLIP-T") == pytest.approx(0.5)
    assert value(found.subjects["fox"], "CLIP-I") == pytest.approx(0.5)
    assert value(found.subjects["fox"], "CLIP-I cut out") == pytest.approx(math.cos(math.radians(30)))
    assert value(found.subjects["owl"], "DINO cut out") == 0, "a missing subject is not like its reference"
    assert value(found.picture, "missing") == 0.5
    assert "copy-paste" not in found.subjects["owl"]
    gap = math.cos(math.radians(30)) - math.cos(math.radians(60))  # to the reference at 60° and its mirror at 90°
    assert value(found.subjects["fox"], "copy-paste") == pytest.approx(1 / (1 + math.exp(-gap / 0.01)))
    assert set(found.picture) <= set(MEASURES)


def test_without_a_router_nothing_is_cut_out():
    found = score_picture(case("fox"), seen(0), [given(60)])
    assert set(found.picture) == {"DINO", "CLIP-I", "M-DINO", "CLIP-T"}
    nobody = score_picture(case(), seen(0, text=60), [])
    assert set(nobody.picture) == {"CLIP-T"}


def test_a_detector_counts_characters():
    assert value(score_picture(case("a", "b"), seen(0, 0, 0, found=3), [given(0)] * 2).picture, "OCCM") == (
        pytest.approx(math.exp(-0.5), abs=1e-5)
    )


def test_diversity_belongs_to_the_pictures_of_one_prompt():
    cases = [case("fox", key="a"), case("fox", key="a"), case("fox", key="b")]
    found = diversities(cases, [seen(0), seen(60), seen(10)])
    assert found[0]["diversity"] == (pytest.approx(0.5), 1.0)
    assert found[1] == found[2] == {}


def test_stories_are_means_over_characters():
    """Story s: fox at 0° and 60°, its reference at 0°; owl never seen. Story t: fox once, at 60°."""
    cases = [case("s/fox", key="1"), case("s/fox", "s/owl", key="2"), case("t/fox", key="3", story="t")]
    looks = [seen(0, 0, found=1), seen(0, 60, None, found=1), seen(0, 60, found=2)]
    references = [[given(0)], [given(0), given(0)], [given(0)]]
    found = story_scores(cases, looks, references)
    pairs = {m: np.array([one.get(m, (0.0, 0.0)) for one in found]).sum(axis=0) for m in MEASURES}
    total = {m: (float(both[0]), float(both[1])) for m, both in pairs.items()}
    assert value(total, "CIDS cross") == pytest.approx((((1 + 0.5) / 2 + 0) / 2 + 0.5) / 2)
    assert value(total, "CIDS self") == pytest.approx(((0.5 + 0) / 2 + 1) / 2), "a single picture is like itself"
    assert value(total, "OCCM") == pytest.approx((((1 + math.exp(-0.5)) / 2) + math.exp(-1)) / 2, abs=1e-5)
    copies = [1 / (1 + math.exp(-(1 - 0) / 0.01)), 1 / (1 + math.exp(-(0.5 - math.cos(math.radians(30))) / 0.01))]
    assert value(total, "copy-paste") == pytest.approx((sum(copies) / 2 + copies[1]) / 2)
    assert total["CIDS cross"][1] == pytest.approx(2), "each story weighs the same"


def picture(key: str, cluster: str, scores: Scores, group: str = "g") -> ScoredPicture:
    return ScoredPicture(
        key=key,
        seed=0,
        prompt="p",
        group=group,
        cluster=cluster,
        picture="x.png",
        scores=scores,
        subjects={cluster: scores},
    )


def run(*pictures: ScoredPicture, benchmark: str = "dreambench") -> RunScores:
    return RunScores(benchmark=benchmark, reports=("DINO",), facts={"model": {"model": "m"}}, pictures=pictures)


def test_whole_clusters_are_resampled():
    """Four pictures of two subjects: with one subject all right and one all wrong, the interval is all of 0…1."""
    scores = [{"hit": (1.0, 1.0)}] * 4 + [{"hit": (0.0, 1.0)}] * 4
    everywhere = np.ones(8, bool)
    by_cluster = estimate(*Bootstrap(8, clusters=["a"] * 4 + ["b"] * 4).ratio(scores, "hit", everywhere))
    by_picture = estimate(*Bootstrap(8).ratio(scores, "hit", everywhere))
    assert (by_cluster.low, by_cluster.value, by_cluster.high) == (0, 0.5, 1)
    assert 0 < by_picture.low < by_picture.high < 1
    assert by_cluster.trials == 8
    assert estimate(*Bootstrap(1).ratio([{"m": (0.3, 0.999999)}], "m", np.ones(1, bool))).trials == 1


def test_scores_are_written_and_read(tmp_path: Path):
    own = run(
        picture("a", "fox", {"DINO": (0.5, 1.0)}), picture("b", "owl", {"DINO": (1.0, 1.0), "CLIP-T": (0.2, 1.0)})
    )
    own.save(tmp_path)
    assert read_scores(tmp_path) == own
    data = json.loads((tmp_path / "scores.json").read_text())
    assert data["total"]["DINO"]["value"] == 0.75
    assert data["by_subject"]["owl"]["CLIP-T"] == {"value": 0.2, "low": 0.2, "high": 0.2, "trials": 1}
    assert own.measures == ("DINO", "CLIP-T")
    (tmp_path / "scores.json").write_text('{"format": "anystory-scores/1"}')
    with pytest.raises(ValueError, match=r"scores\.json is damaged"):
        read_scores(tmp_path)
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(ValueError, match="has no scores of this version"):
        read_scores(tmp_path / "scores.json")


def test_two_runs_are_compared_on_the_same_pictures():
    """Subjects differ far more than the two runs do: only the paired interval shows which is better."""
    level = {f"s{i}": i / 20 for i in range(20)}
    a = run(*(picture(f"k{s}", s, {"DINO": (x, 1.0), "missing": (0.5, 1.0)}) for s, x in level.items()))
    b = run(
        *(picture(f"k{s}", s, {"DINO": (x + 0.01, 1.0), "missing": (0.6, 1.0)}) for s, x in level.items()),
        picture("only in b", "x", {"DINO": (0.0, 1.0)}),
    )
    dino, missing = compare_runs(a, b)
    assert dino.difference.value == pytest.approx(0.01)
    assert dino.a.high - dino.a.low > 0.1
    assert dino.difference.high - dino.difference.low < 1e-6
    assert dino.verdict == "B is better"
    assert missing.verdict == "A is better", "fewer missing subjects are better"
    assert compare_runs(a, a)[0].verdict == "no difference shown"
    assert dino.to_dict()["b"]["trials"] == 20
    with pytest.raises(ValueError, match="of one benchmark"):
        compare_runs(a, run(benchmark="ms-bench"))
    with pytest.raises(ValueError, match="no picture of A is in B"):
        compare_runs(a, run(picture("other", "x", {})))
    with pytest.raises(ValueError, match="no group 'h': choose from g"):
        compare_runs(a, b, group="h")


def test_keys_are_folders_of_their_own():
    assert case(key="living_living-cat+dog-0").folder != case(key="living_living-cat_dog-0").folder
    assert case(key="01-02").folder == "01-02"
    assert len(case(key="x" * 500).folder) < 140
    with pytest.raises(ValueError, match="two cases 'k'"):
        check_cases([case(), case()], HERE)
    with pytest.raises(ValueError, match="has no cases"):
        check_cases([], HERE)
