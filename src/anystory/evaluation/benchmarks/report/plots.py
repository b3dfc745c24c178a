"""Values with their intervals as pictures for a page: SVG, matplotlib's."""

from __future__ import annotations

import io
from collections.abc import Mapping

from anystory.evaluation.bootstrap import Estimate
from anystory.extras import need

__all__ = ["interval_plot"]

_MOST = 60
"""Lines of a plot: more cannot be read."""


def interval_plot(values: Mapping[str, Estimate], title: str) -> str:
    """A line for each name, sorted by value: a dot with its 95 % interval. SVG.

    Of more than 60 names the 30 lowest and the 30 highest are shown.

    Args:
        values: {name: value}; those that are no numbers are left out.
        title: What is shown.
    """
    figure_class = need("matplotlib.figure", "the plots of the report", "eval").Figure
    found = sorted(
        ((name, one) for name, one in values.items() if one.value == one.value), key=lambda pair: pair[1].value
    )
    if len(found) > _MOST:
        found = [*found[: _MOST // 2], *found[-_MOST // 2 :]]
    figure = figure_class(figsize=(7, 0.9 + 0.21 * len(found)), layout="constrained")
    axes = figure.subplots()
    centre = [one.value for _, one in found]
    spread = [[one.value - one.low for _, one in found], [one.high - one.value for _, one in found]]
    spread = [[max(gap, 0.0) for gap in side] for side in spread]
    axes.errorbar(centre, range(len(found)), xerr=spread, fmt="o", ms=4, lw=1.2, capsize=2, color="#0072b2")
    axes.set_yticks(range(len(found)), [name for name, _ in found], fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    data = io.StringIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()
