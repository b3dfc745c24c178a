"""The story of a browser: its file, what is wrong with it and where, its panels' pictures, its pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anystory.engine.options import ModelOptions
from anystory.files import atomic_folder, atomic_write
from anystory.story.book_folder import Book, BookPanel, PanelCandidate, read_book
from anystory.story.check import check_story
from anystory.story.importing.read import import_story
from anystory.story.library import with_library
from anystory.story.model_facts import model_digest
from anystory.story.positions import Located, Problem, StoryProblems, read_located
from anystory.story.reading import StoryFile, read_story
from anystory.story.runner.keeping import book_writer
from anystory.story.runner.render import prepare_book
from anystory.story.runner.reroll import choose_candidate
from anystory.story.schema import FORMAT, Story
from anystory.story.styles import PRESETS
from anystory.studio.packed import zipped_folder
from anystory.studio.session import Session
from anystory.studio.told import FieldError
from anystory.studio.worker.tasks import RenderStory, RerollPanel

if TYPE_CHECKING:
    from anystory.story.book.pages.page import LaidOutBook

__all__ = ["ACTIONS", "exported_file", "page_file", "panel_picture", "render_task", "reroll_task", "shown"]

_DPI = 110
"""Of the pages as they are read."""


def shown(session: Session, problems: tuple[Problem, ...] = ()) -> dict[str, Any]:
    """The story, what is wrong with it, and its panels' pictures.

    Args:
        session: Whose.
        problems: What the drawing process found besides.
    """
    from anystory.story.book.exports.formats import FORMATS
    from anystory.story.book.pages.templates import template_names

    told: dict[str, Any] = {
        "styles": list(PRESETS),
        "templates": ["auto", *template_names()],
        "formats": list(FORMATS),
        "story": None,
        "problems": [],
        "panels": [],
    }
    if not session.story.is_file():
        return told
    found = _StoryOnDisk(session)
    marks = [*found.problems, *problems]
    told["story"] = None if found.located is None else _plain(found.located.value)
    told["problems"] = [{"panel": found.panel_of(one), "text": one.text} for one in dict.fromkeys(marks)]
    if found.book is not None:
        told["panels"] = [_panel(session, panel) for panel in found.book.panels]
    return told


class _StoryOnDisk:
    """A story file as far as it can be read."""

    def __init__(self, session: Session) -> None:
        self.problems: list[Problem] = []
        self.located: Located | None = None
        self.book: Book | None = None
        try:
            self.located = read_located(session.story)
            file = with_library(read_story(session.story), session.settings.library)
            self.problems += check_story(file).errors
            if not self.problems:
                self.book = _prepared(session, file)
        except StoryProblems as error:
            self.problems += error.problems

    def panel_of(self, problem: Problem) -> int | None:
        """The panel that a problem belongs to, from 0; None for one about the whole story."""
        if self.located is None or not isinstance(self.located.value, dict):
            return None
        count = len(self.located.value.get("panels") or ())
        starts = [self.located.values.get(("panels", number)) for number in range(count)]
        inside = [number for number, mark in enumerate(starts) if mark is not None and mark <= problem.mark]
        after = self.located.keys.get(("panels",))
        return inside[-1] if inside and after is not None and problem.mark > after else None


def _prepared(session: Session, file: StoryFile) -> Book | None:
    """The book of a story without errors, with the pictures that are drawn already; None while another is drawn."""
    options = session.options()
    try:
        with book_writer(session.book):
            prepare_book(file, session.book, options, digest=_digest(options))
    except StoryProblems:
        raise
    except ValueError:  # the drawing process holds it: it is as that process has planned it
        pass
    return read_book(session.book) if (session.book / "book.json").is_file() else None


@lru_cache(maxsize=8)
def _digest(options: ModelOptions) -> str:
    """A large model takes long to hash; its files do not change while the studio runs."""
    return model_digest(options)


def _panel(session: Session, panel: BookPanel) -> dict[str, Any]:
    return {
        "prompt": panel.entry.prompt,
        "alt": panel.alt,
        "subjects": [[member, _name(session, panel, member)] for member in panel.entry.subjects],
        "candidates": [
            {
                "number": one.number,
                "seed": one.facts.seed,
                "origin": one.facts.origin,
                "chosen": panel.chosen is not None and one.number == panel.chosen.number,
                "url": f"/files/panel/{panel.entry.key}/{one.number}.png",
            }
            for one in panel.candidates
        ],
    }


def _name(session: Session, panel: BookPanel, member: str) -> str:
    names = {line.speaker: line.name for line in panel.lines if line.speaker is not None}
    return names.get(member) or member[:1].upper() + member[1:]


def _plain(value: Any) -> Any:
    """A story as a file has it, in JSON's types."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def save(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Write the story as it stands on the page, complete or not."""
    story = payload["story"]
    text = yaml.safe_dump({"format": FORMAT, **story}, allow_unicode=True, sort_keys=False, width=110)
    with atomic_write(session.story) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return shown(session)


