"""What `generate`, `replay` and `demo` share: draw pictures, write them with sheet and record.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anystory.files import atomic_write, sha256_file

if TYPE_CHECKING:
    from PIL import Image

    from anystory.cli.session import Session
    from anystory.pipelines.record import FileRecord, PictureRecord, SubjectRecord
    from anystory.subjects import Subject

__all__ = ["Drawn", "Job", "PhotoFiles", "SubjectFiles", "draw_job", "free_number", "quiet_libraries"]


class PhotoFiles(NamedTuple):
    """A photo of a subject, and its mask."""

    image: Path
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """A subject given by files: what the command line can ask for, and what a record can hold."""

    image: Path
    mask: Path | None = None
    more: tuple[PhotoFiles, ...] = ()
    """Further photos of the same subject."""
    name: str | None = None
    settings: dict[str, Any]
    """Further fields of `Subject`: scales, region, segmenter."""

    @property
    def photos(self) -> tuple[PhotoFiles, ...]:
        """All photos, at least one."""
        return (PhotoFiles(self.image, self.mask), *self.more)

    def subject(self) -> Subject:
        """The pipeline's Subject."""
        from anystory.subjects import Subject

        if not self.more:
            return Subject(self.image, self.mask, name=self.name, **self.settings)
        images, masks = zip(*self.photos, strict=True)
        return Subject(images, masks, name=self.name, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One prompt with its subjects; None leaves a number to the model."""

    prompt: str
    subjects: tuple[SubjectFiles, ...] = ()
    image: Path | None = None
    """A picture to draw over; None to start from noise."""
    mask: Path | None = None
    """White where `image` is to be drawn anew; None for all of it."""
    strength: float | None = None
    """How much of `image` to change, 0…1."""
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture that was written."""

    image: Image.Image
    record: PictureRecord
    picture: Path
    sheet: Path | None


def draw_job(
    session: Session,
    job: Job,
    seeds: Sequence[int],
    out: Path,
    *,
    sheet: bool = True,
    title: str = "drawing",
    replay_of: str | None = None,
) -> list[Drawn]:
    """Draw a job once per seed; each picture is written as soon as it is done.

    A picture is drawn in a call of its own, so that its record alone draws it again, bit for bit.

    Args:
        out: Folder; pictures are numbered on from those that are there. Nothing in it is overwritten.
        sheet: Whether to draw the sheet of the routing maps too.
        title: What the progress bar calls it.
        replay_of: The record that is drawn again, to be noted in the new one.

    Raises:
        ValueError: an argument that the pipeline refuses.
    """
    import torch

    from anystory.evaluation.routing_sheet import routing_sheet
    from anystory.pipelines.record import PictureRecord, environment, save_record

    pipe, source, arguments = session.start(job)
    encoded = pipe.encode_subjects([subject.subject() for subject in job.subjects])
    references = [encoding.prepared.image for encoding in encoded]
    cutouts = [[photo.cutout for photo in encoding.photos] for encoding in encoded]
    steps = job.steps or session.default("num_inference_steps")
    guidance = session.default("guidance_scale") if job.guidance is None else job.guidance
    drawn = []
    with _progress(title, len(seeds)) as advance:
        for seed in seeds:
            result = pipe(
                prompt=job.prompt,
                negative_prompt=job.negative_prompt,
                subjects=encoded,
                num_inference_steps=steps,
                guidance_scale=guidance,
                **arguments,
                generator=torch.Generator().manual_seed(seed),
                record_routing=sheet,
                callback_on_step_end=advance,
            )
            image = result.images[0] if source is None else source.keep_rest(result.images[0])
            picture = _save_numbered(image, out)
            sheet_path = picture.with_name(f"{picture.stem}-routing.png") if sheet and result.routing else None
            if sheet_path is not None:
                _save(routing_sheet(image, result.routing, references=references, title=job.prompt), sheet_path)
            record = PictureRecord(
                prompt=job.prompt,
                negative_prompt=job.negative_prompt,
                seed=seed,
                steps=steps,
                guidance=guidance,
                width=image.width,
                height=image.height,
                subjects=_keep_references(job.subjects, cutouts, out),
                image=_keep(job.image, out),
                mask=_keep(job.mask, out),
                strength=arguments.get("strength"),
                weights=session.weights,
                environment=environment(session.options.device),
                picture=picture.name,
                picture_sha256=sha256_file(picture),
                routing_sheet=sheet_path.name if sheet_path else None,
                replay_of=replay_of,
                **session.options.recorded,
            )
            save_record(record, picture.with_suffix(".json"))
            drawn.append(Drawn(image=image, record=record, picture=picture, sheet=sheet_path))
    return drawn


def free_number(out: Path) -> int:
    """The number after the highest in a folder of outputs, from 1."""
    taken = [re.match(r"(\d+)\b", path.name) for path in out.iterdir()] if out.is_dir() else []
    return max((int(match.group(1)) for match in taken if match), default=0) + 1


def quiet_libraries() -> None:
    """Our progress bar is the only one, and only what a user can act on is printed."""
    # What bitsandbytes, where it is installed, misses on a CPU is for weights in 4 bits. diffusers imports it.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # transformers first: importing diffusers already makes it warn about what is not installed.
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


def _keep_references(
    subjects: Sequence[SubjectFiles], cutouts: Sequence[Sequence[str]], out: Path
) -> tuple[SubjectRecord, ...]:
    from anystory.pipelines.record import PhotoRecord, SubjectRecord

    def photo(files: PhotoFiles, cutout: str) -> PhotoRecord:
        image = _keep(files.image, out)
        assert image is not None
        return PhotoRecord(image=image, mask=_keep(files.mask, out), cutout=cutout)

    records = []
    for given, found in zip(subjects, cutouts, strict=True):
        first, *more = map(photo, given.photos, found)
        records.append(
            SubjectRecord(
                image=first.image,
                mask=first.mask,
                cutout=first.cutout,
                more=tuple(more),
                name=given.name,
                **given.settings,
            )
        )
    return tuple(records)


def _keep(path: Path | None, out: Path) -> FileRecord | None:
    """Copy a file that goes into a picture beside the picture."""
    from anystory.pipelines.record import keep_file

    return None if path is None else keep_file(path, out / "references", out)


def _save_numbered(image: Image.Image, out: Path) -> Path:
    """Write `out/0001.png`, or the next number that no other program takes meanwhile."""
    number = free_number(out)
    while True:
        path = out / f"{number:04d}.png"
        try:
            _save(image, path)
        except FileExistsError:
            number += 1
        else:
            return path


def _save(image: Image.Image, path: Path) -> None:
    with atomic_write(path, overwrite=False) as temporary:
        image.save(temporary)


@contextmanager
def _progress(title: str, pictures: int) -> Iterator[Any]:
    """A progress bar over all steps of all pictures, as a `callback_on_step_end`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Hands off stdout, which may be a file or another program.
    quiet: Any = {"transient": True, "redirect_stdout": False, "disable": not console.is_terminal}
    with Progress(*columns, console=console, **quiet) as progress:
        task = progress.add_task(title, total=None)

        def advance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            progress.update(task, total=pipe.num_timesteps * pictures, advance=1)
            return tensors

        yield advance
