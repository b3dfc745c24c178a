"""Samples a second and peak memory of training, plain against our settings, and of the loader: all in one run.

Cases take turns, so that what else the machine does falls on all of them alike. Such work only ever adds time: ratios
are of each case's fastest round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator

from anystory.data.storyworld_writer import write_storyworld
from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.meters import hardware, over_first, peak_bytes
from anystory.evaluation.bench.training_steps import StageSteps, StepSettings, settings_in_turn, steps_clock
from anystory.pipelines.loading.assets import resolve_model
from anystory.precision import bf16_is_native
from anystory.training.data.loader_speed import loader_speed
from anystory.training.launch.devices import can_compile, make_accelerator
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageName
from anystory.training.stages import build_stage
from anystory.training.stages.diffusion import DiffusionStage

DIFFUSION_STAGES: tuple[StageName, ...] = ("base", "encoder", "router")
"""What can be measured: the stages that train for hours."""

LOADER_BAR = 4.0
"""Least rate of the loader, in training rates: on one core, or in one process if the clock is the wall's."""

STEP_BAR = 1.15
"""Most time of a whole step, in forward and backward passes."""

_LEVEL = "level1"


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """One way to take a step."""

    name: str
    seconds: float
    """Of a step, in the fastest round."""
    median: float
    samples: float
    """Pictures a second, in the fastest round: a sample may have several targets."""
    ratio: float
    """Of `samples` to the plain step's."""
    memory: int | None
    """Peak bytes; None where the system does not say."""
    memory_ratio: float | None


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """One stage."""

    stage: str
    batch_size: int
    settings: list[StepTiming]
    """Forward, backward and optimizer: plain first, each further one with one more setting."""
    bare: StepTiming
    """Forward and backward alone, with all settings."""
    whole: StepTiming
    """The loop's own step, with all settings: clipping, the average, the check for numbers, the log."""
    loader: dict[str, float]
    """Samples a second out of shards, see `loader_speed`; "batches" is one process, by the clock."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Everything that `anystory bench training` prints."""

    recipe: str
    hardware: str
    torch: str
    native_bf16: bool
    threads: int
    core_seconds: bool
    """Whether steps are timed in seconds that a core works (one thread on a CPU), else by the clock on the wall."""
    rounds: int
    steps: int
    """In a round."""
    stages: list[StageTiming]

    @property
    def bars(self) -> list[Bar]:
        """The loader against training, and the loop's step against its passes, for every stage."""
        found = []
        for timing in self.stages:
            kind, who = ("training", "core") if self.core_seconds else ("batches", "worker")
            loader = timing.loader[kind] / timing.whole.samples
            # With the optimizer can only seem quicker: the lesser of the two is nearer the truth.
            step = timing.whole.seconds / min(timing.bare.seconds, timing.settings[-1].seconds)
            name = f"{timing.stage}: loader, one {who}, over training"
            found.append(Bar(name=name, value=loader, limit=LOADER_BAR, at_least=True))
            name = f"{timing.stage}: whole step over forward and backward"
            found.append(Bar(name=name, value=step, limit=STEP_BAR, at_least=False))
        return found


