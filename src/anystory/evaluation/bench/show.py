"""The reports as tables and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from anystory.evaluation.bench.flops import Bar, FlopReport
from anystory.evaluation.bench.speed import SpeedReport, Timing

if TYPE_CHECKING:
    from anystory.evaluation.bench.training import StageTiming, TrainingReport

_TERA = 1e12


def as_json(report: FlopReport | SpeedReport | TrainingReport) -> str:
    """The whole report; a count is in FLOPs, a share is a fraction, seconds are seconds, memory is bytes."""
    values: dict[str, Any] = asdict(report)
    if not isinstance(report, SpeedReport):
        values["bars"] = [asdict(bar) | {"met": bar.met} for bar in report.bars]
    return json.dumps(values, indent=1) + "\n"


def show_flops(report: FlopReport, console: Console) -> None:
    """Prints costs, ReferenceNet and bars."""
    table = _table(
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
        bars = _table("", ["bar"], ["counted", "at most", ""])
        for bar in report.bars:
            bars.add_row(bar.name, _number(bar, bar.value), _number(bar, bar.limit), "met" if bar.met else "missed")
        console.print(bars)


def show_speed(report: SpeedReport, console: Console) -> None:
    """Prints steps, Table 1 and pictures."""
    console.print(
        f"{report.model}, {report.dtype}{', compiled' if report.compiled else ''}; {report.hardware}, "
        f"{report.threads} threads, torch {report.torch}; fastest of {report.rounds} rounds"
    )
    console.print(_timings("a step with guidance", report.unet))
    console.print(_timings("Table 1: batch 1", report.reference_net))
    if report.pictures:
        table = _table(f"a picture of {report.steps} steps, of the stock picture's time", ["", "N"], ["first", "next"])
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
    bars = _table("", ["bar"], ["measured", "", ""])
    for bar in report.bars:
        limit = f"{'at least' if bar.at_least else 'at most'} {bar.limit:g}"
        bars.add_row(bar.name, f"{bar.value:.2f}", limit, "met" if bar.met else "missed")
    console.print(bars)


def _stage_steps(stage: StageTiming) -> Table:
    table = _table(
        f"{stage.stage}, batches of {stage.batch_size}: forward, backward, optimizer",
        [""],
        ["s/step", "median", "samples/s", "rate ratio", "peak, GiB", "memory ratio"],
    )
    for row in [*stage.settings, stage.bare, stage.whole]:
        table.add_row(
            row.name,
            f"{row.seconds:.4f}",
            f"{row.median:.4f}",
            f"{row.samples:.1f}",
            f"{row.ratio:.2f}",
            "–" if row.memory is None else f"{row.memory / 2**30:.2f}",
            "–" if row.memory_ratio is None else f"{row.memory_ratio:.2f}",
        )
    return table


def _timings(title: str, rows: list[Timing]) -> Table:
    table = _table(title, ["", "N"], ["seconds", "median", "time ratio", "peak, GiB", "memory ratio"])
    for row in rows:
        table.add_row(
            row.name,
            str(row.subjects),
            f"{row.seconds:.4f}",
            f"{row.median:.4f}",
            f"{row.ratio:.3f}",
            "–" if row.memory is None else f"{row.memory / 2**30:.2f}",
            "–" if row.memory_ratio is None else f"{row.memory_ratio:.3f}",
        )
    return table


def _table(title: str, names: list[str], numbers: list[str]) -> Table:
    table = Table(title=title or None, title_justify="left")
    for name in names:
        table.add_column(name, no_wrap=True)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _number(bar: Bar, value: float) -> str:
    if bar.limit > 100:
        return f"{value / 1e9:.3f} B"
    return f"{value:.3f}" if "/" in bar.name else f"{value:+.2%}"
