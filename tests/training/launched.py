"""What `test_launch.py` runs in several processes: python -m training.launched OUT BASE"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from anystory.training.devices import make_accelerator
from anystory.training.loop import train
from anystory.training.mini import run_stages
from anystory.training.recipe import StageConfig

from .lines import LineStage
from .sdxl_base import recipe_on
from .test_loop import options


def lines(out: Path, batch: int, together: int | None, steps: int, resume: bool = False) -> None:
    """Fit a line; the positions that this process learned from go to seen-RANK.json."""
    accelerator = make_accelerator()
    config = StageConfig(
        batch_size=batch, global_batch=together, learning_rate=1e-2, warmup_steps=1, schedule="constant"
    )
    stage = LineStage()
    train(stage, config, options(out, steps=steps, resume=resume), accelerator)
    (out / f"seen-{accelerator.process_index}.json").write_text(json.dumps(stage.seen))


def stages(out: Path, base: Path) -> None:
    """Both personalised stages on a base, with recomputed blocks and accumulation."""
    recipe = recipe_on(base)
    changes = {"gradient_checkpointing": True, "batch_size": 1, "global_batch": 4}
    again = {name: config.model_copy(update=changes) for name, config in recipe.stages.items()}
    recipe = recipe.model_copy(update={"stages": again})
    run_stages(recipe.stage_names, recipe, options(out), {})


def let_deepspeed_run_on_cpus() -> None:
    """Accelerate would start DeepSpeed on GPUs only, and DeepSpeed would first compile messages of its own."""
    found = DistributedType.MULTI_CPU
    PartialState._prepare_backend = lambda self, *_, **__: ("gloo", found)  # pyright: ignore[reportAttributeAccessIssue]
    messages: Any = import_module("deepspeed.comm.torch")
    messages.build_shm_op = lambda: None


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        let_deepspeed_run_on_cpus()
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    lines(place / "plain", 4, None, 3)
    lines(place / "unbroken", 2, 16, 4)
    lines(place / "broken", 2, 16, 2)
    lines(place / "broken", 2, 16, 4, resume=True)
    lines(place / "crossed", 2, 16, 4, resume=True)  # two steps of it are one process's
    stages(place / "stages", Path(sys.argv[2]))
