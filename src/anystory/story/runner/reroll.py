"""One panel drawn again, all of it or one character; and which candidate the book shows.

    again = reroll_panel(read_book(Path("BOOK")), 4, seed=9)
    choose_candidate(read_book(Path("BOOK")), 4, 1)          # back to the first

Nothing is replaced: each drawing is a further candidate. It is drawn from the record of the first one, with the copies
of the references beside it, so the story file and the photos need not be there any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from anystory.engine.cancelling import CancelToken
from anystory.engine.character_mask import feathered
from anystory.engine.drawing import draw, load
from anystory.engine.events import StepDone
from anystory.engine.job import Job
from anystory.engine.limits import MOST_SEED
from anystory.engine.options import ModelOptions
from anystory.engine.replay import Replay, restore
from anystory.engine.saving import owners_of
from anystory.story.book_folder import (
    Book,
    BookPanel,
    CandidateFacts,
    PanelCandidate,
    read_book,
    read_choices,
    save_choices,
)
from anystory.story.runner.keeping import book_writer, free_candidate, keep_candidate

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model

__all__ = ["choose_candidate", "reroll_panel"]


def choose_candidate(book: Book, number: int, candidate: int) -> PanelCandidate:
    """Make the book show a candidate of a panel.

    Raises:
        ValueError: there is no such panel or candidate, or another program is writing into the book.
    """
    panel = book.panel(number)
    there = {one.number: one for one in panel.candidates}
    if candidate not in there:
        has = f"it has {', '.join(map(str, there))}" if there else "it is not drawn yet"
        raise ValueError(f"panel {number} has no candidate {candidate}: {has}")
    with book_writer(book.folder):
        _choose(book.folder, panel, candidate)
    return there[candidate]


def _choose(folder: Path, panel: BookPanel, candidate: int) -> None:
    save_choices(folder, {**read_choices(folder), panel.entry.key: candidate})


def reroll_panel(
    book: Book,
    number: int,
    *,
    seed: int | None = None,
    character: str | None = None,
    changes: Mapping[str, Any] | None = None,
    trust_paths: bool = False,
    load: Callable[[ModelOptions], Model] = load,
    on_step: Callable[[StepDone], None] = lambda step: None,
    cancel: CancelToken | None = None,
) -> PanelCandidate:
    """Draw a further candidate of a panel, and let the book show it.

    Args:
        book: The book.
        number: Of the panel, from 1.
        seed: Of its noise; None for a random one. If the panel has a candidate of this seed, that is chosen.
        character: Id or name of a cast member: only its pixels of the shown candidate are drawn again, by its routing
            mask. Everything else stays as it is, bit for bit.
        changes: Options of the model in place of the book's; None in it for no change.
        trust_paths: See `engine.replay.restore`.
        load: Loads the model.
        on_step, cancel: See `engine.drawing.draw`.

    Raises:
        ValueError: no such panel, one that is not drawn yet, or without that character.
        Cancelled, FloatingPointError, OSError: see `engine.drawing.draw`.
    """
    with book_writer(book.folder):
        panel = read_book(book.folder).panel(number)
        first = next((one for one in panel.candidates if one.facts.origin != "redraw"), None)
        if first is None or panel.chosen is None:
            raise ValueError(f"panel {number} is not drawn yet: render it first")
        same = _same(panel, seed) if character is None else None
        if same is not None:
            _choose(book.folder, panel, same.number)
            return same
        restored = _restored(book, first, changes or {}, trust_paths)
        changed = {"seed": _free_seed(panel) if seed is None else seed, "origin": "reroll"}
        facts = first.facts.model_copy(update=changed)
        redraw = None if character is None else _Redraw.of(book, panel, panel.chosen, character)
        with nullcontext() if redraw is None else TemporaryDirectory(prefix=".drawing-", dir=book.folder) as folder:
            job = restored.job
            if redraw is not None:
                assert folder is not None
                job, facts = redraw.job(job, Path(folder)), redraw.facts(facts)
            model = load(restored.options)
            subjects = [subject.subject() for subject in job.subjects]
            [picture] = draw(model, job, [facts.seed], on_step=on_step, cancel=cancel, subjects=subjects)
            owners = owners_of(picture)
            if redraw is not None:
                owners = redraw.owners(owners)
            key = panel.entry.key
            drawn = keep_candidate(
                book.folder, key, free_candidate(book.folder, key), facts, picture, job, model, owners=owners
            )
        _choose(book.folder, panel, drawn.number)
    return drawn


def _same(panel: BookPanel, seed: int | None) -> PanelCandidate | None:
    """The whole drawing of a seed, if there is one."""
    whole = (one for one in panel.candidates if one.facts.origin != "redraw")
    return next((one for one in whole if one.facts.seed == seed), None)


def _free_seed(panel: BookPanel) -> int:
    """A random seed that no candidate has."""
    taken = {candidate.facts.seed for candidate in panel.candidates}
    while (seed := secrets.randbelow(MOST_SEED + 1)) in taken:
        pass
    return seed


def _restored(book: Book, first: PanelCandidate, changes: Mapping[str, Any], trust_paths: bool) -> Replay:
    """What the first candidate's record asks for, with the model where the book says that it is."""
    own: dict[str, Any] = {name: book.index.model.get(name) for name in ("model", "adapter", "config", "image_encoder")}
    own["loras"] = [Path(lora["file"]) for lora in book.index.model.get("loras", ())]
    given = {name: value for name, value in changes.items() if value not in (None, ())}
    return restore(first.record, trust_paths=trust_paths, **{**own, **given})


@dataclass(frozen=True, kw_only=True)
class _Redraw:
    """One character of a candidate drawn again."""

    shown: PanelCandidate
    character: str
    mask: np.ndarray
    """(H, W) uint8: how much of each pixel is drawn anew."""

    @classmethod
    def of(cls, book: Book, panel: BookPanel, shown: PanelCandidate, name: str) -> _Redraw:
        """Raises ValueError for a character that the candidate does not show."""
        character = book.story.member(name)
        masks = shown.masks()
        if character is None or character not in masks:
            raise ValueError(f"{name!r} is not in panel {panel.number}, but {', '.join(masks) or 'nobody'}")
        mask = feathered(masks[character])
        if not mask.any():
            raise ValueError(f"{name!r} has no pixel of panel {panel.number}: draw the whole panel again")
        return cls(shown=shown, character=character, mask=mask)

    def job(self, job: Job, folder: Path) -> Job:
        """The panel's job over the shown picture, with the mask in a file of a folder."""
        from PIL import Image

        path = folder / f"{self.character}-mask.png"
        Image.fromarray(self.mask).save(path)
        return replace(job, image=self.shown.picture, mask=path, strength=1.0, background_seed=None)

    def facts(self, facts: CandidateFacts) -> CandidateFacts:
        """What the new candidate is."""
        changes = {"origin": "redraw", "parent": self.shown.number, "character": self.character}
        return facts.model_copy(update=changes)

    def owners(self, drawn: np.ndarray | None) -> np.ndarray:
        """Who owns each pixel: as in the shown picture outside the mask."""
        before = np.zeros(self.mask.shape, np.uint8)
        for number, mask in enumerate(self.shown.masks().values(), start=1):
            before[mask] = number
        return before if drawn is None else np.where(self.mask > 0, drawn, before)
