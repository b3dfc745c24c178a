"""The character creator: every attribute of a StoryWorld character, a dice, and the picture of what was chosen."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from PIL import Image

from anystory.cast import Library
from anystory.storyworld.identity import (
    ACCESSORIES,
    EMBLEMS,
    HEAD_SIZES,
    HEADWEAR,
    KINDS,
    LEG_LENGTHS,
    NECKWEAR,
    PATTERNS,
    WIDTHS,
    Identity,
    Proportions,
    sample_identity,
)
from anystory.storyworld.language.describe import describe
from anystory.storyworld.level import load_level
from anystory.storyworld.palette import COLOURS, SKIN
from anystory.storyworld.reference import render_reference
from anystory.storyworld.rng import Rng
from anystory.studio.packed import png_bytes
from anystory.studio.session import Session

__all__ = ["ACTIONS", "attributes", "identity_from", "portrait"]

_SIDE = 384
"""Of a created character's picture, in pixels."""
_SEEN = 1
"""The level that the embedded model was trained on."""
_WHOLE = 3
"""The level with everything in it."""


def attributes() -> dict[str, dict[str, Any]]:
    """All attributes in the page's order: what may be chosen, what of it the embedded model
    was trained on, and which other attribute makes room for it."""
    seen, colours = load_level(_SEEN), list(COLOURS)
    found: dict[str, dict[str, Any]] = {
        "kind": {"values": list(KINDS)},
        "complexion": {"values": list(SKIN), "only": {"kind": ["child"]}},
        "primary": {"values": colours},
        "secondary": {"values": colours},
        "pattern": {"values": list(PATTERNS)},
        "emblem": {"values": list(EMBLEMS)},
        "accent": {"values": colours},
    }
    for name, items in (("headwear", HEADWEAR), ("neckwear", NECKWEAR), ("accessory", ACCESSORIES)):
        found[name] = {"values": list(items)}
        found[f"{name}_colour"] = {"values": colours, "only": {name: [item for item in items if item != "none"]}}
    for name, sizes in (("head", HEAD_SIZES), ("width", WIDTHS), ("legs", LEG_LENGTHS)):
        found[name] = {"values": [str(size) for size in sizes]}
    known = {"kind": seen.kinds, "pattern": seen.patterns, "emblem": seen.emblems, "headwear": seen.headwear}
    known |= {"neckwear": seen.neckwear, "accessory": seen.accessories}
    for name, entry in found.items():
        is_colour = entry["values"] is colours
        entry["seen"] = list((seen.colours if is_colour else known.get(name)) or entry["values"])
    return found


def identity_from(chosen: Mapping[str, str]) -> Identity:
    """The character of what was chosen; a colour for something that is not worn is left out.

    Raises:
        ValueError: a word that is none of the attribute's.
    """
    given = {name: chosen[name] for name in ("kind", "primary", "secondary", "accent", "pattern", "emblem")}
    for worn in ("headwear", "neckwear", "accessory"):
        given[worn] = chosen[worn]
        colour = chosen.get(f"{worn}_colour") or next(iter(COLOURS))
        given[f"{worn}_colour"] = "" if chosen[worn] == "none" else colour
    skin = (chosen.get("complexion") or next(iter(SKIN))) if chosen["kind"] == "child" else ""
    build = Proportions(**{name: float(chosen[name]) for name in ("head", "width", "legs")})
    return Identity(**given, complexion=skin, proportions=build)


def chosen_from(identity: Identity) -> dict[str, str]:
    """What has to be chosen for a character."""
    told = {name: getattr(identity, name) for name in attributes() if name not in ("head", "width", "legs")}
    return {**told, **{name: str(getattr(identity.proportions, name)) for name in ("head", "width", "legs")}}


@lru_cache(maxsize=64)
def portrait(identity: Identity) -> bytes:
    """A character's picture on a transparent background, as a PNG."""
    return png_bytes(Image.fromarray(render_reference(identity, size=_SIDE)))


def dice(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """A random character."""
    level = _WHOLE if payload.get("all") else _SEEN
    return {"chosen": chosen_from(sample_identity(Rng(secrets.token_hex(8)), level))}


def create(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Add the chosen character to the library.

    In prompts it is of its kind only: who it is, its picture tells.
    """
    identity = identity_from(payload["chosen"])
    article = "an" if identity.kind[0] in "aeiou" else "a"
    with Image.open(io.BytesIO(portrait(identity))) as picture:
        try:
            one = Library(session.settings.library).add(
                payload["name"],
                [picture.copy()],
                description=f"{article} {identity.kind}",
                notes=describe(identity, None, Rng("studio")),
            )
        except ValueError as error:
            error.field = "name"  # pyright: ignore[reportAttributeAccessIssue]
            raise
    return {"added": one.name}


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "creator": lambda session, payload: {"attributes": attributes(), **dice(session, payload)},
    "creator.dice": dice,
    "creator.add": create,
}
"""What the page may ask for."""
