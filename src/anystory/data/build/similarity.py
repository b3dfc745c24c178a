"""How alike two photos of a subject are: by hashes and colours of the cut-outs, or by an image model."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from anystory.data.build.candidates import Photo
from anystory.data.build.fingerprints import difference_hash, hash_similarity
from anystory.subjects.image_models import load_model
from anystory.subjects.prepare import fit_to_square

__all__ = ["CutoutSimilarity", "Likeness", "ModelSimilarity", "Similarity"]

_BINS = (12, 4, 4)
"""Of a colour histogram: hues, saturations, values."""


class Likeness(NamedTuple):
    """How alike two cut-outs are; both in [0, 1], 1 for equal ones."""

    picture: float
    """As pictures (pose, view, light): high for a pair that teaches copying."""
    subject: float
    """As subjects: low if they differ."""


class Similarity(Protocol):
    """Describes photos once and compares descriptions."""

    alike: float
    """`Likeness.picture` above this is a copy, unless the plan sets another limit;"""
    different: float
    """`Likeness.subject` below this is another subject."""

    def describe(self, photo: Photo, instance: int = 0) -> Any:
        """What of a photo's instance is compared."""
        ...

    def compare(self, a: Any, b: Any) -> Likeness:
        """Compare two results of `describe`."""
        ...


class CutoutSimilarity:
    """Needs no model. Pictures: the mean of difference hash and colours. Subjects: the colours alone."""

    alike = 0.97
    different = 0.2
    _SIDE = 128

    def describe(self, photo: Photo, instance: int = 0) -> tuple[int, np.ndarray]:
        square, matte = _cutout(photo, instance, self._SIDE)
        return difference_hash(square), colour_histogram(square, matte)

    def compare(self, a: tuple[int, np.ndarray], b: tuple[int, np.ndarray]) -> Likeness:
        subject = float(np.minimum(a[1], b[1]).sum())
        return Likeness((hash_similarity(a[0], b[0]) + subject) / 2, subject)


class ModelSimilarity:
    """Cosine of an image model's features (CLIP, DINOv2, SigLIP, …), for both questions.

    Args:
        model: Hub id or folder of a transformers model. Weights must be safetensors; code that comes with a model is
            never run.

    Raises:
        ValueError: the model cannot be loaded, or gives no features of pictures.
    """

    alike = 0.98
    different = 0.4
    _SIDE = 512

    def __init__(self, model: str) -> None:
        self._model = load_model(
            "similarity", model, "AutoImageProcessor", "AutoModel", "leave it out to compare colours and hashes"
        )

    def describe(self, photo: Photo, instance: int = 0) -> np.ndarray:
        import torch

        square, _ = _cutout(photo, instance, self._SIDE)
        processor, net, device = self._model
        inputs = processor(images=square, return_tensors="pt").to(device)
        with torch.inference_mode():
            if hasattr(net, "get_image_features"):
                found = net.get_image_features(**inputs)
                found = getattr(found, "pooler_output", found)
            else:
                found = net(**inputs).pooler_output
        features = found[0].double().cpu().numpy()
        return features / max(float(np.linalg.norm(features)), 1e-12)

    def compare(self, a: np.ndarray, b: np.ndarray) -> Likeness:
        cosine = float(np.clip(a @ b, 0, 1))
        return Likeness(cosine, cosine)


def _cutout(photo: Photo, instance: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The instance over white, (side, side, 3) uint8, and its matte (side, side) float32 in [0, 1]."""
    matte = photo.instances[instance].matte
    assert matte is not None, "only segmented photos are compared"
    image, mask, _ = fit_to_square(photo.rgb, matte, side)
    return np.asarray(image), mask


def colour_histogram(rgb: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How much of a subject has which colour: (12 hues × 4 saturations × 4 values,) float32 with sum 1.

    Args:
        rgb: (H, W, 3) uint8.
        weight: (H, W) float32 in [0, 1], the subject's share of each pixel; not 0 everywhere.
    """
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    bins = [hsv[..., i].astype(np.intp) * count // (180 if i == 0 else 256) for i, count in enumerate(_BINS)]
    index = np.ravel_multi_index((bins[0], bins[1], bins[2]), _BINS)
    found = np.bincount(index.ravel(), weights=weight.ravel(), minlength=int(np.prod(_BINS)))
    return (found / found.sum()).astype(np.float32)
