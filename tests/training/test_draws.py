"""What the loop hands a stage at every step and resume: samples and random numbers; how its losses add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.training.data.stream import Sample
from anystory.training.recipe import StageConfig
from anystory.training.runlog import read_log
from anystory.training.trainer import step_seed, train
from anystory.training.validation import HELD_OUT

from .lines import LineStage, point
from .test_loop import options


class Watched(LineStage):
    """Notes the seed of every batch that it learns from, and the positions that validation sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []
        self.validated: list[int] = []

    def held_out(self) -> Callable[[int], Sample]:
        def fetch(index: int) -> Sample:
            self.validated.append(index)
            return point(index)

        return fetch

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            self.seeds.append(generator.initial_seed())
            assert torch.initial_seed() == generator.initial_seed(), "dropout, which knows no generator, draws the same"
        return super().forward(batch, generator)


def run(out: Path, *budgets: int, **changes: Any) -> Watched:
    """A run that ends at each of the budgets and goes on from there."""
    config = StageConfig(**({"batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "log_every": 1} | changes))
    both = Watched()
    for budget in budgets:
        stage = Watched()
        train(stage, config, options(out, resume=budget != budgets[0], steps=budget, seed=3))
        both.seeds += stage.seeds
        both.seen += stage.seen
        both.validated += stage.validated
    return both


def test_every_part_of_every_step_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    unbroken = run(tmp_path / "unbroken", 4, global_batch=8)
    assert len(unbroken.seeds) == len(set(unbroken.seeds)) == 4 * 2
    broken = run(tmp_path / "broken", 1, 3, 4, global_batch=8)
    assert broken.seeds == unbroken.seeds, "a step draws the same, whether the run was stopped before it or not"
    assert broken.seen == unbroken.seen == [list(range(i, i + 4)) for i in range(0, 32, 4)]


def test_no_two_processes_steps_parts_or_runs_draw_the_same() -> None:
    places = [
        (seed, step, rank, part) for seed in (0, 1) for step in (0, 1, 50) for rank in (0, 7) for part in (0, 1, 3)
    ]
    assert len({step_seed(*place) for place in places}) == len(places)


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path: Path) -> None:
    """AdamW forgets a gradient's scale, so the weights alone would not show it; clipping does not."""
    logs = []
    for name, changes in {"large": {"batch_size": 8}, "small": {"batch_size": 2, "global_batch": 8}}.items():
        run(tmp_path / name, 3, max_grad_norm=1e9, **changes)
        logs.append([r for r in read_log(tmp_path / name / "vae" / "log.jsonl") if "grad_norm" in r])
    large, small = logs
    assert len(large) == 3
    for key in ("loss", "grad_norm"):
        assert [r[key] for r in small] == pytest.approx([r[key] for r in large], rel=1e-4)


def test_validation_sees_held_out_samples(tmp_path: Path) -> None:
    stage = run(tmp_path, 2, validate_every=1, validate_samples=3)
    assert stage.validated == [HELD_OUT, HELD_OUT + 1, HELD_OUT + 2], "read once, and not from training's stream"
