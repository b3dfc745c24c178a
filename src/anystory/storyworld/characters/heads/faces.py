"""Eyes, mouths and brows by expression, in head coordinates (the middle of the head is (0, 0))."""

from __future__ import annotations

from dataclasses import dataclass

import skia

from anystory.storyworld.characters.shapes import Layer, Layers, curve, join, oval

TURN = -0.075
"""How far the features move when the head looks to the left."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """Where the features of one kind lie, seen from the front."""

    eye_x: float = 0.1
    eye_y: float = -0.02
    eye_size: float = 1.0
    mouth_y: float = 0.135
    mouth_turn: float = TURN
    """Shift of the mouth to the left in a side view (a long snout carries it further)."""
    mouth_width: float = 0.05
    """Half of it; 0: the kind shows no mouth (it has a beak)."""
    glowing: bool = False
    """Light features on a dark screen."""


def eye_centres(face: Face, turned: bool) -> tuple[float, float]:
    """x of the page-left and the page-right eye."""
    if turned:
        return TURN - face.eye_x * 0.82, TURN + face.eye_x * 0.82
    return -face.eye_x, face.eye_x


def face_layers(face: Face, expression: str, turned: bool) -> Layers:
    """Eyes and mouth of one expression, all details inside the head."""
    return _eyes(face, expression, turned) + _mouth(face, expression, turned)


def _eyes(face: Face, expression: str, turned: bool) -> Layers:
    left, right = eye_centres(face, turned)
    y, size = face.eye_y, face.eye_size
    line = "paper" if face.glowing else "ink"
    if expression == "sleepy":
        lids = [curve((x - 0.045, y), (x, y + 0.045), (x + 0.045, y)) for x in (left, right)]
        return (Layer(join(*lids), line, True, 0.024),)

    narrow = 0.84 if turned else 1.0
    rx, ry = 0.052 * size, 0.062 * size
    if expression == "surprised":
        rx, ry = rx * 1.12, ry * 1.16
    whites = join(oval(left, y, rx * narrow, ry), oval(right, y, rx, ry))
    if face.glowing:
        layers = [Layer(whites, "paper", True)]
    else:
        pupil = 0.029 if expression == "surprised" else 0.038
        look_x = -0.014 if turned else 0.0
        look_y = {"sad": 0.012, "surprised": -0.004}.get(expression, 0.004)
        inward = 0.0 if turned else 0.008
        centres = [(left + inward + look_x, y + look_y), (right - inward + look_x, y + look_y)]
        layers = [
            Layer(whites, "paper", True),
            Layer(join(*(oval(x, cy, pupil * size, pupil * size * 1.12) for x, cy in centres)), "ink", True),
            Layer(join(*(oval(x - 0.011, cy - 0.015, 0.012 * size) for x, cy in centres)), "paper", True),
        ]
    slant = {"angry": 0.03, "sad": -0.03}.get(expression)
    if slant is not None:
        top = y - 0.078 * size
        brows = [
            curve((left - 0.05, top - slant), (left + 0.05, top + slant)),
            curve((right + 0.05, top - slant), (right - 0.05, top + slant)),
        ]
        layers.append(Layer(join(*brows), line, True, 0.026))
    return tuple(layers)


def _mouth(face: Face, expression: str, turned: bool) -> Layers:
    width = face.mouth_width
    if not width:
        return ()
    x, y = (face.mouth_turn if turned else 0.0), face.mouth_y
    colour = "paper" if face.glowing else "ink"
    if expression == "surprised":
        return (Layer(oval(x, y + 0.018, 0.025 + width * 0.1, 0.03 + width * 0.12), colour, True),)
    rise = {"happy": 0.055, "sleepy": 0.03, "sad": -0.05, "angry": -0.03}[expression]
    start = y if rise > 0 else y + 0.03
    line: skia.Path = curve((x - width, start), (x, start + rise), (x + width, start))
    return (Layer(line, colour, True, 0.023),)
