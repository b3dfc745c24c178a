"""A recorded picture once more: what its record asks for, and whether the new picture is the recorded one.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.engine.errors import OptionError
from anystory.engine.job import Job, PhotoFiles, SubjectFiles, absolute_segmenter
from anystory.engine.options import ModelOptions
from anystory.engine.record.paths import paths_outside
from anystory.engine.record.png_text import is_png
from anystory.engine.record.provenance import differences
from anystory.engine.record.reading import load_record
from anystory.engine.record.references import check_files
from anystory.engine.record.schema import FileRecord, PictureRecord
from anystory.engine.record.shared import hidden_places

if TYPE_CHECKING:
    from anystory.engine.saving import Kept

__all__ = ["Comparison", "HiddenPlaces", "PathsOutside", "Replay", "restore"]

_PLACES = ("model", "adapter", "config", "image_encoder")


class HiddenPlaces(ValueError):
    """A record that does not say where its model lies, as those inside pictures do not.

    Args:
        path: The record.
        places: {option that says it: the name that the record has}.
    """

    def __init__(self, path: Path, places: Mapping[str, str]) -> None:
        what = " and ".join(f"{option.replace('_', ' ')} {name!r}" for option, name in places.items())
        super().__init__(
            f"{path} was drawn with the {what}, but a picture does not say in which folder of a machine that lies"
        )
        self.places = places


class PathsOutside(ValueError):
    """A record that leads out of its folder: its author would choose which of your files are read.

    Args:
        path: The record.
        outside: (what it is, the path): ("model", "/home/…").
    """

    def __init__(self, path: Path, outside: Sequence[tuple[str, str]]) -> None:
        shown = ", ".join(f"{what} {place!r}" for what, place in outside[:3])
        shown += f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        super().__init__(f"{path} names files outside its folder: {shown}")
        self.outside = outside


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A picture that was drawn again, beside the recorded one."""

    same_bytes: bool
    """It is the recorded picture, byte for byte."""
    was_changed: bool = False
    """The picture that held the record is not the recorded one: somebody changed it afterwards."""
    share: float | None = None
    """Share of the pixels that differ; None if there is no picture to compare with."""
    mean: float = 0.0
    """Their mean difference in grey levels, over all pixels."""
    most: int = 0
    """The largest difference in grey levels."""
    problem: str = ""
    """Why pixels cannot be compared."""
    reasons: tuple[str, ...] = ()
    """What else differs: files, weights, versions, the machine."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """All that is needed to draw a recorded picture again."""

    path: Path
    """The record, or the picture that holds it."""
    record: PictureRecord
    options: ModelOptions
    job: Job
    changed: tuple[str, ...]
    """A line for each file beside the record that is no longer what it was."""

    def compare(self, again: Kept) -> Comparison:
        """Hold the new picture against the recorded one."""
        from_picture = is_png(self.path)
        original = self.path if from_picture else self.path.parent / self.record.picture
        if again.record.picture_sha256 == self.record.picture_sha256:
            changed = from_picture and _pixels(original, again).share != 0
            return Comparison(same_bytes=True, was_changed=changed)
        reasons = [*self.changed, *differences(self.record.weights, again.record.weights)]
        reasons += differences(self.record.environment, again.record.environment)
        if self.record.together > 1:
            reasons.append(f"it was drawn in one call with {self.record.together - 1} more, which rounds differently")
        return replace(_pixels(original, again), reasons=tuple(reasons))


def restore(
    path: Path,
    *,
    trust_paths: bool = False,
    loras: Sequence[Path] = (),
    segmenter: str | None = None,
    **changes: Any,
) -> Replay:
    """Read a record and all that it asks for.

    Args:
        path: A picture that holds its record, or the JSON beside it.
        trust_paths: Follow the record's paths out of its folder: the caller knows who wrote it.
        loras: Where the LoRAs are now, in the recorded order, each with its recorded scale; none: where they were.
        segmenter: Where the model is now that cut the subjects out; None: where it was.
        **changes: Options of the model in place of the recorded ones, such as where it is now; None for no change.

    Raises:
        HiddenPlaces: the record does not say where something lies, and the caller neither.
        PathsOutside: without `trust_paths`, a path that leads out of the record's folder.
        OptionError: an entry or an option that cannot be.
        ValueError: no record, a damaged one, or one without its files.
    """
    record = load_record(path)
    given: dict[str, Any] = {name: changes.get(name) for name in _PLACES} | {"loras": loras, "segmenter": segmenter}
    said = {name for name, place in given.items() if place}
    hidden = {option: name for option, name in hidden_places(record).items() if _FIELDS.get(option, option) not in said}
    if hidden:
        raise HiddenPlaces(path, hidden)
    outside = [] if trust_paths else paths_outside(record, path.parent, said)
    if outside:
        raise PathsOutside(path, outside)
    if loras:
        changes["loras"] = _moved_loras(record, loras)
    return Replay(
        path=path,
        record=record,
        changed=tuple(check_files(record.files, path.parent)),
        options=ModelOptions.of_record(record, **changes),
        job=_job(record, path.parent, segmenter),
    )


_FIELDS = {"lora": "loras"}
"""{option of a hidden place: its field}."""


def _moved_loras(record: PictureRecord, loras: Sequence[Path]) -> tuple[Any, ...]:
    if len(loras) != len(record.loras):
        raise OptionError("lora", f"is given {len(loras)} times, but the picture has {len(record.loras)} LoRAs")
    return tuple(replace(lora, file=str(path)) for lora, path in zip(record.loras, loras, strict=True))


def _job(record: PictureRecord, folder: Path, segmenter: str | None) -> Job:
    """What a record asks for, with the copies of the references beside it."""
    from anystory.subjects import Subject
    from anystory.subjects.cutout import BUILT_IN_SEGMENTERS

    def path(file: FileRecord | None) -> Path | None:
        return None if file is None else folder / file.file

    def moved(recorded: str) -> dict[str, str]:
        return (
            {} if segmenter is None or recorded in BUILT_IN_SEGMENTERS else {"segmenter": absolute_segmenter(segmenter)}
        )

    known = {field.name for field in fields(Subject)} - {"image", "mask", "name"}
    subjects = tuple(
        SubjectFiles(
            image=folder / subject.image.file,
            mask=path(subject.mask),
            more=tuple(PhotoFiles(folder / photo.image.file, path(photo.mask)) for photo in subject.more),
            name=subject.name,
            region_mask=path(subject.region_mask),
            settings={name: getattr(subject, name) for name in known} | moved(subject.segmenter),
        )
        for subject in record.subjects
    )
    plain = ("prompt", "strength", "negative_prompt", "steps", "guidance", "true_cfg", "background_seed")
    same = (*plain, "isolation", "text_gate", "routing", "width", "height")
    return Job(
        subjects=subjects,
        image=path(record.image),
        mask=path(record.mask),
        **{name: getattr(record, name) for name in same},
    )


def _pixels(original: Path, again: Kept) -> Comparison:
    """How far a picture's pixels are from those of the recorded picture."""
    import numpy as np

    from anystory.subjects.pictures import load_picture

    if not original.is_file():
        return Comparison(same_bytes=False, problem="there is no picture beside the record to compare with")
    try:
        then = load_picture(original, "the recorded picture").rgb.astype(int)
    except ValueError as error:
        return Comparison(same_bytes=False, problem=str(error))
    now = np.asarray(again.image.convert("RGB")).astype(int)
    if then.shape != now.shape:
        return Comparison(same_bytes=False, problem=f"{original} has another size")
    apart = np.abs(then - now)
    share = float((apart.max(axis=-1) > 0).mean())
    return Comparison(same_bytes=False, share=share, mean=float(apart.mean()), most=int(apart.max()))
