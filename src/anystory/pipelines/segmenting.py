"""`segment`: the routing of a picture that exists already (paper, section 4: the router segments by reference).

The picture's latents are noised to a few levels; network and router run on them with the references, as they do while
a picture is drawn; the maps of all layers and levels are fused, and cut along the picture's edges. How much better the
network guesses the noise with the references than without them tells subjects in the picture from absent ones (as in
Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", 2023).

Shapes: N subjects, S = N + 1 slots with the background last, R noised copies of the picture, h × w a layer's map,
H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.pipelines import inputs
from anystory.pipelines.checks.guards import one_call_at_a_time
from anystory.pipelines.pixels import encode_pixels, normalised
from anystory.pipelines.references import check_parts
from anystory.segment.fusion import Evidence, Fusion
from anystory.segment.segmentation import Segmentation
from anystory.subjects import Subject
from anystory.subjects.pictures import load_picture, over_white

__all__ = ["Look", "OnLook", "Seen", "SegmentMixin"]

_WHAT = "the picture to segment"
_SURE = 8.0
"""The largest log-odds that one map may state: beyond it a single overconfident layer would silence all others."""
_LONGEST = 4
"""The longest side at which a picture is looked at, in sides of the model's own: longer ones are squeezed."""
_HALF = 0.5
"""A pixel is inside a region that covers at least this much of it."""


class Seen(NamedTuple):
    """What network and router make of R noised copies of a picture; all float32 on the CPU."""

    maps: Mapping[str, Tensor]
    """{layer: (R, S, h, w) probabilities over slots}, in the order in which the layers run."""
    error: Tensor
    """(R, h, w) squared error of the network's prediction, a mean over channels."""
    plain_error: Tensor
    """(R, h, w) the same where no subject is given."""


Look: TypeAlias = Callable[[Tensor, Tensor], Seen]
"""Noise levels (R,) and noise (R, c, h, w) to what is seen."""

OnLook: TypeAlias = Callable[[int, int], None]
"""Hears how many looks are done, and how many there are in all."""


class SegmentMixin(DiffusionPipeline):
    """`segment` for a pipeline with subjects; each family of models says how its router is run."""

    adapter: Any
    vae: Any
    _encoding_kind: ClassVar[type[inputs.EncodedSubject]]
    _network: ClassVar[str]
    """The component that draws."""

    @one_call_at_a_time
    @torch.no_grad()
    def segment(
        self,
        image: Any,
        subjects: Sequence[Subject | inputs.EncodedSubject],
        *,
        prompt: str = "",
        levels: Sequence[float] | None = None,
        draws: int | None = None,
        generator: torch.Generator | None = None,
        edges: bool = True,
        fusion: Fusion | None = None,
        on_look: OnLook | None = None,
    ) -> Segmentation:
        """Find subjects in an existing picture.

            found = pipe.segment("scene.png", [Subject("fox.png", name="fox"), Subject("robot.png", name="robot")])
            found.masks[0]; found.confidence; found.overlay().save("overlay.png")

        Args:
            image: A path, a PIL image, an array or a tensor, of any size; what is transparent is seen on white. The
                model looks at it with about as many pixels as it was trained on.
            subjects: A list of `Subject`, or of what `encode_subjects` returns. A subject's `region` is where to look
                for it.
            prompt: What the picture shows, if you know.
            levels: Noise levels between 0 (the picture) and 1 (noise), rising; by default those of `fusion`.
            draws: How often noise is drawn at each level; the maps are averaged. By default that of `fusion`.
            generator: Of the noise. None: a fresh one with seed 0, so that the same call finds the same masks.
            edges: Whether borders follow the picture's edges.
            fusion: How layers and levels are weighed, and when a subject counts as absent; by default what has been
                fitted for the adapter (`anystory adapter segmentation`), else equal weights.
            on_look: Called with (done, count) after each of the `count` times that the network looks at some noised
                copies of the picture. What it raises ends the call, and the pipeline is as it was before.

        Returns:
            Masks of the picture's own size, with the confidence that each subject is in it.

        Raises:
            ValueError: an argument that cannot be; the message names it, its value and the rule.
            RuntimeError: another call is using this pipeline, or one that shares its parts.
        """
        fusion = (fusion or self.fusion).at(levels, draws)
        picture, row = over_white(load_picture(image, _WHAT)), self._row(subjects)
        found = self._evidence(picture, row, prompt, fusion, generator, on_look)
        given = [one.subject if isinstance(one, inputs.EncodedSubject) else one for one in row]
        return Segmentation.of(
            picture,
            [inputs.name_of(subject, i) for i, subject in enumerate(given)],
            *fusion.fused(found),
            regions=[_inside(subject, picture) for subject in given],
            edges=edges,
        )

    @one_call_at_a_time
    @torch.no_grad()
    def routing_evidence(
        self,
        image: Any,
        subjects: Sequence[Subject | inputs.EncodedSubject],
        *,
        prompt: str = "",
        fusion: Fusion | None = None,
        generator: torch.Generator | None = None,
    ) -> Evidence:
        """What `segment` fuses, to fit the fusion to; arguments and errors as there."""
        picture, row = over_white(load_picture(image, _WHAT)), self._row(subjects)
        return self._evidence(picture, row, prompt, fusion or self.fusion, generator)

    @property
    def fusion(self) -> Fusion:
        """What has been fitted for the adapter, or equal weights.

        Raises:
            ValueError: its entry in the adapter's `config.json` cannot be read.
        """
        fitted = None if self.adapter is None else self.adapter.config.get("segmentation")
        return Fusion() if fitted is None else Fusion.from_dict(fitted)

    # --- what a family of models adds ---

    native_size: Any
    size_multiple: Any
    _encode_rows: Any

    def _check_segment(self) -> None:
        """Raise ValueError for a network that cannot, before anything runs."""

    def _router(self, row: Sequence[Any], latents: Tensor, prompt: str) -> AbstractContextManager[Look]:
        """While open, gives a function that noises the latents (1, c, h, w) and runs network and router on them."""
        raise NotImplementedError

    def _at_once(self, latents: Tensor) -> int:
        """How many noised copies the network takes at a time."""
        raise NotImplementedError

    # --- the steps of a call ---

    def _row(self, subjects: Any) -> list[Any]:
        rows = inputs.subject_rows(subjects, self._encoding_kind, prompts=1)
        if not rows:
            raise ValueError("`subjects` must name at least one subject to look for, got none")
        check_parts(self, rows)
        for name in (self._network, "vae"):
            if getattr(self, name) is None:
                raise ValueError(f"`segment` needs `{name}`, and it is None")
        self._check_segment()
        return rows[0]

    def _evidence(
        self,
        picture: Image.Image,
        row: list[Any],
        prompt: str,
        fusion: Fusion,
        generator: torch.Generator | None,
        on_look: OnLook | None = None,
    ) -> Evidence:
        if not isinstance(prompt, str):
            raise ValueError(f"`prompt` must be a text, got {type(prompt).__name__}")
        [encodings] = self._encode_rows([row])
        size = _working_size(picture.size, self.native_size, self.size_multiple)
        pixels = np.array(picture.resize(size, Image.Resampling.LANCZOS))[None]
        latents = encode_pixels(self.vae, normalised(pixels).to(self._execution_device))
        levels = torch.tensor(fusion.levels).repeat_interleave(fusion.draws)
        shape = (len(levels), *latents.shape[1:])
        noise = randn_tensor(shape, generator or torch.Generator().manual_seed(0), latents.device, latents.dtype)
        at_once = self._at_once(latents)
        parts = list(zip(levels.split(at_once), noise.split(at_once), strict=True))
        seen: list[Seen] = []
        with self._router(encodings, latents, prompt) as look:
            for part in parts:
                seen.append(look(*part))
                if on_look is not None:
                    on_look(len(seen), len(parts))
        self.maybe_free_model_hooks()  # as a call does at its end: with offloading, back to the CPU
        return _gathered(seen, len(fusion.levels))


