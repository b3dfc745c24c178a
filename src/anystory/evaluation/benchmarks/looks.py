"""What of a picture is compared: its features, whole and of each subject cut out; kept beside the picture.

Shapes: d features of an encoder, N subjects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from anystory.engine.picture_folder import OWNERS
from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject
from anystory.evaluation.benchmarks.drawing import BenchmarkTask
from anystory.evaluation.metrics.copy_paste import copy_paste_features
from anystory.evaluation.metrics.cutouts import cut_by_mask, cut_by_segmenter
from anystory.evaluation.metrics.detection import Detector, assign
from anystory.evaluation.metrics.presence import is_double
from anystory.files import atomic_write
from anystory.subjects import Subject
from anystory.subjects.cutout import Segmenter
from anystory.subjects.image_encoders import ClipEncoder, PictureEncoder
from anystory.subjects.pictures import load_picture

__all__ = ["CLIP", "Looking", "PictureLook", "References", "over_white"]

CLIP = "CLIP"
"""The encoder that texts, copies and detections are compared with."""
_FILE = "look.npz"
_SIDE = 224


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureLook:
    """A drawn picture."""

    whole: Mapping[str, np.ndarray]
    """{encoder: (d,)}."""
    subjects: Mapping[str, np.ndarray]
    """{encoder: (N, d)} of each subject cut out; rows of NaN for one that is missing."""
    text: np.ndarray
    """CLIP's features of the prompt, (d,); empty without CLIP."""
    doubled: np.ndarray
    """(N,) bool: whether a subject's mask has two large parts."""
    cut: bool
    """Whether subjects were cut out at all: without a router and a detector they are not."""
    found: int
    """Characters that a detector found; -1 without one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """A subject's references."""

    whole: Mapping[str, np.ndarray]
    """{encoder: (m, d)}: all pictures that it is compared with, as they are."""
    cut: Mapping[str, np.ndarray]
    """{encoder: (m, d)}: the same, cut out."""
    mirrored: np.ndarray
    """CLIP's features (2, d) of the one that the model got, cut out, and of its mirror image; empty without CLIP."""


