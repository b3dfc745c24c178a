"""The page of a run: values with intervals, plots, the best and the worst pictures beside their references."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from anystory.engine.picture_folder import OWNERS
from anystory.engine.sheets.routing_sheet import overlay
from anystory.evaluation.benchmarks.drawing import BenchmarkTask
from anystory.evaluation.benchmarks.looks import over_white
from anystory.evaluation.benchmarks.measures import LOWER_IS_BETTER, MEASURES
from anystory.evaluation.benchmarks.registry import Benchmark
from anystory.evaluation.benchmarks.report.numbers import number_text
from anystory.evaluation.benchmarks.report.plots import interval_plot
from anystory.evaluation.benchmarks.results import RunScores
from anystory.evaluation.bootstrap import Estimate
from anystory.files import atomic_write

__all__ = ["REPORT", "write_report"]

REPORT = "report.html"
_SHOWN = 6
"""Best and worst pictures."""
_SIDE = 256
_TINY = 128
"""Pictures up to this side are enlarged without smoothing."""


def write_report(benchmark: Benchmark, scores: RunScores, tasks: Sequence[BenchmarkTask], out: Path) -> None:
    """Write `report.html`; an older one is replaced.

    Args:
        benchmark, scores: What was run, and what came out.
        tasks: The pictures, in the order of the scores.
        out: The run's folder.

    Raises:
        ValueError: matplotlib is not installed.
    """
    style = files("anystory.evaluation.benchmarks.report").joinpath("page.css").read_text(encoding="utf-8")
    model = str(scores.facts["model"]["model"])
    title = f"{benchmark.title}: {Path(model).name}"
    subjects, groups = scores.by_subject(), scores.by_group()
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(benchmark.source)}. {len(scores.pictures)} pictures,'
        f" {escape(str(scores.facts['date']))}. Brackets hold 95 % intervals: whole subjects, pairs or stories are"
        " resampled; for one subject its prompts.</p>",
        _totals(scores),
        _plots(scores, subjects, groups),
        _table("By group", groups, scores.measures),
        _table("By subject", subjects, scores.measures),
        _extremes(scores, tasks, out),
        _facts(scores),
    ]
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    with atomic_write(out / REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _totals(scores: RunScores) -> str:
    total = scores.total()
    rows = "".join(
        f"<tr><th>{escape(measure)}{' *' if measure in scores.reports else ''}</th>"
        f"<td>{number_text(total[measure])}</td><td>{'lower' if measure in LOWER_IS_BETTER else 'higher'}</td>"
        f'<td class="what">{escape(MEASURES.get(measure, ""))}</td></tr>'
        for measure in scores.measures
    )
    head = "<tr><th>measure</th><th>value</th><th>better</th><th></th></tr>"
    note = '<p class="soft">* reported by the benchmark\'s own papers.</p>'
    return f'<h2>In total</h2><div class="card"><table>{head}{rows}</table>{note}</div>'


def _table(title: str, rows: Mapping[str, Mapping[str, Estimate]], measures: Sequence[str]) -> str:
    shown = [measure for measure in measures if any(measure in own for own in rows.values())]
    if not rows or not shown:
        return ""
    head = "".join(f"<th>{escape(measure)}</th>" for measure in shown)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{number_text(own.get(measure))}</td>' for measure in shown)}</tr>"
        for name, own in rows.items()
    )
    return f'<h2>{title}</h2><div class="card"><table><tr><th></th>{head}</tr>{body}</table></div>'


def _plots(
    scores: RunScores, subjects: Mapping[str, Mapping[str, Estimate]], groups: Mapping[str, Mapping[str, Estimate]]
) -> str:
    drawn = []
    for name, rows in (("subject", subjects), ("group", groups)):
        for measure in scores.reports:
            values = {row: own[measure] for row, own in rows.items() if measure in own}
            if len(values) > 1:
                svg = base64.b64encode(interval_plot(values, f"{measure} by {name}").encode()).decode()
                drawn.append(f'<img alt="{escape(measure)} by {name}" src="data:image/svg+xml;base64,{svg}">')
    return f'<h2>Plots</h2><div class="cards plots">{"".join(drawn)}</div>' if drawn else ""


def _extremes(scores: RunScores, tasks: Sequence[BenchmarkTask], out: Path) -> str:
    first = next((measure for measure in scores.measures), None)
    if first is None:
        return ""
    values = [
        (total / trials, place)
        for place, picture in enumerate(scores.pictures)
        for total, trials in [picture.scores.get(first, (0.0, 0.0))]
        if trials
    ]
    ranked = sorted(values, reverse=first not in LOWER_IS_BETTER)
    count = min(_SHOWN, len(ranked) // 2 or 1)
    parts = []
    for title, chosen in (("Best", ranked[:count]), ("Worst", ranked[::-1][:count])):
        cards = "".join(_card(tasks[place], f"{first} {value:.3f}", out) for value, place in chosen)
        parts.append(f'<h2>{title} by {escape(first)}</h2><div class="cards">{cards}</div>')
    return "".join(parts)


def _card(task: BenchmarkTask, value: str, out: Path) -> str:
    references = "".join(_figure(over_white(one.image), one.name) for one in task.case.subjects)
    picture = over_white(task.picture(out))
    shown = _figure(picture, f"seed {task.seed}")
    owners = task.folder(out) / OWNERS
    if owners.is_file():
        with Image.open(owners) as opened:
            numbers = np.asarray(opened)
        masks = np.stack([numbers == number for number in range(1, len(task.case.subjects) + 1)])
        shown += _figure(overlay(picture, masks), "who owns what")
    return (
        f'<div class="card"><p>{escape(task.case.prompt)}</p><div class="row">{references}</div>'
        f'<div class="row">{shown}</div><p class="soft">{escape(task.case.key)} · {value}</p></div>'
    )


def _figure(picture: Image.Image, caption: str) -> str:
    tiny = max(picture.size) <= _TINY
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    small.save(data, "PNG" if tiny else "JPEG", quality=88)
    kind = ' class="tiny" src="data:image/png' if tiny else ' src="data:image/jpeg'
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<figure><img alt="{escape(caption)}"{kind};base64,{encoded}">{escape(caption)}</figure>'


def _facts(scores: RunScores) -> str:
    facts = scores.facts
    rows = "".join(
        f'<tr><th>{escape(part)}</th><td class="what">{escape(_listed(facts.get(part, {})))}</td></tr>'
        for part in ("model", "settings", "encoders", "environment")
    )
    notes = "".join(f"<li>{escape(note)}: {count}</li>" for note, count in facts.get("notes", {}).items())
    told = f"<h2>What the model warned about, in how many pictures</h2><ul>{notes}</ul>" if notes else ""
    return f'{told}<h2>How</h2><div class="card"><table>{rows}</table></div>'


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, [], {}, ()))
