"""Do pictures of one place look alike, and does that cost anything? Held-out scenes of StoryWorld, or story files.

    python benchmarks/bench_places.py --number 72
    python benchmarks/bench_places.py --story examples/the-lost-yawn.yaml examples/how-to-do-nothing.yaml --rounds 4

Without stories, scenes with the same place and light stand for the panels of a place. Each is drawn with noise of its
own, with the place's noise all over, and with the place's noise outside its subjects (`--background-seed`).
"Difference" is the mean absolute difference of pixels in [0, 1], of every two pictures of a place in one round, where
both show background. In brackets: 95 % intervals by bootstrap over places; "less than own noise" is of the same places
in both. The attribute classifier reads identity, pose and prompt.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.engine.backends.base import DrawnPicture, Model
from anystory.engine.drawing import draw, load
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.evaluation.storyworld.cases import Case, draw_cases
from anystory.evaluation.storyworld.scores import Scores, score
from anystory.story.looks import identity_of
from anystory.story.reading import StoryFile, read_story
from anystory.story.runner.plan import PanelPlan, plan_panels
from anystory.storyworld.appearance import POSES, Appearance
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
from anystory.storyworld.attribute_classifier.truth import truth
from anystory.storyworld.places import LIGHTS, PLACES
from anystory.storyworld.render import render_scene
from anystory.storyworld.scene import Placement, Scene

WAYS = ("own noise", "the place's noise", "the place's noise outside the subjects")
MEASURES = ("identity", "pose", "prompt", "leak")
FEWEST = 3
"""Scenes of a place; of a story's place 2."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A picture to draw, and what it should show."""

    case: Case
    job: Job
    """Without a background of its own."""
    seed: int


def storyworld_places(number: int, level: str, size: int, folder: Path) -> dict[str, list[list[Asked]]]:
    """Held-out scenes by place and light, in one round."""
    places: dict[str, list[Asked]] = defaultdict(list)
    for case in draw_cases(number, level=level, split="heldout", size=size):
        files = []
        for reference_number, reference in enumerate(case.references):
            path = folder / f"{case.index}-{reference_number}.png"
            reference.save(path)
            files.append(SubjectFiles(image=path, name=f"subject {reference_number + 1}"))
        job = Job(prompt=case.scene.caption, subjects=tuple(files))
        places[f"{case.scene.place} {case.scene.light}"].append(Asked(case=case, job=job, seed=case.index))
    return {place: [asked] for place, asked in places.items() if len(asked) >= FEWEST}


def story_places(path: Path, size: int, folder: Path, rounds: int) -> dict[str, list[list[Asked]]]:
    """A story's panels by place, once for each round; the first has the seeds of the story."""
    file = read_story(path)
    found: dict[str, list[list[Asked]]] = {}
    for plan in plan_panels(file, folder, ""):
        place = file.story.panels[plan.number - 1].place
        case, job = panel_case(file, plan, size), replace(plan.job, background_seed=None)
        own = found.setdefault(f"{path.stem}, {place}", [[] for _ in range(rounds)])
        for number, asked in enumerate(own):
            asked.append(Asked(case=case, job=job, seed=(plan.seed + number) % 2**32))
    return {place: own for place, own in found.items() if len(own[0]) > 1}


def panel_case(file: StoryFile, plan: PanelPlan, size: int) -> Case:
    """What a panel's prompt asks for; all of its cast is described for StoryWorld."""
    text = plan.job.prompt
    pose = next((pose for pose in POSES if pose in text), "standing")
    placements = []
    for number, (member, files) in enumerate(zip(plan.subjects, plan.job.subjects, strict=True)):
        who = file.story.cast[member]
        variant = Path(files.image).stem.removeprefix(member).rpartition("-")[0].removeprefix("-") or None
        identity, _ = identity_of(who.look(variant), who.seed)
        x = (number + 1) / (len(plan.subjects) + 1)
        placements.append(
            Placement(identity=identity, appearance=Appearance(pose=pose), x=x, y=0.92, height=0.6, depth=0.1 * number)
        )
    scene = Scene(
        seed=0,
        level="level1",
        split="train",
        decor="",
        place=next(name for name, place in PLACES.items() if any(phrase in text for phrase in place.phrases)),
        light=next((light for light in LIGHTS if light in text), "day"),
        style="flat",
        arrangement="alone" if len(placements) == 1 else "apart",
        placements=tuple(placements),
        caption=text,
    )
    drawn = render_scene(scene, size)
    return Case(
        index=plan.number,
        group="one" if len(placements) == 1 else "two",
        scene=scene,
        drawn=drawn,
        true=drawn.image,
        references=(),
        characters=tuple(truth(scene, drawn)),
    )


