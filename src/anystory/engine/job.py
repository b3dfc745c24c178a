"""What is to be drawn: a prompt with its subjects, as files, and the numbers of the call. Nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anystory.engine.errors import OptionError, check_text
from anystory.engine.limits import MOST_PIXELS, MOST_SEED, MOST_STEPS

if TYPE_CHECKING:
    from anystory.subjects import Subject

__all__ = ["ISOLATIONS", "ROUTINGS", "TEXT_GATES", "Job", "PhotoFiles", "SubjectFiles", "absolute_segmenter"]


ISOLATIONS = ("off", "on", "strict")
TEXT_GATES = ("none", "padding", "all")
ROUTINGS = ("none", "attention")


class PhotoFiles(NamedTuple):
    """A photo of a subject, and its mask."""

    image: Path
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """A subject given by files, which a record can hold."""

    image: Path
    """The first photo."""
    mask: Path | None = None
    """White where the subject is; None for the picture's alpha, or what a segmenter finds."""
    more: tuple[PhotoFiles, ...] = ()
    """Further photos of the same subject."""
    name: str | None = None
    """What the routing sheet and the record call it."""
    region_mask: Path | None = None
    """White where it goes, in place of a box among the settings."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Further fields of `Subject`: scales, region, segmenter."""

    @property
    def photos(self) -> tuple[PhotoFiles, ...]:
        """All photos, at least one."""
        return (PhotoFiles(self.image, self.mask), *self.more)

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings, with the mask of its region."""
        return self.settings if self.region_mask is None else {**self.settings, "region": self.region_mask}

    def subject(self) -> Subject:
        """The pipeline's Subject."""
        from anystory.subjects import Subject

        if not self.more:
            return Subject(self.image, self.mask, name=self.name, **self.all_settings)
        images, masks = zip(*self.photos, strict=True)
        return Subject(images, masks, name=self.name, **self.all_settings)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One prompt with its subjects; None leaves a number to the model.

    Raises:
        OptionError: a value that cannot be.
    """

    prompt: str
    """What to draw."""
    subjects: tuple[SubjectFiles, ...] = ()
    """Who is in it; none for the base model's own picture."""
    image: Path | None = None
    """A picture to draw over; None to start from noise."""
    mask: Path | None = None
    """White where `image` is drawn anew; None for all of it."""
    strength: float | None = None
    """How much of `image` to change, 0…1."""
    negative_prompt: str | None = None
    """What not to draw."""
    steps: int | None = None
    """Sampling steps."""
    guidance: float | None = None
    """Guidance scale."""
    true_cfg: float | None = None
    """Weight of the negative prompt on FLUX.1, above 1: each step runs twice. None without."""
    isolation: str | None = None
    """What the references read on FLUX.2 klein: one of `ISOLATIONS`; None for "on"."""
    text_gate: str | None = None
    """Text tokens that read no reference there: one of `TEXT_GATES`; None for "none"."""
    routing: str | None = None
    """How subjects without region find their place there: one of `ROUTINGS`; None for "none"."""
    background_seed: int | None = None
    """Seed of the noise where no subject is: pictures with the same one share their background. None: the picture's."""
    width: int | None = None
    """Width of the picture, in pixels."""
    height: int | None = None
    """Height of the picture, in pixels."""

    def __post_init__(self) -> None:
        check_text("prompt", self.prompt)
        check_text("negative_prompt", self.negative_prompt)
        if self.image is None and (self.mask is not None or self.strength is not None):
            raise OptionError("image", "is missing: a mask and a strength say what of it is drawn over, and how much")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise OptionError("strength", f"must be in 0…1, got {self.strength}")
        if self.true_cfg is not None and not 1 < self.true_cfg < math.inf:
            raise OptionError("true_cfg", f"must be above 1, got {self.true_cfg}")
        if self.true_cfg is not None and self.negative_prompt is None:
            raise OptionError("true_cfg", "weighs a negative prompt, and there is none: give both or neither")
        for name, known in (("isolation", ISOLATIONS), ("text_gate", TEXT_GATES), ("routing", ROUTINGS)):
            if getattr(self, name) not in (None, *known):
                raise OptionError(name, f"must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.background_seed is not None:
            if self.image is not None:
                raise OptionError("background_seed", "is for a picture from noise: `image` brings its own background")
            if not 0 <= self.background_seed <= MOST_SEED:
                raise OptionError("background_seed", f"must be 0 to {MOST_SEED}, got {self.background_seed}")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise OptionError("steps", f"must be 1 to {MOST_STEPS}, got {self.steps}")
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and side < 1:
                raise OptionError(name, f"must be a positive number of pixels, got {side}")
        if (self.width or 1) * (self.height or 1) > MOST_PIXELS:
            raise OptionError(
                "size", f"{self.width}×{self.height} is more than {MOST_PIXELS:,} pixels, the most that is drawn"
            )


def absolute_segmenter(name: str) -> str:
    """A segmenter's name as a record keeps it: files and folders by their absolute path."""
    path = Path(name).expanduser()
    there = path.exists() or path.with_name(f"{path.name or '.'}.onnx").exists()
    return str(path.absolute()) if there else name
