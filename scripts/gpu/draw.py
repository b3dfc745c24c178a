"""Draw the plan's sample sets with all cores, one after the other, each into a folder that `train.py` waits for.

python scripts/gpu/draw.py PLAN RECIPE FOLDER [SCALE]

SCALE, 1 by default, multiplies the numbers of samples.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from plan import PLANS, SETS

from anystory.process_pool import available_cores
from anystory.training.data import storyworld
from anystory.training.data.memory import SampleMemory
from anystory.training.data.samples import personal_samples, world_samples
from anystory.training.data.stream import Sample, collate
from anystory.training.recipe import Recipe, load_recipe
from anystory.training.stages.common import read_options
from anystory.training.stages.encoder import EncoderOptions

FIRST = 3_000_000
"""Stream position of the first sample: one that the weights to begin with have not seen."""


_DRAWN = {
    "vae": storyworld.picture_sample,
    "clip": storyworld.contrast_sample,
    "base": storyworld.scene_sample,
}


def fetch_of(recipe: Recipe, stage: str) -> Callable[[int], Sample]:
    """The samples of a stage, without the stage itself, whose model may not be trained yet."""
    if stage in _DRAWN:
        return world_samples(recipe, _DRAWN[stage])
    options = read_options(EncoderOptions, recipe.stages["encoder"].options, "encoder")
    return personal_samples(
        recipe,
        reference_size=recipe.adapter.config().reference_size,
        min_subjects=options.min_subjects,
        max_subjects=options.max_subjects,
        targets=options.targets,
    )


def fill(begin: int, *, chunk: int, fetch: Callable[[int], Sample], memory: SampleMemory) -> tuple[int, Sample]:
    """Draw rows `begin` … into the columns, which all processes share; returns where they end, and all else."""
    batch = collate([fetch(FIRST + row) for row in range(begin, begin + chunk)])
    for key, column in memory.columns.items():
        column[begin : begin + chunk] = batch.pop(key)
    return begin + chunk, batch


_work: Callable[[int], tuple[int, Sample]]


def _call(begin: int) -> tuple[int, Sample]:
    return _work(begin)


def main(plan: str, recipe: Recipe, folder: Path, scale: float) -> None:
    """Draw all sets that the plan's steps train on."""
    global _work
    workers = max(1, available_cores() - 1)
    used = {step.samples for chain in PLANS[plan].values() for step in chain}
    for name, wanted in ((name, wanted) for name, wanted in SETS.items() if name in used):
        count = max(64, int(wanted.samples * scale) // wanted.chunk * wanted.chunk)
        place, began, drawn = folder / name, time.monotonic(), 0
        place.mkdir(parents=True)
        fetch = fetch_of(recipe, wanted.stage)
        memory = SampleMemory(fetch(FIRST), count, place)
        _work = partial(fill, chunk=wanted.chunk, fetch=fetch, memory=memory)
        with get_context("fork").Pool(workers) as pool:  # a fork inherits the mapped columns
            for end, rest in pool.imap(_call, range(0, count, wanted.chunk)):
                for key, values in rest.items():
                    memory.lists[key][drawn:end] = values
                drawn = end
                if time.monotonic() - began > wanted.seconds:
                    break
        memory.shorten(drawn)
        size, seconds = memory.nbytes / 2**30, time.monotonic() - began
        memory.keep(place)
        print(f"{name}: {drawn} of {count} in {seconds:.0f} s, {drawn / seconds:.0f}/s, {size:.1f} GiB", flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    plan, recipe, folder, *scale = sys.argv[1:]
    main(plan, load_recipe(recipe), Path(folder), float(scale[0]) if scale else 1.0)
