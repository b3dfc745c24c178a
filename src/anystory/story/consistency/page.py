"""A page that shows a book's report. One HTML file, no script."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from anystory.files import atomic_write
from anystory.story.book_folder import Book
from anystory.story.consistency.report import BookReport, CharacterReport

__all__ = ["write_page"]

_SIDE = 160


def write_page(book: Book, report: BookReport, path: Path) -> None:
    """Write the page.

    Args:
        book, report: The book, and what was found in it.
        path: The HTML file; an older one is replaced.
    """
    title = f"{book.story.title}: how consistent it is"
    style = files("anystory.story.consistency").joinpath("page.css").read_text(encoding="utf-8")
    broken = {number for character in report.characters for number in character.broken}
    parts = [_panels(book, broken, report), *(_character(book, character) for character in report.characters)]
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body>'
        f"<h1>{escape(title)}</h1><p>Judged by {escape(report.judge)}. Likeness is 1 for equal characters."
        f" Panels with a red border break a character.</p>{''.join(parts)}</body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _panels(book: Book, broken: set[int], report: BookReport) -> str:
    figures = []
    for panel in book.panels:
        if panel.chosen is None:
            continue
        with Image.open(panel.chosen.picture) as picture:
            shown = _img(picture.convert("RGB"), f"panel {panel.number}")
        notes = "".join(f"<br>{escape(note)}" for note in report.without_effect.get(panel.number, ()))
        kind = ' class="broken"' if panel.number in broken else ""
        prompt = escape(panel.entry.prompt)
        figures.append(
            f"<figure{kind}>{shown}<figcaption>{panel.number}: {prompt}<em>{notes}</em></figcaption></figure>"
        )
    missing = f"<p>Not drawn yet: {', '.join(map(str, report.undrawn))}.</p>" if report.undrawn else ""
    return f'<h2>Panels</h2><div class="row">{"".join(figures)}</div>{missing}'


def _character(book: Book, character: CharacterReport) -> str:
    broken = character.broken
    crops = []
    for number in character.panels:
        chosen = book.panel(number).chosen
        assert chosen is not None
        kind = ' class="broken"' if number in broken else ""
        crop = _img(_crop(chosen.picture, chosen.masks()[character.role.member]), f"in panel {number}")
        crops.append(f"<figure{kind}>{crop}<figcaption>{number} {escape(broken.get(number, ''))}</figcaption></figure>")
    names = [*map(str, character.panels), "reference"]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{name}</th>{''.join(map(_cell, row))}</tr>"
        for name, row in zip(names, character.likeness, strict=True)
    )
    table = f"<table><tr><td></td>{head}</tr>{rows}</table>"
    return f'<h2>{escape(character.name)}</h2><div class="row">{"".join(crops)}</div>{table}'


def _cell(value: float) -> str:
    if math.isnan(value):
        return '<td class="none">–</td>'
    return f'<td style="background: hsl({round(120 * value)} 60% 80%)">{value:.2f}</td>'


def _crop(picture: Path, mask: np.ndarray) -> Image.Image:
    """What a routing mask shows of a picture, over white."""
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    shown = np.where(mask[..., None], pixels, np.uint8(255))
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        shown = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(shown)


def _img(picture: Image.Image, alternative: str) -> str:
    """An <img> that carries its picture."""
    picture.thumbnail((2 * _SIDE, 2 * _SIDE))
    data = io.BytesIO()
    picture.save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{alternative}" src="data:image/png;base64,{encoded}">'
