"""`anystory train cache CONFIG`: what the frozen encoders make of a set's targets, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.drawing import quiet_libraries

if TYPE_CHECKING:
    from anystory.training.recipe import StageName


def cache(
    config: Annotated[str, typer.Argument(help="A recipe's name or YAML file, e.g. sdxl_encoder.")],
    out: Annotated[Path, typer.Option(help="Folder for the cache; a run that was killed goes on.")],
    data: Annotated[list[str] | None, typer.Option(help="Folders of shards, once for each.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The base, in the recipe's place: a folder, hub id or single .safetensors file.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="For a recipe without a base: the model with its encoders, RUN/model or an embedded one."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="encoder or router, where they take different samples; else for both.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that are encoded at a time.")] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; a GPU if not given and there is one.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Reading processes; 0 reads in this one. [one per core, few samples: 0]")
    ] = None,
) -> None:
    """Write latents and text embeddings of every sample, for `anystory train run … --cache OUT`."""
    from anystory.cli.model_options import check_device
    from anystory.training.recipe import PERSONAL_STAGES, load_recipe

    recipe = load_recipe(config).with_places(base=base, data=tuple(data or ()))
    stages: list[StageName] = [name for name in PERSONAL_STAGES if name in recipe.stages and stage in (None, name)]
    if not stages:
        raise ValueError(f"--stage: recipe {recipe.name!r} has no stage {stage!r} that a cache is for")
    if recipe.base is not None and model is not None:
        raise ValueError(f"--model is for a recipe without a base; {recipe.name!r} has {recipe.base.source}: --base")
    if recipe.base is None and model is None:
        raise ValueError(
            f"recipe {recipe.name!r} has no base: --model says where its autoencoder and text encoder are, RUN/model "
            "of the run that trained them, or mini for those that ship"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, but {out} is a file")
    if device is not None:
        check_device(device)
    quiet_libraries()
    import torch

    from anystory.cli.bar import counting_bar
    from anystory.data.processes import workers_for
    from anystory.pipelines.assets import resolve_model
    from anystory.training.caching import cache_targets, cached_set
    from anystory.training.components import ModelFolder

    found = cached_set(recipe, stages)
    folder = ModelFolder(out if model is None else Path(resolve_model(model)), recipe)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    readers = workers_for(workers, len(found))
    with counting_bar("encoding", len(found)) as seen:
        written = cache_targets(found, folder, out, batch_size=batch, device=place, workers=readers, seen=seen)
    parts = written.index.parts
    bad, size = sum(len(part.bad) for part in parts), sum(part.bytes for part in parts)
    print(f"{out}: {len(written)} samples, {bad} of them bad, {size / 2**20:.1f} MiB")
