"""One character while it is drawn: canvas and brush, who and how, and the frames that its parts lie in."""

from __future__ import annotations

import skia

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.bodies import BODIES
from anystory.storyworld.characters.look import colours_of
from anystory.storyworld.characters.shapes import Layers, paint
from anystory.storyworld.characters.skeleton import TORSO, skeleton
from anystory.storyworld.identity import Identity

_SIDE_WIDTH = 0.9
"""Width of a torso seen from the side, against the front."""


class CharacterFigure:
    """What all parts of a character's drawing share."""

    def __init__(self, canvas: skia.Canvas, brush: Brush, identity: Identity, appearance: Appearance) -> None:
        self.canvas, self.brush, self.identity, self.appearance = canvas, brush, identity, appearance
        self.bones = skeleton(identity.proportions, appearance)
        self.colours, self.body = colours_of(identity), BODIES[identity.kind]

    def paint(self, layers: Layers) -> None:
        """Draw layers in the current frame, in this character's colours."""
        paint(self.canvas, self.brush, layers, self.colours)

    def to_hips(self) -> None:
        """Move the canvas to the hips, leaning as the upper body does."""
        self.canvas.translate(*self.bones.hips)
        if self.bones.lean:
            self.canvas.rotate(self.bones.lean)

    def to_torso(self) -> None:
        """Move the canvas to torso coordinates: hips at (0, 0), scaled to the build."""
        self.to_hips()
        width = self.identity.proportions.width * (_SIDE_WIDTH if self.bones.side else 1.0)
        self.canvas.scale(width, self.bones.torso)

    def to_neck(self) -> None:
        """Move the canvas to neck coordinates: the neck at (0, 0), not scaled."""
        self.to_hips()
        self.canvas.translate(0.0, -self.bones.torso * TORSO)
