"""What the embedded model costs: seconds per picture, peak memory, size of the installed package.

python benchmarks/bench_mini.py [--model mini] [--pictures 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

PROMPT = "a fox and a robot waving on a beach at dusk"


def package_bytes(folder: Path) -> int:
    """Bytes of a package's files, without compiled Python."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pictures", type=int, default=3, help="pictures of each kind; the first is shown apart")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    import torch

    import anystory
    from anystory import AnyStoryPipeline, Subject
    from anystory.storyworld.describe import parse_identity
    from anystory.storyworld.reference import render_reference

    torch.set_num_threads(options.threads)
    pipe = AnyStoryPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    print(f"import and load      {time.perf_counter() - start:6.1f} s")
    texts = ("a striped blue fox", "a yellow robot")
    subjects = [Subject(render_reference(parse_identity(text), size=256)) for text in texts]
    for count in (0, 1, 2):
        seconds = []
        for seed in range(options.pictures):
            start = time.perf_counter()
            pipe(
                PROMPT,
                subjects=subjects[:count],
                num_inference_steps=options.steps,
                generator=torch.Generator().manual_seed(seed),
            )
            seconds.append(time.perf_counter() - start)
        later = seconds[1:] or seconds
        print(f"{count} subjects           {sum(later) / len(later):6.2f} s a picture (first {seconds[0]:.2f} s)")
    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"peak memory          {peak / 2**30:6.2f} GiB")
    print(f"package              {package_bytes(Path(anystory.__file__).parent) / 2**20:6.1f} MiB")


if __name__ == "__main__":
    main()
