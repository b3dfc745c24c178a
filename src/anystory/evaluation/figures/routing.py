"""Figures 4 and 5: the router's maps over layers and time, coarse and refined, and how well they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from anystory.engine.sheets.routing_sheet import colour_map, evenly, short_layer_name
from anystory.evaluation.bootstrap import Bootstrap, Estimate
from anystory.evaluation.figures.bench import Bench, references, shown
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.figures.plots import curves
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.run import judged_size
from anystory.evaluation.storyworld.scores import Scores, match
from anystory.page_layout import below, beside, captioned, framed, text
from anystory.pipelines.routing_record import BACKGROUND, RoutingRecord
from anystory.segment.tints import overlay
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union
from anystory.storyworld.attribute_classifier.pictures import to_bytes
from anystory.subjects import Subject

_CELL = 64
_STEPS = 6
KINDS = ("coarse", "refined")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """A case drawn with all its maps."""

    case: Case
    picture: Image.Image
    routing: RoutingRecord
    pixels: Any
    """(1, 3, H, W) in [-1, 1]."""


def figure_4(bench: Bench) -> Figure:
    """The refined maps of one picture in every layer, at steps from the first to the last (the paper's Figure 4)."""
    drawn = _draw(bench, bench.first("two", 1)[0])
    routing = drawn.routing
    names = (*routing.names[0], BACKGROUND)
    times = dict(zip(routing.steps, routing.timesteps, strict=True))
    chosen = evenly(routing.steps, _STEPS)
    blocks = [
        below([text(name, size=15), _all_layers(routing, slot, chosen)], gap=4) for slot, name in enumerate(names)
    ]
    head = beside([captioned(references(drawn.case), "references"), captioned(shown(drawn.picture), "picture")])
    rows = [
        {"slot": name, "layer": layer, "step": step + 1, "timestep": times[step], "share of pixels": round(share, 4)}
        for slot, name in enumerate(names)
        for layer in routing.layers
        for step in routing.steps
        for share in [float((routing.maps(step, layer).argmax(axis=0) == slot).mean())]
    ]
    return Figure(
        name="figure4",
        title="Figure 4: routing maps by layer and time",
        says=f"Refined maps of one held-out case (the first with two subjects) in all {len(routing.layers)} layers at "
        f"{len(chosen)} of {len(routing.steps)} steps; dark violet is 0, yellow is 1. The table has the share of the "
        "pixels that each slot owns in each layer at each step.",
        image=framed(below([text(drawn.case.scene.caption, size=15), head, *blocks], gap=12)),
        rows=rows,
    )


def _all_layers(routing: RoutingRecord, slot: int, steps: Sequence[int]) -> Image.Image:
    """One slot's maps: a column for each layer, a line for each step."""
    times = dict(zip(routing.steps, routing.timesteps, strict=True))
    lines = [_cell_name(f"step {step + 1}, t = {times[step]:.0f}") for step in steps]
    columns = [below([text("", size=12, width=88), *lines], gap=4)]
    for layer in routing.layers:
        maps = [colour_map(routing.maps(step, layer, slot)) for step in steps]
        cells = [one.resize((_CELL, _CELL), Image.Resampling.NEAREST) for one in maps]
        columns.append(below([text(short_layer_name(layer), size=12, width=_CELL), *cells], gap=4))
    return beside(columns, gap=4)


def figure_5(bench: Bench, most: int = 64) -> Figure:
    """Coarse (a) and refined (b) maps, and their overlap with the drawn characters over time and depth (Figure 5)."""
    cases = [case for case in bench.cases if len(case.characters) > 1][:most]
    example, scores = None, []
    for case in cases:
        drawn = _draw(bench, case)
        example = example or drawn
        scores.append(_overlaps(bench, drawn))
        bench.advance("routing over time and depth", 1)
    assert example is not None
    over_time, over_depth = _curves_of(scores, example.routing)
    plots = beside(
        [
            curves(over_time, x="sampling step", y="IoU, all layers together"),
            curves(over_depth, x="layer, in the order they run", y="IoU at the last step"),
        ]
    )
    first, last = (over_time[kind][-1][1] for kind in KINDS)
    return Figure(
        name="figure5",
        title="Figure 5: coarse and refined routing",
        says="Overlap (IoU) of each subject's mask with the character that the judge finds in the finished picture, "
        f"{len(scores)} held-out cases with several subjects, 95 % intervals by bootstrap over pictures. At the last "
        f"step: coarse {first.value:.2f} ({first.low:.2f}–{first.high:.2f}), refined {last.value:.2f} "
        f"({last.low:.2f}–{last.high:.2f}).",
        image=framed(below([*_example(example), plots], gap=8)),
        rows=_rows(over_time, over_depth, example.routing),
    )


_Lines = dict[str, list[tuple[float, Estimate]]]


def _curves_of(scores: Sequence[Scores], routing: RoutingRecord) -> tuple[_Lines, _Lines]:
    """The mean overlap at each step, and in each layer."""
    mean = partial(Bootstrap(len(scores)).share, scores)
    time = {kind: [(float(step + 1), mean(f"{kind} step {step}")) for step in routing.steps] for kind in KINDS}
    layers = list(enumerate(routing.layers, start=1))
    depth = {kind: [(float(place), mean(f"{kind} layer {layer}")) for place, layer in layers] for kind in KINDS}
    return time, depth


def _rows(over_time: _Lines, over_depth: _Lines, routing: RoutingRecord) -> list[dict[str, object]]:
    axes = (
        ("time", over_time, [f"step {step + 1}" for step in routing.steps]),
        ("depth", over_depth, [short_layer_name(layer) for layer in routing.layers]),
    )
    return [
        {"map": kind, "over": axis, "at": int(place), "name": name, **found.to_dict()}
        for axis, lines, names in axes
        for kind in KINDS
        for (place, found), name in zip(lines[kind], names, strict=True)
    ]


def _example(drawn: _Drawn) -> list[Image.Image]:
    """One case with the mean of its maps over the layers, as pieces of a page."""
    routing, picture = drawn.routing, drawn.picture
    chosen = evenly(routing.steps, _STEPS)
    maps = []
    for kind in KINDS:
        for slot, name in enumerate(routing.names[0]):
            means = [routing.mean((_CELL, _CELL), step, refined=kind == "refined")[slot] for step in chosen]
            maps.append(beside([_cell_name(f"{kind}: {name}", width=140), *map(colour_map, means)], gap=4))
    owners = overlay(picture, routing.masks((picture.height, picture.width)))
    pieces = {"references": references(drawn.case), "picture": shown(picture), "owners": shown(owners)}
    heads = [_cell_name("", width=140), *(text(f"step {step + 1}", size=11, width=_CELL) for step in chosen)]
    head = beside([captioned(piece, name) for name, piece in pieces.items()])
    return [text(drawn.case.scene.caption, size=15), head, beside(heads, gap=4), *maps]


def _draw(bench: Bench, case: Case) -> _Drawn:
    subjects = [Subject(picture, name=f"subject {i + 1}") for i, picture in enumerate(case.references)]
    out = bench.pipe(
        case.scene.caption,
        subjects=subjects,
        num_inference_steps=bench.settings.steps,
        guidance_scale=bench.settings.guidance,
        generator=bench.noise(case),
        record_routing=True,
        output_type="pt",
    )
    pixels = out.images[:1].float().cpu() * 2 - 1
    return _Drawn(case=case, picture=Image.fromarray(to_bytes(pixels).numpy()[0]), routing=out.routing, pixels=pixels)


def _overlaps(bench: Bench, drawn: _Drawn) -> Scores:
    """IoU of every subject's mask with its character: of all layers at each step, and of each layer at the last."""
    side = bench.classifier.config.size
    [reading] = bench.classifier.read(judged_size(bench.classifier, drawn.pixels))
    seated = match(drawn.case, reading.characters)
    truths = [None if one is None else one.mask for one in seated]
    routing, found = drawn.routing, {}
    for kind in KINDS:
        refined = kind == "refined"
        for step in routing.steps:
            found[f"{kind} step {step}"] = _overlap(truths, routing.masks((side, side), step, refined=refined))
        for layer in routing.layers:
            masks = routing.masks((side, side), refined=refined, layers=[layer])
            found[f"{kind} layer {layer}"] = _overlap(truths, masks)
    return found


def _overlap(truths: Sequence[np.ndarray | None], masks: np.ndarray) -> tuple[float, float]:
    pairs = zip(truths, masks, strict=True)
    return sum(0.0 if true is None else intersection_over_union(mask, true) for true, mask in pairs), float(len(masks))


def _cell_name(line: str, width: int = 88) -> Image.Image:
    cell = Image.new("RGB", (width, _CELL if line else 16), "white")
    cell.paste(text(line, size=11, width=width), (0, max((cell.height - 17) // 2, 0)))
    return cell
