"""Where the words of a panel go: balloons near their speakers, captions at the edges, nothing over a head.

The letters start at their largest size. For each size a beam search places caption and balloons in reading order,
each in the shape of text and at the place that cost least. The first size at which all fit without a fault is taken;
if none is without, the one with the fewest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from anystory.story.book.contents import PanelArt
from anystory.story.book.lettering.balloons import Box, Shape, outer_size
from anystory.story.book.lettering.heads import Occupied
from anystory.story.book.lettering.tails import tail_to_balloon, tail_to_face, way
from anystory.story.book.lettering.text_block import BreakableText, TextBlock
from anystory.story.book.lettering.typefaces import MissingScriptError, Typefaces

__all__ = ["PlacedWords", "TextDoesNotFitError", "place_words"]

_GAP = 3.0
"""Points between balloons, and between them and heads."""
_INSET = 4.0
"""Points between balloons and the panel's frame."""
_GRID = 26
"""Places that are tried along each side."""
_BEAM, _BRANCH = 8, 12
"""States kept, and places for each of them."""
_HIGHER = 0.25
"""A balloon that is read later may begin so much of its height above the one before, if it is further along."""
_STEP = 0.94
"""Each size of letters relative to the last."""


class TextDoesNotFitError(ValueError):
    """Text finds no room even at the smallest size; the message names panel and line."""


class _Item(NamedTuple):
    """Words to be placed."""

    text: str
    shape: Shape
    speaker: str | None
    colour: str | None
    what: str
    """For messages."""


@dataclass(frozen=True)
class PlacedWords:
    """Words in their place."""

    block: TextBlock
    shape: Shape
    box: Box
    """Of the balloon without its tail, in points."""
    size: float
    """The em in points."""
    tip: tuple[float, float] | None
    text: str
    speaker: str | None
    colour: str | None = None
    """Of a balloon's tint, "#rrggbb"."""


class _State(NamedTuple):
    faults: int
    """Balloons that are read out of order, and tails that run over somebody else."""
    cost: float
    placed: tuple[PlacedWords, ...]


def place_words(
    panel: PanelArt, occupied: Occupied, typefaces: Typefaces, *, sizes: tuple[float, float], right_to_left: bool
) -> tuple[PlacedWords, ...]:
    """Place a panel's narration and lines in its frame.

    Args:
        panel: its words.
        occupied: where heads and bodies are in the frame.
        typefaces: what the words are written in.
        sizes: the smallest and the largest em in points.
        right_to_left: the direction in which balloons are read.

    Returns:
        Caption first, then the lines in their order.

    Raises:
        TextDoesNotFitError: there is no room even at the smallest size.
        MissingScriptError: no font has a character; the message names the panel.
    """
    items = _items(panel)
    if not items:
        return ()
    try:
        texts = [_breakable(item, typefaces) for item in items]
    except MissingScriptError as error:
        raise MissingScriptError(f"panel {panel.number}: {error}") from None
    best: _State | None = None
    stuck = 0
    for size in _sizes(*sizes):
        stuck, state = _place_all(items, texts, occupied, size, right_to_left)
        if state is not None and (best is None or state.faults < best.faults):
            best = state
        if best is not None and not best.faults:
            break
    if best is None:
        raise TextDoesNotFitError(
            f"panel {panel.number}: {items[stuck].what} does not fit beside the heads even at {sizes[0]:g} points: "
            "shorten the text, split the panel, or give it a page template with larger panels"
        )
    return best.placed


def _sizes(smallest: float, largest: float) -> Iterator[float]:
    """Sizes to try, largest first."""
    size = largest
    while size > smallest:
        yield size
        size *= _STEP
    yield smallest


def _items(panel: PanelArt) -> list[_Item]:
    found = []
    if panel.narration.strip():
        found.append(_Item(panel.narration, "caption", None, None, f"the narration {_quoted(panel.narration)}"))
    for number, line in enumerate(panel.lines, start=1):
        found.append(_Item(line.text, line.kind, line.speaker, line.colour, f"line {number} {_quoted(line.text)}"))
    return found


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return f'("{words if len(words) <= 40 else words[:39] + "…"}")'


