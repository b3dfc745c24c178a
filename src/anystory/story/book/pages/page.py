"""Pages: panels in their frames, with their words placed. Lengths are in points (1/72 inch), y down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

import numpy as np

from anystory.story.book.contents import BookContents, PanelArt, is_right_to_left
from anystory.story.book.lettering.balloons import Box, outer_size
from anystory.story.book.lettering.heads import Occupied
from anystory.story.book.lettering.placing import PlacedWords, TextDoesNotFitError, place_words
from anystory.story.book.lettering.text_block import BreakableText
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.frames import MARGIN, crop_window, cropped, frames
from anystory.story.book.pages.templates import Template, template

__all__ = ["LaidOutBook", "Page", "PageLayout", "PanelOnPage", "lay_out"]

PageSize = Literal["auto", "portrait", "square", "landscape"]
_SIZES: dict[str, tuple[float, float]] = {"portrait": (432, 648), "square": (576, 576), "landscape": (648, 432)}
"""In points: 6 × 9, 8 × 8 and 9 × 6 inches."""
_BY_COUNT = {1: "full", 2: "two", 3: "three", 4: "four", 6: "six"}
_TITLE_SIZES, _AUTHOR_SIZE = (40.0, 34.0, 28.0, 23.0, 19.0, 15.0, 12.0), 15.0


@dataclass(frozen=True, kw_only=True)
class PageLayout:
    """How pages look.

    Raises:
        ValueError: an unknown template or page size, or a font size out of range.
    """

    templates: tuple[str, ...] = ("auto",)
    """One for each page, the last for all further pages; "auto" chooses by what fits."""
    page: PageSize = "auto"
    """"auto" takes the shape that is nearest to the pictures'."""
    smallest: float = 7.0
    largest: float = 12.5
    """The letters' em in points."""
    cover: bool = True
    """Whether a cover with the title comes first."""
    right_to_left: bool | None = None
    """Whether panels and balloons are read from right to left; None: as the language is written."""

    def __post_init__(self) -> None:
        if not self.templates:
            raise ValueError("`templates` is empty: name at least one, or auto")
        for name in self.templates:
            if name != "auto":
                template(name)
        if self.page not in get_args(PageSize):
            raise ValueError(f"`page` must be one of {', '.join(get_args(PageSize))}, got {self.page!r}")
        if not 4 <= self.smallest <= self.largest <= 72:
            raise ValueError(
                f"`smallest` and `largest` must satisfy 4 ≤ smallest ≤ largest ≤ 72 points, "
                f"got {self.smallest:g} and {self.largest:g}"
            )


@dataclass(frozen=True, eq=False)
class PanelOnPage:
    """A panel in its frame."""

    panel: PanelArt
    frame: Box
    window: Box
    """What the frame shows of the picture, in its pixels."""
    words: tuple[PlacedWords, ...]


@dataclass(frozen=True, eq=False)
class Page:
    """One page; a cover has its words on the paper, not in a panel."""

    label: str
    """"Cover", "1", "2", …"""
    width: float
    height: float
    panels: tuple[PanelOnPage, ...]
    words: tuple[PlacedWords, ...] = ()


@dataclass(frozen=True, eq=False)
class LaidOutBook:
    """A book whose pages are ready to be painted."""

    book: BookContents
    pages: tuple[Page, ...]
    typefaces: Typefaces
    right_to_left: bool


def lay_out(book: BookContents, layout: PageLayout, typefaces: Typefaces | None = None) -> LaidOutBook:
    """Make the pages of a book and place every word.

    Raises:
        TextDoesNotFitError, MissingScriptError: see `place_words`.
    """
    typefaces = typefaces or Typefaces(book.language)
    chosen = layout.right_to_left
    right_to_left = is_right_to_left(book.language) if chosen is None else chosen
    maker = _PageMaker(book, layout, typefaces, right_to_left, _page_size(book, layout))
    pages = (*([maker.cover()] if layout.cover else []), *maker.pages())
    return LaidOutBook(book, pages, typefaces, right_to_left)


def _page_size(book: BookContents, layout: PageLayout) -> tuple[float, float]:
    if layout.page != "auto":
        return _SIZES[layout.page]
    shape = median(math.log(_aspect(panel)) for panel in book.panels)
    return min(_SIZES.values(), key=lambda size: abs(math.log(size[0] / size[1]) - shape))


