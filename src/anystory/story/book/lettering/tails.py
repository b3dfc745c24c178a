"""Where the tails of balloons end, and what they run over. Lengths are in points; x points right and y down."""

from __future__ import annotations

import math
from collections.abc import Iterable

from anystory.story.book.lettering.balloons import Box, Shape, leaves
from anystory.story.book.lettering.heads import FaceBox

__all__ = ["tail_to_balloon", "tail_to_face", "way"]

_CLEAR = 4.0
"""Between a tail and the face that it points to."""
_SHARE, _OVER = 0.6, 0.3
"""The most that a tail takes of the way from the balloon's outline to the mouth: it points, it need not touch. The
other is for a balloon over the chin."""
_SHORTEST = 7.0
"""Of a tail, beside a head that is near."""

Point = tuple[float, float]


def tail_to_face(balloon: Box, face: FaceBox, head: Box) -> Point | None:
    """Where the tail of a balloon ends: at the edge of the face, on the way from the balloon to the mouth.

    Args:
        balloon: which touches no head.
        face: the speaker's.
        head: the upper part of it that no balloon touches: where the tail ends if the balloon is over the chin.
    """
    box = head if balloon.overlaps(face.box) else face.box
    (x, y), (mouth_x, mouth_y) = balloon.centre, face.mouth
    mouth_y = min(mouth_y, box.bottom)
    dx, dy = x - mouth_x, y - mouth_y
    along = math.hypot(dx, dy)
    if not along:
        return None
    across = ((box.right if dx > 0 else box.x) - mouth_x) / dx if dx else math.inf
    down = ((box.bottom if dy > 0 else box.y) - mouth_y) / dy if dy else math.inf
    reach = math.dist(leaves(balloon, (mouth_x, mouth_y)), (mouth_x, mouth_y)) / along
    share = max(min(across, down) + _CLEAR / along, (1 - (_OVER if box is head else _SHARE)) * reach)
    share = max(min(share, reach - _SHORTEST / along), 0.0)
    return mouth_x + dx * share, mouth_y + dy * share


def tail_to_balloon(balloon: Box, before: Box, shape: Shape, size: float) -> Point:
    """Where a further balloon of one speaker meets the one before: its tail ends at that one's outline.

    Args:
        balloon: the further one.
        before, shape: the one before, and its outline.
        size: the em.
    """
    x, y = leaves(before, balloon.centre)
    to_x, to_y = before.centre[0] - x, before.centre[1] - y
    inside = {"shout": 0.8, "thought": 0.5}.get(shape, 0.05) * size / (math.hypot(to_x, to_y) or 1.0)
    return x + to_x * inside, y + to_y * inside


def way(box: Box, end: Point) -> Iterable[Box]:
    """Points on the way from the middle of a box to the end of its tail."""
    (x, y), (ex, ey) = box.centre, end
    return [Box(x + (ex - x) * share, y + (ey - y) * share, 0, 0) for share in (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)]
