"""Bars with intervals and curves with bands, as pictures; matplotlib's global state stays untouched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from PIL import Image

from anystory.evaluation.bootstrap import Estimate
from anystory.extras import need
from anystory.page_layout import below, beside, text
from anystory.segment.tints import SLOT_COLOURS

_COLOURS = [tuple(channel / 255 for channel in colour) for colour in SLOT_COLOURS]
_DPI = 110


def bars(
    groups: Mapping[str, Mapping[str, Estimate]], *, unit: str = "per cent", width: float = 9.0, height: float = 3.2
) -> Image.Image:
    """Groups of bars with their intervals.

    Args:
        groups: {what is measured: {who: share in 0…1}}; every group has the same names.
    """
    figure, axes = _axes(width, height)
    names = list(next(iter(groups.values())))
    step = 0.8 / len(names)
    for i, name in enumerate(names):
        found = [group[name] for group in groups.values()]
        places = [place + (i - (len(names) - 1) / 2) * step for place in range(len(found))]
        heights = [100 * one.value for one in found]
        spread = [
            [max(100 * (one.value - one.low), 0) for one in found],
            [max(100 * (one.high - one.value), 0) for one in found],
        ]
        axes.bar(places, heights, step * 0.92, label=name, color=_COLOURS[i % len(_COLOURS)], yerr=spread, capsize=2)
    axes.set_xticks(range(len(groups)), [fill(name, 16) for name in groups])
    axes.set_ylabel(unit)
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return _picture(figure)


def curves(
    lines: Mapping[str, Sequence[tuple[float, Estimate]]], *, x: str, y: str, width: float = 4.6, height: float = 3.2
) -> Image.Image:
    """Lines with a band for the interval at each point.

    Args:
        lines: {name: [(x, value)]}.
    """
    figure, axes = _axes(width, height)
    for i, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        places = [place for place, _ in points]
        axes.plot(places, [found.value for _, found in points], marker="o", markersize=3, color=colour, label=name)
        low, high = [found.low for _, found in points], [found.high for _, found in points]
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False)
    return _picture(figure)


def table(rows: Sequence[Mapping[str, object]]) -> Image.Image:
    """Rows of the same columns as a page: numbers to the right, "–" for what is empty."""
    columns = []
    for name in rows[0]:
        cells = [name, *(_said(row[name]) for row in rows)]
        right = all(isinstance(row[name], (int, float)) or row[name] == "" for row in rows)
        columns.append(below([text(cell, size=14) for cell in cells], gap=8, align=float(right)))
    return beside(columns, gap=24)


def _said(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value) or "–"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    made = need("matplotlib.figure", "`anystory figures`", "train").Figure(figsize=(width, height), dpi=_DPI)
    axes = made.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return made, axes


def _picture(figure: Any) -> Image.Image:
    written = io.BytesIO()
    figure.savefig(written, format="png", bbox_inches="tight")
    return Image.open(written).convert("RGB")
