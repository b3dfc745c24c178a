"""A candidate written into a book: whole, by one rename, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.picture_folder import clear_unfinished, draft_folder, keep_folder
from anystory.files import only_writer
from anystory.story.book_folder import CandidateFacts, PanelCandidate, panel_folder, read_candidates
from anystory.story.runner.plan import REFERENCES

if TYPE_CHECKING:
    import numpy as np

    from anystory.engine.backends.base import DrawnPicture, Model
    from anystory.engine.job import Job

__all__ = ["book_writer", "candidate_files", "free_candidate", "keep_candidate", "keep_copy", "keep_files"]

_FACTS = "candidate.json"
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}\.(json|png)$")
"""How `files.atomic_write` names a file that is not whole yet."""


@contextmanager
def book_writer(book: Path) -> Iterator[None]:
    """Hold a book while the block writes into it; what a killed program left unfinished is removed first.

    Raises:
        ValueError: another program is writing into it.
    """
    with only_writer(book):
        clear_unfinished(book)
        for left in (*book.glob(".*"), *(book / REFERENCES).glob(".*")):
            if _HALF_WRITTEN.search(left.name):
                left.unlink(missing_ok=True)
        yield


def free_candidate(book: Path, key: str) -> int:
    """The number after the highest of a panel's candidates."""
    return max((candidate.number for candidate in read_candidates(panel_folder(book, key))), default=0) + 1


def keep_candidate(
    book: Path,
    key: str,
    number: int,
    facts: CandidateFacts,
    picture: DrawnPicture,
    job: Job,
    model: Model,
    *,
    owners: np.ndarray | None,
    sheet: bool = True,
) -> PanelCandidate:
    """Write a candidate of a panel.

    Args:
        book, key, number: Where it belongs; the number is free.
        facts: What it is.
        picture, job, model: What was drawn, and how.
        owners: See `owners_of`.
        sheet: Whether to write the sheet of the routing maps.

    Raises:
        OSError: it cannot be written.
    """
    target = panel_folder(book, key) / str(number)
    texts = {_FACTS: facts.model_dump_json(indent=1) + "\n"}
    keep_folder(target, book, picture, job, model, owners=owners, texts=texts, sheet=sheet)
    return PanelCandidate(number=number, folder=target, facts=facts)


def keep_files(book: Path, key: str, number: int, files: Mapping[str, bytes]) -> PanelCandidate:
    """Write a candidate that was drawn into another folder, perhaps on another machine.

    Args:
        book, key, number: As for `keep_candidate`.
        files: The content of its files by their paths in its folder.

    Raises:
        OSError: it cannot be written.
    """
    target = panel_folder(book, key) / str(number)
    with draft_folder(target, book) as draft:
        for name, content in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return PanelCandidate(number=number, folder=target, facts=CandidateFacts.model_validate_json(files[_FACTS]))


def keep_copy(book: Path, key: str, number: int, other: PanelCandidate) -> PanelCandidate:
    """Write a candidate that another panel's folder has.

    Args:
        book, key, number: As for `keep_candidate`.
        other: The candidate.

    Raises:
        OSError: it cannot be read or written.
    """
    return keep_files(book, key, number, candidate_files(other))


def candidate_files(candidate: PanelCandidate) -> dict[str, bytes]:
    """The content of a candidate's files by their paths in its folder."""
    files = sorted(path for path in candidate.folder.rglob("*") if path.is_file())
    return {path.relative_to(candidate.folder).as_posix(): path.read_bytes() for path in files}