def begin(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Begin with the starter, or with an empty story of one panel. What there was is kept beside it."""
    if payload.get("starter"):
        story = _plain(yaml.safe_load(files("anystory.story").joinpath("starter.yaml").read_text(encoding="utf-8")))
    else:
        story = {"title": payload.get("title") or "Story", "cast": {}, "places": {}, "panels": [{"prompt": ""}]}
    _put_aside(session)
    return save(session, {"story": story})


def open_file(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Open a story file, or import a storyboard or a script."""
    path = session.upload(payload["upload"])
    try:
        if path.suffix.lower() in (".yaml", ".yml") or _is_story(path):
            read_story(path)
            story = _plain(read_located(path).value)
        else:
            story = _plain(import_story(path))
            Story.model_validate({"format": FORMAT, **story})
    except (ValueError, OSError) as error:
        message = " ".join(str(error).replace(str(path), path.name).split())
        raise FieldError("story_file", "plain", text=message) from None
    story.pop("$schema", None)
    _put_aside(session)
    return save(session, {"story": story})


def _is_story(path: Path) -> bool:
    """Whether a JSON file says that it is a story, not a storyboard."""
    return path.suffix.lower() == ".json" and f'"{FORMAT}"' in path.read_text(encoding="utf-8", errors="replace")


def _put_aside(session: Session) -> None:
    """Keep the story that was there, with its book."""
    old = session.story.parent
    if session.story.is_file():
        number = 1
        while (aside := old.with_name(f"story-{number}")).exists():
            number += 1
        old.rename(aside)


def render_task(session: Session, payload: dict[str, Any]) -> RenderStory:
    """The task that draws what is missing of some panels, or of all."""
    panels = payload.get("panels")
    return RenderStory(
        story=session.story,
        book=session.book,
        options=session.options(),
        library=session.settings.library,
        panels=None if panels is None else tuple(int(number) for number in panels),
    )


def reroll_task(session: Session, payload: dict[str, Any]) -> RerollPanel:
    """The task that draws a panel once more, or one character in it."""
    return RerollPanel(book=session.book, panel=int(payload["panel"]), character=payload.get("character") or None)


def choose(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Let the book show another picture of a panel."""
    choose_candidate(read_book(session.book), int(payload["panel"]), int(payload["candidate"]))
    return shown(session)


def panel_picture(session: Session, key: str, number: int) -> Path:
    """The file of a panel's picture.

    Raises:
        ValueError: there is none.
    """
    for panel in read_book(session.book).panels:
        found: list[PanelCandidate] = [one for one in panel.candidates if one.number == number]
        if panel.entry.key == key and found:
            return found[0].picture
    raise ValueError("this picture is not in the book any more: reload the page")


def _laid_out(session: Session) -> LaidOutBook:
    """The book's pages, with what each panel shows now."""
    from anystory.story.book.from_folder import contents_of, layout_of
    from anystory.story.book.pages.page import lay_out

    if not (session.book / "book.json").is_file():
        raise FieldError("book", "not_drawn")
    book = read_book(session.book)
    missing = [str(panel.number) for panel in book.panels if panel.chosen is None]
    if missing:
        raise FieldError("book", "panels_missing", panels=", ".join(missing))
    return lay_out(contents_of(book), layout_of(book))


def pages(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """The book's pages as pictures, each with its words."""
    from anystory.story.book.exports.pictures import page_files, write_pages
    from anystory.story.book.exports.transcript import spoken_words

    laid_out = _laid_out(session)
    folder = session.story.parent / "pages"
    with atomic_folder(folder) as temporary:
        write_pages(laid_out, temporary, _DPI)
    words = [
        [[one.kind, one.name, one.text] for one in spoken_words(page) if one.text.strip()] for page in laid_out.pages
    ]
    version = (folder / page_files(laid_out)[0]).stat().st_mtime_ns
    urls = [f"/files/page/{name}?{version}" for name in page_files(laid_out)]
    return {
        "pages": [{"url": url, "words": spoken} for url, spoken in zip(urls, words, strict=True)],
        "rtl": laid_out.right_to_left,
        "title": laid_out.book.title,
    }


def page_file(session: Session, name: str) -> Path:
    """A page as it was last laid out."""
    return session.story.parent / "pages" / Path(name).name


def export(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Write the book in the chosen formats."""
    from anystory.story.book.exports.formats import export_book, targets

    if not payload.get("formats"):
        raise FieldError("formats", "no_format")
    folder = session.story.parent / "export"
    try:
        chosen = targets(payload["formats"], folder, "book")
    except ValueError as error:
        raise FieldError("formats", "plain", text=str(error)) from None
    laid_out = _laid_out(session)
    with book_writer(session.book):
        written = dict(export_book(laid_out, chosen, dpi=float(payload.get("dpi") or 200), overwrite=True))
    return {
        "files": [{"format": name, "url": f"/files/export/{name}", "name": path.name} for name, path in written.items()]
    }


def exported_file(session: Session, form: str) -> tuple[str, bytes]:
    """An export's name and content; a folder as a zip."""
    from anystory.story.book.exports.formats import targets

    path = targets([form], session.story.parent / "export", "book")[form]
    if not path.exists():
        raise ValueError("this export is not here any more: export again")
    if path.is_file():
        return path.name, path.read_bytes()
    return f"{path.name}.zip", zipped_folder(path)


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "story": lambda session, payload: shown(session),
    "story.save": save,
    "story.begin": begin,
    "story.open": open_file,
    "story.choose": choose,
    "story.pages": pages,
    "story.export": export,
}
"""What the page may ask for."""
