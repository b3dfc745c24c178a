"""The report on FLUX.2 klein as tables."""

from __future__ import annotations

from rich.console import Console

from anystory.evaluation.bench.klein.flops import KleinFlopReport
from anystory.evaluation.bench.show import bars_table, new_table, share_of_bar

_TERA, _GIGA = 1e12, 1e9


def show_klein_flops(report: KleinFlopReport, console: Console) -> None:
    """Print operations and memory of a step for each N, and whether any is more than the stock pipeline's."""
    console.print(
        f"{report.model}, {report.side} × {report.side}, torch {report.torch}; a step without subjects takes "
        f"{report.alone / _TERA:.2f} TFLOP"
    )
    table = new_table(
        "a step; regions lie side by side and cover the picture; memory over a step without subjects",
        ["", "N", "reference"],
        ["TFLOP", "over none", "over stock", "GB"],
    )
    for row in report.rows:
        table.add_row(
            row.method,
            str(row.subjects),
            f"{row.reference} px",
            f"{row.flops / _TERA:.2f}",
            f"{row.over_alone:+.1%}",
            "" if row.method == "stock" else f"{row.over_stock:+.1%}",
            f"{row.memory / _GIGA:.2f}",
        )
    console.print(table)
    console.print(bars_table(report.bars, share_of_bar))
