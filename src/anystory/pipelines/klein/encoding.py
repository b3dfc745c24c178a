"""Subjects to what FLUX.2 reads: each photo cut out, filled with white, and encoded by the VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from anystory.models.klein.inputs import KleinReference
from anystory.pipelines.inputs import EncodedSubject
from anystory.subjects import PreparedSubject, Subject

__all__ = ["KleinSubjectEncoding", "encode_references"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KleinSubjectEncoding(EncodedSubject):
    """A subject together with its encoded photos; takes its place in a call."""

    subject: Subject
    """Name, strength, schedule and region are read from here at each call."""
    prepared: tuple[PreparedSubject, ...]
    """Its photos as the VAE saw them."""
    references: tuple[KleinReference, ...]


def encode_references(subjects: Sequence[Subject], *, pipeline: Any, size: int) -> list[KleinSubjectEncoding]:
    """Encode the photos of subjects, each by itself, as the stock pipeline encodes the pictures that it is given.

    Args:
        subjects: Who.
        pipeline: One of FLUX.2 klein's.
        size: Side of a photo's cut-out in pixels.

    Raises:
        ValueError: a picture or mask that `Subject` refuses.
    """
    return [_encode(subject, pipeline, size) for subject in subjects]


def _encode(subject: Subject, pipeline: Any, size: int) -> KleinSubjectEncoding:
    prepared = tuple(photo.prepare(size) for photo in subject.photos)
    references = []
    for one in prepared:
        pixels = pipeline.image_processor.preprocess(one.image, height=size, width=size, resize_mode="crop")
        latents = pipeline._encode_vae_image(
            pixels.to(pipeline._execution_device, pipeline.vae.dtype), generator=torch.Generator()
        )
        grid = (latents.shape[-2], latents.shape[-1])
        references.append(KleinReference(latents=pipeline._pack_latents(latents)[0], grid=grid))
    return KleinSubjectEncoding(subject=subject, prepared=prepared, references=tuple(references))
