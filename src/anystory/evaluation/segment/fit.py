"""A fusion fitted to a model on StoryWorld's training identities, and written into its adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.evaluation.segment.looking import encode_cases, look_at
from anystory.evaluation.segment.trials import draw_scenes, trials_of
from anystory.files import atomic_write, sha256_file
from anystory.input_files import read_object
from anystory.models.saved.checksums import read_sums, write_sums
from anystory.segment.fitting import Sample, fit_fusion
from anystory.segment.fusion import Fusion

__all__ = ["FIT", "fit_segmentation"]

FIT = Fusion(levels=(0.05, 0.15, 0.3, 0.45, 0.6, 0.75))
"""Where a model is looked at to fit it. Little noise leaves the maps' outlines; with more, the references tell more."""

_CONFIG = "config.json"


def fit_segmentation(
    folder: Path,
    *,
    like: Fusion,
    number: int,
    level: str,
    seed: int = 0,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Fusion:
    """Fit a model's fusion, and write it as `segmentation` into the `config.json` of its adapter.

    Held-out identities are never looked at.

    Args:
        folder: A model with an adapter. Its weights stay as they are.
        like: Noise levels and draws.
        number: Scenes of the training split; each is looked at twice.
        level: StoryWorld level.
        seed: Of the noise, and of whom to look for.
        threads: Of the computation.
        advance: Called with the number of looks done so far.

    Raises:
        ValueError: no such model, a level that is not known, or too few scenes.
    """
    if not (folder / "adapter" / _CONFIG).is_file():
        raise ValueError(f"{folder} has no adapter: name the folder of a whole model")
    pipe = load(ModelOptions(model=str(folder), threads=threads)).pipe  # pyright: ignore[reportAttributeAccessIssue]
    cases = list(draw_scenes(number, level=level, split="train", size=pipe.native_size, alone=True))
    trials = [trial for trial in trials_of(cases, seed) if trial.absent in ("none", ("any", "alike")[trial.index % 2])]
    looks = look_at(pipe, encode_cases(pipe, cases), trials, like, seed=seed, advance=advance)
    samples = [Sample(found=found, truth=trial.truth) for trial, found in zip(trials, looks, strict=True)]
    fusion = fit_fusion(samples, like, seed)
    write_fusion(folder, fusion)
    return fusion


def write_fusion(folder: Path, fusion: Fusion) -> None:
    """Put a fusion into the configuration of a model's adapter, and the lists of hashes right."""
    adapter = folder / "adapter"
    config = read_object(adapter / _CONFIG) | {"segmentation": fusion.to_dict()}
    with atomic_write(adapter / _CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for place, name in ((adapter, _CONFIG), (folder, f"adapter/{_CONFIG}")):
        if sums := read_sums(place):
            write_sums(place, sums | {name: sha256_file(adapter / _CONFIG)})
