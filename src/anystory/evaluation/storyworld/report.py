"""One whole evaluation: cases, rows, table, page, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track

from anystory.evaluation.storyworld.cases import draw_cases
from anystory.evaluation.storyworld.run import Settings, run_row
from anystory.evaluation.storyworld.show import picture_page, print_results
from anystory.evaluation.storyworld.table import Results
from anystory.evaluation.storyworld.variants import Variant
from anystory.files import atomic_write
from anystory.pipelines.assets import resolve_model
from anystory.pipelines.record import weight_hashes
from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.storyworld.judge import Judge
from anystory.storyworld.judge.reader import SHIPPED

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
    seed: int = 0,
    batch: int = 16,
    judge_folder: Path | None = None,
    out: Path | None = None,
    json_path: Path | None = None,
) -> Results:
    """Draw, score and show; see `anystory eval storyworld --help`.

    Raises:
        ValueError: an argument outside its range, no such model, level or judge, or a level that the judge cannot read.
    """
    pipe = AnyStoryPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    judge = Judge.load(judge_folder)
    defaults = dict(pipe.config["default_call"])
    settings = Settings(
        steps=steps or int(defaults.get("num_inference_steps", 50)),
        guidance=guidance if guidance is not None else float(defaults.get("guidance_scale", 5.0)),
        batch=batch,
        seed=seed,
    )
    drawing = draw_cases(number, level=level, split=split, size=judge.config.size)
    console = Console(stderr=True)
    cases = list(track(drawing, "drawing the true scenes", total=number, console=console, disable=not _terminal()))
    for case in cases:
        for kind in case.kinds:
            if kind not in judge.attributes["kind"]:
                raise ValueError(f"the judge cannot read a {kind}: it is for level {judge.config.level}, not {level}")
    weights = weight_hashes({"model": resolve_model(model), "judge": judge_folder or SHIPPED})
    key = f"{sorted(weights.items())} {level} {split}"
    rows = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not _terminal(),
    ) as bar:
        task = bar.add_task("", total=len(cases) * len(variants))
        for variant in variants:
            bar.update(task, description=variant.label)
            rows.append(
                run_row(
                    pipe,
                    judge,
                    variant,
                    cases,
                    settings,
                    folder=out,
                    key=key,
                    advance=lambda done: bar.advance(task, done),
                )
            )
            if not _terminal():
                print(f"[eval] {variant.label}: done", file=sys.stderr, flush=True)
    results = Results(cases, rows)
    print_results(results, Console(width=200 if not sys.stdout.isatty() else None))
    if out is not None:
        page = picture_page(cases[:PAGE_CASES], results, out / "pictures", [row.variant.name for row in rows])
        with atomic_write(out / "page.png") as temporary:
            page.save(temporary)
        print(f"pictures: {out / 'page.png'}")
    if json_path is not None:
        settings_used = {"model": model, "level": level, "split": split, "number": number}
        settings_used |= {"steps": settings.steps, "guidance": settings.guidance, "seed": seed}
        with atomic_write(json_path) as temporary:
            temporary.write_text(json.dumps({"settings": settings_used, **results.to_dict()}, indent=1) + "\n")
    return results


def _terminal() -> bool:
    return sys.stderr.isatty()
