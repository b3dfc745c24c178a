"""`anystory demo`: the bundled characters, alone, together, and two of a kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from anystory.cli.flags.model import Threads
from anystory.cli.flags.outputs import Metadata, OutFolder, check_out_folder, free_path
from anystory.cli.flags.picture import Steps
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.drawing_bar import drawing_bar
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.limits import MOST_PICTURES, MOST_SEED, check_seeds
from anystory.engine.options import ModelOptions
from anystory.files import atomic_write
from anystory.version import ASSETS

if TYPE_CHECKING:
    from PIL import Image

    from anystory.engine.saving import Kept

__all__ = ["DemoCase", "demo", "demo_cases"]

PICTURES = ASSETS / "demo"


class DemoCase(NamedTuple):
    """One row of the demo."""

    name: str
    """Of its folder."""
    title: str
    job: Job


def demo(
    out: OutFolder = Path("demo-out"),
    num: Annotated[int, typer.Option("--num", "-n", min=1, max=MOST_PICTURES, help="Pictures of each kind.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the first picture of each kind.")] = 0,
    steps: Steps = None,
    model: Annotated[str, typer.Option(help="An embedded model (mini), a folder, or a hub id.")] = "mini",
    metadata: Metadata = True,
    threads: Threads = None,
) -> None:
    """Draw the demo: one subject, two subjects, and two of a kind, with their routing sheets and an overview."""
    check_out_folder(out)
    check_seeds(seed, num)
    announce(f"loading {model}")
    from anystory.cli.terminal.loading import load_model
    from anystory.engine.drawing import draw_into

    loaded = load_model(ModelOptions(model=model, threads=threads))
    rows = []
    for case in demo_cases(steps):
        with drawing_bar(case.title) as show:
            seeds = range(seed, seed + num)
            drawn = draw_into(out / case.name, loaded, case.job, seeds, on_event=show, metadata=metadata)
        print(f"{case.title}: {case.job.prompt!r}")
        for one in drawn:
            print(f"  {one.files.picture}, routing maps: {one.files.sheet}")
        rows.append((case, drawn))
    path = free_path(out / "overview.png")
    with atomic_write(path, overwrite=False) as temporary:
        overview(rows).save(temporary)
    print(f"all together: {path}")


def demo_cases(steps: int | None = None) -> list[DemoCase]:
    """What the demo draws; the references are held-out characters, which no model of ours was trained on."""
    data = json.loads((PICTURES / "demo.json").read_text(encoding="utf-8"))
    return [
        DemoCase(
            name=case["name"],
            title=case["title"],
            job=Job(
                prompt=case["prompt"],
                steps=steps,
                subjects=tuple(
                    SubjectFiles(image=PICTURES / f"{subject}.png", name=subject) for subject in case["subjects"]
                ),
            ),
        )
        for case in data["cases"]
    ]


def overview(rows: Sequence[tuple[DemoCase, Sequence[Kept]]]) -> Image.Image:
    """One page: for each case its prompt, the references and the pictures."""
    from PIL import Image

    from anystory.page_layout import below, beside, captioned, framed, text

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
