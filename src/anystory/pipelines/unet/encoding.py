"""Subjects to numbers: the image encoder, the VAE and the adapter's encoders, each run once for all.

Shapes: U distinct references, B images, N subjects, S = N + 1 slots with the background last, P image
tokens of width Dc, m tokens of width c, T reference tokens of width d.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.models.adapter import SubjectAdapter
from anystory.models.encoders import EncodedSubjects, join_photos
from anystory.pipelines.inputs import EncodedSubject
from anystory.pipelines.pixels import encode_pixels, normalised
from anystory.subjects import PreparedSubject, Subject

__all__ = ["SubjectEncoding", "encode_references", "hidden_states", "stack_encodings"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectEncoding(EncodedSubject):
    """A subject together with all that its reference costs to compute; takes a `Subject`'s place in a call.

    It depends on the pipeline's image encoder, VAE and adapter, not on prompt, size or step. Its memory is that of
    `projected`: 118 MiB for SDXL in half precision.
    """

    subject: Subject
    """Name, scales and region are read from here at each call."""
    photos: tuple[PreparedSubject, ...]
    """The subject's photos as the encoders saw them, with their hashes."""
    tokens: Tensor
    """(m, c): `E_i`."""
    routing: Tensor
    """(d_r,): `R_i`."""
    features: dict[str, Tensor]
    """{self-attention layer: (T, d)}: `G_i^l`, of several photos one after another (D15). Empty but in a call of
    the plain form (`fast=False`), which is the only one that reads it."""
    projected: dict[str, tuple[Tensor, Tensor]]
    """{layer: keys and values (m or T, inner width)}: what each layer makes of tokens and features, so that the
    next picture does not make it again. Empty where `features` is not."""
    background_tokens: Tensor
    """(m, c): `E_{N+1}`."""
    background_routing: Tensor
    """(d_r,): `R_{N+1}`."""
    background_projected: dict[str, tuple[Tensor, Tensor]]
    """{cross-attention: keys and values (m, inner width)} of the background's tokens."""
    strangeness: float | None = None
    """How far its strangest photo is from the references that the adapter was trained on; above 1 it is unlike all of
    them. None where the adapter does not know."""

    @property
    def prepared(self) -> PreparedSubject:
        """The first of `photos`."""
        return self.photos[0]


def encode_references(
    subjects: Sequence[Subject | SubjectEncoding],
    *,
    adapter: SubjectAdapter,
    image_encoder: Any,
    feature_extractor: Any,
    vae: Any,
    device: torch.device,
    reuse: bool = True,
) -> list[SubjectEncoding]:
    """Run both branches of the subject encoding (paper, section 3.2), all photos of all subjects as one batch.

    Args:
        subjects: Subjects; or encodings, to make once more from their own photos.
        adapter, image_encoder, feature_extractor, vae, device: The pipeline's.
        reuse: Keep keys and values for every step and picture; else the features themselves, for the plain form.

    Raises:
        ValueError: a picture or mask that `Subject` refuses.
    """
    prepared = [_prepared(subject, adapter.sizes.reference_size) for subject in subjects]
    photos = [photo for of_subject in prepared for photo in of_subject]
    ends = list(itertools.accumulate(map(len, prepared)))
    ranges = [range(end - len(own), end) for end, own in zip(ends, prepared, strict=True)]
    pixels = np.stack([np.asarray(photo.image) for photo in photos])
    clip = feature_extractor(list(pixels), return_tensors="pt").pixel_values.to(device)
    # D10: the zero image is zero after normalisation.
    hidden = hidden_states(image_encoder, torch.cat([clip, torch.zeros_like(clip[:1])]))
    latents = encode_pixels(vae, normalised(pixels).to(device))
    masks = np.stack([photo.mask for photo in photos])
    shares = F.interpolate(torch.from_numpy(masks)[:, None], tuple(latents.shape[-2:]), mode="area")
    by_photo = adapter.encode(
        image_hidden=hidden[None, :-1],
        zero_hidden=hidden[-1:],
        reference_latents=latents[None],
        reference_masks=shares[None].to(device),
        present=torch.ones(1, len(photos), dtype=torch.bool, device=device),
    )
    strange = None if adapter.familiarity is None else adapter.familiarity(hidden[:-1]).tolist()
    hidden = hidden.to(adapter.dtype)
    tokens = join_photos(adapter.subject_qformer, by_photo.tokens[0], hidden, ranges)
    routing = adapter.routing_of(tokens, lambda own: join_photos(own, by_photo.routing[0, :, None], hidden, ranges))
    encoded = replace(by_photo, tokens=tokens[None], routing=routing[None])  # these by subject, G by photo
    encoded = adapter.project(encoded) if reuse else encoded
    routed = {layer.cross_attention for layer in adapter.layers}
    # Copies, here and below: a view would keep the whole batch in memory.
    background = {
        layer: (key[0, -1].clone(), value[0, -1].clone())
        for layer, (key, value) in encoded.projected.items()
        if layer in routed
    }
    return [
        _own(encoded, i, ranges[i], background, subject, prepared[i], strange) for i, subject in enumerate(subjects)
    ]


