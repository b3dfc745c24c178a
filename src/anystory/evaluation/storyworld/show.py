"""The table on a terminal, and a page of pictures: what was asked for, and what every row drew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from anystory.evaluation.bootstrap import Estimate
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.table import (
    ATTRIBUTE_COLUMNS,
    IDENTITY_COLUMNS,
    PROMPT_COLUMNS,
    ROUTING_COLUMNS,
    Column,
    Results,
)
from anystory.page_layout import below, beside, captioned, framed, text

_SIDE = 128


def print_results(results: Results, console: Console) -> None:
    """Print all parts of the table, and the bars."""
    routed = [name for name, row in results.rows.items() if row.variant.is_routed]
    every = list(results.rows)
    for title, columns, rows in (
        (
            "Identity: share of visible attributes that are right; leak: shows another subject's value",
            IDENTITY_COLUMNS,
            every,
        ),
        (
            "Prompt: kinds, poses, place, light as asked for; their number; both eyes; sharpness against true scenes",
            PROMPT_COLUMNS,
            every,
        ),
        ("Routing: IoU of masks and characters, at 25, 50 and 100 % of the steps", ROUTING_COLUMNS, routed),
        ("Each attribute, all subjects", ATTRIBUTE_COLUMNS, every),
    ):
        if rows:
            console.print(_table(results, title, columns, rows))
    bars = Table(title="Bars", title_justify="left")
    for heading in ("", "measured (95 %)", "bar", ""):
        bars.add_column(heading)
    for bar in results.bars():
        bound = f"{'≥' if bar.at_least else '≤'} {bar.bound:.2f}"
        bars.add_row(bar.name, number(bar.estimate, percent=False), bound, "holds" if bar.holds else "MISSED")
    console.print(bars)


def picture_page(cases: Sequence[Case], results: Results, folder: Path, rows: Sequence[str]) -> Image.Image:
    """One line per case: references, the true scene, then what each row drew, read from `folder`."""
    heads = ["references", "true scene", *(results.rows[name].variant.label for name in rows)]
    widest = max(len(case.references) for case in cases)
    lines = []
    for case in cases:
        references = [on_white(reference).resize((_SIDE, _SIDE)) for reference in case.references]
        references += [Image.new("RGB", (_SIDE, _SIDE), "white")] * (widest - len(references))
        pieces = [beside(references, gap=2), enlarged(Image.fromarray(case.drawn.image))]
        pieces += [enlarged(Image.open(folder / name / f"{case.index:06d}.png").convert("RGB")) for name in rows]
        if not lines:
            pieces = [captioned(piece, head) for piece, head in zip(pieces, heads, strict=True)]
        lines.append(below([beside(pieces), text(f"{case.index}: {case.scene.caption}")], gap=2))
    return framed(below(lines, gap=10))


def _table(results: Results, title: str, columns: Sequence[Column], rows: Sequence[str]) -> Table:
    table = Table(title=f"{title} (percent, 95 % interval)", title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column.name.replace("_", " "), justify="right")
    for name in rows:
        cells = [number(results.cell(name, column)) for column in columns]
        table.add_row(results.rows[name].variant.label, *cells)
    return table


def number(found: Estimate, *, percent: bool = True) -> str:
    if found.value != found.value:
        return "–"
    if percent:
        return f"{100 * found.value:.0f} ({100 * found.low:.0f}–{100 * found.high:.0f})"
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"


def enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def on_white(picture: Image.Image) -> Image.Image:
    page = Image.new("RGB", picture.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    return page
