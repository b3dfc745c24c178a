"""Characters found by an open-vocabulary detector, and which of them is which subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from anystory.extras import need
from anystory.subjects.image_models import load_model

__all__ = ["Detection", "Detector", "assign"]


class Detection(NamedTuple):
    """Something that was found in a picture."""

    box: tuple[float, float, float, float]
    """(left, top, right, bottom), in pixels."""
    score: float
    """0…1."""


class Detector:
    """Grounding DINO, OWL-ViT and other zero-shot detectors of transformers.

    ViStoryBench finds characters with Grounding DINO (Swin-T), the word "character", and thresholds of 0.25.

    Args:
        model: Folder or hub id, such as `IDEA-Research/grounding-dino-tiny`.
        threshold: The least score of what is found.

    Raises:
        ValueError: the model cannot be loaded.
    """

    def __init__(self, model: str | Path, threshold: float = 0.25) -> None:
        self.model, self.threshold = str(model), threshold
        self._loaded = load_model(
            "detection", model, "AutoProcessor", "AutoModelForZeroShotObjectDetection", "leave --detector away"
        )

    def find(self, picture: Image.Image, what: str = "character") -> list[Detection]:
        """What of a kind is in a picture, the surest first."""
        import torch

        processor, net, device = self._loaded
        grounded = net.config.model_type == "grounding-dino"
        words = f"{what}." if grounded else [[what]]
        inputs = processor(images=picture.convert("RGB"), text=words, return_tensors="pt").to(device)
        with torch.inference_mode():
            outputs = net(**inputs)
        more = {"input_ids": inputs["input_ids"], "text_threshold": self.threshold} if grounded else {}
        [found] = processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[picture.size[::-1]], **more
        )
        scores, boxes = found["scores"].tolist(), found["boxes"].tolist()
        both = [Detection(tuple(box), score) for box, score in zip(boxes, scores, strict=True)]
        return sorted(both, key=lambda one: -one.score)


def assign(alike: np.ndarray | Sequence[Sequence[float]]) -> list[int | None]:
    """Which detection is which subject: the assignment with the greatest sum of likenesses.

    Args:
        alike: (subjects, detections).

    Returns:
        For each subject the index of its detection, each of them used once; None for a subject that is left over.
    """
    solver = need("scipy.optimize", "matching detections with subjects", "eval")
    table = np.atleast_2d(np.asarray(alike, float))
    found: list[int | None] = [None] * len(table)
    if table.size:
        for row, column in zip(*solver.linear_sum_assignment(table, maximize=True), strict=True):
            found[int(row)] = int(column)
    return found
