"""The record of a drawn picture as classes: everything that is needed to draw it again. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from annotated_types import Ge, Interval

from anystory.engine.limits import MOST_STEPS

__all__ = [
    "STRICT",
    "CandidateRecord",
    "FileRecord",
    "LoraRecord",
    "PhotoRecord",
    "PictureRecord",
    "Share",
    "Side",
    "SubjectRecord",
    "SubjectScore",
]

STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""How pydantic checks a record against the classes below: it may come from anybody."""

Share: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
Strength: TypeAlias = Annotated[float, Ge(0)]
Side: TypeAlias = Annotated[int, Interval(ge=1, le=65536)]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file that went into a picture."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    file: str
    """The copy, relative to the record's folder."""
    sha256: str
    original: str
    """Where it was when the picture was drawn."""


@dataclass(frozen=True, kw_only=True)
class LoraRecord:
    """A LoRA on the base; its hash stands among the weights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    file: str
    """Its path (absolute in a record); nothing is copied."""
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PhotoRecord:
    """One of several photos of a subject."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    image: FileRecord
    mask: FileRecord | None = None
    cutout: str = ""


@dataclass(frozen=True, kw_only=True)
class SubjectRecord:
    """A `Subject` as it was given; see there for the settings."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    image: FileRecord
    mask: FileRecord | None = None
    name: str | None = None
    region: tuple[float, float, float, float] | None = None
    scale: Strength = 1.0
    reference_scale: Strength = 1.0
    scale_start: Share = 0.0
    scale_end: Share = 1.0
    reference_start: Share = 0.0
    reference_end: Share = 1.0
    segmenter: str = "auto"
    cutout: str = ""
    """How the subject was found in its picture."""
    more: tuple[PhotoRecord, ...] = ()
    """Further photos of the same subject."""
    region_mask: FileRecord | None = None
    """White where it goes, in place of the box `region`."""

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Everything that was given for it."""
        given = [
            self.image,
            self.mask,
            self.region_mask,
            *(file for photo in self.more for file in (photo.image, photo.mask)),
        ]
        return tuple(file for file in given if file is not None)


@dataclass(frozen=True, kw_only=True)
class SubjectScore:
    """How well a candidate shows one subject, by an encoder's features of the part that its routing mask cuts out."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    present: bool
    """Its mask covers a hundredth of the picture."""
    doubled: bool = False
    """Its mask has two large parts."""
    identity: Share = 0.0
    """Cosine with its reference."""
    leak: Share = 0.0
    """By how much another subject's reference is more alike."""


@dataclass(frozen=True, kw_only=True)
class CandidateRecord:
    """One candidate of a picture, and its scores: see `evaluation.best_of.scoring`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    seed: Annotated[int, Interval(ge=0, lt=2**64)]
    total: float
    """What the best one has most of."""
    prompt: float | None = None
    """Cosine of the picture and the prompt; None where the encoder reads no texts."""
    subjects: tuple[SubjectScore, ...] = ()
    redrawn: Annotated[int, Ge(1)] | None = None
    """The subject that was drawn again inside its own pixels of the best picture so far, from 1; None: all is new."""


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """One picture: what was asked for, with what, and what came out."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    prompt: str
    negative_prompt: str | None
    seed: Annotated[int, Interval(ge=0, lt=2**64)]
    steps: Annotated[int, Interval(ge=1, le=MOST_STEPS)]
    guidance: float
    width: Side
    height: Side
    subjects: tuple[SubjectRecord, ...]
    model: str
    """An embedded model's name, a folder or single file (absolute), or a hub id."""
    adapter: str | None
    """A folder or hub id of an adapter that is not the model's own."""
    device: str
    dtype: str
    weights: dict[str, str]
    """SHA-256 of each file of model, adapter and whatever else was named."""
    environment: dict[str, str]
    """See `environment`."""
    picture: str = ""
    """The PNG's name, beside the record; empty until it is written."""
    picture_sha256: str = ""
    """Of the PNG's bytes as they are without the record inside."""
    image: FileRecord | None = None
    """The picture that was drawn over, if any."""
    mask: FileRecord | None = None
    """White where it was."""
    strength: Share | None = None
    true_cfg: float | None = None
    isolation: str | None = None
    text_gate: str | None = None
    routing: str | None = None
    background_seed: Annotated[int, Interval(ge=0, lt=2**64)] | None = None
    # How the model was run; what each means stands in `engine.options`.
    config: str | None = None
    image_encoder: str | None = None
    variant: str | None = None
    prediction_type: str | None = None
    zero_snr: bool | None = None
    scheduler: str | None = None
    karras: bool | None = None
    loras: tuple[LoraRecord, ...] = ()
    quantize: str | None = None
    offload: str = "none"
    tiling: bool = False
    together: Annotated[int, Ge(1)] = 1
    """Pictures that were drawn in the same call; where it is more than this one, its replay may differ in last bits."""
    candidates: tuple[CandidateRecord, ...] = ()
    """All candidates that the picture is the best of; empty where it is the only one."""
    routing_sheet: str | None = None
    replay_of: str | None = None

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Everything that was given for the picture."""
        own = [file for file in (self.image, self.mask) if file is not None]
        return (*own, *(file for subject in self.subjects for file in subject.files))
