"""What `--best-of K` gains in identity, leak, pose and number of characters, on held-out StoryWorld cases.

Candidates are chosen by the model's own image encoder and measured by the attribute classifier, which does not choose.

python benchmarks/bench_best_of.py [--model mini] [--n 64] [--most 8] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anystory.engine.backends.base import DrawnPicture, Numbers
from anystory.engine.options import ModelOptions
from anystory.evaluation.best_of.scoring import Scorer, scorer_for
from anystory.evaluation.bootstrap import Bootstrap, Scores
from anystory.evaluation.figures.bench import Bench
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.run import judged_size
from anystory.evaluation.storyworld.scores import score
from anystory.evaluation.storyworld.show import on_white
from anystory.files import atomic_write
from anystory.progress import CountingBar
from anystory.storyworld.attribute_classifier.pictures import to_bytes
from anystory.subjects import Subject

MEASURES = ("identity", "leak", "pose", "count")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--n", type=int, default=64, help="cases, at least 4")
    parser.add_argument("--most", type=int, default=8, help="candidates of each case")
    parser.add_argument("--steps", type=int, help="by default the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="the table; it must not exist yet")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scorer = scorer_for(ModelOptions(model=options.model))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            model=options.model, number=options.n, level="level1", seed=options.seed, steps=options.steps,
            folder=Path(folder),
        )  # fmt: skip
        totals, measured = [], []
        with CountingBar("best of", options.n) as bar:
            for case in bench.cases:
                scores, found = candidates(bench, scorer, case, options.most)
                totals.append(scores)
                measured.append(found)
                bar.update(len(totals))
    table = {}
    many = [k for k in (1, 2, 4, 8, 16, 32) if k <= options.most]
    print("| best of | " + " | ".join(MEASURES) + " |")
    print("|---" * (1 + len(MEASURES)) + "|")
    for k in many:
        chosen = [found[int(np.argmax(scores[:k]))] for scores, found in zip(totals, measured, strict=True)]
        shares = [Bootstrap(len(chosen)).share(chosen, name) for name in MEASURES]
        table[k] = {name: one.to_dict() for name, one in zip(MEASURES, shares, strict=True)}
        cells = [f"{100 * one.value:.1f} ({100 * one.low:.1f}–{100 * one.high:.1f})" for one in shares]
        print(f"| {k} | " + " | ".join(cells) + " |")
    if options.json:
        with atomic_write(options.json, overwrite=False) as temporary:
            temporary.write_text(json.dumps({"settings": vars(options) | {"json": None}, "best of": table}, indent=1))


def candidates(bench: Bench, scorer: Scorer, case: Case, most: int) -> tuple[list[float], list[Scores]]:
    """The candidates' totals by the scorer, and what the classifier says of each."""
    subjects = [Subject(picture, name=f"subject {i + 1}") for i, picture in enumerate(case.references)]
    encoded = bench.pipe.encode_subjects(subjects)
    totals, found = [], []
    for number in range(most):
        out = bench.pipe(
            case.scene.caption,
            subjects=encoded,
            num_inference_steps=bench.settings.steps,
            guidance_scale=bench.settings.guidance,
            generator=torch.Generator().manual_seed(bench.settings.seed + case.index + 1_000_000 * number),
            record_routing=[bench.settings.steps - 1],
            output_type="pt",
        )
        pixels = out.images[:1].float().cpu() * 2 - 1
        image = Image.fromarray(to_bytes(pixels).numpy()[0])
        numbers = Numbers(steps=bench.settings.steps, guidance=bench.settings.guidance, strength=None)
        drawn = DrawnPicture(
            image=image, seed=number, numbers=numbers, routing=out.routing,
            references=tuple(on_white(picture) for picture in case.references), cutouts=(),
        )  # fmt: skip
        totals.append(scorer.score(drawn, case.scene.caption).total)
        found.append(score(case, bench.classifier.read(judged_size(bench.classifier, pixels))[0]))
    return totals, found


if __name__ == "__main__":
    main()
