"""`anystory demo`: the bundled characters, alone, together, and two of a kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

import anystory
from anystory.cli.drawing import Drawn, Job, SubjectFiles, draw_job
from anystory.cli.model_options import ModelOptions
from anystory.cli.session import Session
from anystory.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DemoCase", "demo", "demo_cases"]

ASSETS = Path(anystory.__file__).parent / "assets" / "demo"


class DemoCase(NamedTuple):
    """One row of the demo."""

    name: str
    """Of its folder."""
    title: str
    job: Job


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; nothing in it is overwritten.")] = Path("demo-out"),
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Pictures of each kind.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture of each kind.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; by default the model's.")] = None,
    model: Annotated[str, typer.Option(help="An embedded model (mini), a folder, or a hub id.")] = "mini",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default torch's own choice.")] = None,
) -> None:
    """Draw the demo: one subject, two subjects, and two of a kind, with their routing sheets and an overview."""
    session = Session(ModelOptions(model=model, threads=threads))
    rows = []
    for case in demo_cases(steps):
        drawn = draw_job(session, case.job, range(seed, seed + num), out / case.name, title=case.title)
        print(f"{case.title}: {case.job.prompt!r}")
        for one in drawn:
            print(f"  {one.picture}, routing maps: {one.sheet}")
        rows.append((case, drawn))
    path = _free_path(out / "overview.png")
    with atomic_write(path, overwrite=False) as temporary:
        overview(rows).save(temporary)
    print(f"all together: {path}")


def demo_cases(steps: int | None = None) -> list[DemoCase]:
    """What the demo draws; the references are held-out characters, which no model of ours was trained on."""
    data = json.loads((ASSETS / "demo.json").read_text(encoding="utf-8"))
    return [
        DemoCase(
            name=case["name"],
            title=case["title"],
            job=Job(
                prompt=case["prompt"],
                steps=steps,
                subjects=tuple(
                    SubjectFiles(image=ASSETS / f"{subject}.png", name=subject, settings={})
                    for subject in case["subjects"]
                ),
            ),
        )
        for case in data["cases"]
    ]


def overview(rows: Sequence[tuple[DemoCase, Sequence[Drawn]]]) -> Image.Image:
    """One page: for each case its prompt, the references and the pictures."""
    from PIL import Image

    from anystory.evaluation.layout import below, beside, captioned, framed, text

    small, large = 128, 256
    most = max(len(case.job.subjects) for case, _ in rows)
    pieces = []
    for case, drawn in rows:
        given = [captioned(subject.subject().prepare(small).image, subject.name or "") for subject in case.job.subjects]
        # Rows with fewer references leave room, so that the pictures stand below one another.
        given += [Image.new("RGB", (small, 1), (255, 255, 255))] * (most - len(given))
        pictures = [
            captioned(one.image.resize((large, large), Image.Resampling.BICUBIC), f"seed {one.record.seed}")
            for one in drawn
        ]
        pieces += [text(f"{case.title}: {case.job.prompt}", size=18), beside([*given, *pictures], gap=10)]
    return framed(below(pieces, gap=10))


def _free_path(path: Path) -> Path:
    """The path, or with a number behind its name if it is taken."""
    number = 2
    free = path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free
