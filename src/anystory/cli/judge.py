"""`anystory judge`: train the attribute classifier of StoryWorld pictures, and report how well it reads."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anystory.cli.flags.outputs import Overwrite, check_out_file, check_out_folder
from anystory.cli.terminal.bar import counting_bar
from anystory.engine.limits import MOST_SEED, MOST_THREADS
from anystory.files import atomic_write, only_writer

if TYPE_CHECKING:
    from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
    from anystory.storyworld.attribute_classifier.config import ClassifierConfig
    from anystory.storyworld.attribute_classifier.degrade import Rebuild
    from anystory.storyworld.attribute_classifier.report import Accuracy, ClassifierReport
    from anystory.storyworld.attribute_classifier.training import OnStep, Schedule
    from anystory.training.progress import TrainingProgress

app = typer.Typer(
    help="Train and check the attribute classifier (the judge), which reads attributes out of StoryWorld pictures.",
    no_args_is_help=True,
    add_completion=False,
)
BAR = 0.97
"""What every attribute should reach on held-out renders."""
SAVE_SECONDS = 300.0
_REBUILT = 0.45
"""Share of the renders that are also put through the autoencoder: drawn often enough not to be learnt by heart."""
_LATENT_NOISE = 0.2
Threads = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads of the computation.")]
Model = Annotated[str, typer.Option(help="Model whose autoencoder softens pictures: an embedded one or a folder.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Run folder: the attribute classifier is written to OUT/judge.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Training time, shared by the networks.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Budget in steps of each network instead of minutes: repeatable.")
    ] = None,
    part: Annotated[
        str, typer.Option(help="scene, character or both; if you train one, the other in OUT is kept.")
    ] = "both",
    start: Annotated[Path | None, typer.Option(help="Start from the weights in this folder.")] = None,
    level: Annotated[str, typer.Option(help="1, 2, 3 or a level's JSON file.")] = "1",
    pictures: Annotated[int, typer.Option(min=64, help="Renders to learn from; drawn once and kept in OUT.")] = 40000,
    model: Model = "mini",
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of pictures, weights and draws.")] = 0,
) -> None:
    """Train the attribute classifier on renders: first the network for scenes, then the one for characters."""
    folder = _target(out, part, start, minutes, steps)
    from anystory.cli.terminal.libraries import quiet_libraries

    quiet_libraries(threads)
    from anystory.storyworld.attribute_classifier.config import ClassifierConfig
    from anystory.storyworld.attribute_classifier.training import PARTS, Schedule, train_part
    from anystory.training.progress import TrainingProgress

    config = ClassifierConfig.of_level(level)
    parts = PARTS if part == "both" else (part,)
    classifier = _start(config, seed, start, folder, parts)
    with only_writer(out):
        shown = _pictures(out, config, level, pictures, model, seed)
        schedule = Schedule(seconds=None if minutes is None else 60 * minutes / len(parts), steps=steps, seed=seed)
        for name in parts:
            with TrainingProgress(f"judge {name}") as progress:
                on_step = _on_step(progress, schedule, lambda: classifier.save(folder))
                train_part(classifier, name, shown, schedule, on_step)
            classifier.save(folder)
    print(f"judge: {folder}")


def _target(out: Path, part: str, start: Path | None, minutes: float | None, steps: int | None) -> Path:
    """The folder that the classifier is written to, when all that can be checked without torch is."""
    if part not in ("scene", "character", "both"):
        raise ValueError(f"--part must be one of scene, character or both, got {part!r}")
    if (minutes is None) == (steps is None):
        raise ValueError("give --minutes or --steps, one of the two")
    if minutes is not None and not math.isfinite(minutes):
        raise ValueError(f"--minutes must be a number, got {minutes}")
    check_out_folder(out)
    folder = out / "judge"
    if folder.exists() and not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}, which the judge is written to, is something else: name another --out")
    if (folder / "config.json").is_file() and part == "both" and (start is None or start.resolve() != folder.resolve()):
        raise ValueError(f"{folder} is a judge already: continue with --start {folder}, or name another --out")
    return folder


def _start(
    config: ClassifierConfig, seed: int, start: Path | None, folder: Path, parts: Sequence[str]
) -> AttributeClassifier:
    """The classifier to train: networks from `start`, the one that is not trained from `folder`, others fresh."""
    from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier

    fresh = AttributeClassifier.fresh(config, seed)
    if not start and (len(parts) > 1 or not folder.is_dir()):
        if parts[0] == "character":
            raise ValueError(
                f"{folder} holds no scene network, whose masks the other learns with: train --part scene first"
            )
        return fresh
    stored = AttributeClassifier.load(start or folder)
    if stored.config != config:
        raise ValueError(f"{start or folder}: it has another vocabulary or other sizes than a judge of {config.level}")
    scene, character = (
        getattr(stored if start or name not in parts else fresh, name) for name in ("scene", "character")
    )
    return AttributeClassifier(config, scene, character)


def _on_step(progress: TrainingProgress, schedule: Schedule, save: Callable[[], None]) -> OnStep:
    """Show every step, and save from time to time."""
    from anystory.training.state.train_state import Progress

    saved = time.monotonic()

    def on_step(spent: float, step: int, loss: float) -> None:
        nonlocal saved
        progress.update(spent, Progress(step=step, samples=step * schedule.batch), {"loss": loss})
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()

    return on_step


@app.command()
def report(
    judge: Annotated[
        Path | None, typer.Option(help="The attribute classifier's folder; by default the one that ships.")
    ] = None,
    model: Model = "mini",
    n: Annotated[int, typer.Option("--n", min=1, help="Held-out scenes to read.")] = 512,
    first: Annotated[int, typer.Option(min=0, help="Number of the first scene.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    overwrite: Overwrite = False,
    threads: Threads = 1,
) -> None:
    """Read held-out scenes whose truth is known, as drawn and through the model's autoencoder."""
    check_out_file(json_path, "--json", overwrite=overwrite)
    from anystory.cli.terminal.libraries import quiet_libraries

    quiet_libraries(threads)
    from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
    from anystory.storyworld.attribute_classifier.report import measure

    loaded = AttributeClassifier.load(judge)
    with counting_bar("scenes", n) as show:
        found = measure(loaded, n, rebuild=_rebuild(model, 0.0), on_progress=show, first=first)
    _print(found)
    if json_path is not None:
        with atomic_write(json_path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        print(f"wrote {json_path}")


def _rebuild(model: str, latent_noise: float) -> Rebuild:
    from anystory.models.patch_autoencoder import PatchAutoencoder
    from anystory.pipelines.loading.assets import resolve_model
    from anystory.storyworld.attribute_classifier.degrade import through_autoencoder

    folder = Path(resolve_model(model)) / "vae"
    if not folder.is_dir():
        raise ValueError(f"--model {model}: there is no {folder}; give an embedded model or a model folder")
    return through_autoencoder(PatchAutoencoder.from_pretrained(folder).float().eval(), latent_noise)


def _pictures(out: Path, config: Any, level: str, count: int, model: str, seed: int) -> Any:
    """The pictures of this run, from its folder if they were drawn before."""
    from anystory.storyworld.attribute_classifier.pictures import TrainingPictures, draw_pictures
    from anystory.storyworld.level import load_level

    path = out / f"pictures-{config.level}-{count}-{seed}.npz"
    if path.exists():
        return TrainingPictures.load(path)
    rebuild, rebuilt = _rebuild(model, _LATENT_NOISE), int(_REBUILT * count)
    with counting_bar("pictures", count + rebuilt) as show:
        drawn = draw_pictures(config, load_level(level), count, seed, rebuild, rebuilt, show)
    drawn.save(path)
    return drawn


def _print(found: ClassifierReport) -> None:
    """The table, and in words what misses the bar."""
    from rich.console import Console
    from rich.table import Table

    from anystory.storyworld.attribute_classifier.report import OWN, TRUE

    columns = [(sort, masks) for sort in found.pictures for masks in (OWN, TRUE)]
    table = Table(title="share read right, with its 95 % interval, of the characters where it is visible")
    table.add_column("attribute")
    table.add_column("judged", justify="right")
    for sort, masks in columns:
        table.add_column(f"{sort},\n{masks}", justify="right")
    scores = [found.pictures[sort].attributes[masks] for sort, masks in columns]
    for name, judged in found.judged.items():
        table.add_row(name, f"{judged.rate:.0%} of {judged.total}", *(_cell(column[name]) for column in scores))
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for sort, picture in found.pictures.items():
        console.print(
            f"{sort}: place {_cell(picture.place)}, light {_cell(picture.light)}, number of characters "
            f"{_cell(picture.count)}, mean IoU {sum(picture.overlaps) / max(1, len(picture.overlaps)):.3f}",
            highlight=False,
        )
    large = found.characters
    console.print(f"characters large enough to be read: {large.right} of {large.total}", highlight=False)
    for sort, masks in columns[:2]:
        low = {k: v.rate for k, v in found.pictures[sort].attributes[masks].items() if v.rate < BAR}
        text = ", ".join(f"{name} by {100 * (BAR - rate):.1f} points" for name, rate in low.items()) or "none"
        console.print(f"below {BAR:.0%} on {sort}, {masks}: {text}", highlight=False)


def _cell(score: Accuracy) -> str:
    low, high = score.interval
    return f"{100 * score.rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]" if score.total else "-"
