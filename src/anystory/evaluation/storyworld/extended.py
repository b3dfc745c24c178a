"""Further groups measured: drawn, scored, printed and kept, beside the table and apart from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from anystory.engine.record.provenance import environment, weight_hashes
from anystory.evaluation.benchmarks.results import RunScores, ScoredPicture
from anystory.evaluation.storyworld.groups import EXTENDED, draw_groups
from anystory.evaluation.storyworld.report import drawn_rows, listed_cases, sampling
from anystory.evaluation.storyworld.run import Row, check_kept, picture_side
from anystory.evaluation.storyworld.show import number
from anystory.evaluation.storyworld.variants import Variant
from anystory.files import atomic_write, only_writer
from anystory.pipelines.loading.assets import resolve_model
from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.storyworld.attribute_classifier.classifier import SHIPPED, AttributeClassifier

__all__ = ["GROUP_MEASURES", "evaluate_groups"]

GROUP_MEASURES = (
    "identity", "fine", "leak", "prompt", "count", "eyes", "doubled", "pose asked", "copied pose", "refined 100",
    "background",
)  # fmt: skip
"""Columns, from left to right."""


def evaluate_groups(
    groups: Sequence[str],
    *,
    model: str,
    variants: Sequence[Variant],
    level: str,
    split: str,
    number: int,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    seed: int = 0,
    batch: int = 16,
    classifier_folder: Path | None = None,
    out: Path | None = None,
    json_path: Path | None = None,
    overwrite: bool = False,
) -> dict[str, RunScores]:
    """Draw, score and show the groups; see `anystory eval storyworld --help`.

    Returns:
        {row: its scores}; with `out` also written to `OUT/scores/ROW/scores.json`, which `anystory eval compare` reads.

    Raises:
        ValueError: see `report.evaluate` and `groups.draw_groups`.
    """
    pipe = AnyStoryPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    classifier = AttributeClassifier.load(classifier_folder)
    settings = sampling(pipe, steps, guidance, scheduler, batch, seed)
    size, side = classifier.config.size, picture_side(pipe)
    drawing = draw_groups(groups, number, level=level, split=split, size=size, picture=side)
    cases = listed_cases(drawing, number * len(groups), classifier, level)
    weights = weight_hashes({"model": resolve_model(model), "judge": classifier_folder or SHIPPED})
    key = f"{sorted(weights.items())} {level} {split} eyes groups {[case.group for case in cases]}"
    if out is not None and not overwrite:
        check_kept(out, variants, cases, settings, key)
    with only_writer(out) if out is not None else nullcontext():
        rows = drawn_rows(pipe, classifier, variants, cases, settings, out, key, grouped=True)
    facts: dict[str, Any] = {
        "model": {"model": model},
        "settings": {"level": level, "split": split, "number": number, **vars(settings)},
        "weights": weights,
        "environment": environment("cpu"),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    scores = {row.variant.name: _scores(row, cases, facts) for row in rows}
    trained = None if pipe.adapter is None else pipe.adapter.sizes.max_subjects
    beyond = {case.group for case in cases if trained is not None and len(case.characters) > trained}
    _print(scores, rows, beyond, trained)
    if out is not None:
        for name, own in scores.items():
            own.save(out / "scores" / name)
    if json_path is not None:
        with atomic_write(json_path, overwrite=overwrite) as temporary:
            data = {**facts, "groups": _groups(scores, groups, beyond)}
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return scores


def _scores(row: Row, cases: Sequence[Any], facts: dict[str, Any]) -> RunScores:
    pictures = tuple(
        ScoredPicture(
            key=f"{case.group}-{case.index}",
            seed=facts["settings"]["seed"] + case.index,
            prompt=case.scene.caption,
            group=case.group,
            cluster=f"{case.group}-{case.index if case.pair is None else case.pair}",
            picture="",
            scores=own,
        )
        for case, own in zip(cases, row.scores, strict=True)
    )
    return RunScores(benchmark="storyworld", reports=GROUP_MEASURES, facts=facts, pictures=pictures)


def _groups(scores: dict[str, RunScores], groups: Sequence[str], beyond: set[str]) -> dict[str, Any]:
    found = {name: own.by_group() for name, own in scores.items()}
    return {
        group: {
            "what": EXTENDED[group],
            "beyond_training": group in beyond,
            "rows": {name: {m: one.to_dict() for m, one in own[group].items()} for name, own in found.items()},
        }
        for group in groups
    }


def _print(scores: dict[str, RunScores], rows: Sequence[Row], beyond: set[str], trained: int | None) -> None:
    console = Console(width=200 if not sys.stdout.isatty() else None)
    for row in rows:
        found = scores[row.variant.name].by_group()
        table = Table(title=f"{row.variant.label} (percent, 95 % interval)", title_justify="left")
        table.add_column("")
        for measure in GROUP_MEASURES:
            table.add_column("routing" if measure == "refined 100" else measure, justify="right")
        for group, own in found.items():
            name = f"{group} *" if group in beyond else group
            table.add_row(name, *(number(own[measure]) if measure in own else "–" for measure in GROUP_MEASURES))
        console.print(table)
    if beyond:
        console.print(f"* more characters than the model was trained with ({trained})")
