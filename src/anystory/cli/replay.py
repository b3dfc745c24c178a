"""`anystory replay`: a recorded picture once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anystory.cli.drawing import Drawn, Job, PhotoFiles, SubjectFiles, draw_job
from anystory.cli.model_options import ModelOptions
from anystory.cli.session import Session

if TYPE_CHECKING:
    from anystory.pipelines.record import FileRecord, PictureRecord

__all__ = ["replay"]


def replay(
    record: Annotated[Path, typer.Argument(help="The JSON beside a picture.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; nothing in it is overwritten.")] = Path("replay"),
    model: Annotated[str | None, typer.Option(help="Where the model is now, if it has moved.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Where the adapter is now, if it has moved.")] = None,
    config: Annotated[str | None, typer.Option(help="Where a single file's configuration is now.")] = None,
    image_encoder: Annotated[str | None, typer.Option(help="Where the image encoder is now.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="Where the LoRAs are now, in the recorded order.")] = None,
    device: Annotated[str | None, typer.Option(help="Another device than the recorded one.")] = None,
    offload: Annotated[str | None, typer.Option(help="Another offloading than the recorded one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Another number of threads.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the sheet of routing maps.")] = True,
) -> None:
    """Draw a recorded picture again and compare.

    With the same versions on the same kind of machine it is the same file, byte for byte. Otherwise what differs is
    said, and the exit code is 1.
    """
    from anystory.pipelines.record import check_files, differences, load_record

    then = load_record(record)
    folder = record.parent
    changed = check_files(then.files, folder)
    places = {"model": model, "adapter": adapter, "config": config, "image_encoder": image_encoder}
    session = Session(recorded_options(then, lora or (), **places, device=device, offload=offload, threads=threads))
    again = draw_job(
        session, recorded_job(then, folder), [then.seed], out, sheet=sheet, title="replaying", replay_of=str(record)
    )[0]
    print(again.picture)
    if again.record.picture_sha256 == then.picture_sha256:
        print("the same picture, byte for byte")
        return
    same, verdict = _compare(folder / then.picture, again)
    print(verdict)
    changed += differences(then.weights, session.weights)
    changed += differences(then.environment, again.record.environment)
    for line in changed or ["nothing that the record knows of: the processor or a library it does not list, perhaps"]:
        print(f"  {line}")
    if not same:
        raise typer.Exit(1)


def recorded_options(record: PictureRecord, loras: Sequence[Path], **changes: Any) -> ModelOptions:
    """What a record's picture was drawn with, but for what is given now (None: as recorded).

    Args:
        loras: Where the LoRAs are, each with its recorded scale; none: where they were.

    Raises:
        ValueError: another number of LoRAs than recorded.
    """
    options = ModelOptions.of_record(record)
    options = replace(options, **{name: value for name, value in changes.items() if value is not None})
    if options.device == "cpu" and changes.get("offload") is None:
        options = replace(options, offload="none")  # it decides where weights wait, not what is drawn
    if not loras:
        return options
    if len(loras) != len(options.loras):
        raise ValueError(f"--lora is given {len(loras)} times, but the picture has {len(options.loras)} LoRAs")
    moved = [replace(lora, file=str(path)) for lora, path in zip(options.loras, loras, strict=True)]
    return replace(options, loras=tuple(moved))


def recorded_job(record: PictureRecord, folder: Path) -> Job:
    """What a record asks for, with the copies of the references beside it."""
    from anystory.subjects import Subject

    def path(file: FileRecord | None) -> Path | None:
        return None if file is None else folder / file.file

    known = {field.name for field in fields(Subject)} - {"image", "mask", "name"}
    subjects = tuple(
        SubjectFiles(
            image=folder / subject.image.file,
            mask=path(subject.mask),
            more=tuple(PhotoFiles(folder / photo.image.file, path(photo.mask)) for photo in subject.more),
            name=subject.name,
            settings={name: getattr(subject, name) for name in known},
        )
        for subject in record.subjects
    )
    return Job(
        prompt=record.prompt,
        subjects=subjects,
        image=path(record.image),
        mask=path(record.mask),
        strength=record.strength,
        negative_prompt=record.negative_prompt,
        steps=record.steps,
        guidance=record.guidance,
        width=record.width,
        height=record.height,
    )


def _compare(original: Path, again: Drawn) -> tuple[bool, str]:
    """Whether two pictures have the same pixels, and how far they are apart: the heading of what differs."""
    import numpy as np
    from PIL import Image

    if not original.is_file():
        return False, "not the recorded picture (which is no longer beside its record). What differs:"
    with Image.open(original) as image:
        then, now = np.asarray(image.convert("RGB")).astype(int), np.asarray(again.image.convert("RGB")).astype(int)
    if then.shape != now.shape:
        return False, f"not the recorded picture: {original} has another size. What differs:"
    apart = np.abs(then - now)
    if not apart.any():
        return True, "the same pixels in another file (the recorded one was written differently). What differs:"
    return False, (
        f"not the recorded picture: {(apart.max(axis=-1) > 0).mean():.1%} of the pixels differ, "
        f"by {apart.mean():.2f} grey levels on average and {apart.max()} at most. What differs:"
    )
