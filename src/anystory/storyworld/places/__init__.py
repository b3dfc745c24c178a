"""Places: where a scene happens. `PLACES` maps names to places; `draw_place` draws one layer."""

from __future__ import annotations

from functools import lru_cache

import skia

from anystory.storyworld.brush import PASTEL, Brush
from anystory.storyworld.places.base import Place
from anystory.storyworld.places.bedroom import BEDROOM
from anystory.storyworld.places.country import DESERT, FARM, MOUNTAIN
from anystory.storyworld.places.painter import LIGHTS, PlacePainter, tone
from anystory.storyworld.places.shore import BEACH
from anystory.storyworld.places.street import STREET
from anystory.storyworld.places.town import CASTLE, KITCHEN, PLAYGROUND
from anystory.storyworld.places.winter import SNOWFIELD
from anystory.storyworld.places.wonder import PLANET, SEA_FLOOR
from anystory.storyworld.places.woodland import FOREST, MEADOW
from anystory.storyworld.rng import Rng

__all__ = ["LIGHTS", "PLACES", "Place", "draw_place", "get_place", "place_brush", "place_mask_brush"]

_OUTLINE = 0.007
"""Width of outlines, in picture heights."""
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


@lru_cache(maxsize=256)
def place_brush(place: str, style: str, light: str) -> Brush:
    """Return the brush that paints a place: thin outlines, and paper as the light shows it."""
    where = "indoor" if get_place(place).indoor else "outdoor"
    # Places mix their own colours for each light, so the brush's own light stays day.
    return Brush(style, "day", outline=_OUTLINE, paper=tone(PASTEL, light, where))


@lru_cache(maxsize=8)
def place_mask_brush(style: str) -> Brush:
    """Return the brush that cuts the foreground of a place out of instance masks."""
    return Brush.mask(0, style, outline=_OUTLINE)


def draw_place(canvas: skia.Canvas, brush: Brush, place: str, light: str, rng: Rng, layer: str) -> None:
    """Draw one layer of a place onto the unit square.

    Args:
        canvas: its current units are the unit square, (0, 0) top-left.
        brush: `place_brush(place, style, light)`; a mask brush paints only what can cover a character.
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
        draw(PlacePainter(canvas, brush, light, rng, "indoor" if found.indoor else "outdoor"))
