"""The reports as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.flops import FlopReport
from anystory.evaluation.bench.speed import SpeedReport
from anystory.evaluation.bench.timing import Timing

if TYPE_CHECKING:
    from anystory.evaluation.bench.training import StageTiming, StepTiming, TrainingReport

_TERA = 1e12


def as_json(report: Any) -> str:
    """The whole report; a count is in FLOPs, a share is a fraction, seconds are seconds, memory is bytes."""
    values: dict[str, Any] = asdict(report)
    if hasattr(report, "bars"):
        values["bars"] = [asdict(bar) | {"met": bar.met} for bar in report.bars]
    return json.dumps(values, indent=1) + "\n"


def show_flops(report: FlopReport, console: Console) -> None:
    """Prints costs, ReferenceNet and bars."""
    table = new_table(
        f"{report.model}, {report.picture} × {report.picture}, {report.steps} steps with guidance, "
        f"{report.foreground:.0%} of the pixels foreground; TFLOP, and what is added to the stock pipeline's",
        ["", "N"],
        ["encode", "step", "picture", "+ step", "+ picture", "+ second"],
    )
    for row in [report.stock, *report.rows]:
        shares = (row.step_over_stock, row.picture_over_stock, row.second_over_stock)
        table.add_row(
            row.method,
            str(row.subjects),
            *(f"{flops / _TERA:.2f}" for flops in (row.encode, row.step, row.picture)),
            *("" if row is report.stock else f"{share:+.2%}" for share in shares),
        )
    console.print(table)
    net = report.reference_net
    console.print(
        f"ReferenceNet at latent {net.latent} × {net.latent}: {net.pruned / _TERA:.3f} TFLOP, "
        f"{net.ratio:.3f} of the U-Net's {net.unet / _TERA:.3f} (not pruned {net.whole / _TERA:.3f}); "
        f"{net.parameters:,} parameters"
    )
    if report.bars:
        console.print(bars_table(report.bars, share_of_bar))


def show_speed(report: SpeedReport, console: Console) -> None:
    """Prints steps, Table 1 and pictures."""
    console.print(
        f"{report.model}, {report.dtype}{', compiled' if report.compiled else ''}; {report.hardware}, "
        f"{report.threads} threads, torch {report.torch}; fastest of {report.rounds} rounds"
    )
    console.print(timings_table("a step with guidance", report.unet))
    console.print(timings_table("Table 1: batch 1", report.reference_net))
    if report.pictures:
        title = f"a picture of {report.steps} steps, of the stock picture's time"
        table = new_table(title, ["", "N"], ["first", "next"])
        for row in report.pictures:
            table.add_row(row.name, str(row.subjects), f"{row.first:.3f}", f"{row.second:.3f}")
        console.print(table)


def show_training(report: TrainingReport, console: Console) -> None:
    """Prints every stage's steps and loader, and the bars."""
    console.print(
        f"{report.recipe}; {report.hardware}{', native bf16' if report.native_bf16 else ''}, {report.threads} threads, "
        f"torch {report.torch}; fastest of {report.rounds} rounds of {report.steps} steps, "
        f"{'seconds of a core' if report.core_seconds else 'by the clock'}"
    )
    for stage in report.stages:
        console.print(_stage_steps(stage))
        rates = {name: f"{rate:.0f}" for name, rate in stage.loader.items()}
        console.print(
            f"samples/s out of shards, of a core's work: {rates['read']} read, {rates['decode']} decoded, "
            f"{rates['training']} as training takes them; by the clock: {rates['batches']} batched by one worker"
        )
    console.print(bars_table(report.bars, lambda bar, value: f"{value:.2f}"))


def _stage_steps(stage: StageTiming) -> Table:
    table = new_table(
        f"{stage.stage}, batches of {stage.batch_size}: forward, backward, optimizer",
        [""],
        ["s/step", "median", "pictures/s", "rate ratio", "peak, GiB", "memory ratio"],
    )
    for row in [*stage.settings, stage.bare, stage.whole]:
        table.add_row(
            row.name, f"{row.seconds:.4f}", f"{row.median:.4f}", f"{row.samples:.1f}", f"{row.ratio:.2f}", *_memory(row)
        )
    return table


def timings_table(title: str, rows: list[Timing]) -> Table:
    """Seconds and memory of cases, one a row."""
    table = new_table(title, ["", "N"], ["seconds", "median", "time ratio", "peak, GiB", "memory ratio"])
    for row in rows:
        table.add_row(
            row.name, str(row.subjects), f"{row.seconds:.4f}", f"{row.median:.4f}", f"{row.ratio:.3f}", *_memory(row)
        )
    return table


def _memory(row: Timing | StepTiming) -> tuple[str, str]:
    """The peak and its share of the first row's."""
    if row.memory is None or row.memory_ratio is None:
        return "–", "–"
    return f"{row.memory / 2**30:.2f}", f"{row.memory_ratio:.3f}"


def new_table(title: str, names: list[str], numbers: list[str]) -> Table:
    """An empty one; numbers stand to the right."""
    table = Table(title=title or None, title_justify="left")
    for name in names:
        table.add_column(name, no_wrap=True)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def bars_table(bars: list[Bar], number: Callable[[Bar, float], str]) -> Table:
    """Bars, met or missed; `number` writes a value."""
    table = new_table("", ["bar"], ["found", "wanted", ""])
    for bar in bars:
        limit = f"{'at least' if bar.at_least else 'at most'} {number(bar, bar.limit)}"
        table.add_row(bar.name, number(bar, bar.value), limit, "met" if bar.met else "missed")
    return table


def share_of_bar(bar: Bar, value: float) -> str:
    """A value as a share that is added, a ratio (its name has a /), or billions."""
    if bar.limit > 100:
        return f"{value / 1e9:.3f} B"
    return f"{value:.3f}" if "/" in bar.name else f"{value:+.2%}"
