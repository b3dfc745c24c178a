"""`anystory demo`, on a tiny model, and the characters that it ships with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.cli.demo import PICTURES, demo_cases
from anystory.storyworld.identity import Identity, Proportions, is_heldout
from anystory.storyworld.language.captions import vocabulary, words
from anystory.storyworld.reference import render_reference
from anystory.subjects import Subject

CHARACTERS = json.loads((PICTURES / "demo.json").read_text())["characters"]


def identity(name: str) -> Identity:
    values = dict(CHARACTERS[name])
    return Identity(proportions=Proportions(**values.pop("proportions")), **values)


def test_every_case_is_drawn_with_sheets_and_an_overview(model, tmp_path):
    out = tmp_path / "demo-out"
    arguments = ["demo", "--out", out, "--model", model, "--num", 2, "--steps", 1, "--threads", 1]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    for case in ("one", "two", "look-alikes"):
        names = {path.name for path in (out / case).iterdir()}
        assert names == {"references"} | {f"000{n}{end}" for n in (1, 2) for end in (".png", "-routing.png", ".json")}
        assert str(out / case / "0002.png") in result.stdout
    assert f"all together: {out / 'overview.png'}" in result.stdout
    overview = Image.open(out / "overview.png")
    assert overview.width > 2 * 128 + 2 * 256
    assert overview.height > 3 * 256
    records = [json.loads((out / "two" / f"000{n}.json").read_text()) for n in (1, 2)]
    assert [record["seed"] for record in records] == [0, 1]
    assert [subject["name"] for subject in records[0]["subjects"]] == ["fox", "robot"]


def test_the_cases_are_those_that_the_readme_promises():
    one, two, alike = (case.job.subjects for case in demo_cases())
    assert (len(one), len(two), len(alike)) == (1, 2, 2)
    kinds = [identity(str(subject.name)).kind for subject in (*two, *alike)]
    assert kinds[0] != kinds[1]
    assert kinds[2] == kinds[3]


def test_the_prompts_use_words_of_the_world():
    known = {*vocabulary(), ","}
    for case in demo_cases():
        assert set(words(case.job.prompt)) <= known


@pytest.mark.parametrize("name", CHARACTERS)
def test_the_references_are_held_out_characters(name):
    assert is_heldout(identity(name))
    stored = np.asarray(Image.open(PICTURES / f"{name}.png")).astype(int)
    drawn = render_reference(identity(name), size=512).astype(int)
    assert stored.shape == drawn.shape
    assert np.abs(stored - drawn).max() <= 1  # "pixels equal up to one grey level" on every machine


@pytest.mark.parametrize("name", CHARACTERS)
def test_the_references_are_cut_out_by_their_alpha(name):
    prepared = Subject(PICTURES / f"{name}.png").prepare(64)
    assert prepared.cutout == "alpha"
    assert 0.2 < prepared.mask.mean() < 0.8
