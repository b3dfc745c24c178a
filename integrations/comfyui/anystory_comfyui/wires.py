"""What goes from node to node besides ComfyUI's own types. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anystory.engine.backends.base import Backend, DrawnPicture, Model
    from anystory.engine.job import Job, SubjectFiles
    from anystory.subjects import Subject

__all__ = ["CATEGORY", "MODEL", "PICTURES", "SUBJECTS", "DrawnPictures", "GivenSubject", "LoadedModel"]

CATEGORY = "AnyStory"

MODEL = "ANYSTORY_MODEL"
"""A `LoadedModel`."""
SUBJECTS = "ANYSTORY_SUBJECTS"
"""A tuple of `GivenSubject`, in the order in which they were given."""
PICTURES = "ANYSTORY_PICTURES"
"""A `DrawnPictures`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model on its device, and the family that it belongs to."""

    model: Model
    backend: Backend


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenSubject:
    """A subject as files, which a record can hold, and the same cut out."""

    files: SubjectFiles
    read: Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPictures:
    """The pictures of one run of a sampler, with all that a record needs."""

    model: Model
    job: Job
    pictures: tuple[DrawnPicture, ...]
