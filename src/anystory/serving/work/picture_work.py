"""A picture's job, and subjects, as JSON, with paths relative to the job's folder. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anystory.engine.job import Job, PhotoFiles, SubjectFiles

__all__ = ["as_job", "as_subjects", "as_work", "subjects_as_work"]

_PLAIN = (
    "prompt", "negative_prompt", "strength", "steps", "guidance", "true_cfg", "background_seed", "width", "height",
)  # fmt: skip


def as_work(job: Job) -> dict[str, Any]:
    """A job whose paths are relative to its folder."""

    plain = {name: getattr(job, name) for name in _PLAIN}
    pictures = {"image": _text(job.image), "mask": _text(job.mask)}
    return plain | pictures | {"subjects": subjects_as_work(job.subjects)}


def subjects_as_work(subjects: Sequence[SubjectFiles]) -> list[dict[str, Any]]:
    """Subjects whose paths are relative to their job's folder."""
    return [
        {
            "name": subject.name,
            "photos": [{"image": _text(photo.image), "mask": _text(photo.mask)} for photo in subject.photos],
            "settings": subject.settings,
        }
        for subject in subjects
    ]


def as_job(work: dict[str, Any], folder: Path) -> Job:
    """What `as_work` gave, with paths in a folder."""
    return Job(
        **{name: work[name] for name in _PLAIN},
        image=_path(folder, work["image"]),
        mask=_path(folder, work["mask"]),
        subjects=as_subjects(work["subjects"], folder),
    )


def as_subjects(given: Sequence[dict[str, Any]], folder: Path) -> tuple[SubjectFiles, ...]:
    """What `subjects_as_work` gave, with paths in a folder."""

    def subject(one: dict[str, Any]) -> SubjectFiles:
        first, *more = (PhotoFiles(folder / photo["image"], _path(folder, photo["mask"])) for photo in one["photos"])
        settings = {name: tuple(value) if name == "region" else value for name, value in one["settings"].items()}
        return SubjectFiles(image=first.image, mask=first.mask, more=tuple(more), name=one["name"], settings=settings)

    return tuple(map(subject, given))


def _text(path: Path | None) -> str | None:
    return None if path is None else path.as_posix()


def _path(folder: Path, text: str | None) -> Path | None:
    return None if text is None else folder / text
