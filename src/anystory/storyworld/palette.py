"""Named colours. A colour is an int 0xRRGGBB; an identity stores the name, a shape is painted with the int."""

from __future__ import annotations

from functools import lru_cache

COLOURS: dict[str, int] = {
    "red": 0xE2363B,
    "orange": 0xF98A1F,
    "yellow": 0xFFD23C,
    "lime": 0xA8D633,
    "green": 0x2F9E4F,
    "teal": 0x23B5B0,
    "blue": 0x2F6FE0,
    "purple": 0x8A4FD0,
    "pink": 0xF77FB4,
    "brown": 0x8C5A35,
    "white": 0xF7F3EA,
    "grey": 0x7F8794,
}
"""The colours of characters: far apart in hue or lightness, so that they differ in a 64-pixel picture."""

INK = 0x2C2A36
"""Eyes, noses and mouths."""
PAPER = 0xFFFDF7
"""Eye whites, teeth, pages."""
BEAK = 0xF7A224
BLUSH = 0xF48A8A
METAL = 0xB9C2CC
WOOD = 0x9A6B42
LEAF = 0x4BA35A
SKIN: dict[str, int] = {"light": 0xF9D3B4, "tan": 0xE0A878, "brown": 0xA9704A, "dark": 0x744A33}
"""Complexions of the child."""

SIMILAR: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        ("red", "orange"), ("red", "brown"), ("orange", "yellow"), ("orange", "brown"), ("yellow", "lime"),
        ("yellow", "white"), ("lime", "green"), ("green", "teal"), ("teal", "blue"), ("blue", "purple"),
        ("pink", "red"), ("pink", "purple"), ("grey", "brown"), ("grey", "blue"), ("grey", "teal"),
    )
)  # fmt: skip
"""Pairs that are too near each other to read as pattern and ground."""


def similar(a: str, b: str) -> bool:
    """Whether two named colours are the same or hard to tell apart side by side."""
    return a == b or frozenset((a, b)) in SIMILAR


def contrasting(names: tuple[str, ...], *used: str) -> tuple[str, ...]:
    """The colours of `names` unlike all of `used`; if there is none, those not equal to any of `used`."""
    clear = tuple(name for name in names if not any(similar(name, other) for other in used))
    return clear or tuple(name for name in names if name not in used) or names


@lru_cache(maxsize=4096)
def mix(colour: int, other: int, share: float) -> int:
    """`colour` with `share` (0 to 1) of it replaced by `other`."""
    keep = 1.0 - share
    r = (colour >> 16) * keep + (other >> 16) * share
    g = (colour >> 8 & 255) * keep + (other >> 8 & 255) * share
    b = (colour & 255) * keep + (other & 255) * share
    return int(r + 0.5) << 16 | int(g + 0.5) << 8 | int(b + 0.5)


@lru_cache(maxsize=4096)
def multiply(colour: int, filter_: int) -> int:
    """`colour` seen through a coloured light `filter_` (0xFFFFFF changes nothing)."""
    r = (colour >> 16) * (filter_ >> 16) // 255
    g = (colour >> 8 & 255) * (filter_ >> 8 & 255) // 255
    b = (colour & 255) * (filter_ & 255) // 255
    return r << 16 | g << 8 | b


def shade(colour: int, amount: float) -> int:
    """A darker (`amount` > 0, up to 1) or lighter (`amount` < 0, down to -1) version of `colour`."""
    # towards a deep violet rather than black: shadows stay colourful
    return mix(colour, 0x1B1440, amount) if amount > 0 else mix(colour, 0xFFFFFF, -amount)
