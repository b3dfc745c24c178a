"""The routing-map sheet: who owns which pixel, per sampling step and per layer (the paper's Figure 5)."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image

from anystory.page_layout import INK, below, beside, captioned, framed, text
from anystory.pipelines.routing_record import BACKGROUND, RoutingRecord
from anystory.segment.tints import SLOT_COLOURS, overlay

__all__ = ["colour_map", "evenly", "routing_sheet"]

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
    subject and one for the background: first the mean over layers (`RoutingRecord.mean`) at steps that are evenly
    spread over the sampling, then every layer at the last recorded step, at its own resolution. Where a router decides
    without probabilities, as on FLUX.1, the maps say who owns a pixel, and a background that owns nothing has no row.

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
    slots, kind = [*routing.names[image], BACKGROUND], _Kind(routing, image)
    if kind.whole:
        slots = slots[:-1]
    pieces = [text(line, size=15) for line in textwrap.wrap(title, 100)]
    pieces.append(_head(picture, routing, image, references))
    pieces.append(text(f"{kind.maps} at sampling steps, mean over layers", size=15))
    pieces.append(_steps_block(routing, image, slots, max_steps))
    pieces.append(
        text(f"{kind.maps} of the {len(routing.layers)} layers, in the order they run, at the last step", size=15)
    )
    pieces.append(_layers_block(routing, image, slots))
    pieces.append(_scale(kind.values))
    return framed(below(pieces, gap=14))


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


class _Kind:
    """What kind of maps a record holds.

    Args:
        routing, image: The record, and a picture in it.
    """

    def __init__(self, routing: RoutingRecord, image: int) -> None:

        def all_maps() -> Iterator[np.ndarray]:
            return (routing.maps(step, layer, image=image) for step in routing.steps for layer in routing.layers)

        owners = all(np.isin(maps, (0, 1)).all() for maps in all_maps())
        self.whole = owners and not any(maps[-1].any() for maps in all_maps())
        """Nothing is the background's."""
        self.maps = "Owner maps" if owners else "Routing maps"
        self.values = "share of layers" if owners else "probability"


def _steps_block(routing: RoutingRecord, image: int, slots: Sequence[str], max_steps: int) -> Image.Image:
    size = _cell_size(routing, _CELL)
    columns = [_row_names(slots, size, header=2)]
    times = dict(zip(routing.steps, routing.timesteps, strict=True))
    for step in evenly(routing.steps, max_steps):
        maps = [colour_map(probabilities) for probabilities in routing.mean(size, step, image=image)[: len(slots)]]
        header = [
            text(f"step {step + 1}", size=12, width=size[1]),
            text(f"t = {times[step]:.0f}", size=12, width=size[1]),
        ]
        columns.append(below([*header, *maps], gap=4))
    return beside(columns)


def _layers_block(routing: RoutingRecord, image: int, slots: Sequence[str]) -> Image.Image:
    size = _cell_size(routing, _SMALL_CELL)
    lines = []
    for first in range(0, len(routing.layers), _LAYERS_PER_LINE):
        columns = [_row_names(slots, size, header=2)]
        for layer in routing.layers[first : first + _LAYERS_PER_LINE]:
            maps = routing.maps(layer=layer, image=image)
            header = [
                text(short_layer_name(layer), size=12, width=size[1]),
                text(f"{maps.shape[1]} x {maps.shape[2]}", size=12, width=size[1]),
            ]
            cells = [colour_map(m).resize((size[1], size[0]), Image.Resampling.NEAREST) for m in maps[: len(slots)]]
            columns.append(below([*header, *cells], gap=4))
        lines.append(beside(columns))
    return below(lines, gap=10)


def _row_names(slots: Sequence[str], size: tuple[int, int], header: int) -> Image.Image:
    """The column of row names; its gaps and header lines are those of the columns of maps."""
    blank = text("", size=12, width=_CELL)
    rows = []
    for slot, name in enumerate(slots):
        colour = INK if name == BACKGROUND and slot == len(slots) - 1 else SLOT_COLOURS[slot % len(SLOT_COLOURS)]
        row = Image.new("RGB", (_CELL, size[0]), (255, 255, 255))
        line = text(name, size=13, width=_CELL, colour=_darker(colour))
        row.paste(line, (0, (size[0] - line.height) // 2))
        rows.append(row)
    return below([blank] * header + rows, gap=4)


def _scale(values: str) -> Image.Image:
    ramp = colour_map(np.tile(np.linspace(0, 1, 160, dtype=np.float32), (12, 1)))
    return beside([text(f"{values}  0", size=12), ramp, text("1", size=12)], align=0.5)


def short_layer_name(name: str) -> str:
    """ "down_blocks.1.attentions.0.transformer_blocks.2.attn2" → "down 1.0.2"; of FLUX.1 "double 0" and "single 0"."""
    numbers = ".".join(re.findall(r"\.(\d+)", name))
    part = re.match(r"down|mid|up|single", name)
    if part is None and name.startswith("transformer_blocks."):
        return f"double {numbers}"
    return f"{part.group()} {numbers}" if part else name


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
