"""The colours of one identity by role, as every part of the drawing asks for them."""

from __future__ import annotations

from functools import lru_cache

from anystory.storyworld.identity import Identity
from anystory.storyworld.palette import BEAK, BLUSH, COLOURS, INK, METAL, PAPER, SKIN, WOOD, shade

_LIMB, _FAR = 0.13, 0.27


@lru_cache(maxsize=1024)
def colours_of(identity: Identity) -> dict[str, int]:
    """Role -> 0xRRGGBB. The dictionary is shared: do not change it."""
    primary = COLOURS[identity.primary]
    roles = {
        "primary": primary,
        "secondary": COLOURS[identity.secondary],
        "accent": COLOURS[identity.accent],
        # limbs are darker than the body, else a flat picture loses them; far ones more so
        "limb": shade(primary, _LIMB),
        "far": shade(primary, _FAR),
        "dark": shade(primary, 0.36),
        "pale": shade(primary, -0.6),
        "secondary dark": shade(COLOURS[identity.secondary], 0.2),
        "ink": INK,
        "paper": PAPER,
        "beak": BEAK,
        "beak far": shade(BEAK, _FAR),
        "metal": METAL,
        "metal far": shade(METAL, _FAR),
        "wood": WOOD,
        "wood far": shade(WOOD, _FAR),
        "blush": BLUSH,
        "skin": SKIN.get(identity.complexion, PAPER),
        "sticker": PAPER if identity.accent != "white" else shade(primary, 0.36),
    }
    for name, colour in (
        ("hat", identity.headwear_colour),
        ("neck", identity.neckwear_colour),
        ("extra", identity.accessory_colour),
    ):
        if colour:
            roles[name] = COLOURS[colour]
            roles[f"{name} dark"] = shade(COLOURS[colour], 0.22)
            roles[f"{name} light"] = shade(COLOURS[colour], -0.45)
    return roles
