"""The table of an evaluation of `segment` on a terminal, and a page of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from rich.console import Console
from rich.table import Table

from anystory.engine.sheets.routing_sheet import short_layer_name
from anystory.evaluation.segment.table import ROWS, SegmentResults
from anystory.evaluation.segment.trials import Trial
from anystory.evaluation.storyworld.show import enlarged, number, on_white
from anystory.page_layout import below, beside, captioned, framed
from anystory.segment.segmentation import Segmentation
from anystory.segment.tints import overlay

__all__ = ["evaluation_page", "print_results"]

_SIDE = 128


def print_results(results: SegmentResults, console: Console) -> None:
    """Print all parts of the table, and the bars."""
    table = Table(title="Segmentation by reference (percent, 95 % interval)", title_justify="left")
    for heading in ("", "measured", "n"):
        table.add_column(heading)
    for name, measure, groups in ROWS:
        found = results.cell(measure, groups)
        table.add_row(name, number(found), str(found.trials))
    console.print(table)
    table = Table(title="mIoU of single maps, and of a level's mean, by noise level (percent)", title_justify="left")
    for heading in ("layer", *(f"{level:g}" for level in results.levels)):
        table.add_column(heading)
    for layer, name in ((f" {layer}", short_layer_name(layer)) for layer in results.layers):
        table.add_row(name, *(number(results.cell(f"iou {level:g}{layer}")) for level in results.levels))
    table.add_row("mean of all layers", *(number(results.cell(f"iou {level:g}")) for level in results.levels))
    console.print(table)
    bars = Table(title="Bars", title_justify="left")
    for heading in ("", "measured (95 %)", "bar", ""):
        bars.add_column(heading)
    for bar in results.bars():
        holds = "holds" if bar.holds else "MISSED"
        bars.add_row(bar.name, number(bar.estimate, percent=False), f"≥ {bar.bound:.2f}", holds)
    console.print(bars)


def evaluation_page(shown: Sequence[tuple[Trial, Segmentation]]) -> Image.Image:
    """A line for each trial: references, picture, where they are, where they were found, and how sure that is."""
    lines = []
    for trial, found in shown:
        references = [on_white(one).resize((_SIDE, _SIDE)) for one in trial.references]
        true = overlay(found.image, trial.truth)
        sure = [f"{name}: {confidence:.2f}" for name, confidence in zip(found.names, found.confidence, strict=True)]
        absent = "" if trial.absent == "none" else "the second is absent"
        pieces = [
            captioned(beside(references, gap=2), *sure),
            captioned(enlarged(found.image), f"{trial.index}"),
            captioned(enlarged(true), "true", absent),
            captioned(enlarged(found.overlay()), "found"),
        ]
        lines.append(beside(pieces))
    half = -(-len(lines) // 2)
    columns = [below(part, gap=10) for part in (lines[:half], lines[half:]) if part]
    return framed(beside(columns, gap=24))
