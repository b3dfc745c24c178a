"""How many samples a second one core reads from shards: bytes, decoded and checked, as training takes them.

    python benchmarks/bench_loader.py [--size 512] [--resolution 512] [--samples 64] [--workers 0] [--json PATH]

StoryWorld pairs are drawn into a temporary folder, or `--data FOLDER` is read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from anystory.data.storyworld_writer import write_storyworld
from anystory.training.data.loader_speed import loader_speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of shards; left out, StoryWorld pairs are drawn")
    parser.add_argument("--size", type=int, default=512, help="side of the drawn pictures")
    parser.add_argument("--resolution", type=int, default=512, help="side of the targets")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="loader processes for the last line")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            data = Path(folder)
            write_storyworld(data, arguments.samples, size=arguments.size, max_samples=arguments.samples // 4 or 1)
        found = loader_speed(
            data, resolution=arguments.resolution, samples=arguments.samples, workers=arguments.workers
        )
    for name, rate in found.items():
        print(f"{name:<22}{rate:10.1f} samples/s{rate / found['read']:8.2f} × reading")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
