"""A cache of what a recipe's frozen encoders make of its targets: made, and held against a run before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anystory.data.stream.cache import SampleCache
from anystory.data.stream.cache_writer import write_cache
from anystory.data.stream.training_set import TrainingSet
from anystory.files import only_writer
from anystory.pipelines.pixels import encode_pixels
from anystory.training.data.encoder_hashes import hash_encoders
from anystory.training.data.samples import check_samples, shard_samples
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import PERSONAL_STAGES, Recipe, StageName
from anystory.training.stages import needs_masks, stage_options
from anystory.training.stages.common import to_pixels
from anystory.training.stages.text import TextEncoders

__all__ = ["TargetEncoders", "cache_targets", "cached_set", "check_cache"]

PART_ROWS = 512
"""Samples in a file of the cache: what a kill loses at most."""


class TargetEncoders:
    """A recipe's autoencoder and text encoders, in the types that the recipe gives them.

    Args:
        folder: whose they are.
        device: where they compute.
    """

    def __init__(self, folder: ModelFolder, device: torch.device) -> None:
        self.device = device
        self.vae = folder.load("vae").to(device)
        self.texts = TextEncoders(folder).to(device)

    @torch.no_grad()
    def __call__(self, targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """What `DiffusionStage` takes in place of pictures and captions: latents fp32, texts as the encoders give them.

        Args:
            targets: as `TrainingSet.target` gives them.
        """
        images = torch.stack([torch.from_numpy(target["image"]) for target in targets])
        latents = encode_pixels(self.vae, to_pixels(images.to(self.device))).float()
        hidden, pooled = self.texts([target["caption"] for target in targets], self.device)
        return {"latents": latents, "text_hidden": hidden, "text_pooled": pooled}


def cached_set(recipe: Recipe, stages: Sequence[StageName]) -> TrainingSet:
    """The samples whose targets these stages see, each in its one crop.

    Raises:
        ValueError: the recipe names no shards, or the stages take different samples.
    """
    check_samples(recipe)
    if not recipe.shards:
        raise ValueError(
            f"recipe {recipe.name!r} takes its samples from StoryWorld, each drawn once and never seen again: only "
            "shards can be cached (`anystory data storyworld` writes some; then --data FOLDER)"
        )
    limits: dict[StageName, tuple[int, int]] = {}
    for name in stages:
        options = stage_options(recipe, name)
        limits[name] = (options.min_subjects, options.max_subjects)
    if len(set(limits.values())) > 1:
        said = ", ".join(f"{name} {least} to {most}" for name, (least, most) in limits.items())
        raise ValueError(
            f"the stages take samples with different numbers of subjects ({said}): cache one, --stage NAME"
        )
    least, most = next(iter(limits.values()))
    size = recipe.adapter.config().reference_size  # no part of a target
    found = [
        shard_samples(
            recipe, reference_size=size, min_subjects=least, max_subjects=most, needs_masks=needs, fixed_crop=True
        )
        for needs in sorted({needs_masks(name) for name in stages})
    ]
    if len(found) > 1 and found[0].require_masks != found[1].require_masks:
        raise ValueError(
            f"of {len(found[0])} samples {len(found[0]) - len(found[1])} have no mask, which stage router leaves out: "
            "cache one stage, --stage NAME"
        )
    return found[0]


def cache_targets(
    data: TrainingSet,
    folder: ModelFolder,
    out: str | Path,
    *,
    batch_size: int = 8,
    device: torch.device | None = None,
    part_rows: int = PART_ROWS,
    workers: int = 0,
    seen: Callable[[int], None] = lambda _: None,
) -> SampleCache:
    """Encode every target of a set once; resumes where an earlier call was killed.

    Args:
        data: see `cached_set`.
        folder: the encoders'.
        out: where the cache goes.
        batch_size: targets that are encoded at a time.
        device: where; None is the CPU.
        part_rows: samples in a file.
        workers: processes that read ahead; 0 reads in this one. The files are the same.
        seen: is told how many samples are done.

    Raises:
        ValueError: an encoder is missing, too many samples are bad, `out` holds a cache of something else, or another
            program is writing there; see `write_cache`.
    """
    encoders = TargetEncoders(folder, device or torch.device("cpu"))
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done = count
        seen(count)

    def encode(targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        encoded = encoders(targets)
        tell(done + len(targets))
        return encoded

    hashes = hash_encoders(encoders.vae, encoders.texts)
    sizes = {"batch_size": batch_size, "part_rows": part_rows, "workers": workers}
    with only_writer(Path(out)):
        return write_cache(out, data, encode, encoders=hashes, **sizes, seen=tell)


def check_cache(recipe: Recipe, stages: Sequence[StageName], *, prerender: bool = False) -> None:
    """Hold a recipe's cache, if it names one, against what a run will ask of it, before anything is trained.

    The encoders' weights are compared where a stage has loaded them.

    Args:
        recipe: the run's.
        stages: what is to be trained.
        prerender: whether samples are to be drawn ahead.

    Raises:
        ValueError: the cache is missing, damaged or stale, or does not go with what is asked for.
    """
    if recipe.cache is None:
        return
    changing = [name for name in stages if name not in PERSONAL_STAGES]
    if changing:
        raise ValueError(
            f"a cache holds what frozen encoders gave, and {', '.join(changing)} may train them: name stage encoder or "
            "router for itself, or leave out the cache"
        )
    if prerender:
        raise ValueError("--prerender keeps samples in memory as a cache does on disk: leave out one of them")
    weighing = [name for name in stages if recipe.stages[name].options.get("detail_weight")]
    if weighing:
        raise ValueError(
            f"detail_weight of {', '.join(weighing)} looks at the pictures, and a cache holds their latents alone: "
            "leave out one of them"
        )
    cache = SampleCache.open(recipe.cache)
    for name in stages:
        cached_set(recipe, [name]).check_cache(cache)
