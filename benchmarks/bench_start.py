"""How long a start takes: importing the pipeline, and one whole `anystory generate`, each in a fresh process.

python benchmarks/bench_start.py [--against CHECKOUT] [--rounds 5] [--threads 1]

With `--against`, a second checkout of the project takes turns with this one, run by run, so that whatever else the
machine does meets both; ratios are of neighbours. CPU seconds count what the processes computed, whoever else was
computing: on a busy machine they tell more than the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
FOX = HERE / "src/anystory/assets/demo/fox.png"


class Run(NamedTuple):
    """One process, in seconds."""

    wall: float
    cpu: float
    first_line: float
    """Until anything was printed to standard error; of a process that prints nothing, `wall`."""


def run(command: list[str], checkout: Path, folder: Path) -> Run:
    """A command in a process of its own, with a checkout's package.

    Raises:
        SystemExit: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        first = process.stderr.read(1)
        first_line = time.perf_counter() - began
        said = first + process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)} failed:\n{said.decode()}")
    return Run(wall, usage.ru_utime + usage.ru_stime, first_line)


def write_photo(path: Path) -> None:
    """A picture without alpha and without a plain border, as a camera's: its subject has to be cut out."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:1500, :2000]
    waves = 120 + 40 * np.sin(x / 150)[..., None] + 30 * np.cos(y / 100)[..., None] * np.array([1, 0.5, 0.2])
    disc = (x - 1000) ** 2 + (y - 750) ** 2 < 450**2
    pixels = np.where(disc[..., None], np.array([190, 60, 50]), waves) + draws.normal(0, 18, (1500, 2000, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def cases(threads: int) -> dict[str, list[str]]:
    """What is run, by name; the first is what no change of ours can make quicker."""
    generate = ["-m", "anystory", "generate", "a fox on a beach", "--seed", "1", "--threads", str(threads)]
    return {
        "import of diffusers' SDXL pipeline": ["-c", "from diffusers import StableDiffusionXLPipeline"],
        "import of AnyStoryPipeline": ["-c", "from anystory import AnyStoryPipeline"],
        "generate, a cut-out": [*generate, "-s", str(FOX)],
        "generate, two photos": [*generate, "-s", "one.jpg", "-s", "two.jpg"],
    }


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and from least to most."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each; one more of each goes before them")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    checkouts = {"this": HERE} | ({"against": options.against.resolve()} if options.against else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for photo in ("one.jpg", "two.jpg"):
            write_photo(folder / photo)
        for what, command in cases(options.threads).items():
            compared = checkouts if "anystory" in " ".join(command) else {"this": HERE}
            found: dict[str, list[Run]] = {which: [] for which in compared}
            for number in range(options.rounds + 1):
                turns = list(compared.items())
                for which, checkout in turns if number % 2 else turns[::-1]:
                    once = run(command, checkout, folder)
                    if number:  # the first reads files and compiles modules
                        found[which].append(once)
            print(what)
            for which, runs in found.items():
                wall, cpu, line = zip(*runs, strict=True)
                said = f", first line after {spread(list(line))} s" if "generate" in what else ""
                print(f"  {which:8} {spread(list(wall))} s, CPU {spread(list(cpu))} s{said}")
            if "against" in found:
                pairs = list(zip(found["this"], found["against"], strict=True))
                wall, cpu = ([getattr(a, kind) / getattr(b, kind) for a, b in pairs] for kind in ("wall", "cpu"))
                print(f"  ratio    {spread(wall)}, CPU {spread(cpu)}", flush=True)


if __name__ == "__main__":
    main()
