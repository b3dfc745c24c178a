"""A book on disk, and reading it.

    BOOK/
      book.json                  the story as it was last rendered, its panels' keys, the model's options
      choices.json               {panel's key: number of the chosen candidate}, where you chose one
      scores.json                {panel's key: {candidate: how well it shows the cast, 0…1}}, where there are several
      references/                pictures drawn from descriptions; copies of all references, shared by the panels
      panels/KEY/                one folder per panel; KEY is a hash of everything that can change its picture
        1/  2/  …                its candidates: each appears whole, by one rename, and never changes
          0001.png  0001.json    the picture and its record, which `anystory replay` draws again
          0001-routing.png       the sheet of its routing maps; only with subjects
          owners.png             who owns each pixel, at the picture's size: 0 is the background, i the i-th subject
          candidate.json         seed, where it comes from, the subjects' ids in the order of `owners.png`
          references/            the record's files: hard links where the disk has them

A panel that has been changed has another key and another folder. The older one stays, in case you change it back; you
may remove it.

    book = read_book(Path("BOOK"))
    for panel in book.panels:
        if panel.chosen is not None:
            panel.chosen.picture, panel.chosen.masks(), panel.lines
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from anystory.files import atomic_write
from anystory.input_files import parse_object, read_text, why_invalid
from anystory.story.schema import Story, StoryPanel, StoryPlace

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BOOK_FORMAT",
    "Book",
    "BookIndex",
    "BookPanel",
    "CandidateFacts",
    "IndexEntry",
    "PanelCandidate",
    "TextLine",
    "panel_folder",
    "panels_folder",
    "read_book",
    "read_candidates",
    "read_choices",
    "read_scores",
    "save_choices",
    "save_index",
    "save_scores",
]

BOOK_FORMAT = "anystory-book/1"

_INDEX, _CHOICES, _SCORES = "book.json", "choices.json", "scores.json"
_PANELS, _FACTS, _OWNERS = "panels", "candidate.json", "owners.png"
_REMEDY = "render the story again into another folder"


class TextLine(NamedTuple):
    """A text of a panel, in reading order: the narration first."""

    text: str
    kind: Literal["narration", "speech", "thought", "shout", "whisper"]
    speaker: str | None
    """The id of a cast member; None for the narration, and for a speaker who is not of the cast."""
    name: str | None
    """The speaker's name, as it is lettered."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexEntry(_File):
    """A panel in `book.json`."""

    key: str
    """Of its folder."""
    prompt: str
    """What the model reads."""
    subjects: tuple[str, ...]
    """Ids of the cast members in the picture."""


class BookIndex(_File):
    """`book.json`."""

    format: Literal["anystory-book/1"]
    source: str
    """Where the story file was."""
    story: Story
    model: dict[str, Any]
    """The options of the model, as a picture's record has them."""
    panels: tuple[IndexEntry, ...]
    """One for each panel of the story."""


class CandidateFacts(_File):
    """`candidate.json`."""

    seed: int
    origin: Literal["render", "reroll", "redraw"]
    """Drawn by a render, by a reroll, or as a redrawing of one character."""
    parent: int | None = None
    """The candidate that was redrawn."""
    character: str | None = None
    """Who was redrawn."""
    subjects: tuple[str, ...] = ()
    """Ids of the cast members, in the order of `owners.png`."""
    base: str | None = None
    """A hash as the panel's key, but without the seed: if the story asks for this one's seed later, it is found."""


@dataclass(frozen=True, kw_only=True)
class PanelCandidate:
    """One drawing of a panel."""

    number: Annotated[int, Ge(1)]
    folder: Path
    facts: CandidateFacts

    @property
    def picture(self) -> Path:
        """The picture, a PNG."""
        return self.folder / "0001.png"

    @property
    def record(self) -> Path:
        """Its record."""
        return self.folder / "0001.json"

    @property
    def sheet(self) -> Path | None:
        """The sheet of its routing maps, if it has subjects."""
        path = self.folder / "0001-routing.png"
        return path if path.is_file() else None

    def masks(self) -> dict[str, np.ndarray]:
        """Who owns each pixel: {id: (H, W) bool} at the picture's size, in the subjects' order.

        {} without subjects, and where the model does not tell: FLUX.1 with one subject.
        """
        import numpy as np
        from PIL import Image

        if not self.facts.subjects or not (self.folder / _OWNERS).is_file():
            return {}
        with Image.open(self.folder / _OWNERS) as owners:
            pixels = np.asarray(owners.convert("L"))
        return {member: pixels == number for number, member in enumerate(self.facts.subjects, start=1)}


@dataclass(frozen=True, kw_only=True)
class BookPanel:
    """A panel of a book."""

    number: Annotated[int, Ge(1)]
    entry: IndexEntry
    panel: StoryPanel
    """As the story has it."""
    place: StoryPlace | None
    lines: tuple[TextLine, ...]
    folder: Path
    """Of its candidates."""
    candidates: tuple[PanelCandidate, ...]
    """By number; empty while nothing is drawn."""
    chosen: PanelCandidate | None
    """The one that the book shows."""

    @property
    def alt(self) -> str:
        """What a reader hears who cannot see the picture."""
        return self.panel.alt or self.panel.prompt.replace("{", "").replace("}", "")