def _own(
    encoded: EncodedSubjects,
    i: int,
    photos: range,
    background: dict[str, tuple[Tensor, Tensor]],
    subject: Subject | SubjectEncoding,
    prepared: tuple[PreparedSubject, ...],
    strange: Sequence[float] | None,
) -> SubjectEncoding:
    """Subject `i` of a batch, whose tokens are by subject and whose features by photo.

    Args:
        encoded: The batch.
        i, photos: The subject's place, and those of its photos.
        background: {cross-attention: keys and values} of the background. All other layers read features.
        subject, prepared: The subject, and its photos as the encoders saw them.
        strange: How far each photo of the batch is from what the adapter knows, if it says.
    """

    def own(layer: str, values: Tensor) -> Tensor:
        return (values[0, i] if layer in background else _joined(values[0], photos)).clone()

    return SubjectEncoding(
        subject=subject if isinstance(subject, Subject) else subject.subject,
        photos=prepared,
        tokens=encoded.tokens[0, i],
        routing=encoded.routing[0, i],
        features={layer: own(layer, values) for layer, values in encoded.features.items()},
        projected={layer: (own(layer, key), own(layer, value)) for layer, (key, value) in encoded.projected.items()},
        background_tokens=encoded.tokens[0, -1],
        background_routing=encoded.routing[0, -1],
        background_projected=background,
        strangeness=None if strange is None else max(strange[photo] for photo in photos),
    )


def stack_encodings(rows: Sequence[Sequence[SubjectEncoding]]) -> EncodedSubjects:
    """One sample per row, shorter rows padded with absent subjects: what `SubjectConditioning` takes.

    Where subjects have different numbers of photos, those with fewer repeat theirs up to a common length, and `copies`
    says how often: keys that stand there c times, each with a c-th of the weight, are the keys once (D15).

    Args:
        rows: At least one encoding in each.

    Raises:
        ValueError: encodings that different adapters made, or numbers of photos that have no small multiple in common.
    """
    first = rows[0][0]
    shapes = {_shape(encoding) for row in rows for encoding in row}
    if len(shapes) > 1:
        raise ValueError(f"`subjects` were encoded by different adapters: their shapes are {sorted(shapes)}")
    count = max(map(len, rows))
    most = _common_photos([len(encoding.photos) for row in rows for encoding in row])
    copies = [[most // len(encoding.photos) for encoding in row] + [1] * (count - len(row)) for row in rows]

    def filled(encoding: SubjectEncoding, reference: Tensor) -> Tensor:
        """(T, …) of all its photos, as often as the others need."""
        return reference.repeat(most // len(encoding.photos), 1)

    def stack(read: Callable[[SubjectEncoding], Tensor]) -> Tensor:
        padding = torch.zeros_like(read(first))
        return torch.stack([torch.stack([*map(read, row), *[padding] * (count - len(row))]) for row in rows])

    def with_background(slots: Tensor, background: Tensor) -> Tensor:
        return torch.cat([slots, background.expand(len(rows), 1, *background.shape)], dim=1)

    def pair(layer: str) -> tuple[Tensor, Tensor]:
        if layer not in first.background_projected:  # a self-attention: the background has no reference
            key, value = (stack(lambda one, i=i: filled(one, one.projected[layer][i])) for i in (0, 1))
            return key, value
        key, value = (stack(lambda one, i=i: one.projected[layer][i]) for i in (0, 1))
        background_key, background_value = first.background_projected[layer]
        return with_background(key, background_key), with_background(value, background_value)

    present = [[i < len(row) for i in range(count)] + [True] for row in rows]
    return EncodedSubjects(
        tokens=with_background(stack(lambda encoding: encoding.tokens), first.background_tokens),
        routing=with_background(stack(lambda encoding: encoding.routing), first.background_routing),
        features={layer: stack(lambda one, key=layer: filled(one, one.features[key])) for layer in first.features},
        present=torch.tensor(present, device=first.tokens.device),
        copies=torch.tensor(copies, device=first.tokens.device) if max(map(max, copies)) > 1 else None,
        projected={layer: pair(layer) for layer in first.projected},
    )


_MOST_PHOTOS = 48
"""Photos of a subject, repeated ones included: for SDXL one takes about 100 MB."""


def _common_photos(counts: Sequence[int]) -> int:
    """To how many photos the subjects of one call are brought."""
    common = math.lcm(*counts)
    if common > _MOST_PHOTOS:
        numbers = ", ".join(map(str, sorted(set(counts))))
        raise ValueError(
            f"`subjects` with {numbers} photos would be brought to {common} photos each, "
            f"and {_MOST_PHOTOS} are the most: give all as many photos, or numbers that divide each other"
        )
    return common


def hidden_states(image_encoder: Any, pixels: Tensor) -> Tensor:
    """CLIP's penultimate hidden states (U, P, Dc) of normalised pixels (U, 3, H, W)."""
    weight = next(image_encoder.parameters())
    return image_encoder(pixels.to(weight.dtype), output_hidden_states=True).hidden_states[-2]


def _prepared(subject: Subject | SubjectEncoding, size: int) -> tuple[PreparedSubject, ...]:
    if isinstance(subject, SubjectEncoding):
        return subject.photos
    return tuple(photo.prepare(size) for photo in subject.photos)


def _joined(values: Tensor, photos: range) -> Tensor:
    """The rows of a subject's photos (U, T, …), one after another: (len(photos) · T, …)."""
    return values[photos.start : photos.stop].flatten(0, 1)


def _shape(encoding: SubjectEncoding) -> tuple[Any, ...]:
    photos = len(encoding.photos)
    values = encoding.features or {
        layer: key for layer, (key, _) in encoding.projected.items() if layer not in encoding.background_projected
    }
    references = tuple((layer, len(g) // photos, g.shape[1]) for layer, g in values.items())
    return (tuple(encoding.tokens.shape), tuple(encoding.routing.shape), references)
