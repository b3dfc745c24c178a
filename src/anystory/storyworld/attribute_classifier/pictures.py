"""What an attribute classifier learns from: renders with their truth, some of them through an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anystory.files import atomic_write
from anystory.storyworld.attribute_classifier.attributes import character_attributes
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.degrade import Rebuild
from anystory.storyworld.level import Level
from anystory.storyworld.render import render_scene
from anystory.storyworld.rng import stream
from anystory.storyworld.sampling import sample_scene
from anystory.storyworld.scene import Scene

_CROWDED, _EMPTY = 0.22, 0.03
"""Shares of the scenes with up to one character too many for the level, and with nobody."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPictures:
    """N pictures with their truth, C = the most characters of a picture. All arrays are numpy's."""

    images: np.ndarray
    """(N, H, W, 3) uint8."""
    rebuilt: np.ndarray
    """(R, H, W, 3) uint8: the first R pictures through the autoencoder."""
    instances: np.ndarray
    """(N, H, W) uint8: 0 background, i the i-th character from the left."""
    scenery: np.ndarray
    """(N, 2) int64: index of the place and of the light."""
    labels: np.ndarray
    """(N, C, attributes) int64: index of each value; -1 where there is none to learn."""

    def save(self, path: Path) -> None:
        """Write one .npz file, whole or not at all."""
        with atomic_write(path) as temporary:
            np.savez(temporary, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> TrainingPictures:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def crowded(level: Level, most: int) -> Level:
    """The same level with up to `most` characters, under a name (so: with scenes) of its own."""
    return replace(level, name=f"{level.name}-{most}", max_characters=most)


def draw_pictures(
    config: ClassifierConfig,
    level: Level,
    count: int,
    seed: int = 0,
    rebuild: Rebuild | None = None,
    rebuilt: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> TrainingPictures:
    """Draw `count` training scenes (split "train"), the first `rebuilt` of them also through `rebuild`.

    Args:
        on_progress: called with the number of pictures that are finished, of `count + rebuilt`.
    """
    size = config.size
    images = np.empty((count, size, size, 3), np.uint8)
    instances = np.empty((count, size, size), np.uint8)
    scenery = np.empty((count, 2), np.int64)
    labels = np.full((count, config.max_characters, len(config.attributes)), -1, np.int64)
    rebuilt = min(rebuilt, count) if rebuild is not None else 0
    for i in range(count):
        scene = _scene(level, config.max_characters, seed, i)
        drawn = render_scene(scene, size)
        images[i], instances[i] = drawn.image, drawn.instances
        scenery[i] = config.places.index(scene.place), config.lights.index(scene.light)
        for c, placement in enumerate(scene.placements):
            if (drawn.instances == c + 1).sum() >= config.min_area:
                found = character_attributes(placement.identity, placement.appearance)
                labels[i, c] = [
                    values.index(found[name]) if found[name] else -1 for name, values in config.attributes.items()
                ]
        if i % 500 == 0:
            on_progress(i)
    through = np.empty((rebuilt, size, size, 3), np.uint8)
    for start in range(0, rebuilt, 64):
        part = slice(start, min(start + 64, rebuilt))
        generator = torch.Generator().manual_seed(seed * 2**32 + start)
        assert rebuild is not None
        through[part] = to_bytes(rebuild(to_pixels(torch.from_numpy(images[part])), generator)).numpy()
        on_progress(count + start)
    return TrainingPictures(images=images, rebuilt=through, instances=instances, scenery=scenery, labels=labels)


def _scene(level: Level, most: int, seed: int, index: int) -> Scene:
    rng = stream("judge", seed, index)
    mark = rng.uniform(0, 1)
    scene = sample_scene(seed * 2**32 + index, crowded(level, most) if mark < _CROWDED else level)
    if mark > 1 - _EMPTY:
        away = tuple(replace(placement, x=placement.x - 9) for placement in scene.placements)
        return replace(scene, placements=away)
    return scene


def to_pixels(pictures: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels: Tensor) -> Tensor:
    """Float (B, 3, H, W) in [-1, 1] to uint8 (B, H, W, 3); values beyond are cut off."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
