"""What the router decided while a picture was made: per step, layer and slot.

Shape suffixes: B images, N subjects, S = N + 1 slots (the background last), h × w a layer's own resolution,
H × W the picture's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.models.router import RoutingMaps

__all__ = ["BACKGROUND", "RoutingRecord"]

BACKGROUND = "background"


class _Maps(NamedTuple):
    """Probabilities over slots of one step and layer, float16 on the CPU, each (B, S, h, w)."""

    coarse: Tensor
    refined: Tensor


class RoutingRecord:
    """The routing maps of one pipeline call, kept as float16 on the CPU.

    A map holds, at every pixel, the probability of each slot: a picture's subjects in the order they were
    given, then the background. The router looks at the picture afresh in every cross-attention layer of every
    sampling step (a step is a U-Net call: a second-order scheduler makes two for each of its own). Where a
    subject's fixed region overruled the router, the refined map holds what the region said.

    Attributes:
        names: One tuple of subject names per image, without the background.
        height, width: Size of the pictures in pixels; what `masks` returns by default.

    Example:
        >>> fox, robot = out.routing.masks()          # two (H, W) boolean arrays of the first picture
        >>> out.routing.maps(step=0, layer=-1, slot="fox", image=2)      # (h, w) probabilities
    """

    def __init__(self, names: Sequence[Sequence[str]], height: int, width: int) -> None:
        self.names: tuple[tuple[str, ...], ...] = tuple(tuple(row) for row in names)
        self.height = height
        self.width = width
        self._timesteps: dict[int, float] = {}
        self._maps: dict[tuple[int, str], _Maps] = {}
        self._layers: tuple[str, ...] = ()

    # --- writing (the pipeline) ---

    def add(self, step: int, timestep: float, maps: Mapping[str, RoutingMaps]) -> None:
        """Keep the maps of one sampling step.

        Args:
            step: Index of the step, from 0.
            timestep: The scheduler's time step.
            maps: Layer name to maps (B, S, h, w), in the order in which the layers run.
        """
        self._timesteps[step] = timestep
        self._layers = self._layers or tuple(maps)
        for layer, routing in maps.items():
            self._maps[step, layer] = _Maps(_compact(routing.coarse), _compact(_as_decided(routing)))

    def picture(self, image: int) -> RoutingRecord:
        """The record of one of the pictures alone, as if it had been drawn alone.

        Raises:
            ValueError: there is no such picture.
        """
        image = self._image(image)
        alone = RoutingRecord([self.names[image]], self.height, self.width)
        alone._timesteps, alone._layers = dict(self._timesteps), self._layers
        subjects = len(self.names[image])
        for place, maps in self._maps.items():  # slots that only padded the batch go
            own = (torch.cat([one[image, :subjects], one[image, -1:]])[None] for one in maps)
            alone._maps[place] = _Maps(*own)
        return alone

    # --- reading ---

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the routed cross-attention layers, in the order in which they run."""
        return self._layers

    @property
    def steps(self) -> tuple[int, ...]:
        """Indices of the recorded sampling steps, from 0, ascending."""
        return tuple(sorted(self._timesteps))

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The scheduler's time step of each of `steps`."""
        return tuple(self._timesteps[step] for step in self.steps)

    @property
    def num_images(self) -> int:
        """B, the number of pictures of the call (prompts × images per prompt, prompts outermost)."""
        return len(self.names)

    def maps(
        self,
        step: int = -1,
        layer: int | str = -1,
        slot: int | str | None = None,
        *,
        image: int = 0,
        refined: bool = True,
    ) -> np.ndarray:
        """Probabilities at a layer's own resolution.

        Args:
            step: Index of a sampling step; negative counts from the last one recorded.
            layer: Name, or index into `layers`.
            slot: Subject name, `"background"`, or index (the last is the background); None for all.
            image: Index of the picture.
            refined: The refined map (after the masked cross-attention, method 3.3), or the coarse one.

        Returns:
            float32 in [0, 1]: (h, w), or (S, h, w) when `slot` is None. S counts this picture's own subjects
            and the background.

        Raises:
            ValueError: a step, layer, slot or picture that the record does not hold.
        """
        probabilities = self._probabilities(self._step(step), self._layer(layer), self._image(image), refined)
        if slot is None:
            return probabilities.numpy()
        return probabilities[self._slot(slot, image)].numpy()

    def mean(
        self,
        size: tuple[int, int] | None = None,
        step: int = -1,
        *,
        image: int = 0,
        refined: bool = True,
        layers: Sequence[int | str] | None = None,
    ) -> np.ndarray:
        """Mean over layers of the probabilities, each resized to `size` (bilinear, antialiased; D7).

        A layer counts as much as its map has pixels: one of 4 × 4 knows where a subject is, not where it ends.

        Args:
            size: (height, width) in pixels; the picture's by default.
            layers: Names or indices of the layers to average; all by default.
            step, image, refined: As for `maps`.

        Returns:
            (S, height, width) float32 in [0, 1].

        Raises:
            ValueError: as for `maps`; or an empty `layers`.
        """
        height, width = size or (self.height, self.width)
        step, image = self._step(step), self._image(image)
        chosen = self.layers if layers is None else tuple(self._layer(layer) for layer in layers)
        if not chosen:
            raise ValueError("`layers` must name at least one layer, got none")
        total, pixels = torch.zeros(len(self.names[image]) + 1, height, width), 0
        for layer in chosen:
            probabilities = self._probabilities(step, layer, image, refined)
            area = probabilities.shape[-2] * probabilities.shape[-1]
            total += area * _resize(probabilities, height, width)
            pixels += area
        return (total / pixels).numpy()

    def masks(
        self,
        size: tuple[int, int] | None = None,
        step: int = -1,
        *,
        image: int = 0,
        refined: bool = True,
        layers: Sequence[int | str] | None = None,
    ) -> np.ndarray:
        """Who owns each pixel: the argmax over slots (σ, method 3.3) of `mean`.

        Arguments and errors are those of `mean`.

        Returns:
            (N, height, width) bool, one mask per subject of the picture; what is in none is background.
        """
        owner = self.mean(size, step, image=image, refined=refined, layers=layers).argmax(axis=0)
        return np.stack([owner == slot for slot in range(len(self.names[self._image(image)]))])

    def mask_images(
        self, size: tuple[int, int] | None = None, step: int = -1, *, image: int = 0, refined: bool = True
    ) -> list[Image.Image]:
        """`masks` as PIL pictures of mode "L": white where the subject is."""
        return [
            Image.fromarray(mask.astype(np.uint8) * 255)
            for mask in self.masks(size, step, image=image, refined=refined)
        ]

    def __repr__(self) -> str:
        return f"RoutingRecord({self.num_images} images, {len(self.steps)} steps, {len(self.layers)} layers)"

    # --- looking things up ---

    def _probabilities(self, step: int, layer: str, image: int, refined: bool) -> Tensor:
        """(S, h, w) float32 of one picture; slots that only pad the batch are left out."""
        maps = self._maps[step, layer]
        slots = (maps.refined if refined else maps.coarse)[image].float()
        return torch.cat([slots[: len(self.names[image])], slots[-1:]])

    def _step(self, step: int) -> int:
        steps = self.steps
        if step < 0 and -step <= len(steps):
            return steps[step]
        if step not in self._timesteps:
            raise ValueError(f"`step` must be one of the recorded steps {steps} or a negative index, got {step}")
        return step

    def _layer(self, layer: int | str) -> str:
        if isinstance(layer, str):
            if layer not in self.layers:
                raise ValueError(f"`layer` must be one of {self.layers}, got {layer!r}")
            return layer
        if not -len(self.layers) <= layer < len(self.layers):
            raise ValueError(f"`layer` must be an index into the {len(self.layers)} layers, got {layer}")
        return self.layers[layer]

    def _image(self, image: int) -> int:
        if not -self.num_images <= image < self.num_images:
            raise ValueError(f"`image` must be an index into the {self.num_images} pictures, got {image}")
        return image % self.num_images

    def _slot(self, slot: int | str, image: int) -> int:
        slots = (*self.names[self._image(image)], BACKGROUND)
        if isinstance(slot, str):
            if slots.count(slot) != 1:
                raise ValueError(f"`slot` must name exactly one of {slots}, got {slot!r}; an index always works")
            return slots.index(slot)
        if not -len(slots) <= slot < len(slots):
            raise ValueError(f"`slot` must be an index into {slots}, got {slot}")
        return slot


def _as_decided(maps: RoutingMaps) -> Tensor:
    """The refined map, but all of a pixel where something other than the router decided (a fixed region)."""
    agrees = maps.refined.argmax(dim=1, keepdim=True) == maps.gate.argmax(dim=1, keepdim=True)
    return torch.where(agrees, maps.refined, maps.gate)


def _compact(probabilities: Tensor) -> Tensor:
    return probabilities.detach().to("cpu", torch.float16, copy=True)


def _resize(probabilities: Tensor, height: int, width: int) -> Tensor:
    """(S, h, w) → (S, height, width)."""
    return F.interpolate(probabilities[None], (height, width), mode="bilinear", antialias=True)[0]
