"""Cutting a subject out with a segmentation model that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["ModelSegmenter", "cut_with_model"]

_NOT_SUBJECTS = ("background", "wall", "floor", "ceiling", "sky", "ground", "unlabeled")


class ModelSegmenter:
    """A transformers image-segmentation model, loaded once: by `load`, or at the first picture.

    Of the segments that the model names, the one that covers the middle of the picture best is the subject; segments
    named as a background are left out.

    Args:
        model: Hub id or folder. Weights must be safetensors; code that comes with a model is never run.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._run: Any = None

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        """The subject's matte, (H, W) uint8, 255 where the subject is; None if the model found no subject.

        Args:
            rgb: (H, W, 3) uint8.

        Raises:
            ValueError: the model cannot be loaded or run.
        """
        self.load()
        try:
            segments = self._run(Image.fromarray(rgb))
        except Exception as error:  # models' code fails in ways of its own
            raise self._unusable(error) from error
        matte = _most_central(segments)
        return None if matte is None or matte.max() < 128 else matte

    def load(self) -> None:
        """Load the model now.

        Raises:
            ValueError: it cannot be loaded.
        """
        if self._run is not None:
            return
        try:
            from transformers import pipeline

            self._run = pipeline(
                "image-segmentation", model=self.model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except Exception as error:  # a hub and a model's files each fail in ways of their own
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ValueError:
        reason = str(error).strip().split("\n")[0]
        return ValueError(
            f"segmenter {self.model!r} cannot be used as an image-segmentation model ({type(error).__name__}: "
            f'{reason}). Give the id or folder of one with safetensors weights, or "auto", "border", "grabcut", '
            '"none", or a mask'
        )


def cut_with_model(rgb: np.ndarray, model: str) -> np.ndarray:
    """The subject's matte by a transformers image-segmentation model, loaded for this one picture.

    Args:
        rgb: (H, W, 3) uint8.
        model: See `ModelSegmenter`.

    Returns:
        (H, W) uint8, 255 where the subject is.

    Raises:
        ValueError: the model cannot be loaded or run, or found no subject.
    """
    matte = ModelSegmenter(model)(rgb)
    if matte is None:
        raise ValueError(
            f"segmenter {model!r} found no subject in the picture: give a mask, or choose another segmenter"
        )
    return matte


def _most_central(segments: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """The mask with the largest share of its own and the picture's weight near the middle."""
    best, best_score = None, 0.0
    for segment in segments:
        if str(segment.get("label") or "").lower() in _NOT_SUBJECTS:
            continue
        mask = np.asarray(segment["mask"].convert("L"))
        y, x = np.ogrid[-1 : 1 : mask.shape[0] * 1j, -1 : 1 : mask.shape[1] * 1j]
        score = float((mask * np.exp(-4 * (x * x + y * y))).sum())
        if score > best_score:
            best, best_score = mask, score
    return best
