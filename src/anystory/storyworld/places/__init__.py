"""Places: where a scene happens. `PLACES` maps names to places; `draw_place` draws one layer."""

from __future__ import annotations

import skia

from anystory.storyworld.brush import Brush
from anystory.storyworld.places.base import Place
from anystory.storyworld.places.bedroom import BEDROOM
from anystory.storyworld.places.country import DESERT, FARM, MOUNTAIN
from anystory.storyworld.places.shore import BEACH
from anystory.storyworld.places.stage import LIGHTS, Stage
from anystory.storyworld.places.street import STREET
from anystory.storyworld.places.town import CASTLE, KITCHEN, PLAYGROUND
from anystory.storyworld.places.winter import SNOWFIELD
from anystory.storyworld.places.wonder import PLANET, SEA_FLOOR
from anystory.storyworld.places.woodland import FOREST, MEADOW
from anystory.storyworld.rng import Rng

__all__ = ["LIGHTS", "PLACES", "Place", "draw_place", "get_place"]

_ALL = (
    BEACH, FOREST, MEADOW, SNOWFIELD, BEDROOM, STREET,
    DESERT, PLAYGROUND, KITCHEN, MOUNTAIN, FARM, CASTLE, SEA_FLOOR, PLANET,
)  # fmt: skip
PLACES: dict[str, Place] = {place.name: place for place in _ALL}


def get_place(name: str) -> Place:
    """Return the place called `name`; a ValueError lists the places there are."""
    try:
        return PLACES[name]
    except KeyError:
        raise ValueError(f"unknown place {name!r}: the places are {', '.join(PLACES)}") from None


def draw_place(canvas: skia.Canvas, brush: Brush, place: str, light: str, rng: Rng, layer: str) -> None:
    """Draw one layer of a place onto the unit square.

    Args:
        canvas: its current units are the unit square, (0, 0) top-left.
        brush: the drawing style; a mask brush paints only what can cover a character.
        place: a key of `PLACES`.
        light: "day", "dusk" or "night".
        rng: the random stream of this layer; the same stream state draws the same details.
        layer: "back" (behind the characters, with the ground) or "front" (may hide feet).

    Raises:
        ValueError: for an unknown place, light or layer.
    """
    found = get_place(place)
    if light not in LIGHTS:
        raise ValueError(f"unknown light {light!r}: it is one of {', '.join(LIGHTS)}")
    if layer not in ("back", "front"):
        raise ValueError(f"unknown layer {layer!r}: it is back or front")
    draw = found.back if layer == "back" else found.front
    if draw is not None:
        draw(Stage(canvas, brush, light, rng, "indoor" if found.indoor else "outdoor"))
