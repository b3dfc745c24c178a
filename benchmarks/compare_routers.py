"""Held-out routing of several runs of stage `router`: overlap with the true masks, and the squared error of the maps.

    python benchmarks/compare_routers.py runs/shared runs/separate --samples 128

Samples, noise and time steps are the same for all. After ± stands the 95 % interval of the mean over batches of 8; a
difference is of the same batches in both runs, so it may be certain where the intervals overlap.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anystory.models.router import routing_loss
from anystory.training.data.stream import Sample
from anystory.training.launch.run_file import read_run_file
from anystory.training.model.components import ModelFolder
from anystory.training.stages.router import RouterStage
from anystory.training.validation import RunningMean, held_out_batches

BATCH = 8


class ScoredRouter(RouterStage):
    """Also counts the error that the routing loss weighs, of each kind of map."""

    def score_attention(self, attention_kwargs: dict[str, Any] | None, batch: Sample, means: RunningMean) -> None:
        super().score_attention(attention_kwargs, batch, means)
        assert attention_kwargs is not None
        maps, masks = attention_kwargs["subject_conditioning"].record.maps, self.instance_masks(batch)
        coarse = {layer: replace(m, refined=m.coarse) for layer, m in maps.items()}
        for name, which in (("error_coarse", coarse), ("error_refined", maps)):
            means.add(name, float(routing_loss(which, masks, batch["present"], weight=1.0)))


def figures(run: Path, samples: int) -> dict[str, np.ndarray]:
    """{figure: value of each batch} of a run's exported weights."""
    stage = ScoredRouter(ModelFolder(run / "model", read_run_file(run).recipe))
    parts = [stage.validate([batch]) for batch in held_out_batches(stage.held_out(), samples, BATCH)]
    return {name: np.array([part[name] for part in parts]) for name in parts[0] if "_" in name and "loss" not in name}


def interval(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders given to `anystory train router --out`")
    parser.add_argument("--samples", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    first: dict[str, np.ndarray] = {}
    for run in options.runs:
        found = figures(run, options.samples)
        for name, values in found.items():
            less = "" if not first else f"   difference {interval(values - first[name])}"
            print(f"{run.name:12} {name:14} {interval(values)}{less}", flush=True)
        first = first or found


if __name__ == "__main__":
    main()
