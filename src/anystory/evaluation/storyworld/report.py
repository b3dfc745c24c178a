"""One whole evaluation: cases, rows, table, page, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from anystory.engine.record.provenance import weight_hashes
from anystory.evaluation.storyworld.cases import Case, draw_cases
from anystory.evaluation.storyworld.run import Row, Settings, check_kept, picture_side, run_row
from anystory.evaluation.storyworld.show import picture_page, print_results
from anystory.evaluation.storyworld.table import Results
from anystory.evaluation.storyworld.variants import Variant
from anystory.files import atomic_write, only_writer
from anystory.pipelines.loading.assets import resolve_model
from anystory.pipelines.schedulers import rescheduled
from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.progress import CountingBar
from anystory.storyworld.attribute_classifier.classifier import SHIPPED, AttributeClassifier

PAGE_CASES = 24
"""Cases on the page of pictures: always the first ones."""


def evaluate(
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
) -> Results:
    """Draw, score and show; see `anystory eval storyworld --help`.

    Raises:
        ValueError: an argument outside its range, no such model, level or classifier, a level that the classifier
            cannot read, or an `out` that keeps rows of another evaluation.
    """
    pipe = AnyStoryPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    classifier = AttributeClassifier.load(classifier_folder)
    settings = sampling(pipe, steps, guidance, scheduler, batch, seed)
    drawing = draw_cases(number, level=level, split=split, size=classifier.config.size, picture=picture_side(pipe))
    cases = listed_cases(drawing, number, classifier, level)
    weights = weight_hashes({"model": resolve_model(model), "judge": classifier_folder or SHIPPED})
    key = f"{sorted(weights.items())} {level} {split} sharpness eyes"
    if out is not None and not overwrite:
        check_kept(out, variants, cases, settings, key)
    with only_writer(out) if out is not None else nullcontext():
        rows = drawn_rows(pipe, classifier, variants, cases, settings, out, key)
    results = Results(cases, rows)
    print_results(results, Console(width=200 if not sys.stdout.isatty() else None))
    if out is not None:
        page = picture_page(cases[:PAGE_CASES], results, out / "pictures", [row.variant.name for row in rows])
        with atomic_write(out / "page.png") as temporary:
            page.save(temporary)
        print(f"pictures: {out / 'page.png'}")
    if json_path is not None:
        used = {"model": model, "level": level, "split": split, "number": number}
        used |= {"steps": settings.steps, "guidance": settings.guidance, "scheduler": settings.scheduler, "seed": seed}
        with atomic_write(json_path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps({"settings": used, **results.to_dict()}, indent=1) + "\n")
    return results


def sampling(
    pipe: Any, steps: int | None, guidance: float | None, scheduler: str | None, batch: int, seed: int
) -> Settings:
    """What is asked for, or else the model's own numbers. The pipeline gets the scheduler that is asked for.

    Raises:
        ValueError: no such scheduler, or one that cannot draw with this model.
    """
    if scheduler is not None:
        pipe.scheduler = rescheduled(pipe.scheduler, scheduler)
    defaults = pipe.defaults(subjects=True)
    return Settings(
        steps=steps or int(defaults.get("num_inference_steps", 50)),
        guidance=guidance if guidance is not None else float(defaults.get("guidance_scale", 5.0)),
        scheduler=type(pipe.scheduler).__name__,
        batch=batch,
        seed=seed,
    )


def listed_cases(drawing: Iterable[Case], number: int, classifier: AttributeClassifier, level: str) -> list[Case]:
    """The cases, with a bar while they are drawn.

    Raises:
        ValueError: a kind that the classifier does not know.
    """
    cases: list[Case] = []
    with CountingBar("drawing the true scenes", number) as shown:
        for case in drawing:
            cases.append(case)
            shown.update(len(cases))
    for kind in (kind for case in cases for kind in case.kinds):
        if kind not in classifier.attributes["kind"]:
            readable = classifier.config.level
            raise ValueError(f"the attribute classifier cannot read a {kind}: it is for level {readable}, not {level}")
    return cases


def drawn_rows(
    pipe: Any,
    classifier: AttributeClassifier,
    variants: Sequence[Variant],
    cases: Sequence[Case],
    settings: Settings,
    out: Path | None,
    key: str,
    *,
    grouped: bool = False,
) -> list[Row]:
    """The rows, each drawn and scored unless it is kept; see `run.run_row`."""
    rows = []
    with CountingBar("eval", len(cases) * len(variants)) as shown:
        for variant in variants:

            def advance(done: int, label: str = variant.label) -> None:
                shown.update(shown.done + done, label)

            advance(0)
            kept: Any = {"folder": out, "key": key, "advance": advance, "grouped": grouped}
            rows.append(run_row(pipe, classifier, variant, cases, settings, **kept))
            if not shown.terminal:
                print(f"[eval] {variant.label}: done", file=sys.stderr, flush=True)
    return rows
