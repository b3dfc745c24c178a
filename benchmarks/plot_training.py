"""Curves of a training run, from the JSON lines that every stage writes.

python benchmarks/plot_training.py runs/mini docs/images/mini-curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from anystory.files import atomic_write
from anystory.training.recipe import STAGES

SHOWN = {
    "vae": ("psnr",),
    "decoder": ("psnr",),
    "clip": ("reference_hits", "scene_hits"),
    "base": ("mse",),
    "encoder": ("mse",),
    "router": ("mse", "routing"),
}
"""What each stage's panel shows."""


def smooth(values: list[float], window: int) -> list[float]:
    """Mean of up to `window` neighbours before each value: single batches are noisy."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def read_log(path: Path) -> list[dict[str, float]]:
    """The records of one stage's training, in order, without validation's."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if "loss" in record]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder given to `anystory train --out`")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--window", type=int, default=20, help="log records that are averaged")
    options = parser.parse_args()
    logs = {stage: options.run / stage / "log.jsonl" for stage in STAGES}
    found = {stage: read_log(path) for stage, path in logs.items() if path.is_file()}
    if not found:
        raise SystemExit(f"{options.run} holds no log of any stage ({', '.join(STAGES)})")
    figure, panels = plt.subplots(1, len(found), figsize=(3.4 * len(found), 3), squeeze=False)
    for panel, (stage, records) in zip(panels[0], found.items(), strict=True):
        samples = [record["samples"] / 1000 for record in records]
        for key in SHOWN[stage]:
            panel.plot(samples, smooth([record[key] for record in records], options.window), label=key)
        panel.set_title(f"{stage}, {records[-1]['seconds'] / 60:.0f} min")
        panel.set_xlabel("thousand samples")
        panel.legend()
    figure.tight_layout()
    with atomic_write(options.picture) as temporary:
        figure.savefig(temporary, dpi=110)
    print(options.picture)


if __name__ == "__main__":
    main()