def _breakable(item: _Item, typefaces: Typefaces) -> BreakableText:
    return BreakableText(item.text, typefaces, bold=item.shape == "shout", balanced=item.shape != "caption")


def _place_all(
    items: Sequence[_Item], texts: Sequence[BreakableText], occupied: Occupied, size: float, right_to_left: bool
) -> tuple[int, _State | None]:
    """The index of the item that finds no place, or the best state."""
    frame = occupied.frame
    states = [_State(0, 0.0, ())]
    longest, tallest = (frame.width - 2 * _INSET) / size, (frame.height - 2 * _INSET) / size
    for index, (item, text) in enumerate(zip(items, texts, strict=True)):
        choices = text.blocks(longest, tallest)
        found: list[_State] = []
        for state in states:
            found.extend(_places(state, item, choices, occupied, size, right_to_left))
        states = sorted(found, key=lambda state: state[:2])[:_BEAM]
        if not states:
            return index, None
    return len(items), states[0]


def _places(
    state: _State, item: _Item, choices: Sequence[TextBlock], occupied: Occupied, size: float, right_to_left: bool
) -> list[_State]:
    """The best places of one item beside what is placed already."""
    frame = occupied.frame
    last = _same_speaker(state, item)
    found: list[tuple[int, float, Box, TextBlock]] = []
    for block in choices:
        width, height = outer_size(block, item.shape, size)
        room = (frame.width - 2 * _INSET - width, frame.height - 2 * _INSET - height)
        if min(room) < 0:
            continue
        x, y = _grid(item.shape, frame, *room)
        free = _free(x, y, width, height, [*occupied.obstacles, *(placed.box for placed in state.placed)])
        x, y = x[free], y[free]
        if not x.size:
            continue
        cost = _cost(x, y, width, height, item, occupied, right_to_left, last) + _awkward(
            block, width / height, item.shape
        )
        faults = _out_of_order(x, y, width, height, state.placed, right_to_left) + _is_column(block)
        for best in np.lexsort((cost, faults))[: _BRANCH // 2]:
            box = Box(float(x[best]), float(y[best]), width, height)
            found.append((int(faults[best]), float(cost[best]), box, block))
    found.sort(key=lambda choice: choice[:2])
    states = []
    for faults, cost, box, block in found[:_BRANCH]:
        tip = _tip(box, item, occupied, last, size)
        placed = PlacedWords(block, item.shape, box, size, tip, item.text, item.speaker, item.colour)
        faults += _crossings(placed, occupied, state.placed, last is not None)
        states.append(_State(state.faults + faults, state.cost + cost, (*state.placed, placed)))
    return states


def _same_speaker(state: _State, item: _Item) -> PlacedWords | None:
    """The balloon just before, if the same one speaks on: the two are joined."""
    last = state.placed[-1] if state.placed else None
    return last if last is not None and last.speaker is not None and last.speaker == item.speaker else None


def _tip(
    box: Box, item: _Item, occupied: Occupied, last: PlacedWords | None, size: float
) -> tuple[float, float] | None:
    """Where a balloon's tail ends; None for a speaker who is not in the picture."""
    if last is not None:
        return tail_to_balloon(box, last.box, last.shape, size)
    face = occupied.faces.get(item.speaker or "")
    return face and tail_to_face(box, face, occupied.heads[item.speaker or ""])


def _grid(shape: Shape, frame: Box, across: float, down: float) -> tuple[np.ndarray, np.ndarray]:
    """Left and upper sides to try; captions stay at the upper and lower edge."""
    xs = frame.x + _INSET + np.linspace(0, across, _GRID if across > 0 else 1)
    ys = frame.y + _INSET + np.linspace(0, down, (2 if shape == "caption" else _GRID) if down > 0 else 1)
    x, y = np.meshgrid(xs, ys)
    return x.ravel(), y.ravel()


def _free(x: np.ndarray, y: np.ndarray, width: float, height: float, others: Sequence[Box]) -> np.ndarray:
    """Where a box touches none of the others."""
    free = np.ones(x.shape, bool)
    for box in others:
        apart = (x >= box.right + _GAP) | (x + width + _GAP <= box.x)
        free &= apart | (y >= box.bottom + _GAP) | (y + height + _GAP <= box.y)
    return free


def _cost(
    x: np.ndarray,
    y: np.ndarray,
    width: float,
    height: float,
    item: _Item,
    occupied: Occupied,
    right_to_left: bool,
    last: PlacedWords | None,
) -> np.ndarray:
    """What each place costs: covered subjects and distance to the speaker, or to the balloon that it is joined to."""
    frame = occupied.frame
    side = math.hypot(frame.width, frame.height)
    cost = 2.5 * occupied.covered(x, y, width, height)
    start = (frame.right - x - width) if right_to_left else (x - frame.x)
    if item.shape == "caption":
        return cost + 0.8 * (y - frame.y) / frame.height + 0.6 * start / frame.width
    head = occupied.heads.get(item.speaker or "")
    if last is not None:
        apart_x = np.maximum(np.maximum(last.box.x - x - width, x - last.box.right), 0)
        apart_y = np.maximum(np.maximum(last.box.y - y - height, y - last.box.bottom), 0)
        cost += 4 * np.hypot(apart_x, apart_y) / side + 0.8 * np.abs(x + width / 2 - last.box.centre[0]) / frame.width
    elif head is None:
        cost += 0.3 * (y - frame.y) / frame.height
    else:
        hx, hy = head.centre
        dx = np.maximum(np.abs(x + width / 2 - hx) - width / 2, 0)
        dy = np.maximum(np.abs(y + height / 2 - hy) - height / 2, 0)
        cost += 1.6 * np.hypot(dx, dy) / side + 0.5 * np.abs(x + width / 2 - hx) / frame.width
        cost += 0.6 * np.maximum(y + height / 2 - hy, 0) / frame.height  # above the speaker rather than below
    return cost


def _out_of_order(
    x: np.ndarray, y: np.ndarray, width: float, height: float, before: Sequence[PlacedWords], right_to_left: bool
) -> np.ndarray:
    """How many of the words before would be read after each place.

    What comes later begins below what came before, or further along and not much higher.
    """
    count = np.zeros(x.shape, int)
    for placed in before:
        box = placed.box
        along = (x + width <= box.right) & (x < box.x) if right_to_left else (x >= box.x) & (x + width > box.right)
        count += ~((y >= box.bottom) | (along & (y >= box.y - _HIGHER * height)))
    return count


def _is_column(block: TextBlock) -> bool:
    """Whether a text is so narrow that it is tiring to read."""
    return len(block.lines) > 2 and block.height > 1.3 * block.width


def _awkward(block: TextBlock, ratio: float, shape: Shape) -> float:
    """What a balloon's shape costs: about twice as wide as high is best; captions may be wider. Hyphens cost, too."""
    best = 4.0 if shape == "caption" else 1.9
    hyphens = sum(line.endswith("-") for line in block.lines)
    return 0.3 * abs(math.log(ratio / best)) ** 1.5 + 0.3 * hyphens


def _crossings(new: PlacedWords, occupied: Occupied, before: Sequence[PlacedWords], joined: bool) -> int:
    """How often a tail runs over another head or balloon, or a balloon over a tail.

    Args:
        joined: the tail ends at the last balloon before.
    """
    count = 0
    if new.tip is not None:
        points = way(new.box, new.tip)
        others = [box for name, box in occupied.heads.items() if name != new.speaker]
        others += [placed.box for placed in (before[:-1] if joined else before)]
        count += sum(any(other.overlaps(point) for point in points) for other in others)
    for placed in before:
        if placed.tip is not None:
            count += any(new.box.overlaps(point, _GAP) for point in way(placed.box, placed.tip))
    return count
