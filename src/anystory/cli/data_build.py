"""`anystory data build`: photos, videos or masked pictures to shards of training samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.terminal.announce import announce

if TYPE_CHECKING:
    from anystory.data.build.build import BuildPlaces, Todo
    from anystory.data.build.plan import Plan

__all__ = ["build"]


def build(
    folder: Annotated[Path, typer.Argument(help="The folder with the photos, videos or masked pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    kind: Annotated[
        str | None,
        typer.Option(help="subjects (default): a folder per subject; videos: clips; scenes: pictures with masks."),
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="YAML file with source, steps and options.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="One option of the plan, for example filter.least_side=512. Repeatable."),
    ] = None,
    segment: Annotated[str | None, typer.Option(help="auto, border, grabcut, u2netp, … (docs/references.md).")] = None,
    caption: Annotated[str | None, typer.Option(help="An image-to-text model. Default: texts and names.")] = None,
    compare: Annotated[str | None, typer.Option(help="An image model. Default: colours and hashes.")] = None,
    credit: Annotated[str | None, typer.Option(help="Where the pictures come from, kept with each sample.")] = None,
    licence: Annotated[str | None, typer.Option(help="Their licence, kept with each sample.")] = None,
    heldout: Annotated[float | None, typer.Option(help="Share of the items to hold out from training.")] = None,
    name: Annotated[str, typer.Option(help="Stem of the shards' names.")] = "samples",
    work: Annotated[
        Path | None, typer.Option(help="Folder of finished items to resume from. Default: OUT.work.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine. Default: one per core.")] = None,
    ray: Annotated[str | None, typer.Option(help="Run on Ray Data: auto, local, or host:port.")] = None,
    gpus_per_worker: Annotated[float, typer.Option(min=0, help="With --ray: GPUs that each worker takes.")] = 0.0,
    most_bad: Annotated[float, typer.Option(min=0, max=1, help="Stop above this share of unusable items.")] = 0.1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the shards of another build.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")] = False,
) -> None:
    """Turn photos, videos or masked pictures into shards. An interrupted run resumes."""
    from rich.console import Console

    from anystory.cli.terminal.bar import counting_bar
    from anystory.data.build.build import BuildPlaces, find_todo, runner
    from anystory.data.build.build import build as build_shards
    from anystory.process_pool import available_cores

    given = {"segment.method": segment, "caption.model": caption, "compare.model": compare}
    given |= {"credit": credit, "licence": licence, "heldout": heldout}
    chosen = _plan(plan, kind, {name: value for name, value in given.items() if value is not None}, set_ or [])
    places = BuildPlaces(folder, out, work or _beside(out), name)
    count = available_cores() if workers is None else workers
    run = runner(count, ray, gpus_per_worker)
    announce(f"looking through {folder}")
    if dry_run:
        _say(chosen, places, find_todo(chosen, places), f"Ray at {ray}" if ray else f"{count} processes")
        return
    report = build_shards(chosen, places, run, most_bad=most_bad, overwrite=overwrite, progress=counting_bar)
    if report.rejected:
        Console().print(report.table())
    print(f"{out}: {report.summary()}")


def _beside(out: Path) -> Path:
    """`OUT.work`, also where OUT is `.` or `..`, which have no names."""
    named = out if out.name not in ("", "..") else out.resolve()
    return named.with_name(f"{named.name}.work")


def _plan(path: Path | None, kind: str | None, given: dict[str, str | float], settings: list[str]) -> Plan:
    import json

    from anystory.data.build.plan import default_plan, load_plan, with_settings

    found = default_plan(kind or "subjects") if path is None else load_plan(path)
    if path is not None and kind is not None and found["source"].get("kind", "subjects") != kind:
        raise ValueError(f"{path} is a plan for {found['source'].get('kind', 'subjects')}, not for --kind {kind}")
    # JSON is YAML: what a flag gives must not be read as a number or a date.
    return with_settings(found, [*(f"{name}={json.dumps(value)}" for name, value in given.items()), *settings])


def _say(plan: Plan, places: BuildPlaces, todo: Todo, who: str) -> None:
    from anystory.data.build.report import Report

    photos = sum(len(item.photos) for item in todo.items)
    done = len(todo.items) - len(todo.left)
    print(f"source: {plan.kind} in {places.source}, {len(todo.items)} items with {photos} files of pictures")
    left_out = Report()
    left_out.add_rejections(todo.left_out)
    for reason, counts in left_out.rejected.items():
        print(f"left out: {counts.total()} × {reason}, for example {left_out.examples[reason][0]}")
    for line in plan.describe():
        print(f"step {line}")
    print(f"write: {places.out}/{places.name}-000000.tar …, at most {plan.write.max_samples} samples each")
    print(f"work: {done} items are done in {places.work}, {len(todo.left)} are left, by {who}")
    print("dry run: nothing was written")
