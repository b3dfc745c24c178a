"""`anystory bench`: what subjects cost over the stock pipeline, and how fast training goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.flags.outputs import Overwrite, check_out_file
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_STEPS, MOST_THREADS
from anystory.engine.options import check_device
from anystory.files import atomic_write

app = typer.Typer(
    help="Count or time what subjects cost, and how fast training is.", no_args_is_help=True, add_completion=False
)

_Subjects = Annotated[str, typer.Option(help="Numbers of subjects, e.g. 0-6 or 0,2,6.")]
_SomeSubjects = Annotated[
    str | None, typer.Option(help="Numbers of subjects, e.g. 0-6 or 0,2,6; by default 0-6, and 0-4 of FLUX.")
]
_Shown = Annotated[
    str | None, typer.Option(help="FLUX.1 only: shares of a reference that its mask shows, e.g. 1,0.5 (the default).")
]
_Steps = Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps of a picture.")]
_Threads = Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="Threads of the computation; 0: torch's choice.")]
_Json = Annotated[Path | None, typer.Option(help="Also write all numbers to this file.")]


@app.callback()
def _verbs() -> None:
    """Count or time what subjects cost over the stock pipeline, and how fast training goes."""


@app.command()
def flops(
    model: Annotated[
        str,
        typer.Option(help="sdxl, flux or klein; small, flux-small or klein-small are the same layouts scaled down."),
    ] = "sdxl",
    subjects: _SomeSubjects = None,
    steps: _Steps = 25,
    foreground: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="SDXL only: share of the pixels that belong to subjects, split evenly; by default 0.5."
        ),
    ] = None,
    shown: _Shown = None,
    json: _Json = None,
    overwrite: Overwrite = False,
) -> None:
    """Count operations: stock, the plain form, the fast form, and another method. Computes nothing; takes minutes.

    SDXL is compared with IP-Adapter-Plus, FLUX.1 with the authors' own computation, FLUX.2 klein with the stock
    pipeline on the same references; of both FLUX, memory is counted as well.
    """
    check_out_file(json, "--json", overwrite=overwrite)
    numbers = _numbers(subjects or ("0-4" if _is_flux(model) or _is_klein(model) else "0-6"))
    shares = None if shown is None else _shares(shown)
    quiet_libraries()
    if _is_klein(model):
        _only("sdxl or small", foreground=foreground)
        _only("flux or flux-small", shown=shown)
        from anystory.evaluation.bench.klein.flops import count_klein_flops
        from anystory.evaluation.bench.klein.show import show_klein_flops

        count = partial(count_klein_flops, sizes=_sizes(model), subjects=numbers)
        _report(count, show_klein_flops, "counting", json, overwrite)
        return
    if _is_flux(model):
        _only("sdxl or small", foreground=foreground)
        from anystory.evaluation.bench.flux.flops import count_flux_flops
        from anystory.evaluation.bench.flux.show import show_flux_flops

        count = partial(count_flux_flops, sizes=_sizes(model), subjects=numbers, steps=steps)
        _report(partial(count, shown=shares or (1.0, 0.5)), show_flux_flops, "counting", json, overwrite)
        return
    _only("flux or flux-small", shown=shown)
    from anystory.evaluation.bench.flops import count_flops
    from anystory.evaluation.bench.show import show_flops

    share = 0.5 if foreground is None else foreground
    count = partial(count_flops, sizes=_sizes(model), subjects=numbers, steps=steps, foreground=share)
    _report(count, show_flops, "counting", json, overwrite)


@app.command()
def speed(
    device: Annotated[str | None, typer.Option(help="Device: cpu or cuda; by default cuda if there is one.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="sdxl, small, flux or flux-small; by default sdxl on a GPU, else small."),
    ] = None,
    subjects: _Subjects = "0,1,2,4",
    rounds: Annotated[int, typer.Option(min=1, help="How often each case is measured.")] = 5,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_STEPS, help="SDXL only: sampling steps of a picture; by default 25."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Also time the plain form.")] = False,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="SDXL only: run the U-Net through torch.compile.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="FLUX.1 only: side of the picture in pixels; by default 512.")
    ] = None,
    shown: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="FLUX.1 only: share of a reference that its mask shows; by default 0.5."),
    ] = None,
    threads: _Threads = 0,
    json: _Json = None,
    overwrite: Overwrite = False,
) -> None:
    """Time steps, encoding and decoding against the stock pipeline, with random weights.

    Of SDXL also ReferenceNet, and whole pictures put together; of FLUX.1 also the authors' own computation.
    """
    check_out_file(json, "--json", overwrite=overwrite)
    numbers = _numbers(subjects)
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"--device must be cpu or, where there is a GPU, cuda: got {device!r}")
    check_device(device or "cpu")
    quiet_libraries(threads)
    from anystory.precision import default_device

    if _is_klein(model):
        raise ValueError(f"--model {model} is counted only, not timed: anystory bench flops --model {model}")
    sizes = None if model is None else _sizes(model)
    common = {"device": default_device(device), "sizes": sizes, "subjects": numbers, "rounds": rounds, "plain": plain}
    if _is_flux(model):
        _only("sdxl or small", steps=steps, compile=compile)
        from anystory.evaluation.bench.flux.show import show_flux_speed
        from anystory.evaluation.bench.flux.speed import measure_flux_speed

        measure = partial(measure_flux_speed, **common, side=size or 512, shown=0.5 if shown is None else shown)
        _report(measure, show_flux_speed, "measuring", json, overwrite)
        return
    _only("flux or flux-small", size=size, shown=shown)
    from anystory.evaluation.bench.show import show_speed
    from anystory.evaluation.bench.speed import measure_speed

    measure = partial(measure_speed, **common, steps=steps or 25, compiled=bool(compile))
    _report(measure, show_speed, "measuring", json, overwrite)


@app.command()
def training(
    recipe: Annotated[str, typer.Option(help="A recipe's name or YAML file: batch sizes, picture size.")] = "mini-128",
    model: Annotated[
        str | None,
        typer.Option(help="Folder with its components, or mini; by default mini, or none for a recipe with a base."),
    ] = None,
    stages: Annotated[str | None, typer.Option(help="Some of base,encoder,router; by default the recipe's.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each case is measured.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each measurement.")] = 4,
    threads: _Threads = 0,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Also measure compiled blocks; by default on a GPU.")
    ] = None,
    channels_last: Annotated[
        bool | None,
        typer.Option("--channels-last/--no-channels-last", help="Also measure channels-last; by default on a GPU."),
    ] = None,
    json: _Json = None,
    overwrite: Overwrite = False,
) -> None:
    """Time training steps, plain and with our settings one by one, the loop around them, and the loader."""
    check_out_file(json, "--json", overwrite=overwrite)
    from anystory.training.recipe import load_recipe

    loaded = load_recipe(recipe)
    wanted = None if stages is None else [part.strip() for part in stages.split(",")]
    model = model or ("mini" if loaded.base is None else None)
    quiet_libraries(threads)
    from anystory.evaluation.bench.show import show_training
    from anystory.evaluation.bench.training import measure_training

    measure = partial(measure_training, loaded, model=model, stages=wanted, rounds=rounds, steps=steps)
    measure = partial(measure, channels_last=channels_last, compiled=compile)
    _report(measure, show_training, "measuring", json, overwrite)


def _report(
    measure: Callable[..., Any], show: Callable[..., None], doing: str, json: Path | None, overwrite: bool
) -> None:
    """Measure under a line that says what is being done, print the report, and write it to `json`."""
    from rich.console import Console

    from anystory.evaluation.bench.show import as_json

    with Console(stderr=True).status("") as status:
        report = measure(progress=lambda what: status.update(f"{doing} {what}"))
    show(report, Console())
    if json is not None:
        with atomic_write(json, overwrite=overwrite) as temporary:
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


def _shares(text: str) -> tuple[float, ...]:
    """ "1,0.5" -> (1.0, 0.5)."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--shown must be shares like 1,0.5, got {text!r}") from None


def _only(models: str, **options: Any) -> None:
    """Refuse options that are for other models."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"--{name} is for --model {models}: leave it out")


def _is_flux(model: str | None) -> bool:
    return model is not None and model.startswith("flux")


def _is_klein(model: str | None) -> bool:
    return model is not None and model.startswith("klein")


def _sizes(model: str) -> Any:
    from anystory.evaluation.bench.flux.networks import FLUX_MODELS
    from anystory.evaluation.bench.klein.flops import KLEIN_MODELS
    from anystory.evaluation.bench.networks import MODELS

    known: dict[str, Any] = {**MODELS, **FLUX_MODELS, **KLEIN_MODELS}
    if model not in known:
        raise ValueError(f"--model must be one of {', '.join(known)}, got {model!r}")
    return known[model]
