"""Pictures of characters for people to look at: one character's card, and a sheet of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from anystory.cast.character import Character
from anystory.page_layout import below, beside, captioned, framed, paragraph, text
from anystory.subjects import Subject

__all__ = ["cast_sheet", "character_card"]

_SIDE = 192
"""Of a picture on a page, in pixels."""

_GAP = 12
_MOST_COLUMNS = 6


def character_card(character: Character) -> Image.Image:
    """One character: its names and words, then each look with its cut-outs, as a model sees them."""
    looks = [(None, character.photos), *((variant.name, variant.photos) for variant in character.variants)]
    rows = []
    for variant, photos in looks:
        cells = [
            captioned(_seen(character.folder / photo.cutout.file), f"{number}: {photo.found_by} {photo.confidence:.2f}")
            for number, photo in enumerate(photos, 1)
        ]
        title = [] if variant is None else [text(f"{character.name}@{variant}", size=16)]
        own = character.description_of(variant)
        width = _SIDE * min(len(cells), _MOST_COLUMNS)
        words = [paragraph(own, max(width, 2 * _SIDE))] if own else []
        rows.append(below([*title, *words, _grid(cells)], gap=6))
    names = text(character.name, size=24)
    also = [text(f"also {', '.join(character.aliases)}")] if character.aliases else []
    licence = [text(f"licence: {character.licence}")] if character.licence else []
    page = below([names, *also, *licence, *rows], gap=_GAP)
    stripe = Image.new("RGB", (page.width, 8), character.colour)
    return framed(below([stripe, page], gap=_GAP))


def cast_sheet(characters: Sequence[Character]) -> Image.Image:
    """Many characters on one page: each with its first cut-out, its name, and how many photos and variants it has.

    Args:
        characters: At least one.
    """
    cells = []
    for one in characters:
        stripe = Image.new("RGB", (_SIDE, 6), one.colour)
        pictures = f"{len(one.photos)} {'photo' if len(one.photos) == 1 else 'photos'}"
        looks = "".join(f", @{variant.name}" for variant in one.variants)
        words = [text(line, width=_SIDE) for line in (pictures + looks, one.description) if line]
        name = text(one.name, size=16, width=_SIDE)
        cells.append(below([_seen(one.cutouts()[0]), stripe, name, *words], gap=2))
    return framed(_grid(cells))


def _seen(cutout: Path) -> Image.Image:
    return Subject(cutout).prepare(_SIDE).image


def _grid(cells: Sequence[Image.Image]) -> Image.Image:
    columns = min(len(cells), _MOST_COLUMNS)
    rows = [beside(cells[start : start + columns], gap=_GAP) for start in range(0, len(cells), columns)]
    return below(rows, gap=_GAP)
