"""Candidates drawn on the machines of a Ray cluster (the extra `ray`), for one book.

Every machine must have this version of anystory and see the model and the story's pictures under the same paths; each
compares their content with what this process has. The book's folder is written by this process alone: a machine sends
back the files of a candidate, and one that dies leaves nothing in it.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from anystory.engine.job import PhotoFiles, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.files import sha256_file
from anystory.ray_pool import RayPool
from anystory.story.model_facts import model_digest
from anystory.story.runner.keeping import candidate_files
from anystory.story.runner.parallel import TaskDrawer
from anystory.story.runner.tasks import PanelTask

__all__ = ["RemoteDrawer", "ray_pool", "with_absolute_paths"]


class RemoteDrawer:
    """Draws one candidate after the other on its machine, and returns the files of each.

    Args:
        options, sheet: See `TaskDrawer`.
        digest: Of the model; see `model_digest`.
        pictures: SHA-256 of each file that goes into the pictures.

    Raises:
        ValueError: the machine has another model by that name, or none.
    """

    def __init__(self, options: ModelOptions, sheet: bool, digest: str, pictures: Mapping[Path, str]) -> None:
        if model_digest(options) != digest:
            raise ValueError(f"the machine {platform.node()} has another model or version at {options.model}")
        self._pictures = pictures
        self._checked: set[Path] = set()
        self._folder = TemporaryDirectory(prefix="anystory-")
        self._draw = TaskDrawer(Path(self._folder.name), options, sheet)

    def __call__(self, task: PanelTask) -> dict[str, bytes]:
        """Draw a candidate; the content of its files by their paths in its folder.

        Raises:
            ValueError: this machine does not see one of its pictures, or another by that path.
        """
        for path in files_of(task):
            self._check(path)
        drawn = self._draw(task)
        files = candidate_files(drawn)
        shutil.rmtree(drawn.folder)
        return files

    def _check(self, path: Path) -> None:
        if path in self._checked:
            return
        if not path.is_file():
            raise ValueError(f"the machine {platform.node()} does not see {path}: let all machines share its folder")
        if sha256_file(path) != self._pictures[path]:
            raise ValueError(f"the machine {platform.node()} has another picture at {path}")
        self._checked.add(path)


def with_absolute_paths(task: PanelTask) -> PanelTask:
    """The same task for a process in another folder."""
    job = task.plan.job

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    def subject(files: SubjectFiles) -> SubjectFiles:
        first, *more = (PhotoFiles(image.absolute(), absolute(mask)) for image, mask in files.photos)
        return replace(files, image=first.image, mask=first.mask, more=tuple(more))

    job = replace(job, subjects=tuple(map(subject, job.subjects)), image=absolute(job.image), mask=absolute(job.mask))
    return replace(task, plan=replace(task.plan, job=job))


def files_of(task: PanelTask) -> list[Path]:
    """Every file that goes into a candidate, but for the model's."""
    job = task.plan.job
    photos = [path for subject in job.subjects for photo in subject.photos for path in photo]
    return [path for path in (*photos, job.image, job.mask) if path is not None]


def ray_pool(tasks: Sequence[PanelTask], options: ModelOptions, address: str, *, sheet: bool) -> RayPool:
    """Actors that draw these tasks: one for each core of the cluster, or for each GPU if the device is one.

    Args:
        tasks: With absolute paths.
        options, sheet: See `TaskDrawer`.
        address: See `ray_pool.connect`.

    Raises:
        ValueError: see `RayPool`.
    """
    gpu = options.device.startswith("cuda")
    options = replace(options.absolute(), device="cuda" if gpu else options.device)  # an actor sees its own GPU only
    pictures = {path: sha256_file(path) for path in dict.fromkeys(path for task in tasks for path in files_of(task))}
    make = partial(RemoteDrawer, options, sheet, model_digest(options), pictures)
    return RayPool(make, len(tasks), address, gpu=gpu)