@dataclass(frozen=True, eq=False)
class _PageMaker:
    book: BookContents
    layout: PageLayout
    typefaces: Typefaces
    right_to_left: bool
    size: tuple[float, float]

    def pages(self) -> Iterator[Page]:
        left, names = list(self.book.panels), list(self.layout.templates)
        number = 1
        while left:
            name = names.pop(0) if len(names) > 1 else names[0]
            page = self._next(number, left, name)
            yield page
            left = left[len(page.panels) :]
            number += 1

    def _next(self, number: int, left: Sequence[PanelArt], name: str) -> Page:
        """The next page; by itself a template that is too small for the words gives way to one with fewer panels."""
        if name != "auto":
            chosen = template(name)
            if len(left) < chosen.count and not chosen.fit_height:
                chosen = template(_BY_COUNT[max(count for count in _BY_COUNT if count <= len(left))])
            return self._page(str(number), left[: chosen.count], chosen)
        count = _best_count([_aspect(panel) for panel in left], self.size)
        for fewer in sorted((c for c in _BY_COUNT if 1 < c <= count), reverse=True):
            with suppress(TextDoesNotFitError):
                return self._page(str(number), left[:fewer], template(_BY_COUNT[fewer]))
        return self._page(str(number), left[:1], template(_BY_COUNT[1]))

    def _page(self, label: str, panels: Sequence[PanelArt], chosen: Template) -> Page:
        width, height = self.size
        aspects = [_aspect(panel) for panel in panels]
        boxes, height = frames(chosen, aspects, width, height, right_to_left=self.right_to_left)
        placed = tuple(self._panel(panel, frame) for panel, frame in zip(panels, boxes, strict=True))
        return Page(label, width, height, placed)

    def _panel(self, panel: PanelArt, frame: Box) -> PanelOnPage:
        window = crop_window(panel.picture.width, panel.picture.height, frame.width / frame.height, panel.masks)
        occupied = Occupied({name: cut(mask, window) for name, mask in panel.masks.items()}, frame)
        sizes = (self.layout.smallest, self.layout.largest)
        words = place_words(panel, occupied, self.typefaces, sizes=sizes, right_to_left=self.right_to_left)
        return PanelOnPage(panel, frame, window, words)

    def cover(self) -> Page:
        """The title above the first panel's picture, the author below it."""
        width, height = self.size
        room = width - 2 * MARGIN
        words = []
        top = bottom = MARGIN
        if self.book.title.strip():
            title = self._heading(self.book.title, _TITLE_SIZES, room, height * 0.3, bold=True)
            words.append(_moved(title, (width - title.box.width) / 2, MARGIN))
            top += title.box.height + MARGIN / 2
        if self.book.author.strip():
            author = self._heading(self.book.author, (_AUTHOR_SIZE, 12.0, 9.0, 7.0), room, height * 0.12)
            words.append(_moved(author, (width - author.box.width) / 2, height - MARGIN - author.box.height))
            bottom += author.box.height + MARGIN / 2
        panel = self.book.panels[0]
        frame = _fitted(_aspect(panel), Box(MARGIN, top, room, height - top - bottom))
        window = Box(0, 0, panel.picture.width, panel.picture.height)
        return Page("Cover", width, height, (PanelOnPage(panel, frame, window, ()),), tuple(words))

    def _heading(
        self, text: str, sizes: Sequence[float], room: float, highest: float, *, bold: bool = False
    ) -> PlacedWords:
        """Text as large as fits `room` points across and `highest` down.

        Raises:
            TextDoesNotFitError: it does not fit even at the smallest size.
        """
        breakable = BreakableText(text, self.typefaces, bold=bold)
        for size in sizes:
            for block in breakable.blocks(room / size, highest / size):
                width, height = outer_size(block, "plain", size)
                if height <= highest:
                    return PlacedWords(block, "plain", Box(0, 0, width, height), size, None, text, None)
        raise TextDoesNotFitError(f"cover: {text!r} does not fit even at {sizes[-1]:g} points: shorten it")


def _best_count(aspects: Sequence[float], size: tuple[float, float]) -> int:
    """How many panels the next page has by itself, so that the book has few pages and its pictures lose little."""
    costs = [0.0] + [math.inf] * len(aspects)
    best = [0] * (len(aspects) + 1)
    for start in range(len(aspects) - 1, -1, -1):
        left = len(aspects) - start
        for count, name in _BY_COUNT.items():
            if count <= left:
                lost = cropped(template(name), aspects[start : start + count], *size)
                cost = 1 + 3 * lost + 0.15 * max(count - 4, 0) + costs[left - count]
                if cost < costs[left]:
                    costs[left], best[left] = cost, count
    return best[-1]


def _aspect(panel: PanelArt) -> float:
    return panel.picture.width / panel.picture.height


def _fitted(aspect: float, box: Box) -> Box:
    """The largest frame of a shape in the middle of a box."""
    width, height = min(box.width, box.height * aspect), min(box.height, box.width / aspect)
    return Box(box.x + (box.width - width) / 2, box.y + (box.height - height) / 2, width, height)


def _moved(placed: PlacedWords, x: float, y: float) -> PlacedWords:
    box = Box(x, y, placed.box.width, placed.box.height)
    return PlacedWords(placed.block, placed.shape, box, placed.size, None, placed.text, None)


def cut(array: np.ndarray, window: Box) -> np.ndarray:
    """The part of a mask that a window shows."""
    y0, x0 = round(window.y), round(window.x)
    return array[y0 : max(round(window.bottom), y0 + 1), x0 : max(round(window.right), x0 + 1)]
