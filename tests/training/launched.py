"""What `test_launch.py` runs in several processes: python -m training.launched OUT BASE"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor

from anystory.data.stream.training_set import TrainingSet
from anystory.training import trainer
from anystory.training.data.stream import Sample
from anystory.training.failures import NotFinite
from anystory.training.launch.devices import make_accelerator
from anystory.training.launch.runner import run_stages
from anystory.training.non_finite import NonFiniteGuard
from anystory.training.recipe import StageConfig
from anystory.training.state.sharding import is_sharded
from anystory.training.trainer import train

from .lines import LineStage
from .on_cpus.patches import run_as_asked
from .sdxl_base import recipe_on
from .test_loop import options


def with_one_piece() -> Accelerator:
    """For stages that have none of the modules that FSDP2 cuts one by one."""
    accelerator = make_accelerator()
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        plugin.transformer_cls_names_to_wrap = []
    return accelerator


def lines(out: Path, batch: int, together: int | None, steps: int, resume: bool = False) -> None:
    """Fit a line; the positions that this process learned from go to seen-RANK.json."""
    accelerator = with_one_piece()
    config = StageConfig(
        batch_size=batch, global_batch=together, learning_rate=1e-2, warmup_steps=1, schedule="constant"
    )
    stage = LineStage()
    train(stage, config, options(out, steps=steps, resume=resume), accelerator)
    (out / f"seen-{accelerator.process_index}.json").write_text(json.dumps(stage.seen))


def stages(out: Path, base: Path) -> None:
    """Both personalised stages on a base, with recomputed blocks and accumulation."""
    recipe = recipe_on(base)
    changes = {"gradient_checkpointing": True, "batch_size": 1, "global_batch": 4, "log_every": 1}
    changes |= {"validate_every": 1, "validate_samples": 2}
    again = {name: config.model_copy(update=changes) for name, config in recipe.stages.items()}
    recipe = recipe.model_copy(update={"stages": again})
    run_stages(recipe.stage_names, recipe, options(out), {})
    accelerator = make_accelerator()
    found = {"sharded": is_sharded(accelerator), "type": accelerator.distributed_type.value}
    (out / f"ran-as-{accelerator.process_index}.json").write_text(json.dumps(found))


class Poisoned(LineStage):
    """In the second step the last process's loss is not a number, although its gradient is one."""

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        found = super().forward(batch, generator)
        state = PartialState()
        if state.is_last_process and len(self.seen) == 2:
            found["loss"] = found["loss"] + float("nan")
        return found


def poisoned(out: Path, *, delayed: bool) -> None:
    """Say in said-RANK.txt how the run ended; `delayed` as on a GPU, where answers come a step late."""
    accelerator = with_one_piece()
    config = StageConfig(batch_size=2, learning_rate=1e-2, warmup_steps=1, schedule="constant")

    class Watch(NonFiniteGuard):
        def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, **which: int) -> None:
            super().__init__(optimizer, device, delayed, **which)

    trainer.NonFiniteGuard = Watch
    try:
        train(Poisoned(), config, options(out, steps=6), accelerator)
        said = "trained on"
    except NotFinite as error:
        said = str(error)
    finally:
        trainer.NonFiniteGuard = NonFiniteGuard
    (out / f"said-{accelerator.process_index}.txt").write_text(said)


class FromShards(LineStage):
    """Notes the captions of what it learns from."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.data = TrainingSet(folder, resolution=16, reference_size=16, max_subjects=2)
        self.captions: list[list[str]] = []

    def fetch(self) -> TrainingSet:
        return self.data

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        self.captions.append(batch["caption"])
        return {"loss": self.line(batch["size_condition"][:, :4] / 100).square().mean()}


def shards(out: Path, folder: Path) -> None:
    """One epoch and a little more, with two loaders each; captions go to captions-RANK.json."""
    accelerator = with_one_piece()
    config = StageConfig(batch_size=2, learning_rate=1e-2, warmup_steps=1, validate_every=0)
    stage = FromShards(folder)
    train(stage, config, options(out, steps=3, workers=2), accelerator)
    (out / f"captions-{accelerator.process_index}.json").write_text(json.dumps(stage.captions))


if __name__ == "__main__":
    run_as_asked()
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    lines(place / "plain", 4, None, 3)
    lines(place / "unbroken", 2, 16, 4)
    lines(place / "broken", 2, 16, 2)
    lines(place / "broken", 2, 16, 4, resume=True)
    lines(place / "crossed", 2, 16, 4, resume=True)  # two steps of it are one process's
    stages(place / "stages", Path(sys.argv[2]))
    for late in (False, True):
        poisoned(place / f"poisoned-{late}", delayed=late)
    shards(place / "shards", Path(sys.argv[2]).parent / "shards")
