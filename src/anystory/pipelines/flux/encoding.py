"""Subjects to what FLUX reads: SigLIP and both embedders, the VAE, each run once for all.

Shapes: U references, G × G SigLIP tokens, T packed latents of a reference, C width of the text states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.models.flux.embedder import pooled_mask
from anystory.models.flux.inputs import EncodedReference
from anystory.models.flux_adapter import FluxSubjectAdapter
from anystory.pipelines.inputs import EncodedSubject
from anystory.pipelines.pixels import encode_pixels, normalised
from anystory.subjects import PreparedSubject, Subject
from anystory.subjects.prepare import matte_box

__all__ = ["FluxSubjectEncoding", "encode_references"]

_PACKED = 2
"""Latents along each side of a token."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FluxSubjectEncoding(EncodedSubject):
    """A subject together with what its reference costs to compute before the sampling; takes its place in a call."""

    subject: Subject
    """Name, scales, windows and region are read from here at each call."""
    prepared: PreparedSubject
    """Its photo as the encoders saw it."""
    reference: EncodedReference


class _Views(NamedTuple):
    """A reference as both encoders are given it."""

    prepared: PreparedSubject
    seen: Tensor
    """(3, h, w) for SigLIP."""
    seen_mask: Tensor
    """(1, h, w) in [0, 1]."""
    mask: Tensor
    """(1, S, S) in [0, 1], on the prepared picture, which is for the VAE."""


def encode_references(
    subjects: Sequence[Subject],
    *,
    adapter: FluxSubjectAdapter,
    image_encoder: Any,
    feature_extractor: Any,
    vae: Any,
    device: torch.device,
    official: bool = False,
    generator: torch.Generator | None = None,
) -> list[FluxSubjectEncoding]:
    """Encode each subject's photo.

    Both encoders see the cut-out times its mask, so what is around the subject is mid-grey, as in the authors' code.

    Args:
        subjects: Subjects with one photo each.
        adapter, image_encoder, feature_extractor, vae, device: The pipeline's.
        official: Do what the authors' code does where ours does better: squash the whole picture to a square, instead
            of the subject in the middle of it; draw the reference's latents from their distribution, instead of taking
            its mode.
        generator: For these draws.

    Raises:
        ValueError: a subject with several photos, or a picture or mask that `Subject` refuses.
    """
    for subject in subjects:
        if len(subject.photos) > 1:
            raise ValueError(
                f"{subject!r} has {len(subject.photos)} photos, and AnyStory for FLUX.1 reads one: choose one"
            )
    look = _squashed if official else _centred
    views = (look(subject, adapter.reference_size, feature_extractor) for subject in subjects)
    prepared, *tensors = (list(each) for each in zip(*views, strict=True))
    seen, seen_masks, masks = (torch.stack(one).to(device) for one in tensors)

    states = image_encoder((seen * seen_masks).to(image_encoder.dtype)).last_hidden_state.to(adapter.dtype)
    on_states = pooled_mask(seen_masks, math.isqrt(states.shape[1]))
    appearance, routing = (embedder(states, on_states) for embedder in (adapter.appearance, adapter.routing))

    images = normalised(np.stack([np.asarray(one.image) for one in prepared])).to(device)
    latents = encode_pixels(vae, images * masks, sample=official, generator=generator)
    on_latents = pooled_mask(masks, latents.shape[-1] // _PACKED)
    packed = pack(latents)
    return [
        FluxSubjectEncoding(
            subject=subject,
            prepared=prepared[i],
            reference=EncodedReference(
                appearance=appearance[i].clone(),
                routing=routing[i].clone(),
                latents=packed[i].clone(),
                mask=on_latents[i].clone(),
            ),
        )
        for i, subject in enumerate(subjects)
    ]


def _centred(subject: Subject, size: int, feature_extractor: Any) -> _Views:
    """The subject in the middle of the square, in its own shape."""
    prepared = subject.prepare(size)
    seen = feature_extractor(np.asarray(prepared.image), return_tensors="pt").pixel_values[0]
    mask = torch.from_numpy(prepared.mask)[None]
    small = F.interpolate(mask[None], seen.shape[-2:], mode="nearest-exact")[0]
    return _Views(prepared, seen, small, mask)


def _squashed(subject: Subject, size: int, feature_extractor: Any) -> _Views:
    """The whole picture, stretched to the square; the matte without smoothing."""
    picture, cut = subject.whole()
    image, flat = Image.fromarray(picture.rgb), Image.fromarray(cut.matte)
    seen = feature_extractor(image, return_tensors="pt").pixel_values[0]
    height, width = seen.shape[-2:]

    def resized(width: int, height: int) -> np.ndarray:
        return np.asarray(flat.resize((width, height), Image.Resampling.NEAREST), dtype=np.float32) / 255

    prepared = PreparedSubject(
        image=image.resize((size, size), Image.Resampling.LANCZOS),
        mask=resized(size, size),
        sha256=picture.sha256,
        cutout=cut.method,
        confidence=cut.confidence,
        box=matte_box(cut.matte),
    )
    return _Views(prepared, seen, torch.from_numpy(resized(width, height))[None], torch.from_numpy(prepared.mask)[None])


def pack(latents: Tensor) -> Tensor:
    """(U, c, h, w) -> FLUX's tokens (U, h/2 · w/2, 4c)."""
    return FluxPipeline._pack_latents(latents, *latents.shape)
