"""`anystory bench`: what subjects cost over the stock pipeline, and how fast training goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.drawing import quiet_libraries

app = typer.Typer(
    help="Count or time what subjects cost, and how fast training goes.", no_args_is_help=True, add_completion=False
)

_Subjects = Annotated[str, typer.Option(help="Numbers of subjects, e.g. 0-6 or 0,2,6.")]
_Steps = Annotated[int, typer.Option(min=1, help="Sampling steps of a picture.")]
_Json = Annotated[Path | None, typer.Option(help="Write all numbers to this file, too.")]


@app.callback()
def _verbs() -> None:
    """Count or time what subjects cost over the stock pipeline, and how fast training goes."""


@app.command()
def flops(
    model: Annotated[str, typer.Option(help="sdxl, or small (the same layout scaled down).")] = "sdxl",
    subjects: _Subjects = "0-6",
    steps: _Steps = 25,
    foreground: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the pixels that belong to subjects, split evenly.")
    ] = 0.5,
    json: _Json = None,
) -> None:
    """Count operations: stock, plain, with all fast paths, and IP-Adapter-Plus. Computes nothing; takes minutes."""
    numbers, sizes = _numbers(subjects), _sizes(model)
    quiet_libraries()
    from rich.console import Console

    from anystory.evaluation.bench.flops import count_flops
    from anystory.evaluation.bench.show import as_json, show_flops
    from anystory.files import atomic_write

    console = Console()
    with Console(stderr=True).status("") as status:
        report = count_flops(
            sizes=sizes,
            subjects=numbers,
            steps=steps,
            foreground=foreground,
            progress=lambda what: status.update(f"counting {what}"),
        )
    show_flops(report, console)
    if json is not None:
        with atomic_write(json) as temporary:
            temporary.write_text(as_json(report), encoding="utf-8")


@app.command()
def speed(
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")] = None,
    model: Annotated[str | None, typer.Option(help="sdxl or small; by default sdxl on a GPU, else small.")] = None,
    subjects: _Subjects = "0,1,2,4",
    rounds: Annotated[int, typer.Option(min=1, help="How often each case is timed.")] = 5,
    steps: _Steps = 25,
    plain: Annotated[bool, typer.Option("--plain", help="Time the plain twins, too.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Run the U-Net through torch.compile.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the computation; 0 is torch's own choice.")] = 0,
    json: _Json = None,
) -> None:
    """Time steps, ReferenceNet and whole pictures against the stock pipeline, with random weights."""
    numbers = _numbers(subjects)
    sizes = None if model is None else _sizes(model)
    quiet_libraries()
    import torch
    from rich.console import Console

    from anystory.evaluation.bench.show import as_json, show_speed
    from anystory.evaluation.bench.speed import measure_speed
    from anystory.files import atomic_write

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in ("cpu", "cuda") or (chosen == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"--device must be cpu or, where there is a GPU, cuda: got {chosen!r}")
    if threads:
        torch.set_num_threads(threads)
    with Console(stderr=True).status("") as status:
        report = measure_speed(
            device=torch.device(chosen),
            sizes=sizes,
            subjects=numbers,
            rounds=rounds,
            steps=steps,
            plain=plain,
            compiled=compile,
            progress=lambda what: status.update(f"measuring {what}"),
        )
    show_speed(report, Console())
    if json is not None:
        with atomic_write(json) as temporary:
            temporary.write_text(as_json(report), encoding="utf-8")


@app.command()
def training(
    recipe: Annotated[str, typer.Option(help="A recipe's name or YAML file: batch sizes, picture size.")] = "mini-cpu",
    model: Annotated[
        str | None, typer.Option(help="Folder with its components, or mini. By default mini; none for a base's recipe.")
    ] = None,
    stages: Annotated[str | None, typer.Option(help="Among base,encoder,router; by default the recipe's.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each case has its turn.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed in a turn.")] = 4,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the computation; 0 is torch's own choice.")] = 0,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Also with compiled blocks. Default: on a GPU.")
    ] = None,
    channels_last: Annotated[
        bool | None,
        typer.Option("--channels-last/--no-channels-last", help="Also with channels-last. Default: on a GPU."),
    ] = None,
    json: _Json = None,
) -> None:
    """Time training steps, plain and with our settings one by one, the loop around them, and the loader."""
    from anystory.training.recipe import load_recipe

    loaded = load_recipe(recipe)
    wanted = None if stages is None else [part.strip() for part in stages.split(",")]
    quiet_libraries()
    import torch
    from rich.console import Console

    from anystory.evaluation.bench.show import as_json, show_training
    from anystory.evaluation.bench.training import measure_training
    from anystory.files import atomic_write

    if threads:
        torch.set_num_threads(threads)
    with Console(stderr=True).status("") as status:
        report = measure_training(
            loaded,
            model=model or ("mini" if loaded.base is None else None),
            stages=wanted,
            rounds=rounds,
            steps=steps,
            channels_last=channels_last,
            compiled=compile,
            progress=lambda what: status.update(f"measuring {what}"),
        )
    show_training(report, Console())
    if json is not None:
        with atomic_write(json) as temporary:
            temporary.write_text(as_json(report), encoding="utf-8")


def _numbers(text: str) -> list[int]:
    """ "0-2,6" -> [0, 1, 2, 6]."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"--subjects must be numbers like 0-6 or 0,2,6, got {text!r}")
        numbers |= set(range(int(first), int(last or first) + 1))
    if not numbers:
        raise ValueError(f"--subjects names no number: {text!r}")
    return sorted(numbers)


def _sizes(model: str) -> Any:
    from anystory.evaluation.bench.networks import MODELS

    if model not in MODELS:
        raise ValueError(f"--model must be one of {', '.join(MODELS)}, got {model!r}")
    return MODELS[model]