@dataclass(frozen=True, kw_only=True)
class Book:
    """A book as it is on disk."""

    folder: Path
    index: BookIndex
    panels: tuple[BookPanel, ...]

    @property
    def story(self) -> Story:
        """The story as it was last rendered."""
        return self.index.story

    def panel(self, number: int) -> BookPanel:
        """A panel by its number, from 1.

        Raises:
            ValueError: there is no such panel.
        """
        if not 1 <= number <= len(self.panels):
            raise ValueError(f"{self.folder} has panels 1 to {len(self.panels)}, there is no panel {number}")
        return self.panels[number - 1]


def read_book(folder: Path) -> Book:
    """Read a book; panels that are not drawn yet have no candidates.

    Raises:
        ValueError: no book, or a damaged one.
        OSError: a file cannot be read.
    """
    path = folder / _INDEX
    if not path.is_file():
        raise ValueError(
            f"{folder} is no book: it has no {_INDEX}; `anystory story render STORY --out {folder}` makes one"
        )
    data = parse_object(read_text(path, _REMEDY), path, _REMEDY)
    try:
        index = BookIndex.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{path} is damaged ({why_invalid(error)}): {_REMEDY}") from None
    if len(index.panels) != len(index.story.panels):
        raise ValueError(f"{path} is damaged (it has {len(index.panels)} keys for {len(index.story.panels)} panels)")
    choices, scores = read_choices(folder), read_scores(folder)
    panels = tuple(
        _panel(folder, number, entry, index.story, choices.get(entry.key), scores.get(entry.key, {}))
        for number, entry in enumerate(index.panels, start=1)
    )
    return Book(folder=folder, index=index, panels=panels)


def _panel(
    folder: Path, number: int, entry: IndexEntry, story: Story, choice: int | None, scores: Mapping[int, float]
) -> BookPanel:
    panel = story.panels[number - 1]
    candidates = read_candidates(panel_folder(folder, entry.key))
    return BookPanel(
        number=number,
        entry=entry,
        panel=panel,
        place=None if panel.place is None else story.places.get(panel.place),
        lines=tuple(_lines(panel, story)),
        folder=panel_folder(folder, entry.key),
        candidates=candidates,
        chosen=_chosen(candidates, choice, scores),
    )


def _lines(panel: StoryPanel, story: Story) -> list[TextLine]:
    found = [TextLine(panel.narration, "narration", None, None)] if panel.narration else []
    for line in panel.dialogue:
        member = story.member(line.speaker)
        name = line.speaker if member is None else story.display_name(member)
        found.append(TextLine(line.text, line.kind, member, name))
    return found


def _chosen(
    candidates: tuple[PanelCandidate, ...], choice: int | None, scores: Mapping[int, float]
) -> PanelCandidate | None:
    """The candidate of a choice, or else the one with the best score; of equals, or without scores, the first."""
    for candidate in candidates:
        if candidate.number == choice:
            return candidate
    return max(candidates, key=lambda candidate: scores.get(candidate.number, 0.0), default=None)


def panel_folder(folder: Path, key: str) -> Path:
    """Where a panel's candidates lie in a book."""
    return panels_folder(folder) / key


def panels_folder(folder: Path) -> Path:
    """Where the panels' folders lie in a book."""
    return folder / _PANELS


def read_candidates(folder: Path) -> tuple[PanelCandidate, ...]:
    """The candidates in a panel's folder, by number.

    Raises:
        ValueError: a damaged one.
    """
    found = []
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.name.isdecimal() and (facts := place / _FACTS).is_file():
            try:
                read = CandidateFacts.model_validate(parse_object(read_text(facts, _REMEDY), facts, _REMEDY))
            except ValidationError as error:
                raise ValueError(
                    f"{facts} is damaged ({why_invalid(error)}): remove {place}, and render again"
                ) from None
            found.append(PanelCandidate(number=int(place.name), folder=place, facts=read))
    return tuple(sorted(found, key=lambda candidate: candidate.number))


def read_choices(folder: Path) -> dict[str, int]:
    """`choices.json`, or nothing chosen.

    Raises:
        ValueError: a damaged file.
    """
    return _read_map(folder / _CHOICES, dict[str, int], "choose again")


def read_scores(folder: Path) -> dict[str, dict[int, float]]:
    """`scores.json`, or no scores.

    Raises:
        ValueError: a damaged file.
    """
    return _read_map(folder / _SCORES, dict[str, dict[int, float]], "render again with --best-of")


def _read_map(path: Path, kind: Any, remedy: str) -> Any:
    if not path.is_file():
        return {}
    remedy = f"remove {path}, and {remedy}"
    try:
        return TypeAdapter(kind).validate_python(parse_object(read_text(path, remedy), path, remedy))
    except ValidationError as error:
        raise ValueError(f"{path} is damaged ({why_invalid(error)}): {remedy}") from None


def save_choices(folder: Path, choices: Mapping[str, int]) -> None:
    """Write `choices.json`."""
    _save_map(folder / _CHOICES, choices)


def save_scores(folder: Path, scores: Mapping[str, Mapping[int, float]]) -> None:
    """Write `scores.json`."""
    _save_map(folder / _SCORES, scores)


def _save_map(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def save_index(folder: Path, index: BookIndex) -> None:
    """Write `book.json`; what the story leaves out stays left out."""
    with atomic_write(folder / _INDEX) as temporary:
        temporary.write_text(
            index.model_dump_json(indent=1, by_alias=True, exclude_unset=True) + "\n", encoding="utf-8"
        )
