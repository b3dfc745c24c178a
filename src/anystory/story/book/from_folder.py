"""A rendered book as what pages are made from."""

from __future__ import annotations

from PIL import Image

from anystory.story.book.contents import BookContents, Line, PanelArt
from anystory.story.book.pages.page import PageLayout
from anystory.story.book_folder import Book, BookPanel

__all__ = ["contents_of", "layout_of"]


def contents_of(book: Book) -> BookContents:
    """The panels of a book as it is on disk, each with its chosen picture.

    Raises:
        ValueError: panels that are not drawn yet, or a damaged picture.
        OSError: a file cannot be read.
    """
    missing = [str(panel.number) for panel in book.panels if panel.chosen is None]
    if missing:
        which = f"panel {missing[0]} is" if len(missing) == 1 else f"panels {', '.join(missing)} are"
        raise ValueError(
            f"{book.folder}: {which} not drawn yet: `anystory story render {book.index.source} --out {book.folder}` "
            "draws what is missing"
        )
    story = book.story
    return BookContents(
        title=story.title,
        author=story.author,
        language=story.language,
        panels=tuple(_panel(book, panel) for panel in book.panels),
    )


def _panel(book: Book, panel: BookPanel) -> PanelArt:
    assert panel.chosen is not None
    try:
        with Image.open(panel.chosen.picture) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{panel.chosen.picture} is damaged: draw panel {panel.number} again") from None
    spoken = []
    for line in panel.lines:
        if line.kind != "narration":
            colour = None if line.speaker is None else book.story.cast[line.speaker].colour
            said = {"text": line.text, "speaker": line.speaker, "name": line.name or "", "colour": colour}
            spoken.append(Line(kind=line.kind, **said))
    return PanelArt(
        number=panel.number,
        picture=picture,
        masks=panel.chosen.masks(),
        narration="\n".join(line.text for line in panel.lines if line.kind == "narration"),
        lines=tuple(spoken),
        alt=panel.alt,
        transition=panel.panel.transition,
    )


def layout_of(book: Book) -> PageLayout:
    """How the story file wants its pages.

    Raises:
        ValueError: a page template that there is not.
    """
    wanted = book.story.layout
    direction = {"auto": None, "ltr": False, "rtl": True}[wanted.direction]
    return PageLayout(
        templates=(*wanted.pages, wanted.template), page=wanted.page, cover=wanted.cover, right_to_left=direction
    )
