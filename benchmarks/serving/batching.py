"""What drawing pictures in one call saves, as a ratio against one by one: `python benchmarks/serving/batching.py`.

The embedded model, two subjects, 8 steps, one thread; the better of two calls for each size. Seconds are the process's
own on the CPU, which other programs on the machine do not lengthen; wall time is printed beside them.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from anystory.engine.backends.sdxl_model import SdxlModel
from anystory.engine.options import ModelOptions
from anystory.subjects import Subject

DEMO = Path(__file__).parents[2] / "src" / "anystory" / "assets" / "demo"


def main() -> None:
    torch.set_num_threads(1)
    pipe = SdxlModel(ModelOptions(threads=1)).pipe
    encoded = [pipe.encode_subjects([Subject(DEMO / name)])[0] for name in ("bear.png", "blue-rabbit.png")]

    def seconds(count: int) -> tuple[float, float]:
        """On the CPU, and by the wall."""
        began, began_by_wall = time.process_time(), time.perf_counter()
        generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
        prompts, subjects = ["a red fox on a beach"] * count, [encoded] * count
        pipe(prompts, subjects=subjects, num_inference_steps=8, generator=generators)
        return time.process_time() - began, time.perf_counter() - began_by_wall

    alone = 0.0
    for count in (1, 2, 4, 8):
        each, wall = (min(times) / count for times in zip(seconds(count), seconds(count), strict=True))
        alone = alone or each
        ratio = f"{alone / each:.2f} times as many as one by one"
        print(f"{count} together: {each:.2f} s for each picture ({wall:.2f} s by the wall), {ratio}")


if __name__ == "__main__":
    main()