def _gathered(seen: Sequence[Seen], levels: int) -> Evidence:
    """What was seen in all copies, level after level, as means over the draws of each."""
    layers = tuple(seen[0].maps)
    height, width = max(one.shape[-2:] for one in seen[0].maps.values())

    def by_level(parts: Sequence[Tensor]) -> np.ndarray:
        return _finite(torch.cat(list(parts)).unflatten(0, (levels, -1)).mean(dim=1)).numpy()

    def resized(maps: Tensor) -> Tensor:
        return F.interpolate(_log_odds(maps), (height, width), mode="bilinear")

    odds = [by_level([resized(part.maps[layer]) for part in seen]) for layer in layers]
    errors = [by_level([getattr(part, name) for part in seen]) for name in ("error", "plain_error")]
    errors = [
        F.interpolate(torch.from_numpy(error)[:, None], (height, width), mode="area")[:, 0].numpy() for error in errors
    ]
    return Evidence(layers=layers, odds=np.stack(odds, axis=1), errors=np.stack(errors, axis=1))


def _log_odds(maps: Tensor) -> Tensor:
    """Probabilities over slots (R, S, h, w), the background last, to log-odds against it (R, N, h, w), bounded."""
    logs = maps.clamp_min(math.exp(-_SURE)).log()
    return (logs[:, :-1] - logs[:, -1:]).clamp(-_SURE, _SURE)


def _working_size(size: tuple[int, int], native: int, multiple: int) -> tuple[int, int]:
    """(width, height) at which a model looks at a picture: its shape, with about the pixels of the model's own."""
    factor = native / math.sqrt(size[0] * size[1])
    width, height = (min(max(round(side * factor / multiple), 1), _LONGEST * native // multiple) for side in size)
    return width * multiple, height * multiple


def _finite(values: Tensor) -> Tensor:
    if values.isfinite().all():
        return values
    raise FloatingPointError(
        "the routing maps are not made of numbers (NaN or infinity): `anystory models verify` finds damaged weights; "
        "in float16 try bfloat16 or float32"
    )


def _inside(subject: Subject, picture: Image.Image) -> np.ndarray | None:
    """Where a subject may be, (H, W) bool; None: anywhere."""
    return None if subject.region is None else subject.region_mask(picture.height, picture.width) >= _HALF
