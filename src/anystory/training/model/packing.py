"""A model folder as it ships: half precision, small files, and a list of their hashes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from anystory.files import atomic_folder
from anystory.models.saved.checksums import SUMS, write_all_sums
from anystory.models.saved.saving import CARD
from anystory.training.model.components import LOADERS, ModelFolder, forget_place
from anystory.training.recipe import Recipe

MAX_SHARD = "16MB"
MAX_BYTES = 48 * 2**20
"""What the package has room for, all weights of a model together."""


def check_pack(model: Path, target: Path) -> None:
    """Refuse a folder for `pack` that holds anything that a packed model does not: it is replaced.

    Raises:
        ValueError: it is a file, the run's own model or a folder around it, or holds something else.
    """
    here, there = model.resolve(), target.resolve()
    if here == there:
        raise ValueError(f"--pack-to must not be the run's own model folder {model}: it would lose its precision")
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ValueError(f"--pack-to {target} and the run's model {model} must not lie in each other")
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ValueError(f"--pack-to {target} is not a folder: name another one")
    other = sorted({path.name for path in target.iterdir()} - {*LOADERS, "model_index.json", CARD, SUMS})
    if other or (any(target.iterdir()) and not (target / "model_index.json").is_file()):
        raise ValueError(
            f"--pack-to {target} holds {', '.join(other[:3]) or 'no packed model'}: it would be replaced, so name a "
            "folder that is new, or one that --pack-to has written"
        )


def pack(model: Path, target: Path, recipe: Recipe) -> int:
    """Write a model folder as it ships: half precision, shards of at most 16 MB. Returns its size in bytes.

    `target` is replaced only when the new folder is whole; a model card in it (README.md) stays. `SHA256SUMS.txt` lists
    every other file, for `anystory models verify` and `sha256sum -c`.

    Raises:
        ValueError: a component is missing, the target is one that `check_pack` refuses, or the weights are over
            `MAX_BYTES`.
    """
    check_pack(model, target)
    source = ModelFolder(model, recipe)
    components = {name: forget_place(source.load(name)) for name in LOADERS}
    card = target / CARD
    kept = card.read_bytes() if card.is_file() else None
    with atomic_folder(target) as fresh:
        for name, value in components.items():
            if isinstance(value, nn.Module):
                value.to(torch.float16).save_pretrained(fresh / name, max_shard_size=MAX_SHARD)  # pyright: ignore
            else:
                value.save_pretrained(fresh / name)
        ModelFolder(fresh, recipe).write_index()
        size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
        if size > MAX_BYTES:
            raise ValueError(f"the packed model has {size / 2**20:.1f} MiB; {MAX_BYTES / 2**20:.0f} MiB is the limit")
        if kept is not None:
            (fresh / CARD).write_bytes(kept)
        write_all_sums(fresh)
    return size