@dataclass(kw_only=True, eq=False)
class Looking:
    """Looks at pictures and references, at each once.

    Attributes:
        encoders: {name: encoder}; `CLIP` also reads prompts.
        cut_references: Segmenter of the references, by name.
        segmenter: Cuts subjects out of drawn pictures, inside their routing masks; None for the masks themselves.
        detector: Finds characters, in place of the routing masks; None for the masks.
        key: What the looks depend on besides the picture: those kept under another key are not used.
    """

    encoders: Mapping[str, PictureEncoder]
    cut_references: str = "auto"
    segmenter: Segmenter | None = None
    detector: Detector | None = None
    key: str = ""
    _references: dict[object, References] = field(default_factory=dict)

    def references(self, subject: BenchmarkSubject) -> References:
        """A subject's references."""
        at = (subject.image, subject.compared)
        if at not in self._references:
            whole = [over_white(path) for path in subject.compared]
            cut = [self._cut(path) for path in subject.compared]
            given = self._cut(subject.image)
            self._references[at] = References(
                whole={name: encoder.pictures(whole) for name, encoder in self.encoders.items()},
                cut={name: encoder.pictures(cut) for name, encoder in self.encoders.items()},
                mirrored=self._mirrored(given),
            )
        return self._references[at]

    def _cut(self, path: Path) -> Image.Image:
        return Subject(path, segmenter=self.cut_references).prepare(_SIDE).image

    def _mirrored(self, given: Image.Image) -> np.ndarray:
        return copy_paste_features(self.encoders[CLIP], given) if CLIP in self.encoders else np.zeros((0, 0))

    def look(self, task: BenchmarkTask, out: Path) -> PictureLook:
        """A drawn picture.

        Raises:
            ValueError, OSError: the picture cannot be read.
        """
        kept, wanted = task.folder(out) / _FILE, self._wanted(task)
        if (there := _read(kept, wanted)) is not None:
            return there
        found = self._look(task.case, task.folder(out), over_white(task.picture(out)))
        arrays = {"key": np.array(wanted), "doubled": found.doubled, "text": found.text}
        arrays |= {"cut": np.array(found.cut), "found": np.array(found.found)}
        arrays |= {f"whole {name}": value for name, value in found.whole.items()}
        arrays |= {f"subjects {name}": value for name, value in found.subjects.items()}
        with atomic_write(kept) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return found

    def _wanted(self, task: BenchmarkTask) -> str:
        names = [subject.name for subject in task.case.subjects]
        return hashlib.sha256(f"{self.key} {task.case.prompt} {names}".encode()).hexdigest()

    def _look(self, case: BenchmarkCase, folder: Path, picture: Image.Image) -> PictureLook:
        pixels, masks = np.asarray(picture), _masks(folder, len(case.subjects))
        crops: list[Image.Image | None] = [None] * len(case.subjects)
        count = -1
        if self.detector is not None:
            crops, count = self._detected(case, picture, self.detector)
        elif masks is not None and self.segmenter is None:
            crops = [cut_by_mask(pixels, mask, _SIDE) for mask in masks]
        elif masks is not None:
            crops = [cut_by_segmenter(pixels, mask, self.segmenter, _SIDE) for mask in masks]  # type: ignore[arg-type]
        clip = self.encoders.get(CLIP)
        return PictureLook(
            whole={name: encoder.pictures([picture])[0] for name, encoder in self.encoders.items()},
            subjects={name: _rows(crops, encoder.pictures) for name, encoder in self.encoders.items()},
            text=clip.texts([case.prompt])[0] if isinstance(clip, ClipEncoder) else np.zeros(0),
            doubled=np.array([is_double(mask) for mask in masks or ()], bool),
            cut=bool(case.subjects) and (masks is not None or self.detector is not None),
            found=count,
        )

    def _detected(
        self, case: BenchmarkCase, picture: Image.Image, detector: Detector
    ) -> tuple[list[Image.Image | None], int]:
        """The detection that is each subject, and how many there are: ViStoryBench's matching by CLIP."""
        boxes = [picture.crop(tuple(map(round, one.box))) for one in detector.find(picture)]  # type: ignore[arg-type]
        boxes = [box for box in boxes if min(box.size) > 0]
        if not boxes:
            return [None] * len(case.subjects), 0
        encoder = self.encoders[CLIP]
        features = encoder.pictures(boxes)
        alike = [(features @ self.references(one).cut[CLIP].T).max(axis=1) for one in case.subjects]
        seats = assign(np.array(alike)) if alike else []
        return [None if seat is None else boxes[seat] for seat in seats], len(boxes)


def over_white(path: Path) -> Image.Image:
    """A picture's file, its transparent parts over white."""
    picture = load_picture(path)
    rgb = Image.fromarray(picture.rgb)
    if picture.alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), Image.fromarray(picture.alpha))


def _masks(folder: Path, count: int) -> list[np.ndarray] | None:
    """The subjects' routing masks, (H, W) bool; None where none were recorded."""
    if not count or not (folder / OWNERS).is_file():
        return None
    with Image.open(folder / OWNERS) as picture:
        owners = np.asarray(picture)
    return [owners == number for number in range(1, count + 1)]


def _rows(crops: Sequence[Image.Image | None], encode: Callable[[Sequence[Image.Image]], np.ndarray]) -> np.ndarray:
    """Features (N, d), NaN for a subject without a crop."""
    there = [number for number, crop in enumerate(crops) if crop is not None]
    if not there:
        return np.full((len(crops), 1), np.nan)
    features = encode([crop for crop in crops if crop is not None])
    rows = np.full((len(crops), features.shape[1]), np.nan)
    rows[there] = features
    return rows


def _read(path: Path, wanted: str) -> PictureLook | None:
    """A look that is kept under a key; None where there is none."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != wanted:
                return None
            return PictureLook(
                whole={name[6:]: kept[name] for name in kept.files if name.startswith("whole ")},
                subjects={name[9:]: kept[name] for name in kept.files if name.startswith("subjects ")},
                text=kept["text"],
                doubled=kept["doubled"],
                cut=bool(kept["cut"]),
                found=int(kept["found"]),
            )
    except (OSError, ValueError, KeyError, EOFError):  # none, or damaged: it is looked at again
        return None
