"""Routing maps of a picture as a file beside it, and as tints that lie over it. No torch is imported.

Shape suffixes: T sampling steps, S slots (the subjects, then the background), h × w a layer's resolution.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from anystory.files import atomic_write
from anystory.studio.packed import png_bytes

if TYPE_CHECKING:
    from anystory.pipelines.routing_record import RoutingRecord

__all__ = ["RoutingMaps8", "maps_file", "read_maps", "tint", "write_maps"]


def maps_file(picture: Path) -> Path:
    """Where a picture's maps lie."""
    return picture.with_name(f"{picture.stem}-maps.npz")


def write_maps(picture: Path, routing: RoutingRecord, layer_names: Sequence[str]) -> None:
    """Keep a picture's routing maps in eight bits, and who owns each of its pixels.

    Args:
        picture: The file.
        routing: Of this picture alone.
        layer_names: What people call the layers.
    """
    masks = routing.masks()
    owners = (masks * np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]).max(axis=0)
    arrays = {"owners": owners.astype(np.uint8)}
    for kind in ("coarse", "refined"):
        for number, layer in enumerate(routing.layers):
            steps = [routing.maps(step, layer, refined=kind == "refined") for step in routing.steps]
            arrays[f"{kind}-{number}"] = np.rint(np.stack(steps) * 255).astype(np.uint8)
    about = {"names": routing.names[0], "steps": routing.steps, "layers": list(layer_names)}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with atomic_write(maps_file(picture)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, kw_only=True)
class RoutingMaps8:
    """What `write_maps` kept."""

    names: tuple[str, ...]
    """Of the subjects."""
    steps: tuple[int, ...]
    """Indices of the sampling steps, from 0."""
    layers: tuple[str, ...]
    """Names of the layers."""
    owners: np.ndarray = field(repr=False)
    """(height, width) uint8 at the picture's size: 0 the background, i the i-th subject."""
    maps: dict[str, np.ndarray] = field(repr=False)
    """"coarse-0", "refined-0", … -> (T, S, h, w) uint8."""

    def mask(self, subject: int) -> np.ndarray:
        """(height, width) bool: the pixels of a subject, from 0."""
        return self.owners == subject + 1

    def probabilities(self, step: int, layer: int | None, *, refined: bool) -> np.ndarray:
        """(S, h, w) float32 in [0, 1] of one layer, or with None the mean of all, at the picture's size.

        Args:
            step: A place in `steps`.
            layer: A place in `layers`.
            refined: The refined maps, or the coarse ones.

        Raises:
            ValueError: no such step or layer.
        """
        if not 0 <= step < len(self.steps) or not (layer is None or 0 <= layer < len(self.layers)):
            raise ValueError(f"there are {len(self.steps)} steps and {len(self.layers)} layers, got {step} and {layer}")
        kind = "refined" if refined else "coarse"
        if layer is not None:
            return self.maps[f"{kind}-{layer}"][step].astype(np.float32) / 255
        size = (self.owners.shape[1], self.owners.shape[0])
        total = np.zeros((len(self.names) + 1, *self.owners.shape), np.float32)
        for number in range(len(self.layers)):
            for slot, one in enumerate(self.maps[f"{kind}-{number}"][step]):
                total[slot] += cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) / 255
        return total / len(self.layers)


def read_maps(picture: Path) -> RoutingMaps8 | None:
    """A picture's maps; None if it has none.

    Raises:
        ValueError: a damaged file.
    """
    path = maps_file(picture)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            about = json.loads(found["about"].tobytes())
            maps = {name: found[name] for name in found.files if name not in ("owners", "about")}
            owners = found["owners"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): draw the picture again") from None
    return RoutingMaps8(
        names=tuple(about["names"]),
        steps=tuple(about["steps"]),
        layers=tuple(about["layers"]),
        owners=owners,
        maps=maps,
    )


def tint(
    probabilities: np.ndarray, colours: Sequence[str], shown: Sequence[int] | None = None, *, strength: float = 0.72
) -> bytes:
    """Each subject's share of the pixels in its colour, as a PNG that is transparent elsewhere.

    Args:
        probabilities: (S, h, w); the background is the last.
        colours: "#rrggbb" for each subject.
        shown: The subjects to show, from 0; None for all.
        strength: How much of the picture is covered where a subject has a pixel for certain, in 0…1.
    """
    count = len(probabilities) - 1
    chosen = [slot for slot in range(count) if shown is None or slot in shown]
    shares = probabilities[chosen] if chosen else np.zeros((1, *probabilities.shape[1:]), np.float32)
    rgb = np.array([_rgb(colours[slot % len(colours)]) for slot in chosen] or [(0, 0, 0)], np.float32)
    whole = shares.sum(axis=0)
    mixed = np.einsum("shw,sc->hwc", shares, rgb) / np.maximum(whole, 1e-6)[..., None]
    alpha = np.clip(whole, 0, 1) * strength * 255
    pixels = np.dstack((mixed, alpha))
    return png_bytes(Image.fromarray(np.rint(pixels).astype(np.uint8)))


def _rgb(colour: str) -> tuple[int, int, int]:
    number = int(colour.removeprefix("#"), 16)
    return number >> 16, number >> 8 & 255, number & 255
