"""The reports on FLUX.1 as tables."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from anystory.evaluation.bench.flux.flops import FluxCost, FluxFlopReport
from anystory.evaluation.bench.flux.speed import FluxSpeedReport
from anystory.evaluation.bench.flux.weights import WeightMemory
from anystory.evaluation.bench.show import bars_table, new_table, share_of_bar, timings_table

_TERA, _GIGA = 1e12, 1e9


def show_flux_flops(report: FluxFlopReport, console: Console) -> None:
    """Prints operations and memory for each size, weights and bars."""
    console.print(
        f"{report.model}, {report.steps} steps, low-rank terms of rank {report.rank} (assumed), torch {report.torch}; "
        "TFLOP, and what is added to the stock pipeline's"
    )
    for side, rows in groupby(report.rows, key=lambda row: row.side):
        own = list(rows)
        console.print(_operations(side, own))
        console.print(_memory(side, own))
    console.print(_weights(report.weights))
    if report.bars:
        console.print(bars_table(report.bars, share_of_bar))


def show_flux_speed(report: FluxSpeedReport, console: Console) -> None:
    """Prints steps, and what is done once for a picture."""
    console.print(
        f"{report.model}, {report.side} × {report.side}, {report.dtype}; {report.hardware}, {report.threads} threads, "
        f"torch {report.torch}; {report.shown:.0%} of each reference; fastest of {report.rounds} rounds"
    )
    console.print(timings_table("a step", report.steps))
    console.print(timings_table("once for a picture", report.around))


def _operations(side: int, rows: list[FluxCost]) -> Table:
    table = new_table(
        f"{side} × {side}: operations; kept, read: a step whose references are there already, the mean of all steps "
        "that read them",
        ["", "N", "shown"],
        ["encode", "compute", "kept", "+ kept", "+ appearances", "+ read", "picture", "+ picture"],
    )
    for row in rows:
        steps = {step.kind: step for step in row.steps}
        appearances = next((step for kind, step in steps.items() if kind.endswith("kept + appearances")), None)
        computing = next((step for kind, step in steps.items() if kind.startswith("references computed")), None)
        table.add_row(
            row.method,
            str(row.subjects),
            f"{row.shown:.0%}" if row.subjects else "",
            f"{row.encode / _TERA:.2f}",
            "" if computing is None else f"{computing.flops / _TERA:.2f}",
            f"{steps.get('references kept', row.steps[0]).flops / _TERA:.2f}",
            *(_share(row, share) for share in (row.kept_over_stock, appearances and appearances.over_stock)),
            _share(row, row.read_over_stock),
            f"{row.picture / _TERA:.1f}",
            _share(row, row.picture_over_stock),
        )
    return table


def _memory(side: int, rows: list[FluxCost]) -> Table:
    table = new_table(
        f"{side} × {side}: memory over a stock step's, GB, with keys and values of the references; most of it by step",
        ["", "N", "shown"],
        ["keys, values", "kept", "+ appearances", "compute", "peak / keys, values"],
    )
    for row in (row for row in rows if row.subjects):
        most = {"kept": 0, "appearances": 0, "computed": 0}
        for step in row.steps:
            place = next((name for name in reversed(most) if name in step.kind), None)
            if place is not None:
                most[place] = max(most[place], step.memory)
        table.add_row(
            row.method,
            str(row.subjects),
            f"{row.shown:.0%}",
            f"{row.cached / _GIGA:.3f}",
            *(f"{most[place] / _GIGA:.3f}" for place in most),
            f"{row.memory / row.cached:.3f}",
        )
    return table


def _weights(rows: list[WeightMemory]) -> Table:
    table = new_table(
        "weights in memory, GB: linear layers of transformer and T5 in this precision, all else in bf16",
        [""],
        [*rows[0].components, "all", "--offload model", "--offload sequential"],
    )
    for row in rows:
        sequential = "–" if row.offload_sequential is None else f"{row.offload_sequential / _GIGA:.1f}"
        sizes = (*row.components.values(), row.total, row.offload_model)
        table.add_row(row.precision, *(f"{size / _GIGA:.1f}" for size in sizes), sequential)
    return table


def _share(row: FluxCost, share: float | None) -> str:
    return "" if share is None or not row.subjects else f"{share:+.2%}"
