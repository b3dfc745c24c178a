"""Segmentation: where each subject is in a picture.

Shapes: N subjects, h × w the grid of the maps, H × W pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from typing_extensions import Self

from anystory.segment.edges import follow_edges
from anystory.segment.tints import overlay

__all__ = ["Segmentation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """Masks of subjects in a picture. No pixel is in two of them; what is in none is background."""

    image: Image.Image
    """The picture, RGB."""
    names: tuple[str, ...]
    """Of the subjects, in the order in which they were given."""
    masks: np.ndarray
    """(N, H, W) bool. That of a subject which is not in the picture is empty."""
    soft: np.ndarray
    """(N, H, W) float32 in [0, 1]: the probability of each subject at each pixel, before anybody counts as absent."""
    confidence: np.ndarray
    """(N,) float64 in [0, 1]: how sure it is that the subject is in the picture."""
    present: np.ndarray
    """(N,) bool: whether that is enough."""

    @classmethod
    def of(
        cls,
        image: Image.Image,
        names: Sequence[str],
        probabilities: np.ndarray,
        confidence: np.ndarray,
        present: np.ndarray,
        *,
        regions: Sequence[np.ndarray | None] | None = None,
        edges: bool = True,
    ) -> Self:
        """Cut a picture by fused maps.

        Args:
            image: The picture, RGB.
            names: N of them.
            probabilities: (N + 1, h, w), the background last.
            confidence, present: (N,): how sure it is that each subject is in the picture, and whether that is enough.
            regions: For each subject where it may be, (H, W) bool; None: anywhere.
            edges: Whether borders follow the picture's edges; else the maps are enlarged smoothly.
        """
        pixels = np.asarray(image)
        slots = follow_edges(probabilities, pixels) if edges else _enlarged(probabilities, pixels.shape[:2])
        slots = slots.clip(0, 1)
        for slot, region in enumerate(regions or ()):
            if region is not None:
                slots[slot] *= region
        # Whoever is absent competes for no pixel: what it claimed is the background's, or its look-alike's.
        taken = np.where(np.append(present, True)[:, None, None], slots, -1.0)
        owner = taken.argmax(axis=0)
        masks = np.stack([owner == slot for slot in range(len(names))])
        return cls(
            image=image,
            names=tuple(names),
            masks=masks,
            soft=slots[:-1].astype(np.float32),
            confidence=confidence.astype(np.float64),
            present=present & masks.any(axis=(1, 2)),
        )

    def overlay(self, strength: float = 0.5) -> Image.Image:
        """The picture with each subject's pixels tinted in its colour, by a share in 0…1."""
        return overlay(self.image, self.masks, strength)

    def mask_images(self) -> list[Image.Image]:
        """The masks as PIL pictures of mode "L": white where the subject is."""
        return [Image.fromarray(mask.astype(np.uint8) * 255) for mask in self.masks]

    def layers(self) -> list[Image.Image]:
        """The picture taken apart: one RGBA picture for each subject, and the background last.

        On top of one another, in any order, they are the picture.
        """
        pixels = np.asarray(self.image)
        parts = [*self.masks, ~self.masks.any(axis=0)]
        return [
            Image.fromarray(np.where(part[..., None], np.dstack((pixels, part * np.uint8(255))), np.uint8(0)))
            for part in parts
        ]

    def __repr__(self) -> str:
        shares = ", ".join(f"{name!r} {mask.mean():.0%}" for name, mask in zip(self.names, self.masks, strict=True))
        return f"Segmentation({self.image.width}×{self.image.height}: {shares})"


def _enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) to (C, H, W), bilinear."""
    height, width = size
    resized = [Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR) for one in maps]
    return np.stack([np.asarray(one) for one in resized])
