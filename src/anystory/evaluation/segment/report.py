"""One whole evaluation of `segment`: scenes, looks, scores, table, page, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.segment.looking import encode_cases, look_at
from anystory.evaluation.segment.scores import map_scores, mask_scores
from anystory.evaluation.segment.show import evaluation_page, print_results
from anystory.evaluation.segment.table import SegmentResults
from anystory.evaluation.segment.trials import Trial, draw_scenes, trials_of
from anystory.files import atomic_write
from anystory.progress import CountingBar
from anystory.segment.fusion import Evidence, Fusion
from anystory.segment.segmentation import Segmentation

__all__ = ["evaluate_segment"]

PAGE_SCENES = 12
"""Scenes on the page: always the first ones."""


def evaluate_segment(
    *,
    model: str,
    level: str,
    split: str,
    number: int,
    levels: Sequence[float] | None = None,
    draws: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    page: Path | None = None,
    json_path: Path | None = None,
    overwrite: bool = False,
) -> SegmentResults:
    """Look, score and show; see `anystory eval segment --help`.

    Raises:
        ValueError: an argument outside its range, or no such model or level.
    """
    loaded = load(ModelOptions(model=model, threads=threads))
    pipe: Any = loaded.pipe  # pyright: ignore[reportAttributeAccessIssue]
    fusion = pipe.fusion.at(levels, draws)
    cases = list(draw_scenes(number, level=level, split=split, size=pipe.native_size))
    trials = list(trials_of(cases, seed))
    scores: list[Scores] = [{} for _ in cases]
    shown: list[tuple[Trial, Segmentation]] = []
    layers: tuple[str, ...] = ()
    with CountingBar("looking", len(trials)) as bar:
        looks = look_at(pipe, encode_cases(pipe, cases), trials, fusion, seed=seed, advance=bar.update)
        for trial, found in zip(trials, looks, strict=True):
            layers = found.layers
            cut = _cut(trial, found, fusion)
            scores[trial.index] |= _scores(trial, found, fusion, cut)
            if trial.index < PAGE_SCENES and trial.absent != "alike":
                shown.append((trial, cut))
    results = SegmentResults(
        groups=tuple(case.group for case in cases), scores=tuple(scores), layers=layers, levels=fusion.levels
    )
    print_results(results, Console(width=200 if not sys.stdout.isatty() else None))
    if page is not None:
        with atomic_write(page, overwrite=overwrite) as temporary:
            evaluation_page(shown).save(temporary)
    if json_path is not None:
        used = {"model": model, "level": level, "split": split, "number": number, "seed": seed}
        used |= {"levels": list(fusion.levels), "draws": fusion.draws, "weights": dict(loaded.weights)}
        with atomic_write(json_path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps({"settings": used, **results.to_dict()}, indent=1) + "\n")
    return results


def _cut(trial: Trial, found: Evidence, fusion: Fusion, *, edges: bool = True) -> Segmentation:
    """As `segment` does it."""
    names = [f"subject {n + 1}" for n in range(len(trial.truth))]
    return Segmentation.of(Image.fromarray(trial.picture), names, *fusion.fused(found), edges=edges)


def _scores(trial: Trial, found: Evidence, fusion: Fusion, cut: Segmentation) -> Scores:
    scores = mask_scores(trial, cut.masks)
    if trial.absent == "none":
        equal = Fusion(levels=fusion.levels, draws=fusion.draws)
        for name, other, edges in (("smooth", fusion, False), ("equal", equal, True)):
            scores[f"{name} iou"] = mask_scores(trial, _cut(trial, found, other, edges=edges).masks)["iou"]
        scores |= map_scores(trial, found, fusion.levels)
    return scores
