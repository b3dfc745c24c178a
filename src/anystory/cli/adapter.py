"""`anystory adapter`: one from public weights, for SDXL or FLUX.1; what one was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.model import Threads
from anystory.cli.flags.noise import Draws, Levels, parse_levels
from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_SEED
from anystory.engine.new_adapter import make_adapter
from anystory.engine.options import check_dtype
from anystory.files import check_new_folder

app = typer.Typer(help="Make adapters.", no_args_is_help=True, add_completion=False)


@dataclass(frozen=True, kw_only=True)
class InitFlags:
    """What an adapter is made from."""

    base: Annotated[
        str, typer.Option(help="SDXL or a fine-tune: a diffusers folder, a hub id, or a single .safetensors file.")
    ]
    ip_adapter: Annotated[
        str,
        typer.Option(
            help="ip-adapter-plus_sdxl_vit-h as .safetensors (or .bin), or h94/IP-Adapter/sdxl_models/… in the hub."
        ),
    ]
    out: Annotated[Path, typer.Option(help="The adapter's folder; it must not exist yet, or be empty.")]
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per subject: 16 is IP-Adapter's own and exact, 64 the paper's."),
    ] = None
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, bfloat16 or float16.")] = "float16"
    config: Annotated[
        str | None,
        typer.Option(help="For a single file: a folder with the configuration files; by default SDXL's, from the hub."),
    ] = None
    variant: Annotated[str | None, typer.Option(help="Variant of the base's weights: fp16.")] = None
    reference_size: Annotated[int, typer.Option(min=8, help="Side in pixels at which references are read.")] = 512
    map_projections: Annotated[
        str | None,
        typer.Option(
            help="The router's coarse and refined maps: from one pair of linear layers (shared) or one each (separate)."
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the router's weights and of copied queries.")
    ] = 0


@app.command()
@spread
def init(given: InitFlags) -> None:
    """Start an adapter from public weights.

    Subject QFormer and Ŵ come from IP-Adapter-Plus, ReferenceNet and W̃ from the base's U-Net. The router is random:
    give every subject a region until it is trained.
    """
    check_dtype(given.dtype)
    out = given.out
    check_fresh(out)
    quiet_libraries()
    adapter, queries = make_adapter(**asdict(given))
    tokens, total = adapter.sizes.subject_tokens, sum(parameter.numel() for parameter in adapter.parameters())
    print(f"{out}: {total:,} parameters in {given.dtype}, {tokens} tokens per subject")
    if tokens > queries:
        print(
            f"{tokens} tokens for {queries} queries: near IP-Adapter-Plus, not equal to it (docs/sdxl.md);"
            " train before you judge it"
        )
    print("The router is random: give every subject a region until it is trained.")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="anystory_flux.bin, as published in the hub: Junjie96/AnyStory.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist yet, or be empty.")],
    redux: Annotated[
        Path | None,
        typer.Option(help="The folder of FLUX.1-Redux-dev: its SigLIP goes along, and what the checkpoint lacks."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, bfloat16 or float16.")] = "bfloat16",
) -> None:
    """Make an adapter for FLUX.1 from the authors' checkpoint.

    Writes safetensors, a card and hashes to OUT/adapter, and with --redux the image encoder beside it. Nothing in the
    checkpoint but tensors is read.
    """
    check_dtype(dtype)
    check_fresh(out)
    if not checkpoint.is_file():
        raise FileNotFoundError(2, "No such file", str(checkpoint))
    quiet_libraries()
    from anystory.engine.converting import write_converted

    converted = write_converted(checkpoint, out, redux=redux, dtype=dtype)
    total = sum(parameter.numel() for parameter in converted.adapter.parameters())
    print(f"{out}: {total:,} parameters in {dtype}, from {len(converted.used)} tensors")
    if converted.inert:
        shown = ", ".join(converted.inert[:3]) + (", …" if len(converted.inert) > 3 else "")
        print(f"{len(converted.inert)} tensors have no effect in the authors' code either and were left out: {shown}")
    if redux is None:
        print("SigLIP is not in there: give the folder of FLUX.1-Redux-dev as --redux, or as --image-encoder later")


def check_fresh(out: Path) -> None:
    """Refuse an output folder that has something in it."""
    check_new_folder(out)
    check_out_folder(out)


@app.command()
def references(
    model: Annotated[Path, typer.Argument(help="The folder of a whole model; the command rewrites its adapter.")],
    recipe: Annotated[str, typer.Option(help="The recipe that trained it: a name or a YAML file.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Overrides the recipe's data: a folder of shards, or a level of StoryWorld. Repeatable."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=3, help="References to look at.")] = 2048,
    components: Annotated[int, typer.Option(min=1, help="Principal directions to keep.")] = 32,
) -> None:
    """Teach an adapter what the references that it was trained on look like.

    Pipelines then warn about references unlike all of these, and about more subjects than it was trained with.
    Its weights do not change.
    """
    from anystory.cli.terminal.bar import counting_bar

    quiet_libraries()
    from anystory.training.model.familiar import note_references
    from anystory.training.recipe import load_recipe

    trained = load_recipe(recipe).with_sources(data=tuple(data or ()))
    with counting_bar("references", pictures) as advance:
        adapter = note_references(model, trained, pictures=pictures, components=components, advance=advance)
    print(f"{model / 'adapter'}: {pictures} references, at most {adapter.sizes.max_subjects} subjects in a picture")


@app.command()
def segmentation(
    model: Annotated[Path, typer.Argument(help="The folder of a whole model; only its adapter's config.json changes.")],
    n: Annotated[int, typer.Option("--n", "-n", min=8, help="StoryWorld scenes of the training split.")] = 128,
    level: Annotated[str, typer.Option(help="StoryWorld level: level1, level2, level3 or a level file.")] = "level1",
    levels: Levels = None,
    draws: Draws = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the noise, and of who is absent.")] = 0,
    threads: Threads = None,
) -> None:
    """Fit how `anystory segment` reads a model's router.

    Weighs layers and noise levels, and sets when a subject counts as absent, on scenes whose masks are known. Do it
    again whenever the router has been trained; without it all layers weigh the same.
    """
    from anystory.cli.terminal.bar import counting_bar

    chosen = parse_levels(levels)
    quiet_libraries(threads or 0)
    from anystory.evaluation.segment.fit import FIT, fit_segmentation

    like = FIT.at(chosen, draws)
    with counting_bar("looking", 2 * n) as advance:
        fusion = fit_segmentation(model, like=like, number=n, level=level, seed=seed, threads=threads, advance=advance)
    print(f"{model / 'adapter'}: {len(fusion.levels)} noise levels, {len(fusion.layers)} layers, {2 * n} looks")
