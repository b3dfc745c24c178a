"""Several candidates, of which the best is kept: scores by hand-made pictures, and a tiny model from end to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.engine.backends.base import DrawnPicture, Numbers
from anystory.engine.options import ModelOptions
from anystory.engine.record.schema import CandidateRecord, SubjectScore
from anystory.evaluation.best_of.drawing import candidate_seeds
from anystory.evaluation.best_of.retry import failed_subject
from anystory.evaluation.best_of.scoring import Scorer, scorer_for
from anystory.models.router import RoutingMaps
from anystory.pipelines.routing_record import RoutingRecord
from cli.conftest import give_references
from pipelines import helpers

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
SIDE = 32


class Colours:
    """An encoder of colours: how much of a picture that is not white is red, green, blue."""

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        means = []
        for picture in pictures:
            pixels = np.asarray(picture, float).reshape(-1, 3)
            coloured = pixels[pixels.min(axis=1) < 200]
            means.append(coloured.mean(axis=0) if len(coloured) else np.ones(3))
        found = np.array(means)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0, 0] if "red" in text else [0, 0, 1.0] for text in texts])


def drawn(left: tuple[int, ...], right: tuple[int, ...], owners: np.ndarray, seed: int = 0) -> DrawnPicture:
    """Two colours side by side; `owners` (8, 8) is 0 for the first subject, 1 for the second, 2 for the background."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : SIDE // 2], pixels[:, SIDE // 2 :] = left, right
    maps = torch.nn.functional.one_hot(torch.from_numpy(owners), 3).permute(2, 0, 1)[None].float()
    record = RoutingRecord([["red", "blue"]], height=SIDE, width=SIDE)
    record.add(0, 1.0, {"layer": RoutingMaps(coarse=maps, refined=maps, gate=maps)})
    return DrawnPicture(
        image=Image.fromarray(pixels),
        seed=seed,
        numbers=Numbers(steps=1, guidance=1.0, strength=None),
        routing=record,
        references=(Image.new("RGB", (SIDE, SIDE), RED), Image.new("RGB", (SIDE, SIDE), BLUE)),
        cutouts=(),
    )


HALVES = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 8, axis=0)


def test_each_subject_in_its_own_place_is_like_itself() -> None:
    right, swapped = drawn(RED, BLUE, HALVES), drawn(BLUE, RED, HALVES)
    scorer = Scorer(Colours())
    found = scorer.score(right, "")
    assert [(one.present, one.doubled, one.identity, one.leak) for one in found.subjects] == [(True, False, 1, 0)] * 2
    assert (found.total, found.prompt) == (1, None)
    mixed = scorer.score(swapped, "")
    assert [(one.identity, one.leak) for one in mixed.subjects] == [(0, 1), (0, 1)]
    assert mixed.total == 0


def test_who_is_missing_or_there_twice_counts_less() -> None:
    scorer = Scorer(Colours())
    alone = scorer.score(drawn(RED, WHITE, np.where(HALVES == 1, 2, HALVES)), "")
    assert [one.present for one in alone.subjects] == [True, False]
    assert alone.total == 0.5
    twice = np.repeat([[0, 0, 2, 2, 2, 2, 0, 0]], 8, axis=0)
    twice[:, 3:5] = 1
    doubled = scorer.score(drawn(RED, RED, twice), "")
    assert doubled.subjects[0].doubled
    assert doubled.subjects[0].identity > 0.99
    assert not doubled.subjects[1].doubled
    assert doubled.total == pytest.approx(0.25, abs=0.01)


def test_the_prompt_counts_where_the_encoder_reads_texts() -> None:
    encoder = Colours()
    picture = drawn(RED, RED, HALVES)
    plain, with_text = Scorer(encoder), Scorer(encoder, encoder.texts)
    fits, other = with_text.score(picture, "red"), with_text.score(picture, "blue")
    assert (fits.prompt, other.prompt) == (1, 0)
    assert fits.total == pytest.approx(plain.score(picture, "red").total + 0.5)
    assert other.total == plain.score(picture, "blue").total


def test_seeds_of_candidates_never_meet() -> None:
    assert candidate_seeds(range(7, 9), 3) == [[7, 8, 9], [10, 11, 12]]
    assert candidate_seeds([4], 1) == [[4]]


