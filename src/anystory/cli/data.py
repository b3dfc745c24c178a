"""`anystory data`: check, look at, pack and draw training samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anystory.cli.data_build import build
from anystory.cli.flags.outputs import Overwrite, check_out_file, check_out_folder
from anystory.engine.limits import MOST_WORKERS
from anystory.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

    from anystory.data.inspection.census import Census

app = typer.Typer(help="Build, check, show and pack training samples.", no_args_is_help=True, add_completion=False)
app.command()(build)

Samples = Annotated[list[Path], typer.Argument(help="A manifest (.jsonl, .parquet), or folders of shards.")]

Workers = Annotated[
    int | None,
    typer.Option(
        min=0, max=MOST_WORKERS, help="Worker processes; 0 uses none. Default: one per core, or 0 for few samples."
    ),
]


@app.command()
def check(
    path: Samples,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")] = None,
    limit: Annotated[float, typer.Option(min=0, max=1, help="Largest share of bad samples that passes.")] = 0.0,
    min_side: Annotated[int, typer.Option(min=1, help="Least width and height of a target, pixels.")] = 32,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Read every sample, and print what is there and what is wrong. Exit code 1 above the limit."""
    check_out_file(json_file, "--json", overwrite=overwrite)
    from rich.console import Console

    from anystory.cli.terminal.bar import counting_bar
    from anystory.data.inspection.census import take_census
    from anystory.data.pixels import ReadLimits
    from anystory.data.sources import open_source
    from anystory.process_pool import worker_count

    source, limits = open_source(path), ReadLimits(min_side=min_side)
    with counting_bar("checking", len(source)) as seen:
        census = take_census(source, limits=limits, workers=worker_count(workers, len(source)), seen=seen)
    console = Console()
    console.print(_census_table(census))
    if census.tally.bad:
        console.print(_bad_table(census))
    if json_file is not None:
        with atomic_write(json_file, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(census.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"wrote {json_file}")
    passed = census.tally.share <= limit
    print(f"{'passed' if passed else 'FAILED'}: {census.tally.bad} of {census.tally.seen} samples are bad")
    if not passed:
        raise typer.Exit(1)


@app.command()
def inspect(
    path: Samples,
    out: Annotated[Path, typer.Option(help="Folder for index.html.")],
    n: Annotated[int, typer.Option(min=1, max=2000, help="Samples to show, evenly spread over the set.")] = 48,
    counted: Annotated[int, typer.Option(min=1, help="Most samples to read for the statistics.")] = 2000,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page with samples (target, masks, references, caption) and statistics."""
    check_out_file(out / "index.html", overwrite=overwrite)
    from anystory.cli.terminal.bar import counting_bar
    from anystory.data.inspection.page import write_page
    from anystory.data.sources import open_source
    from anystory.process_pool import worker_count

    source = open_source(path)
    read = min(len(source), max(counted, n))
    count = worker_count(workers, read)
    with counting_bar("reading", read) as seen:
        title = ", ".join(map(str, path))
        page = write_page(source, out, show=n, count=counted, title=title, workers=count, seen=seen)
    print(f"wrote {page}")


@app.command()
def index(folder: Annotated[Path, typer.Argument(help="Folder of shards (tar files).")]) -> None:
    """Write index.json for shards that have none, or whose files have changed."""
    from anystory.data.shards.index import rebuild_index

    found = rebuild_index(folder)
    print(f"{sum(shard.samples for shard in found.shards)} samples in {len(found.shards)} shards")


@app.command()
def pack(
    manifest: Annotated[Path, typer.Argument(help="Manifest (.jsonl, .parquet) beside its files.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    name: Annotated[str, typer.Option(help="Stem of the shards' names.")] = "samples",
    max_mb: Annotated[int, typer.Option(min=1, help="Largest shard, in millions of bytes.")] = 1000,
    limit: Annotated[float, typer.Option(min=0, max=1, help="Largest share of bad samples to leave out.")] = 0.05,
) -> None:
    """Write a manifest's good samples as shards. An interrupted run resumes."""
    check_out_folder(out)
    from anystory.cli.terminal.bar import counting_bar
    from anystory.data.manifest import Manifest
    from anystory.data.shards.packing import pack_manifest

    source = Manifest(manifest)
    with counting_bar("packing", len(source)) as seen:
        tally = pack_manifest(source, out, name, max_bytes=max_mb * 1_000_000, limit=limit, seen=seen)
    print(f"{out}: {tally.summary()}")


@app.command()
def storyworld(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    n: Annotated[int, typer.Option(min=1, help="Samples to draw.")],
    level: Annotated[str, typer.Option(help="1, 2, 3 or a level's JSON file.")] = "1",
    size: Annotated[int, typer.Option(min=8, max=4096, help="Height and width of the pictures, pixels.")] = 64,
    split: Annotated[Literal["train", "heldout"], typer.Option(help="Which identities appear.")] = "train",
    start: Annotated[int, typer.Option(min=0, help="Number of the first sample.")] = 0,
    workers: Workers = None,
) -> None:
    """Draw StoryWorld pairs as shards: a scene, its masks, and each character in another pose and view."""
    check_out_folder(out)
    from anystory.cli.terminal.bar import counting_bar
    from anystory.data.storyworld_writer import write_storyworld
    from anystory.process_pool import worker_count

    with counting_bar("drawing", n) as seen:
        drawn = write_storyworld(
            out,
            n,
            level=int(level) if level.isdecimal() else level,
            size=size,
            split=split,
            start=start,
            workers=worker_count(workers, n),
            written=seen,
        )
    print(f"drew {drawn} samples into {out}" + (f"; {n - drawn} were there" if drawn < n else ""))


def _census_table(census: Census) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from anystory.data.inspection.census import spread

    def counts(values: dict) -> str:
        return escape(", ".join(f"{name}: {count}" for name, count in sorted(values.items()))) or "none"

    def range_of(values: list, form: str) -> str:
        found = spread(values)
        return "none" if found is None else " · ".join(f"{name} {value:{form}}" for name, value in found.items())

    table = Table("what", "found", title="samples", title_justify="left")
    table.add_row("samples", f"{census.tally.seen}, of them bad {census.tally.bad} ({census.tally.share:.2%})")
    table.add_row("splits", counts(census.splits))
    table.add_row("subjects per sample", counts(census.subjects))
    table.add_row("photos per subject", counts(census.photos))
    table.add_row("samples without mask", str(census.unmasked))
    table.add_row("samples with a place", str(census.places))
    table.add_row("width", range_of(census.widths, ".0f"))
    table.add_row("height", range_of(census.heights, ".0f"))
    table.add_row("subject's share of picture", range_of(census.mask_shares, ".1%"))
    table.add_row("words in a caption", range_of(census.words, ".0f"))
    table.add_row("sources", counts(census.sources))
    table.add_row("licences", counts(census.licences))
    return table


def _bad_table(census: Census) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("reason", "samples", "examples", title="bad samples", title_justify="left")
    for reason, count in census.tally.counts.most_common():
        examples = [escape(f"{key}: {message}") for key, message in census.tally.examples[reason][:3]]
        table.add_row(reason, str(count), "\n".join(examples))
    return table