def pictures(model: Model, asked: Asked, place: int) -> list[DrawnPicture]:
    """A picture drawn in all ways."""
    shared = replace(asked.job, background_seed=place)
    ways = ((asked.job, asked.seed), (asked.job, place), (shared, asked.seed))
    return [picture for job, seed in ways for picture in draw(model, job, [seed])]


def background(picture: DrawnPicture) -> np.ndarray:
    """(H, W) bool: where no subject is."""
    assert picture.routing is not None
    return np.asarray(~picture.routing.masks().any(axis=0))


def difference(drawn: Sequence[DrawnPicture]) -> float:
    """Of the backgrounds of pictures of one place."""
    apart = []
    for one, other in combinations(drawn, 2):
        both = background(one) & background(other)
        pixels = [np.asarray(picture.image.convert("RGB"), dtype=float)[both] / 255 for picture in (one, other)]
        apart.append(float(np.abs(pixels[0] - pixels[1]).mean()))
    return float(np.mean(apart))


def as_pixels(drawn: Sequence[DrawnPicture], side: int) -> Tensor:
    """Pictures as the attribute classifier reads them."""
    arrays = np.stack([np.asarray(picture.image.convert("RGB")) for picture in drawn])
    return F.interpolate(torch.from_numpy(arrays).movedim(-1, 1).float() / 127.5 - 1, (side, side), mode="area")


def share(scores: Sequence[Scores], measure: str) -> tuple[float, float]:
    """(hits, trials) of all."""
    counted = np.array([s.get(measure, (0.0, 0.0)) for s in scores])
    hits, trials = counted.sum(axis=0)
    return float(hits), float(trials)


def interval(values: Sequence[float], weights: Sequence[float] | None = None) -> str:
    """The weighted mean of the places' values, with its interval."""
    own, weight = np.array(values), np.ones(len(values)) if weights is None else np.array(weights)
    rows = np.random.default_rng(0).integers(len(own), size=(2000, len(own)))
    means = (own * weight)[rows].sum(axis=1) / weight[rows].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{(own * weight).sum() / weight.sum():.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=72, help="scenes to choose from")
    parser.add_argument("--story", type=Path, nargs="*", default=[], help="story files to draw in place of scenes")
    parser.add_argument("--rounds", type=int, default=1, help="with stories: pictures of each panel")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--level", default="level1")
    options = parser.parse_args()
    model, judge = load(ModelOptions(model=options.model)), AttributeClassifier.load()
    with TemporaryDirectory() as folder:
        chosen: dict[str, list[list[Asked]]] = {}
        for path in options.story:
            chosen |= story_places(path, judge.config.size, Path(folder), options.rounds)
        if not options.story:
            chosen = storyworld_places(options.number, options.level, judge.config.size, Path(folder))
        count = sum(len(asked) for rounds in chosen.values() for asked in rounds)
        print(f"{count} pictures of {len(chosen)} places in {max(map(len, chosen.values()))} rounds")
        measure(model, judge, chosen)


def measure(model: Model, judge: AttributeClassifier, chosen: dict[str, list[list[Asked]]]) -> None:
    """Draw all places in all ways, and print what the pictures show."""
    apart: dict[str, list[float]] = {way: [] for way in WAYS}
    scores: dict[str, list[list[Scores]]] = {way: [] for way in WAYS}
    for number, (place, rounds) in enumerate(chosen.items()):
        own_apart: dict[str, list[float]] = {way: [] for way in WAYS}
        for way in WAYS:
            scores[way].append([])
        for more, asked in enumerate(rounds):
            drawn = [pictures(model, one, 1_000_000 * (more + 1) + number) for one in asked]
            for way, own in zip(WAYS, zip(*drawn, strict=True), strict=True):
                own_apart[way].append(difference(own))
                readings = judge.read(as_pixels(own, judge.config.size))
                scores[way][-1] += [score(one.case, reading) for one, reading in zip(asked, readings, strict=True)]
        for way in WAYS:
            apart[way].append(float(np.mean(own_apart[way])))
        print(f"{number + 1} of {len(chosen)}: {place}", flush=True)
    report(apart, scores)


def report(apart: dict[str, list[float]], scores: dict[str, list[list[Scores]]]) -> None:
    """Print every measure with its interval."""
    for way in WAYS:
        print(f"\n{way}\n  difference {interval(apart[way])}")
        if way != WAYS[0]:
            less = [own - this for own, this in zip(apart[WAYS[0]], apart[way], strict=True)]
            print(f"  less than own noise {interval(less)}, in {sum(one > 0 for one in less)} of {len(less)} places")
        for measure in MEASURES:
            counted = [share(own, measure) for own in scores[way]]
            shares = [hits / trials if trials else 0.0 for hits, trials in counted]
            print(f"  {measure} {interval(shares, [trials for _, trials in counted])}")


if __name__ == "__main__":
    main()
