"""All figures by name, drawn one after the other into a folder with a page that shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import MofNCompleteColumn

from anystory.evaluation.figures.ablations import figure_2, figure_3
from anystory.evaluation.figures.bench import Bench
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.figures.names import FIGURES
from anystory.evaluation.figures.routing import figure_4, figure_5
from anystory.evaluation.figures.stories import figure_6
from anystory.evaluation.figures.table_1 import table_1
from anystory.files import atomic_write, only_writer
from anystory.progress import LoggedBar

_DRAW: dict[str, Callable[[Bench], Figure]] = {
    "table1": table_1,
    "figure2": figure_2,
    "figure3": figure_3,
    "figure4": figure_4,
    "figure5": figure_5,
    "figure6": figure_6,
}


def draw_figures(
    names: Sequence[str],
    *,
    model: str,
    number: int,
    level: str,
    seed: int,
    steps: int | None,
    out: Path,
    overwrite: bool = False,
) -> list[Figure]:
    """Draw figures into `out`: NAME.png, NAME.csv, and index.md with what each says.

    Raises:
        ValueError: no such model, too few cases, or an `out` that keeps rows of another model.
        FileExistsError: a figure is there, and `overwrite` is false.
    """
    assert set(names) <= set(FIGURES) == set(_DRAW)
    figures = []
    with only_writer(out), LoggedBar("", len(names), MofNCompleteColumn()) as shown:

        def advance(label: str, done: int) -> None:
            shown.bar.update(shown.task, description=label)
            if shown.line_is_due():
                print(f"[figures] {label}", file=sys.stderr, flush=True)

        bench = Bench(
            model=model, number=number, level=level, seed=seed, steps=steps, folder=out / "rows", advance=advance
        )
        for name in names:
            shown.bar.update(shown.task, description=FIGURES[name])
            figure = _DRAW[name](bench)
            for path in figure.keep(out, overwrite=overwrite):
                print(path)
            figures.append(figure)
            shown.bar.advance(shown.task)
    with atomic_write(out / "index.md", overwrite=overwrite) as temporary:
        temporary.write_text(_page(figures, bench), encoding="utf-8")
    print(out / "index.md")
    return figures


def _page(figures: Sequence[Figure], bench: Bench) -> str:
    settings = bench.settings
    said = [f"# {bench.model}: the paper's figures", ""]
    drawn = f"{settings.steps} steps, guidance {settings.guidance}, seed {settings.seed}"
    said += [f"{drawn}; StoryWorld {bench.level}, held-out characters.", ""]
    for figure in figures:
        picture, table = f"![{figure.title}]({figure.name}.png)", f"[The table]({figure.name}.csv)"
        said += [f"## {figure.title}", "", figure.says, "", picture, "", table, ""]
    return "\n".join(said)
