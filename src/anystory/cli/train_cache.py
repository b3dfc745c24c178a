"""`anystory train cache CONFIG`: what the frozen encoders make of a set's targets, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_WORKERS
from anystory.engine.options import check_device

if TYPE_CHECKING:
    from anystory.training.recipe import Recipe, StageName


def cache(
    config: Annotated[str, typer.Argument(help="A recipe's name or YAML file, e.g. sdxl_encoder.")],
    out: Annotated[Path, typer.Option(help="Folder for the cache; if the command was killed, it resumes there.")],
    data: Annotated[list[str] | None, typer.Option(help="A folder of shards. Repeatable.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Overrides the recipe's base: a folder, hub id or single .safetensors file.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="For a recipe without a base: the model with its encoders, RUN/model or an embedded one."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="encoder or router, if they take different samples; by default both.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures to encode at a time.")] = 8,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda or mps; by default a GPU if there is one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=MOST_WORKERS, help="Reading processes; 0 for none. Default: one per core.")
    ] = None,
) -> None:
    """Write latents and text embeddings of every sample, for `anystory train run … --cache OUT`."""
    from anystory.training.recipe import PERSONAL_STAGES, load_recipe

    recipe = load_recipe(config).with_sources(base=base, data=tuple(data or ()))
    stages: list[StageName] = [name for name in PERSONAL_STAGES if name in recipe.stages and stage in (None, name)]
    if not stages:
        raise ValueError(f"--stage: recipe {recipe.name!r} has no stage {stage!r} that a cache is for")
    _check_source(recipe, model)
    check_out_folder(out)
    if device is not None:
        check_device(device)
    quiet_libraries()
    from anystory.cli.terminal.bar import counting_bar
    from anystory.pipelines.loading.assets import resolve_model
    from anystory.precision import default_device
    from anystory.process_pool import worker_count
    from anystory.training.data.caching import cache_targets, cached_set
    from anystory.training.model.components import ModelFolder

    found = cached_set(recipe, stages)
    folder = ModelFolder(out if model is None else Path(resolve_model(model)), recipe)
    readers = worker_count(workers, len(found))
    with counting_bar("encoding", len(found)) as seen:
        written = cache_targets(
            found, folder, out, batch_size=batch, device=default_device(device), workers=readers, seen=seen
        )
    parts = written.index.parts
    bad, size = sum(len(part.bad) for part in parts), sum(part.bytes for part in parts)
    print(f"{out}: {len(written)} samples, {bad} of them bad, {size / 2**20:.1f} MiB")


def _check_source(recipe: Recipe, model: str | None) -> None:
    """Refuse a model beside a base, and a recipe with neither."""
    if recipe.base is not None and model is not None:
        raise ValueError(f"--model is for a recipe without a base; {recipe.name!r} has {recipe.base.source}: --base")
    if recipe.base is None and model is None:
        raise ValueError(
            f"recipe {recipe.name!r} has no base: --model says where its autoencoder and text encoder are, RUN/model "
            "of the run that trained them, or mini for those that ship"
        )
