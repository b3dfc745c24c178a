"""The judge that ships: small enough, whole, and able to read what it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import anystory
from anystory.storyworld.attribute_classifier.attributes import identity_attributes
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.pictures import to_pixels
from anystory.storyworld.attribute_classifier.report import match
from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_scene

FOLDER = Path(anystory.__file__).parent / "assets" / "judge"


@pytest.fixture(scope="module")
def judge() -> AttributeClassifier:
    torch.set_num_threads(1)
    return AttributeClassifier.load()


def test_it_fits_the_package(judge: AttributeClassifier) -> None:
    files = list(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) <= 5_000_000
    assert (FOLDER / "README.md").read_text().startswith("---"), "the model card is part of the judge"
    assert judge.config == ClassifierConfig.of_level(1)


def test_it_reads_held_out_characters(judge: AttributeClassifier) -> None:
    # Not the scenes of `anystory judge report`.
    scenes = [sample_scene(1_000_000 + i, 1, "heldout") for i in range(64)]
    drawn = [render_scene(scene, 64) for scene in scenes]
    readings = judge.read(to_pixels(torch.from_numpy(np.stack([picture.image for picture in drawn]))))
    assert np.mean([len(r.characters) == len(s.placements) for r, s in zip(readings, scenes, strict=True)]) >= 0.9
    assert np.mean([r.place == s.place for r, s in zip(readings, scenes, strict=True)]) >= 0.95
    assert np.mean([r.light == s.light for r, s in zip(readings, scenes, strict=True)]) >= 0.95
    right: dict[str, list[bool]] = {"kind": [], "primary": [], "headwear": []}
    for reading, scene, picture in zip(readings, scenes, drawn, strict=True):
        masks = [picture.instances == i + 1 for i in range(len(scene.placements))]
        for (found, _), placement in zip(
            match(masks, [c.mask for c in reading.characters]), scene.placements, strict=True
        ):
            true = identity_attributes(placement.identity)
            for name, hits in right.items():
                hits.append(found is not None and reading.characters[found].attributes[name] == true[name])
    for name, hits in right.items():
        assert np.mean(hits) >= 0.9, f"{name}: {np.mean(hits):.0%} of {len(hits)}"