def test_who_is_drawn_again() -> None:
    def scored(*subjects: SubjectScore) -> CandidateRecord:
        return CandidateRecord(seed=0, total=0.0, subjects=subjects)

    fine = SubjectScore(present=True, identity=0.9)
    missing = SubjectScore(present=False)
    poor, mixed = SubjectScore(present=True, identity=0.5), SubjectScore(present=True, identity=0.8, leak=0.5)
    assert failed_subject(scored(fine, missing)) is None
    assert failed_subject(scored(fine, poor)) == 1
    assert failed_subject(scored(poor, mixed)) == 1
    assert failed_subject(scored(replace(fine, doubled=True), fine)) == 0


# --- from the command line ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 2, "guidance_scale": 4.0}).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return give_references(tmp_path_factory.mktemp("given"))


def generate(folder: Path, references: Path, out: Path, *more: object):
    given = ["generate", "f r", "--model", folder, "-s", references / "red.png", "-s", references / "blue.png"]
    return CliRunner().invoke(app, [str(one) for one in [*given, "--out", out, "--threads", 1, *more]])


def test_the_best_is_kept_with_the_scores_of_all(folder: Path, references: Path, tmp_path: Path) -> None:
    result = generate(folder, references, tmp_path / "best", "--best-of", 3, "--num", 2, "--seed", 5)
    assert result.exit_code == 0, result.output
    for number, seeds in ((1, [5, 6, 7]), (2, [8, 9, 10])):
        record = json.loads((tmp_path / "best" / f"{number:04d}.json").read_text())
        assert [one["seed"] for one in record["candidates"]] == seeds
        totals = [one["total"] for one in record["candidates"]]
        assert len(set(totals)) == 3, "every candidate is another picture"
        assert record["seed"] == seeds[int(np.argmax(totals))]
        assert len(record["candidates"][0]["subjects"]) == 2
        assert generate(folder, references, tmp_path / "alone", "--seed", record["seed"]).exit_code == 0
        alone = Image.open(tmp_path / "alone" / f"{number:04d}.png")
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "best" / f"{number:04d}.png")), np.asarray(alone)
        )
    assert len(list((tmp_path / "best").glob("0*.png"))) == 4, "a picture and a sheet for each; no losers"
    again = CliRunner().invoke(
        app, ["replay", str(tmp_path / "best" / "0002.json"), "--out", str(tmp_path / "again"), "--trust-paths"]
    )
    assert again.exit_code == 0, again.output
    assert "byte for byte" in again.stdout


def test_a_failed_character_is_drawn_again_in_its_own_place(folder: Path, references: Path, tmp_path: Path) -> None:
    """A tiny model draws nobody like its reference: each retry is made, and the best of all is kept."""
    result = generate(folder, references, tmp_path / "out", "--retry-character", 2, "--seed", 5)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "0001.json").read_text())
    first, *retries = record["candidates"]
    assert first["redrawn"] is None
    assert retries
    assert [one["seed"] for one in retries] == list(range(6, 6 + len(retries)))
    assert {one["redrawn"] for one in retries} <= {1, 2}
    best = max(record["candidates"], key=lambda one: one["total"])
    assert record["seed"] == best["seed"]
    assert best["redrawn"] is not None, "the first picture shows neither; any retry is better"
    shown = np.asarray(Image.open(tmp_path / "out" / "0001.png"))
    mask = np.asarray(Image.open(tmp_path / "out" / record["mask"]["file"]))
    under = np.asarray(Image.open(tmp_path / "out" / record["image"]["file"]))
    np.testing.assert_array_equal(shown[mask == 0], under[mask == 0])
    assert (shown != under).any()


def test_the_models_own_encoder_reads_prompts_if_it_learned_with_the_text(folder: Path) -> None:
    picture = drawn(RED, BLUE, HALVES)
    assert scorer_for(ModelOptions(model=str(folder))).score(picture, "f r").prompt is not None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--score-by", "x"], "--score-by is for --best-of 2 or more, and for --retry-character"),
        (["--retry-character", "1", "--image", "x.png"], "leave out --image"),
        (["--best-of", "2", "--score-by", "nowhere/at-all"], "name another model with --score-by"),
        (["--best-of", "0"], "--best-of"),
        (["--seed", str(2**64 - 1), "--best-of", "2"], "seed"),
    ],
)
def test_mistakes_are_told(folder: Path, references: Path, tmp_path: Path, more: list[str], said: str) -> None:
    result = generate(folder, references, tmp_path / "out", *more)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_without_an_encoder_needs_a_name(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for part in folder.iterdir():
        if part.name != "image_encoder":
            (bare / part.name).symlink_to(part)
    with pytest.raises(ValueError, match="no CLIP image encoder to score by: name a CLIP or DINO model by --score-by"):
        scorer_for(ModelOptions(model=str(bare)))
