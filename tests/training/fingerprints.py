"""A program that writes what a run is made of as hashes: `python fingerprints.py FOLDER FILE.json`.

A file, since libraries print to stdout when they are imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from anystory.files import sha256_file
from anystory.storyworld import dataset
from anystory.training.data.storyworld import level_words
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.recipe import STAGES, Recipe
from anystory.training.stages import build_stage
from training.conftest import WITH_DECODER

LEVELS = ("level1", "level2", "level3")


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of every fresh component's files, of each level's words and a scene, and of every stage's first samples.

    The components are written to `folder`.
    """
    model = ModelFolder(folder, Recipe.model_validate(WITH_DECODER))
    for component in LOADERS:
        model.save(component, model.load_or_build(component))
    found = {str(file.relative_to(folder)): sha256_file(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    for level in LEVELS:
        found[f"words of {level}"] = _digest({"words": level_words(level, samples=300)})
        found[f"scene of {level}"] = _digest(dataset.pairs(0, 4, level=level, size=64, reference_size=64))
    for name in STAGES:
        stage = build_stage(name, model)
        fetch = stage.fetch()
        found |= {f"sample {position} of {name}": _digest(fetch(position)) for position in range(3)}
        found[f"parameters of {name}"] = _digest({"names": list(stage.trained_parameters())})
    return found


def _digest(sample: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sample.items():
        digest.update(name.encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path(sys.argv[2]).write_text(json.dumps(fingerprints(Path(sys.argv[1]))))
