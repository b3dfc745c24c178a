"""How many StoryWorld samples one core draws in a second.

python benchmarks/bench_storyworld.py [--seconds 3] [--size 128]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

from anystory.storyworld import dataset


def rate(draw: Callable[[int], object], seconds: float) -> float:
    """Samples per second; the first fifty warm the caches and are not counted."""
    for index in range(50):
        draw(index)
    start, index = time.perf_counter(), 50
    while time.perf_counter() - start < seconds:
        draw(index)
        index += 1
    return (index - 50) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each line")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    options = parser.parse_args()
    for level in (1, 2, 3):
        for name, draw, more in (
            ("scenes", dataset.scenes, {}),
            ("pairs", dataset.pairs, {"n_max": 4}),
            ("descriptions", dataset.descriptions, {}),
        ):
            speed = rate(partial(draw, level=level, size=options.size, **more), options.seconds)
            print(f"level {level}  {name:12}  {options.size} px  {speed:7.0f} /s", flush=True)


if __name__ == "__main__":
    main()
