"""A page in words, for screen readers and for search: what each picture shows, and who says what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from anystory.story.book.contents import Line, PanelArt
from anystory.story.book.pages.page import Page

__all__ = ["Spoken", "spoken_words"]


class Spoken(NamedTuple):
    """One entry of a transcript."""

    kind: str
    """"picture", "title", "narration", or how a line is said."""
    name: str
    """Who speaks, or nothing."""
    text: str


def spoken_words(page: Page) -> Iterator[Spoken]:
    """A page's transcript in reading order."""
    for number, placed in enumerate(page.words):
        yield Spoken("author" if number else "title", "", _one_line(placed.text))
    for on_page in page.panels:
        panel = on_page.panel
        yield Spoken("picture", "", _one_line(panel.alt) or f"Panel {panel.number}")
        if on_page.words:
            yield from _panel_words(panel)


def _panel_words(panel: PanelArt) -> Iterator[Spoken]:
    if panel.narration.strip():
        yield Spoken("narration", "", _one_line(panel.narration))
    for line in panel.lines:
        yield Spoken(line.kind, speaker_name(line), _one_line(line.text))


def speaker_name(line: Line) -> str:
    """What a line's speaker is called, or nothing."""
    return line.name or line.speaker or ""


def _one_line(text: str) -> str:
    return " ".join(text.replace("\u00ad", "").split())
