"""The models that a run's pictures are compared with, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anystory.engine.record.provenance import weight_hashes
from anystory.evaluation.benchmarks.looks import CLIP, Looking
from anystory.evaluation.metrics.detection import Detector
from anystory.subjects.image_encoders import ClipEncoder, DinoEncoder, PictureEncoder
from anystory.subjects.segmenter import find_segmenter

__all__ = ["EncoderChoice", "load_looking"]


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """Folders or hub ids; None leaves a model's measures out."""

    clip: str | None = "openai/clip-vit-base-patch32"
    dino: str | None = "facebook/dino-vits16"
    dinov2: str | None = None
    detector: str | None = None
    """A zero-shot detector that finds the characters, in place of the routing masks."""
    cut: str | None = None
    """A segmenter that cuts subjects out inside their routing masks; None for the masks themselves."""

    def facts(self) -> dict[str, Any]:
        """What was taken, with the hashes of folders."""
        named = {name: value for name, value in vars(self).items() if value is not None}
        here = {name: value for name, value in named.items() if Path(value).exists()}
        return {**named, "hashes": weight_hashes(here)}


def load_looking(choice: EncoderChoice, cut_references: str = "auto") -> Looking:
    """Load them all.

    Args:
        choice: Which.
        cut_references: Segmenter of the references.

    Raises:
        ValueError: one that cannot be loaded, or none at all; a detector without CLIP.
    """
    encoders: dict[str, PictureEncoder] = {}
    if choice.clip is not None:
        clip = encoders[CLIP] = ClipEncoder(choice.clip, otherwise="leave CLIP out with --clip none")
        clip.texts(["a picture"])  # so that a model without its text part is refused now
    if choice.dino is not None:
        encoders["DINO"] = DinoEncoder(choice.dino, otherwise="leave DINO out with --dino none")
    if choice.dinov2 is not None:
        encoders["DINOv2"] = DinoEncoder(choice.dinov2, otherwise="leave --dinov2 away")
    if not encoders:
        raise ValueError("there is nothing to compare pictures with: name a model with --clip, --dino or --dinov2")
    if choice.detector is not None and CLIP not in encoders:
        raise ValueError("--detector needs --clip, which tells whose detection is whose")
    return Looking(
        encoders=encoders,
        cut_references=cut_references,
        segmenter=None if choice.cut is None else find_segmenter(choice.cut),
        detector=None if choice.detector is None else Detector(choice.detector),
        key=f"{choice.facts()} {cut_references}",
    )
