"""One benchmark from first file to last: cases, pictures, looks, scores, page."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from anystory.data.sources import evenly
from anystory.engine.options import ModelOptions
from anystory.engine.picture_folder import clear_unfinished
from anystory.engine.record.provenance import environment
from anystory.engine.record.reading import load_record
from anystory.evaluation.benchmarks.across import diversities, story_scores
from anystory.evaluation.benchmarks.cases import BenchmarkCase
from anystory.evaluation.benchmarks.drawing import (
    NOTES,
    BenchmarkTask,
    DrawSettings,
    check_references,
    draw_benchmark,
    tasks_of,
)
from anystory.evaluation.benchmarks.encoders import EncoderChoice, load_looking
from anystory.evaluation.benchmarks.looks import Looking
from anystory.evaluation.benchmarks.measures import score_picture
from anystory.evaluation.benchmarks.registry import Benchmark
from anystory.evaluation.benchmarks.report.page import write_report
from anystory.evaluation.benchmarks.results import RunScores, ScoredPicture
from anystory.files import atomic_write, only_writer
from anystory.input_files import read_object, read_text

__all__ = ["OFFICIAL", "BenchmarkRun", "run_benchmark"]

OFFICIAL = "official"
"""Folder of the pictures where the benchmark's own programs look for them."""
_RUN = "run.json"
_MOVABLE = ("device", "offload", "tiling", "threads")
"""Options of a model that a resumed run may have otherwise."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """What to run."""

    benchmark: Benchmark
    cases: Sequence[BenchmarkCase]
    out: Path
    options: ModelOptions
    settings: DrawSettings
    encoders: EncoderChoice
    jobs: int = 1
    """Processes that draw."""
    part: tuple[int, int] = (1, 1)
    """(k, n): draw only every n-th picture, from the k-th on, and score nothing; (1, 1) draws and scores all."""
    limit: int | None = None
    """Only so many cases, evenly spread; None for all."""
    sheet: bool = False
    """Whether to write the sheets of the routing maps."""


def run_benchmark(
    run: BenchmarkRun,
    *,
    drawn: Callable[[int, int], None] = lambda done, count: None,
    seen: Callable[[int, int], None] = lambda done, count: None,
) -> RunScores | None:
    """Draw what is not there yet, score all, write `scores.json` and `report.html`.

    Args:
        run: What to run.
        drawn, seen: Told how many pictures of how many are drawn, and looked at.

    Returns:
        The scores; None of a part.

    Raises:
        ValueError, OSError: anything that is wrong with data, model, encoders or folder; all that can be found out
            before a picture is drawn, is.
        FloatingPointError: see `engine.drawing.draw`.
    """
    cases = list(run.cases) if run.limit is None else evenly(list(run.cases), run.limit)
    tasks = tasks_of(cases, run.settings)
    for task in tasks:
        task.job(run.settings)
    check_references(cases, run.settings)
    number, count = run.part
    whole = count == 1
    looking = load_looking(run.encoders, run.settings.segmenter) if whole else None
    with only_writer(run.out, "" if whole else f"part-{number}-of-{count}"):
        if whole:
            clear_unfinished(run.out)
        _keep_run(run)
        own = tasks[number - 1 :: count]
        draw_benchmark(
            run.out,
            own,
            run.settings,
            run.options,
            jobs=run.jobs,
            sheet=run.sheet,
            drawn=lambda done: drawn(done, len(own)),
        )
        if looking is None:
            return None
        scores = _scored(run, tasks, looking, lambda done: seen(done, len(tasks)))
        scores.save(run.out)
        _lay_out(run.out, tasks)
        write_report(run.benchmark, scores, tasks, run.out)
    return scores


def _keep_run(run: BenchmarkRun) -> None:
    """Write what a run depends on, or refuse a folder that holds another.

    Raises:
        ValueError: it does.
    """
    settings = {name: value for name, value in asdict(run.settings).items() if name != "per_prompt"}
    wanted = {
        "benchmark": run.benchmark.name,
        "model": {name: value for name, value in _recorded(run.options).items() if name not in _MOVABLE},
        "settings": settings,
    }
    path = run.out / _RUN
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    there = read_object(path, "name another --out")
    differing = [
        f"{part}.{name}" if part != "benchmark" else part
        for part, own in wanted.items()
        for name in (own if isinstance(own, dict) else ("",))
        if _at(there, part, name) != _at(wanted, part, name)
    ]
    if differing:
        raise ValueError(f"{run.out} holds another run (it differs in {', '.join(differing)}): name another --out")


def _at(facts: dict[str, Any], part: str, name: str) -> Any:
    own = facts.get(part)
    return own.get(name) if isinstance(own, dict) else own


def _recorded(options: ModelOptions) -> dict[str, Any]:
    """The options as JSON has them."""
    return json.loads(json.dumps(options.absolute().recorded, default=asdict))


def _scored(
    run: BenchmarkRun, tasks: Sequence[BenchmarkTask], looking: Looking, seen: Callable[[int], None]
) -> RunScores:
    looks, given = [], []
    for done, task in enumerate(tasks, start=1):
        given.append([looking.references(subject) for subject in task.case.subjects])
        looks.append(looking.look(task, run.out))
        seen(done)
    cases = [task.case for task in tasks]
    across = diversities(cases, looks)
    stories = story_scores(cases, looks, given) if run.benchmark.by_story else [{} for _ in cases]
    pictures = []
    for task, look, references, diverse, story in zip(tasks, looks, given, across, stories, strict=True):
        found = score_picture(task.case, look, references)
        pictures.append(
            ScoredPicture(
                key=task.case.key,
                seed=task.seed,
                prompt=task.case.prompt,
                group=task.case.group,
                cluster=task.case.cluster,
                picture=task.picture(run.out).relative_to(run.out).as_posix(),
                scores=_rounded({**found.picture, **diverse, **story}),
                subjects={name: _rounded(own) for name, own in found.subjects.items()},
            )
        )
    facts = _facts(run, tasks)
    return RunScores(benchmark=run.benchmark.name, reports=run.benchmark.reports, facts=facts, pictures=tuple(pictures))


def _rounded(scores: dict[str, tuple[float, float]] | Any) -> dict[str, tuple[float, float]]:
    return {name: (round(total, 8), round(trials, 8)) for name, (total, trials) in scores.items()}


def _facts(run: BenchmarkRun, tasks: Sequence[BenchmarkTask]) -> dict[str, Any]:
    """What shaped the scores.

    Raises:
        ValueError: pictures by different weights are in one run.
    """
    notes: Counter[str] = Counter()
    weights: dict[str, str] | None = None
    for task in tasks:
        record = load_record(task.folder(run.out) / "0001.json")
        weights = weights or dict(record.weights)
        if {**record.weights, **weights} != {**weights, **record.weights}:
            raise ValueError(
                f"{task.folder(run.out)} was drawn by other weights than the first picture: the model's files have"
                " changed; name another --out"
            )
        with suppress(OSError, ValueError):
            notes.update(json.loads(read_text(task.folder(run.out) / NOTES)))
    return {
        "model": _recorded(run.options),
        "settings": asdict(run.settings),
        "encoders": run.encoders.facts(),
        "environment": environment(run.options.device),
        "weights": weights or {},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "notes": dict(notes.most_common(50)),
    }


def _lay_out(out: Path, tasks: Iterable[BenchmarkTask]) -> None:
    """Lay the first picture of each case where the benchmark's own programs look for it: a link, or a copy."""
    done: set[str] = set()
    for task in tasks:
        if task.case.official is None or task.case.official in done:
            continue
        done.add(task.case.official)
        place = out / OFFICIAL / task.case.official
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(task.picture(out), place)
        except OSError:  # a disk without links
            with atomic_write(place) as temporary:
                shutil.copyfile(task.picture(out), temporary)
