"""The card of a character and the sheet of many."""

from __future__ import annotations

import numpy as np
from PIL import Image

from anystory.cast.pages import cast_sheet, character_card
from anystory.subjects import Subject


def holds(page: Image.Image, piece: Image.Image) -> list[tuple[int, int]]:
    """Where a page shows a picture, (x, y), top to bottom."""
    whole, part = np.asarray(page.convert("RGB")), np.asarray(piece.convert("RGB"))
    height, width = part.shape[:2]
    edge = next((int(y), int(x)) for y, x in np.argwhere((part != 255).any(axis=-1)))  # few pixels are as this one
    likely = np.argwhere((whole == part[edge]).all(axis=-1)) - edge
    inside = [
        (x, y) for y, x in likely.tolist() if 0 <= y <= whole.shape[0] - height and 0 <= x <= whole.shape[1] - width
    ]
    return [(x, y) for x, y in inside if np.array_equal(whole[y : y + height, x : x + width], part)]


def count(page: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(page.convert("RGB")) == colour).all(axis=-1).sum())


def test_a_card_shows_every_look(library, photos):
    library.add("Mara", [photos / "red.png", photos / "green.png"], colour="#0a0b0c", aliases=["Mimi"])
    character = library.add_variant("Mara", "winter", [photos / "plain.png"])
    card = character_card(character)
    places = []
    for look in (None, "winter"):
        for photo in character.subject(look).photos:
            (place,) = holds(card, photo.prepare(192).image)
            places.append(place)
    assert places[0][1] == places[1][1] < places[2][1], "photos of a look stand beside one another, looks below"
    assert places[0][0] == places[2][0]
    assert count(card, (10, 11, 12)) == 8 * (card.width - 32)
    assert card.height < character_card(library.edit("Mara", "winter", description="in a coat")).height


def test_a_sheet_shows_everybody_in_rows(library, photos):
    characters = [
        library.add(f"no {number}", [photos / ("green.png" if number == 6 else "red.png")], colour="#0a0b0c")
        for number in range(7)
    ]
    sheet = cast_sheet(characters)
    red = holds(sheet, Subject(photos / "red.png").prepare(192).image)
    green = holds(sheet, Subject(photos / "green.png").prepare(192).image)
    assert len(red) == 6
    assert len({y for _, y in red}) == 1
    assert len(green) == 1
    assert (green[0][0], green[0][1] > red[0][1]) == (red[0][0], True)
    assert count(sheet, (10, 11, 12)) == 7 * 6 * 192
