"""Small bar charts as inline SVG, without script, font or further files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np

__all__ = ["bar_chart", "histogram"]

_WIDTH, _HEIGHT = 300, 120
_BOTTOM, _TOP, _SIDE = 18, 14, 4


def bar_chart(counts: Mapping[int, int]) -> str:
    """One bar per whole number that occurs, from the least to the greatest."""
    if not counts:
        return _nothing()
    numbers = range(min(counts), max(counts) + 1)
    if len(numbers) > 30:
        return histogram([number for number, count in counts.items() for _ in range(count)], "{:.0f}")
    return _bars([counts.get(number, 0) for number in numbers], [str(number) for number in numbers])


def histogram(values: Sequence[float], form: str, bins: int = 20) -> str:
    """Bars over equal ranges, with the ends below; `form` formats a number, such as "{:.0%}"."""
    if not values:
        return _nothing()
    low, high = min(values), max(values)
    if low == high:
        return _bars([len(values)], [form.format(low)])
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    titles = [f"{form.format(a)} – {form.format(b)}" for a, b in pairwise(edges)]
    return _bars(counts.tolist(), titles, ends=(form.format(low), form.format(high)))


def _bars(counts: Sequence[int], titles: Sequence[str], ends: tuple[str, str] | None = None) -> str:
    """Bars with a tooltip each, and below them the titles or just the `ends`."""
    step = (_WIDTH - 2 * _SIDE) / len(counts)
    room, most = _HEIGHT - _TOP - _BOTTOM, max(counts)
    parts = []
    for i, (count, title) in enumerate(zip(counts, titles, strict=True)):
        height = room * count / most
        left, width = _SIDE + i * step, min(step - 2, 60)
        left += (step - width) / 2
        top = _HEIGHT - _BOTTOM - height
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"<title>{escape(title)}: {count}</title></rect>"
        )
        middle = left + width / 2
        if count and (ends is None or count == most):
            parts.append(f'<text x="{middle:.1f}" y="{top - 3:.1f}" text-anchor="middle">{count}</text>')
        if ends is None and len(counts) <= 15:
            parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 5}" text-anchor="middle">{escape(title)}</text>')
    if ends is None and len(counts) > 15:
        ends = titles[0], titles[-1]
    if ends is not None:
        for text, x, anchor in ((ends[0], _SIDE, "start"), (ends[1], _WIDTH - _SIDE, "end")):
            parts.append(f'<text x="{x}" y="{_HEIGHT - 5}" text-anchor="{anchor}">{escape(text)}</text>')
    line = f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}{line}</svg>'


def _nothing() -> str:
    return '<p class="none">no data</p>'
