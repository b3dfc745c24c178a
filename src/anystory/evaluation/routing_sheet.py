"""The routing-map sheet: who owns which pixel, per sampling step and per layer (the paper's Figure 5)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from anystory.evaluation.layout import INK, below, beside, captioned, framed, text
from anystory.pipelines.routing_record import BACKGROUND, RoutingRecord

__all__ = ["SLOT_COLOURS", "colour_map", "evenly", "overlay", "routing_sheet"]

SLOT_COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
"""One colour per subject, distinct for colour-blind readers too (Okabe and Ito's)."""

_CELL = 96
_SMALL_CELL = 64
_PICTURE = 256
_LAYERS_PER_LINE = 10


def routing_sheet(
    picture: Image.Image,
    routing: RoutingRecord,
    *,
    image: int = 0,
    references: Sequence[Image.Image] = (),
    max_steps: int = 8,
    title: str = "",
) -> Image.Image:
    """Draw the routing maps of one picture.

    At the top the picture, the picture with each subject's pixels tinted, and the references. Below, one row per
    subject and one for the background: first the mean over layers at steps that are evenly spread over the sampling,
    then every layer at the last recorded step, at its own resolution.

    Args:
        picture: The picture that the maps belong to.
        routing: What the pipeline recorded.
        image: Index of the picture in the pipeline's call.
        references: The subjects' reference pictures, in their order; may be left out.
        max_steps: Most steps to show, ≥ 1.
        title: A text above everything, such as the prompt.

    Raises:
        ValueError: a picture that the record does not hold, or a record without steps.
    """
    if not routing.steps:
        raise ValueError("the routing record holds no steps: draw with `record_routing=True`")
    names = routing.names[image]
    pieces = [text(line, size=15) for line in textwrap.wrap(title, 100)]
    pieces.append(_head(picture, routing, image, references))
    pieces.append(text("Routing maps at sampling steps, mean over layers", size=15))
    pieces.append(_steps_block(routing, image, names, max_steps))
    pieces.append(
        text(f"Routing maps of the {len(routing.layers)} layers, in the order they run, at the last step", size=15)
    )
    pieces.append(_layers_block(routing, image, names))
    pieces.append(_scale())
    return framed(below(pieces, gap=14))


def overlay(picture: Image.Image, masks: np.ndarray, strength: float = 0.5) -> Image.Image:
    """The picture with each subject's pixels tinted in its colour.

    Args:
        masks: (N, H, W) bool, of the picture's size.
        strength: Share of the tint, in 0…1.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    for slot, mask in enumerate(masks):
        colour = np.array(SLOT_COLOURS[slot % len(SLOT_COLOURS)], dtype=np.float32)
        pixels = np.where(mask[..., None], pixels * (1 - strength) + colour * strength, pixels)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def colour_map(probabilities: np.ndarray) -> Image.Image:
    """Probabilities (h, w) in [0, 1] as colours, from dark violet (0) over teal to yellow (1)."""
    grey = np.rint(np.clip(probabilities, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB))


def evenly(items: Sequence[int], most: int) -> list[int]:
    """At most `most` ≥ 1 of the items, evenly spread: the last, the first, and some between."""
    if most == 1:
        return [items[-1]]
    picks = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[i] for i in picks]


def _head(picture: Image.Image, routing: RoutingRecord, image: int, references: Sequence[Image.Image]) -> Image.Image:
    shown = _fit(picture, _PICTURE, Image.Resampling.BICUBIC)
    tinted = _fit(overlay(picture, routing.masks((picture.height, picture.width), image=image)), _PICTURE)
    pieces = [captioned(shown, "picture"), captioned(tinted, "who owns which pixel")]
    for slot, name in enumerate(routing.names[image]):
        swatch = Image.new("RGB", (_CELL, 8), SLOT_COLOURS[slot % len(SLOT_COLOURS)])
        if slot < len(references):
            reference = _fit(references[slot].convert("RGB"), _CELL, Image.Resampling.BICUBIC)
            swatch = below([reference, swatch], gap=0)
        pieces.append(captioned(swatch, name))
    return beside(pieces, gap=12)


def _steps_block(routing: RoutingRecord, image: int, names: Sequence[str], max_steps: int) -> Image.Image:
    size = _cell_size(routing, _CELL)
    columns = [_row_names(names, size, header=2)]
    times = dict(zip(routing.steps, routing.timesteps, strict=True))
    for step in evenly(routing.steps, max_steps):
        maps = [colour_map(probabilities) for probabilities in routing.mean(size, step, image=image)]
        header = [
            text(f"step {step + 1}", size=12, width=size[1]),
            text(f"t = {times[step]:.0f}", size=12, width=size[1]),
        ]
        columns.append(below([*header, *maps], gap=4))
    return beside(columns)


def _layers_block(routing: RoutingRecord, image: int, names: Sequence[str]) -> Image.Image:
    size = _cell_size(routing, _SMALL_CELL)
    lines = []
    for first in range(0, len(routing.layers), _LAYERS_PER_LINE):
        columns = [_row_names(names, size, header=2)]
        for layer in routing.layers[first : first + _LAYERS_PER_LINE]:
            maps = routing.maps(layer=layer, image=image)
            header = [
                text(short_layer_name(layer), size=12, width=size[1]),
                text(f"{maps.shape[1]} x {maps.shape[2]}", size=12, width=size[1]),
            ]
            cells = [colour_map(m).resize((size[1], size[0]), Image.Resampling.NEAREST) for m in maps]
            columns.append(below([*header, *cells], gap=4))
        lines.append(beside(columns))
    return below(lines, gap=10)


def _row_names(names: Sequence[str], size: tuple[int, int], header: int) -> Image.Image:
    """The column of row names; its gaps and header lines are those of the columns of maps."""
    blank = text("", size=12, width=_CELL)
    rows = []
    for slot, name in enumerate([*names, BACKGROUND]):
        colour = SLOT_COLOURS[slot % len(SLOT_COLOURS)] if slot < len(names) else INK
        row = Image.new("RGB", (_CELL, size[0]), (255, 255, 255))
        line = text(name, size=13, width=_CELL, colour=_darker(colour))
        row.paste(line, (0, (size[0] - line.height) // 2))
        rows.append(row)
    return below([blank] * header + rows, gap=4)


def _scale() -> Image.Image:
    ramp = colour_map(np.tile(np.linspace(0, 1, 160, dtype=np.float32), (12, 1)))
    return beside([text("probability  0", size=12), ramp, text("1", size=12)], align=0.5)


def short_layer_name(name: str) -> str:
    """ "down_blocks.1.attentions.0.transformer_blocks.2.attn2" → "down 1.0.2"."""
    numbers = re.findall(r"\.(\d+)", name)
    part = re.match(r"down|mid|up", name)
    return f"{part.group()} {'.'.join(numbers)}" if part else name


def _cell_size(routing: RoutingRecord, longest: int) -> tuple[int, int]:
    """(height, width) of a map on the page, in the picture's proportions."""
    factor = longest / max(routing.height, routing.width)
    return max(round(routing.height * factor), 1), max(round(routing.width * factor), 1)


def _fit(picture: Image.Image, longest: int, how: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    factor = longest / max(picture.size)
    return picture.resize((max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)), how)


def _darker(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark enough to be read as text on white."""
    r, g, b = (round(channel * 0.75) for channel in colour)
    return r, g, b