def measure_training(
    recipe: Recipe,
    *,
    model: str | None = "mini",
    stages: Iterable[str] | None = None,
    rounds: int = 5,
    steps: int = 4,
    channels_last: bool | None = None,
    compiled: bool | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainingReport:
    """Measures where `anystory train` would train, on StoryWorld's pictures at the recipe's size.

    Args:
        recipe: batch sizes, picture size and options.
        model: folder with the recipe's components, or an embedded model; None for a recipe on a base of its own.
        stages: which ones; by default those of the recipe with a diffusion loss.
        rounds: how often each case has its turn.
        steps: timed in a turn.
        channels_last, compiled: whether these settings are measured; by default on a GPU, as in training.
        progress: called with the name of what is measured next.

    Raises:
        ValueError: a number outside its range, a stage that cannot be measured, several processes, or a model that does
            not fit the recipe.
    """
    wanted = _checked(recipe, stages, rounds, steps, compiled)
    accelerator = make_accelerator()
    if accelerator.num_processes > 1:
        raise ValueError("training is measured in one process: leave out accelerate launch")
    device = accelerator.device
    on_gpu = device.type == "cuda"
    if recipe.level is None:
        recipe = recipe.model_copy(update={"level": _LEVEL, "shards": ()})
    measured = []
    with tempfile.TemporaryDirectory() as empty:
        folder = ModelFolder(Path(empty) if model is None else Path(resolve_model(model)), recipe, writes=False)
        for name in wanted:
            settings = settings_in_turn(
                device,
                channels_last=on_gpu if channels_last is None else channels_last,
                compiled=on_gpu and can_compile() if compiled is None else compiled,
                bf16_base=recipe.base is not None and recipe.base.dtype == "bfloat16",
                optimizer=recipe.stages[name].optimizer,
            )
            measured.append(_measure_stage(folder, name, accelerator, settings, rounds, steps, progress))
    return TrainingReport(
        recipe=recipe.name,
        hardware=hardware(device),
        torch=torch.__version__,
        native_bf16=bf16_is_native(device),
        threads=torch.get_num_threads(),
        core_seconds=steps_clock(device) is time.process_time,
        rounds=rounds,
        steps=steps,
        stages=measured,
    )


def _checked(
    recipe: Recipe, stages: Iterable[str] | None, rounds: int, steps: int, compiled: bool | None
) -> list[StageName]:
    """The stages to measure, in the order in which they are trained."""
    for name, value in (("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    possible: list[StageName] = [name for name in DIFFUSION_STAGES if name in recipe.stages]
    wanted: list[str] = list(possible) if stages is None else list(dict.fromkeys(stages))
    if not wanted or set(wanted) - set(possible):
        raise ValueError(f"`stages` must be among {', '.join(possible)} of recipe {recipe.name!r}, got {wanted}")
    if compiled and not can_compile():
        raise ValueError("compiled blocks need torch 2.6 or newer")
    return [name for name in possible if name in wanted]


def _measure_stage(
    folder: ModelFolder,
    name: StageName,
    accelerator: Accelerator,
    in_turn: list[StepSettings],
    rounds: int,
    steps: int,
    progress: Callable[[str], None],
) -> StageTiming:
    progress(f"{name}: memory")
    stage, config = build_stage(name, folder), folder.recipe.stages[name]
    assert isinstance(stage, DiffusionStage)
    best = in_turn[-1]
    own = StageSteps(stage, config, accelerator, compiled=best.compiled)
    labels = [*(settings.name for settings in in_turn), "forward and backward alone", "the loop's whole step"]
    cases = [*(own.bare(settings) for settings in in_turn), own.bare(best, optimizer=False), own.loop(best)]
    # Each in turn, before the others have run: what one leaves behind counts for those after it.
    memory = [peak_bytes(lambda case=case: case(1), accelerator.device) for case in cases]
    taken: list[list[float]] = [[] for _ in cases]
    loader: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as shards:
        progress(f"{name}: drawing samples")
        samples = 4 * config.batch_size
        write_storyworld(shards, samples, level=folder.recipe.level or _LEVEL, size=folder.recipe.resolution)
        for number in range(rounds):
            progress(f"{name}: round {number + 1} of {rounds}")
            for case, times in zip(cases, taken, strict=True):
                times.append(case(steps))
            found = _loader_rates(folder.recipe, stage, shards, samples)
            loader = {key: max(rate, loader.get(key, 0.0)) for key, rate in found.items()}
    *settings, bare, whole = (
        StepTiming(
            name=label,
            seconds=min(times),
            median=median(times),
            samples=config.batch_size * own.targets / min(times),
            ratio=min(taken[0]) / min(times),
            memory=memory[place],
            memory_ratio=over_first(memory, place),
        )
        for place, (label, times) in enumerate(zip(labels, taken, strict=True))
    )
    return StageTiming(
        stage=name, batch_size=config.batch_size, settings=settings, bare=bare, whole=whole, loader=loader
    )


def _loader_rates(recipe: Recipe, stage: DiffusionStage, shards: str, samples: int) -> dict[str, float]:
    """One pass of the loader over the samples, as this stage takes them."""
    return loader_speed(
        shards,
        resolution=recipe.resolution,
        reference_size=recipe.adapter.config().reference_size,
        samples=samples,
        workers=1,
        batch_size=recipe.stages[stage.name].batch_size,
        max_subjects=getattr(stage.options, "max_subjects", 2),
    )
