"""`anystory judge`: train the reader of StoryWorld pictures, and report how well it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anystory.files import atomic_write

if TYPE_CHECKING:
    from anystory.storyworld.judge.rebuild import Rebuild
    from anystory.storyworld.judge.report import Report, Score

app = typer.Typer(
    help="Train and check the judge, which reads attributes out of pictures.",
    no_args_is_help=True,
    add_completion=False,
)
PARTS = ("scene", "character")
BAR = 0.97
"""What every attribute should reach on held-out renders."""
SAVE_SECONDS = 300.0
_REBUILT = 0.45
"""Share of the renders that are also put through the autoencoder: drawn often enough not to be learnt by heart."""
_LATENT_NOISE = 0.2
Threads = Annotated[int, typer.Option(min=1, help="Threads of the computation.")]
Model = Annotated[str, typer.Option(help="Model whose autoencoder softens pictures: an embedded one or a folder.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Run folder: the judge comes to OUT/judge.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Training time, shared by the networks.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each network instead: repeatable.")] = None,
    part: Annotated[str, typer.Option(help="scene, character or both; one keeps the other of OUT.")] = "both",
    start: Annotated[Path | None, typer.Option(help="Begin with the weights of this judge's folder.")] = None,
    level: Annotated[str, typer.Option(help="1, 2, 3 or a level's JSON file.")] = "1",
    pictures: Annotated[int, typer.Option(min=64, help="Renders to learn from; drawn once and kept in OUT.")] = 40000,
    model: Model = "mini",
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of pictures, weights and draws.")] = 0,
) -> None:
    """Train the judge on renders: first the network that sees scenes, then the one that sees characters."""
    if part not in (*PARTS, "both"):
        raise ValueError(f"--part must be one of {', '.join(PARTS)} or both, got {part!r}")
    if (minutes is None) == (steps is None):
        raise ValueError("give --minutes or --steps, one of the two")
    import torch

    from anystory.cli.drawing import quiet_libraries
    from anystory.storyworld.judge.config import JudgeConfig
    from anystory.storyworld.judge.reader import Judge
    from anystory.storyworld.judge.training import Schedule, train_character_net, train_scene_net
    from anystory.training.checkpoint import Progress
    from anystory.training.progress import TrainingProgress

    quiet_libraries()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    config = JudgeConfig.of_level(_level(level))
    parts = PARTS if part == "both" else (part,)
    folder = out / "judge"
    fresh = stored = Judge(config)
    if start or (part != "both" and folder.is_dir()):
        stored = Judge.load(start or folder)
    elif part == "character":
        raise ValueError(
            f"{folder} holds no scene network, whose masks the other learns with: train --part scene first"
        )
    if stored.config != config:
        raise ValueError(f"{start or folder}: it has another vocabulary or other sizes than level {level}'s judge")
    judge = Judge(config, **{name: getattr(stored if start or name not in parts else fresh, name) for name in PARTS})
    shown = _pictures(out, config, level, pictures, model, seed)
    schedule = Schedule(seconds=None if minutes is None else 60 * minutes / len(parts), steps=steps, seed=seed)
    for name in parts:
        saved = time.monotonic()
        with TrainingProgress(f"judge {name}") as progress:

            def show(spent: float, step: int, loss: float, progress: Any = progress) -> None:
                nonlocal saved
                progress.update(spent, Progress(step=step, samples=step * schedule.batch), {"loss": loss})
                if time.monotonic() - saved > SAVE_SECONDS:
                    judge.save(folder)
                    saved = time.monotonic()

            if name == "scene":
                train_scene_net(judge.scene, shown, schedule, show)
            else:
                train_character_net(judge.character, config, shown, schedule, show, judge.scene)
        judge.save(folder)
    print(f"judge: {folder}")


@app.command()
def report(
    judge: Annotated[Path | None, typer.Option(help="A judge's folder; the shipped one if left out.")] = None,
    model: Model = "mini",
    n: Annotated[int, typer.Option("--n", min=1, help="Held-out scenes to read.")] = 512,
    first: Annotated[int, typer.Option(min=0, help="Number of the first of them.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    threads: Threads = 1,
) -> None:
    """Read held-out scenes whose truth is known, as drawn and through the model's autoencoder."""
    import torch

    from anystory.cli.drawing import quiet_libraries
    from anystory.storyworld.judge.reader import Judge
    from anystory.storyworld.judge.report import measure

    quiet_libraries()
    torch.set_num_threads(threads)
    loaded = Judge.load(judge)
    with _bar("scenes") as show:
        found = measure(loaded, n, rebuild=_rebuild(model, 0.0), on_progress=show, first=first)
    _print(found)
    if json_path is not None:
        with atomic_write(json_path) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        print(f"wrote {json_path}")


def _level(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _rebuild(model: str, latent_noise: float) -> Rebuild:
    from anystory.models.patch_autoencoder import PatchAutoencoder
    from anystory.pipelines.assets import resolve_model
    from anystory.storyworld.judge.rebuild import through_autoencoder

    folder = Path(resolve_model(model)) / "vae"
    if not folder.is_dir():
        raise ValueError(f"--model {model}: there is no {folder}; give an embedded model or a model folder")
    return through_autoencoder(PatchAutoencoder.from_pretrained(folder).float().eval(), latent_noise)


def _pictures(out: Path, config: Any, level: str, count: int, model: str, seed: int) -> Any:
    """The pictures of this run, from its folder if they were drawn before."""
    from anystory.storyworld.judge.pictures import TrainingPictures, draw_pictures
    from anystory.storyworld.level import load_level

    path = out / f"pictures-{config.level}-{count}-{seed}.npz"
    if path.exists():
        return TrainingPictures.load(path)
    rebuild = _rebuild(model, _LATENT_NOISE)
    with _bar("pictures") as show:
        drawn = draw_pictures(config, load_level(_level(level)), count, seed, rebuild, int(_REBUILT * count), show)
    drawn.save(path)
    return drawn


@contextmanager
def _bar(name: str) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left, as a function of the finished share; silent where there is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _print(found: Report) -> None:
    """The table, and in words what misses the bar."""
    from rich.console import Console
    from rich.table import Table

    from anystory.storyworld.judge.report import OWN, TRUE

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


def _cell(score: Score) -> str:
    low, high = score.interval
    return f"{100 * score.rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]" if score.total else "-"
