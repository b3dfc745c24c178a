"""A book's characters compared over its panels: likenesses, who is missing or doubled, and which panels break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from anystory.engine.inventory.describe import find
from anystory.engine.options import ModelOptions
from anystory.engine.record.reading import load_record
from anystory.story.book_folder import Book, BookPanel, PanelCandidate
from anystory.story.consistency.clip_judge import ClipJudge
from anystory.story.consistency.judging import Judge, Role, Shot, Sight
from anystory.story.consistency.storyworld_judge import StoryWorldJudge
from anystory.story.looks import identity_of
from anystory.story.model_facts import model_facts
from anystory.story.names import NameFinder
from anystory.story.prompts import subjects_of

__all__ = ["BookReport", "CharacterReport", "judge_of", "report_of", "roles_of", "shot_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CharacterReport:
    """One character, in one of its looks, over the panels that should show it."""

    role: Role
    name: str
    panels: tuple[int, ...]
    """Numbers of the panels."""
    sights: tuple[Sight, ...]
    """One for each of them."""
    likeness: np.ndarray
    """(n + 1, n + 1): the panels, then the reference; NaN where one of the two is not to be seen."""
    alike: float
    """See `Judge.alike`."""

    @property
    def means(self) -> tuple[float, ...]:
        """The mean likeness of each panel to the other panels and the reference; NaN where it is missing."""
        others = np.where(np.eye(len(self.likeness), dtype=bool), np.nan, self.likeness)
        return tuple(float(np.nanmean(row)) if np.isfinite(row).any() else float("nan") for row in others[:-1])

    @property
    def broken(self) -> dict[int, str]:
        """{panel: why it breaks the character}."""
        found = {}
        for panel, sight, mean in zip(self.panels, self.sights, self.means, strict=True):
            if sight.missing:
                found[panel] = "missing"
            elif sight.doubled:
                found[panel] = "doubled"
            elif mean < self.alike:
                found[panel] = f"unlike the others ({mean:.2f})"
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class BookReport:
    """A book's characters, and its prompts."""

    judge: str
    characters: tuple[CharacterReport, ...]
    without_effect: Mapping[int, list[str]] = field(default_factory=dict)
    """{panel: sentences about words of its prompt}."""
    undrawn: tuple[int, ...] = ()
    """Panels without a picture."""


def roles_of(book: Book, panel: BookPanel) -> dict[str, Role]:
    """{member: its look} of a panel's subjects."""
    mentions = [mention for mention in NameFinder(book.story).find(panel.panel.prompt) if mention.member is not None]
    settings = subjects_of(book.story, panel.panel, mentions)
    return {
        member: Role(member, settings[member].variant if member in settings else None)
        for member in panel.entry.subjects
    }


def shot_of(book: Book, panel: BookPanel, candidate: PanelCandidate) -> Shot:
    """A candidate as a judge sees it."""
    roles = roles_of(book, panel)
    with Image.open(candidate.picture) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    masks = {roles[member]: mask for member, mask in candidate.masks().items() if member in roles}
    return Shot(picture=pixels, masks=masks, prompt=panel.entry.prompt)


def judge_of(book: Book, clip: str | None = None) -> Judge:
    """The judge that fits a book: the classifier of StoryWorld if all characters are of it, else CLIP.

    Args:
        book: The book.
        clip: Folder or hub id of a CLIP model; None for the image encoder of the book's model.

    Raises:
        ValueError: there is no image encoder.
    """
    roles = {role for panel in book.panels for role in roles_of(book, panel).values()}
    looks = {role: book.story.cast[role.member].look(role.variant) for role in roles}
    if clip is None and all(look.storyworld for look in looks.values()):
        seeds = {role: book.story.cast[role.member].seed for role in roles}
        return StoryWorldJudge({role: identity_of(look, seeds[role])[0] for role, look in looks.items()})
    references = _references(book)
    if clip is not None:
        return ClipJudge(clip, clip, references)
    place = find(str(book.index.model["model"]))
    if not (place / "image_encoder").is_dir():
        raise ValueError(
            f"{book.index.model['model']} has no image encoder to compare with: name a CLIP model with --clip"
        )
    return ClipJudge(place / "image_encoder", place / "feature_extractor", references)


def _references(book: Book) -> dict[Role, Image.Image]:
    """The references that the book's own records hold, over white."""
    from anystory.subjects import Subject

    found: dict[Role, Image.Image] = {}
    for panel in book.panels:
        if panel.chosen is None:
            continue
        records = load_record(panel.chosen.record).subjects
        roles = roles_of(book, panel)
        for member, record in zip(panel.chosen.facts.subjects, records, strict=True):
            role = roles.get(member)
            if role is not None and role not in found:
                mask = None if record.mask is None else panel.chosen.folder / record.mask.file
                subject = Subject(panel.chosen.folder / record.image.file, mask, segmenter=record.segmenter)
                found[role] = subject.prepare(224).image
    return found


def report_of(book: Book, judge: Judge) -> BookReport:
    """Compare a book's characters, in the pictures that it shows.

    Raises:
        ValueError: nothing is drawn yet.
    """
    shown = [(panel, panel.chosen) for panel in book.panels if panel.chosen is not None]
    if not shown:
        raise ValueError(f"{book.folder} has no pictures yet: render it first")
    shots = {panel.number: shot_of(book, panel, candidate) for panel, candidate in shown}
    sights = {number: judge.sights(shot) for number, shot in shots.items()}
    roles = dict.fromkeys(role for found in sights.values() for role in found)
    words = _words(book)
    without = {number: [*judge.without_effect(shot), *words(shot.prompt)] for number, shot in shots.items()}
    return BookReport(
        judge=judge.name,
        characters=tuple(_character(book, judge, role, sights) for role in roles),
        without_effect={number: found for number, found in without.items() if found},
        undrawn=tuple(panel.number for panel in book.panels if panel.chosen is None),
    )


def _character(book: Book, judge: Judge, role: Role, sights: Mapping[int, Mapping[Role, Sight]]) -> CharacterReport:
    own = {number: found[role] for number, found in sights.items() if role in found}
    features = [*(sight.features for sight in own.values()), judge.reference(role)]
    likeness = np.array([[_likeness(judge, a, b) for b in features] for a in features])
    name = book.story.display_name(role.member)
    return CharacterReport(
        role=role,
        name=name if role.variant is None else f"{name} ({role.variant})",
        panels=tuple(own),
        sights=tuple(own.values()),
        likeness=likeness,
        alike=judge.alike,
    )


def _likeness(judge: Judge, a: Any, b: Any) -> float:
    return float("nan") if a is None or b is None else judge.likeness(a, b)


def _words(book: Book) -> Any:
    """What gives sentences about a prompt's words that the model does not read or know."""
    facts = model_facts(ModelOptions(model=str(book.index.model["model"]), adapter=book.index.model.get("adapter")))

    def sentences(prompt: str) -> list[str]:
        if facts is None:
            return []
        found = [f"the model does not know {word!r}" for word, _ in facts.unknown_words(prompt)]
        cut = facts.cut(prompt)
        return [*found, f"the model does not read the prompt's end: {cut!r}"] if cut else found

    return sentences
