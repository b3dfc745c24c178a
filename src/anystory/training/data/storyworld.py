"""StoryWorld samples as the stages take them: pure functions of a stream position, picklable for worker processes.

Pictures stay uint8 (H, W, 3) until they reach the device, where `stages.common.to_pixels` makes them floats.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np

from anystory.data.stream.references import augment_reference
from anystory.storyworld import dataset
from anystory.storyworld.appearance import sample_appearance
from anystory.storyworld.identity import sample_identity
from anystory.storyworld.language.captions import words
from anystory.storyworld.language.describe import describe
from anystory.storyworld.level import load_level
from anystory.storyworld.rng import stream
from anystory.storyworld.sampling import sample_scene
from anystory.subjects.arrays import rgba_on_white
from anystory.training.data.stream import Sample

MOST_CHARACTERS = 4
"""No level draws more."""

SEED_STRIDE = 2**44
"""Distance of two seeds' streams in sample positions: runs with other seeds see other samples."""


@cache
def level_words(level: str, samples: int = 2000) -> tuple[str, ...]:
    """Words that the captions and descriptions of a level really use, sorted, from its first `samples` texts.

    A word that training never shows must stay unknown, so that the pipeline can warn about it.
    """
    loaded = load_level(level)
    found: set[str] = set()
    for index in range(samples):
        found.update(words(sample_scene(index, loaded).caption))
        rng = stream("level words", loaded.name, index)
        identity = sample_identity(rng, loaded)
        found.update(words(describe(identity, sample_appearance(rng, loaded), rng)))
    return tuple(sorted(found))


def scene_sample(index: int, *, level: str, size: int, seed: int, split: str = "train") -> Sample:
    """A scene: `image` (H, W, 3), `instances` (H, W), `caption`."""
    scene = dataset.scenes(index + seed * SEED_STRIDE, level=level, split=split, size=size)
    return {"image": scene["image"], "instances": scene["instances"], "caption": scene["caption"]}


def picture_sample(index: int, *, level: str, size: int, seed: int, split: str = "train") -> Sample:
    """What the autoencoder must carry: three scenes, then a reference over white, in turn. `image` (H, W, 3)."""
    position = index + seed * SEED_STRIDE
    if index % 4:
        return {"image": dataset.scenes(position, level=level, split=split, size=size)["image"]}
    return {"image": rgba_on_white(dataset.descriptions(position, level=level, split=split, size=size)["reference"])}


def contrast_sample(index: int, *, level: str, size: int, seed: int, split: str = "train") -> Sample:
    """Two pairs of picture and text: `reference` with `description`, `scene` with `caption`."""
    position = index + seed * SEED_STRIDE
    described = dataset.descriptions(position, level=level, split=split, size=size)
    scene = dataset.scenes(position, level=level, split=split, size=size)
    reference = augment_reference(described["reference"], random.Random(f"{position}/augment"))
    return {
        "reference": rgba_on_white(reference),
        "description": described["text"],
        "scene": scene["image"],
        "caption": scene["caption"],
    }


def personal_sample(
    index: int,
    *,
    level: str,
    size: int,
    reference_size: int,
    seed: int,
    min_subjects: int,
    max_subjects: int,
    targets: int = 1,
    split: str = "train",
    augment: bool = True,
) -> Sample:
    """Target scenes and one reference per character, each in another pose and view (a pair, in the paper's sense).

    Returns:
        `image` (H, W, 3), `instances` (H, W) with ids 1…N, `caption`, `references` (N, h, w, 3) over white,
        `reference_alpha` (N, h, w), `present` (N,) bool; N = max_subjects, absent ones white and empty. With several
        targets `image` is (T, H, W, 3), `instances` (T, H, W) and `caption` a list. Scenes with another number of
        characters than asked for are passed over for the next draw of the same position.
    """
    rng = random.Random(f"{seed}/{index}/personal")
    for attempt in range(1000):
        # Redraws come from a stream of their own, so no position repeats another's scene.
        position = (index + seed * SEED_STRIDE) * 1000 + attempt
        group = dataset.groups(
            position, targets, MOST_CHARACTERS, level=level, split=split, size=size, reference_size=reference_size
        )
        if min_subjects <= group["count"] <= max_subjects:
            break
    else:
        raise ValueError(f"{level} has no scenes with {min_subjects} to {max_subjects} characters")
    references = group["references"][:max_subjects]
    if augment:
        references = np.stack([augment_reference(r, rng) for r in references])
    one = targets == 1
    return {
        "image": group["images"][0] if one else group["images"],
        "instances": group["instances"][0] if one else group["instances"],
        "caption": group["captions"][0] if one else group["captions"],
        "references": rgba_on_white(references),
        "reference_alpha": references[..., 3],
        "present": np.arange(max_subjects) < group["count"],
    }
