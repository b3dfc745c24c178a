"""What the embedded model costs: seconds per picture, peak memory, size of the installed package.

python benchmarks/bench_mini.py [--model mini] [--pictures 3] [--threads 2] [--steps 25] [--subjects 2]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

CHARACTERS = {
    "fox": "a striped blue fox",
    "robot": "a yellow robot",
    "bear": "a green bear",
    "rabbit": "a red rabbit",
    "penguin": "an orange penguin",
    "frog": "a purple frog",
}
"""Kind -> which one."""


def prompt(kinds: list[str]) -> str:
    *first, last = (f"a {kind}" for kind in kinds)
    return f"{', '.join(first)} and {last} waving on a beach at dusk"


def package_bytes(folder: Path) -> int:
    """Bytes of a package's files, without compiled Python."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pictures", type=int, default=3, help="pictures of each kind; the first is shown apart")
    parser.add_argument("--steps", type=int, help="by default the model's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subjects", type=int, default=2, choices=range(len(CHARACTERS) + 1), help="the most")
    options = parser.parse_args()
    start = time.perf_counter()
    import torch

    import anystory
    from anystory import AnyStoryPipeline, Subject
    from anystory.storyworld.language.parse import parse_identity
    from anystory.storyworld.reference import render_reference

    torch.set_num_threads(options.threads)
    pipe = AnyStoryPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    print(f"import and load      {time.perf_counter() - start:6.1f} s")
    subjects = [Subject(render_reference(parse_identity(text), size=256)) for text in CHARACTERS.values()]
    for count in range(options.subjects + 1):
        seconds, computed = [], []
        for seed in range(options.pictures):
            start, before = time.perf_counter(), time.process_time()
            pipe(
                prompt(list(CHARACTERS)[: max(count, 2)]),
                subjects=subjects[:count],
                **({} if options.steps is None else {"num_inference_steps": options.steps}),
                generator=torch.Generator().manual_seed(seed),
            )
            seconds.append(time.perf_counter() - start)
            computed.append(time.process_time() - before)
        later, own = seconds[1:] or seconds, computed[1:] or computed
        print(
            f"{count} subjects           {sum(later) / len(later):6.2f} s a picture (first {seconds[0]:.2f} s), "
            f"{sum(own) / len(own):.2f} s of all cores"
        )
    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"peak memory          {peak / 2**30:6.2f} GiB")
    print(f"package              {package_bytes(Path(anystory.__file__).parent) / 2**20:6.1f} MiB")


if __name__ == "__main__":
    main()
