"""Figure 6: the same two characters through a story, a picture for each sentence."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from anystory.evaluation.bootstrap import Bootstrap
from anystory.evaluation.figures.bench import Bench, references, shown
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.run import judged_size
from anystory.evaluation.storyworld.scores import IDENTITY, Scores, match
from anystory.evaluation.storyworld.show import number
from anystory.page_layout import below, beside, captioned, framed, text
from anystory.storyworld.attribute_classifier.pictures import to_pixels
from anystory.subjects import Subject

SENTENCES = (
    "{} standing in a bedroom at night",
    "{} walking on a city street on a sunny day",
    "{} waving in a meadow on a sunny day",
    "{} sitting in a forest at dusk",
    "{} walking in a forest at night",
    "{} standing together in a snowy field",
    "{} waving on a beach at dusk",
    "{} sitting on a beach at night",
)
"""What happens; the characters' kinds go in."""

_PAIRS = 8
_SHOWN = 2
_ROWS = {"with subjects": True, "prompt alone": False}


def figure_6(bench: Bench) -> Figure:
    """Pairs of characters, each through eight sentences; the first pairs are shown (the paper's Figure 6)."""
    cases = bench.first("two", _PAIRS)
    rows: list[dict[str, object]] = []
    scores: dict[str, list[Scores]] = {name: [] for name in _ROWS}
    lines = []
    for place, case in enumerate(cases):
        for name, uses_subjects in _ROWS.items():
            pictures = _story(bench, case, uses_subjects)
            found = _identities(bench, case, pictures)
            scores[name] += found
            rows += [
                {
                    "pair": place + 1,
                    "row": name,
                    "panel": panel + 1,
                    "prompt": _sentence(case, sentence),
                    "identity": round(hits / trials, 4) if trials else "",
                    "attributes": int(trials),
                }
                for panel, (sentence, one) in enumerate(zip(SENTENCES, found, strict=True))
                for hits, trials in [one["identity"]]
            ]
            bench.advance("stories", len(SENTENCES))
            if place < _SHOWN:
                panels = [
                    captioned(shown(one), sentence.format(""))
                    for one, sentence in zip(pictures, SENTENCES, strict=True)
                ]
                half = len(panels) // 2
                block = below([beside(panels[:half]), beside(panels[half:])])
                head = below([text(name, size=15), references(case)] if uses_subjects else [text(name, size=15)])
                lines.append(beside([head if uses_subjects else _as_wide(head, references(case).width), block], gap=12))
    shares = {name: _mean(found) for name, found in scores.items()}
    return Figure(
        name="figure6",
        title="Figure 6: stories",
        says=f"{len(cases)} pairs of held-out characters, each through {len(SENTENCES)} sentences (the first {_SHOWN} "
        "pairs are shown). Share of visible attributes that are right, 95 % intervals by bootstrap over pictures: "
        + ", ".join(f"{name} {said}" for name, said in shares.items())
        + ".",
        image=framed(below(lines, gap=16)),
        rows=rows,
    )


def _sentence(case: Case, sentence: str) -> str:
    first, second = case.kinds
    return sentence.format(f"a {first} and a {second}")


def _story(bench: Bench, case: Case, uses_subjects: bool) -> list[Image.Image]:
    """All panels in one call: the references are encoded once."""
    prompts = [_sentence(case, sentence) for sentence in SENTENCES]
    call = {"subjects": [Subject(picture) for picture in case.references]} if uses_subjects else {}
    seed = bench.settings.seed + 1000 * case.index
    out = bench.pipe(
        prompts,
        num_inference_steps=bench.settings.steps,
        guidance_scale=bench.settings.guidance,
        generator=[torch.Generator().manual_seed(seed + panel) for panel in range(len(prompts))],
        **call,
    )
    return list(out.images)


def _identities(bench: Bench, case: Case, pictures: list[Image.Image]) -> list[Scores]:
    pixels = to_pixels(torch.from_numpy(np.stack([np.asarray(one.convert("RGB")) for one in pictures])))
    found: list[Scores] = []
    for reading in bench.classifier.read(judged_size(bench.classifier, pixels)):
        hits = trials = 0
        for true, one in zip(case.characters, match(case, reading.characters), strict=True):
            for attribute in true.visible & set(IDENTITY):
                trials += 1
                hits += one is not None and one.attributes[attribute] == true.attributes[attribute]
        found.append({"identity": (float(hits), float(trials))})
    return found


def _mean(scores: list[Scores]) -> str:
    return number(Bootstrap(len(scores)).share(scores, "identity"))


def _as_wide(piece: Image.Image, width: int) -> Image.Image:
    page = Image.new("RGB", (max(width, piece.width), piece.height), "white")
    page.paste(piece)
    return page
