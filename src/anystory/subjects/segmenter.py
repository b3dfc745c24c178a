"""Where a picture's subject is: a mask says so, else the picture's alpha, else a segmenter by name.

Segmenters are the built-in ones, ONNX files, and transformers' image-segmentation models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from anystory.subjects.cutout import BUILT_IN_SEGMENTERS, Cutout, Segmenter
from anystory.subjects.onnx_models import ONNX_MODELS, find_onnx
from anystory.subjects.onnx_segmenter import OnnxSegmenter
from anystory.subjects.pictures import Picture, Source, describe, load_mask

__all__ = ["check_segmenter", "cut_out", "find_segmenter", "is_transformers"]

_NOT_SUBJECTS = ("background", "wall", "floor", "ceiling", "sky", "ground", "unlabeled")


def cut_out(picture: Picture, what: str, segmenter: str | Segmenter, mask: Source | None = None) -> Cutout:
    """Find the subject of a picture.

    Args:
        picture: The picture.
        what: Its name for messages.
        segmenter: Used when there is neither mask nor alpha; a name (see `find_segmenter`) is loaded only then.
        mask: White where the subject is, of the picture's size.

    Raises:
        ValueError: nothing is visible, no subject is found, the mask does not fit, or the segmenter cannot be used.
    """
    if picture.alpha is not None and picture.alpha.max() < 128:
        raise ValueError(
            f"image {what} is empty: all of it is transparent (alpha at most {picture.alpha.max()} of 255)"
        )
    if mask is not None:
        return Cutout(_masked(picture, what, mask), "mask")
    if picture.alpha is not None:
        return Cutout(picture.alpha, "alpha")
    found = (find_segmenter(segmenter) if isinstance(segmenter, str) else segmenter)(picture.rgb)
    if found is None:
        named = f" (segmenter {segmenter!r})" if isinstance(segmenter, str) else ""
        raise ValueError(
            f"image {what}: found no subject against its background{named}. Give a picture with transparent "
            'background, a mask, another segmenter such as "u2netp", or "none" to take the whole picture'
        )
    return found


def _masked(picture: Picture, what: str, mask: Source) -> np.ndarray:
    """(H, W): a given mask, without what is transparent: that has no colour to show."""
    matte, size = load_mask(mask), picture.rgb.shape[:2]
    if matte.shape != size:
        raise ValueError(
            f"mask {describe(mask)} is {matte.shape[1]}×{matte.shape[0]}, but its picture {what} is "
            f"{size[1]}×{size[0]}: both must have the same size"
        )
    if picture.alpha is not None:
        matte = np.minimum(matte, picture.alpha)
        if matte.max() < 128:
            raise ValueError(f"mask {describe(mask)} covers only transparent pixels of {what}")
    return matte


def check_segmenter(name: object) -> None:
    """Check a segmenter's name; nothing is read.

    Raises:
        ValueError: it is not a text, or empty.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(
            f"`segmenter` must be one of {', '.join(BUILT_IN_SEGMENTERS)}, an ONNX model ({', '.join(ONNX_MODELS)}, or "
            f"its path), or a segmentation model's hub id or folder; got {name!r}"
        )


def find_segmenter(name: str) -> Segmenter:
    """Load the segmenter of a name.

    Args:
        name: One of `cutout.BUILT_IN_SEGMENTERS`; what `onnx_models.find_onnx` knows; or the hub id or folder of a
            transformers image-segmentation model.

    Raises:
        ValueError: no such segmenter, or a model that cannot be loaded.
    """
    check_segmenter(name)
    if name in BUILT_IN_SEGMENTERS:
        return BUILT_IN_SEGMENTERS[name]
    path = find_onnx(name)
    return ModelSegmenter(name) if path is None else OnnxSegmenter(path, name)


def is_transformers(name: str) -> bool:
    """Whether a name means a transformers model.

    Raises:
        ValueError: as for `onnx_models.find_onnx`.
    """
    check_segmenter(name)
    return name not in BUILT_IN_SEGMENTERS and find_onnx(name) is None


class ModelSegmenter:
    """A transformers image-segmentation model, loaded once.

    Of the segments that the model names, the one that covers the middle of the picture best is the subject; segments
    named as a background are left out.

    Args:
        model: Hub id or folder. Weights must be safetensors; code that comes with a model is never run.

    Raises:
        ValueError: it cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        try:
            from transformers import pipeline

            self._run: Any = pipeline(
                "image-segmentation", model=model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except Exception as error:  # a hub and a model's files each fail in ways of their own
            raise self._unusable(error) from error

    def __call__(self, rgb: np.ndarray) -> Cutout | None:
        """The subject of a picture (H, W, 3) uint8; None if the model found none.

        Raises:
            ValueError: the model cannot be run.
        """
        try:
            segments = self._run(Image.fromarray(rgb))
        except Exception as error:  # models' code fails in ways of its own
            raise self._unusable(error) from error
        segment = _most_central(segments)
        if segment is None:
            return None
        matte = np.asarray(segment["mask"].convert("L"))
        score = segment.get("score")  # models that name every pixel give none
        return Cutout(matte, self.model, 1.0 if score is None else float(score)) if matte.max() >= 128 else None

    def _unusable(self, error: Exception) -> ValueError:
        reason = str(error).strip().split("\n")[0]
        return ValueError(
            f"segmenter {self.model!r} cannot be used as an image-segmentation model ({type(error).__name__}: "
            f"{reason}). Give the id or folder of one with safetensors weights, an ONNX file, one of "
            f"{', '.join([*ONNX_MODELS, *BUILT_IN_SEGMENTERS])}, or a mask"
        )


def _most_central(segments: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The segment with the largest share of its own and the picture's weight near the middle."""
    best, best_score = None, 0.0
    for segment in segments:
        if str(segment.get("label") or "").lower() in _NOT_SUBJECTS:
            continue
        mask = np.asarray(segment["mask"].convert("L"))
        y, x = np.ogrid[-1 : 1 : mask.shape[0] * 1j, -1 : 1 : mask.shape[1] * 1j]
        score = float((mask * np.exp(-4 * (x * x + y * y))).sum())
        if score > best_score:
            best, best_score = segment, score
    return best
