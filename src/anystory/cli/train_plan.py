"""`anystory train plan CONFIG`: what a training run needs, before it needs it."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from anystory.cli.terminal.libraries import quiet_libraries

if TYPE_CHECKING:
    from anystory.evaluation.plan.estimate import TrainingPlan


def plan(
    config: Annotated[str, typer.Argument(help="A recipe's name or YAML file, e.g. sdxl_encoder.")],
    stage: Annotated[str | None, typer.Option(help="encoder or router; by default all stages of the recipe.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs, on all nodes together.")] = 1,
    memory: Annotated[float, typer.Option(min=1, help="Memory of each GPU, in GB.")] = 80,
    strategy: Annotated[str, typer.Option(help="ddp or fsdp2: the files in configs/accelerate.")] = "ddp",
    batch: Annotated[int | None, typer.Option(min=1, help="Overrides the recipe's samples per GPU at a time.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Overrides the number of samples that the run sees.")
    ] = None,
    tflops: Annotated[float, typer.Option(min=1, help="Nominal TFLOP/s of one GPU in bf16: A100 312, H100 989.")] = 312,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="The share of these TFLOP/s that a run reaches.")
    ] = 0.35,
    compare: Annotated[bool, typer.Option("--compare", help="Count with and without gradient checkpointing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print memory per GPU, hours and disk that a run needs, counted on torch's meta device, which computes nothing."""
    from anystory.training.recipe import PERSONAL_STAGES, load_recipe

    recipe = load_recipe(config)
    stages: list[Any] = [name for name in recipe.stage_names if name in PERSONAL_STAGES]
    if stage is not None and stage not in stages:
        raise ValueError(f"--stage: recipe {recipe.name!r} has no stage {stage!r} to plan, only {', '.join(stages)}")
    quiet_libraries()
    from anystory.evaluation.plan.estimate import estimate
    from anystory.evaluation.plan.memory import Machines

    machines = Machines(
        gpus=gpus, memory_gb=memory, strategy=cast(Any, strategy), tflops=tflops, utilisation=utilisation
    )
    say = partial(print, file=sys.stderr, flush=True)
    plans = [
        estimate(recipe, name, machines, batch_size=batch, samples=samples, compare=compare, progress=say)
        for name in stages
        if stage in (None, name)
    ]
    if as_json:
        print(json.dumps([found.as_dict() for found in plans], indent=2))
        return
    for found in plans:
        print("\n".join(_lines(found)))


def _lines(plan: TrainingPlan) -> list[str]:
    m, counted, machines = plan.memory, plan.counted, plan.machines
    rows = [
        ("frozen weights", m.frozen),
        ("trained weights", m.weights),
        ("gradients", m.gradients),
        ("optimizer", m.optimizer),
        ("average", m.average),
        ("activations, at the peak", m.activations),
        ("torch and driver (estimate)", m.reserve),
        ("together", m.total),
    ]
    together = f"{plan.batch_size} per GPU × {machines.gpus} × {plan.accumulation} accumulated = {plan.global_batch}"
    lines = [
        f"{plan.recipe}, stage {plan.stage}: {plan.trained_parameters / 1e9:.3f} B trained, "
        f"{plan.frozen_parameters / 1e9:.3f} B frozen parameters",
        f"batch: {together}",
        f"memory of each of {machines.gpus} × {machines.memory_gb:g} GB ({machines.strategy}):",
        *(f"  {name:<28} {_gib(size)}" for name, size in rows),
    ]
    if m.main_memory:
        lines.append(f"  main memory, beside it       {_gib(m.main_memory)}")
    if plan.other:
        blocks = "blocks recomputed" if plan.other.recomputed else "nothing recomputed"
        lines.append(
            f"  activations with {blocks}: {_gib(plan.other.peak_bytes).strip()}, "
            f"{plan.other.flops / plan.batch_size / 1e12:.1f} TFLOP a sample"
        )
    lines.append("it fits" if plan.fits else "it does not fit; change, in this order:")
    lines += [f"  {change}" for change in plan.advice]
    return [
        *lines,
        f"work: {counted.flops / plan.batch_size / 1e12:.1f} TFLOP a sample "
        f"({counted.forward_flops / plan.batch_size / 1e12:.1f} forward); {plan.samples:,} samples in {plan.steps:,} "
        f"steps: {plan.hours:,.0f} hours at {machines.utilisation:.0%} of {machines.tflops:g} TFLOP/s (estimate)",
        f"disk: a cache, were all these samples different, {plan.cache_bytes / 2**30:,.0f} GiB; checkpoints "
        f"{plan.checkpoint_bytes / 2**30:,.0f} GiB",
    ]


def _gib(size: int) -> str:
    return f"{size / 2**30:8.2f} GiB"
