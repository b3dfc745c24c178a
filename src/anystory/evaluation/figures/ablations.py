"""Figures 2 and 3: what each encoder and the router are for, on the same held-out cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from anystory.evaluation.figures.bench import Bench, references, shown
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.figures.plots import bars
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.show import number
from anystory.evaluation.storyworld.table import Column, Results
from anystory.page_layout import below, beside, captioned, framed, text

ENCODERS = {"clip-only": "CLIP only", "reference-only": "ReferenceNet only", "full": "both"}
ROUTERS = {"no-router": "without router", "full": "with router", "oracle": "true masks", "prompt-only": "no subjects"}


def figure_2(bench: Bench) -> Figure:
    """CLIP tokens alone, ReferenceNet's features alone, and both (the paper's Figure 2)."""
    columns = [
        Column("identity", "identity"),
        Column("coarse (kind, main colour)", "coarse"),
        Column("fine (everything else)", "fine"),
        Column("pose as asked", "pose"),
    ]
    results = bench.results(list(ENCODERS))
    return Figure(
        name="figure2",
        title="Figure 2: CLIP tokens, ReferenceNet, and both",
        says=f"Shares of visible attributes that are right, {len(bench.cases)} held-out cases, 95 % intervals by "
        f"bootstrap over pictures. {_in_words(results, columns, ENCODERS)}",
        image=_page(bench, results, columns, ENCODERS, bench.first("one", 3) + bench.first("two", 3)),
        rows=_table(results, columns, ENCODERS),
    )


def figure_3(bench: Bench) -> Figure:
    """With and without the router, one subject and several, and what becomes of the background (Figure 3)."""
    several = ("two", "alike", "three")
    columns = [
        Column("identity, one subject", "identity", ("one",)),
        Column("identity, several", "identity", several),
        Column("leak, several", "leak", several),
        Column("place as asked", "place"),
        Column("light as asked", "light"),
        Column("number of characters", "count"),
    ]
    results = bench.results(list(ROUTERS))
    chosen = bench.first("one", 2) + bench.first("two", 2) + bench.first("alike", 2)
    return Figure(
        name="figure3",
        title="Figure 3: with and without the router",
        says=f"{len(bench.cases)} held-out cases, 95 % intervals by bootstrap over pictures; place, light and number "
        f"of characters say what becomes of the background. {_in_words(results, columns, ROUTERS)}",
        image=_page(bench, results, columns, ROUTERS, chosen),
        rows=_table(results, columns, ROUTERS),
    )


def _page(
    bench: Bench, results: Results, columns: Sequence[Column], names: Mapping[str, str], cases: Sequence[Case]
) -> Image.Image:
    widest = max(references(case).width for case in cases)
    lines = []
    for case in cases:
        left = Image.new("RGB", (widest, shown(case.true).height), "white")
        left.paste(references(case))
        pieces = [left, shown(case.true), *(shown(bench.drawn(name, case)) for name in names)]
        if not lines:
            heads = ["references", "true scene", *names.values()]
            pieces = [captioned(piece, head) for piece, head in zip(pieces, heads, strict=True)]
        lines.append(below([beside(pieces), text(case.scene.caption)], gap=2))
    measured = {c.name: {label: results.cell(name, c) for name, label in names.items()} for c in columns}
    return framed(below([*lines, bars(measured)], gap=10))


def _table(results: Results, columns: Sequence[Column], names: Mapping[str, str]) -> list[dict[str, object]]:
    rows = [*names.items(), ("ceiling", "true scenes through the autoencoder")]
    return [
        {"row": label, "measure": column.name, **results.cell(name, column).to_dict()}
        for name, label in rows
        for column in columns
    ]


def _in_words(results: Results, columns: Sequence[Column], names: Mapping[str, str]) -> str:
    said = []
    for column in columns:
        values = ", ".join(f"{label} {number(results.cell(name, column))}" for name, label in names.items())
        said.append(f"{column.name}: {values}")
    return "; ".join(said) + "."
