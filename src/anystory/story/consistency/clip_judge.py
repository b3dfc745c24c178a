"""An image encoder (CLIP) as a judge: for characters of any kind, cut out by their routing masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anystory.evaluation.metrics.cutouts import cut_by_mask
from anystory.evaluation.metrics.presence import ALIKE, is_double
from anystory.story.consistency.judging import Role, Shot, Sight
from anystory.subjects.image_encoders import ClipEncoder

__all__ = ["ClipJudge"]


class ClipJudge:
    """See `judging.Judge`; features are unit vectors.

    Args:
        encoder: Folder or hub id of a CLIP model, or of its vision part.
        processor: The same for its image processor.
        references: The characters' references, over white.

    Raises:
        ValueError: the encoder cannot be loaded.
    """

    name = "CLIP"
    alike = ALIKE

    def __init__(self, encoder: str | Path, processor: str | Path, references: Mapping[Role, Image.Image]) -> None:
        self._encoder = ClipEncoder(encoder, processor, otherwise="name another CLIP model with --clip")
        self._references = references

    def _features(self, picture: Image.Image) -> np.ndarray:
        return self._encoder.pictures([picture])[0]

    def sights(self, shot: Shot) -> dict[Role, Sight]:
        """See `judging.Judge.sights`: what a routing mask cuts out."""
        found = {}
        for role, mask in shot.masks.items():
            square = cut_by_mask(shot.picture, mask)
            if square is None:
                found[role] = Sight(features=None)
            else:
                found[role] = Sight(features=self._features(square), doubled=is_double(mask))
        return found

    def reference(self, role: Role) -> Any:
        """See `judging.Judge.reference`."""
        picture = self._references.get(role)
        return None if picture is None else self._features(picture)

    def likeness(self, a: Any, b: Any) -> float:
        """See `judging.Judge.likeness`: the cosine."""
        return float(np.clip(a @ b, 0, 1))

    def without_effect(self, shot: Shot) -> list[str]:
        """See `judging.Judge.without_effect`: CLIP does not tell."""
        return []
