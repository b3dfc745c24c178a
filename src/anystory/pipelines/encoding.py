"""Subjects to numbers: the image encoder, the VAE and the adapter's encoders, each run once for all.

Shapes: U distinct references, B images, N subjects, S = N + 1 slots with the background last, P image
tokens of width Dc, m tokens of width c, T reference tokens of width d.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.models.adapter import SubjectAdapter
from anystory.models.encoders import EncodedSubjects, join_photos
from anystory.subjects import PreparedSubject, Subject

__all__ = ["SubjectEncoding", "encode_pixels", "encode_references", "hidden_states", "stack_encodings"]

# What a Subject says about its picture; all else may change after it is encoded.
_PICTURE = ("image", "mask", "segmenter")


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectEncoding:
    """A subject together with all that its reference costs to compute; takes a `Subject`'s place in a call.

    It depends on the pipeline's image encoder, VAE and adapter, not on prompt, size or step. Its memory is
    that of `features` and `projected`: about 0.2 GB for SDXL in half precision.
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
    """{self-attention layer: (T, d)}: `G_i^l`, of several photos one after another (D15)."""
    projected: dict[str, tuple[Tensor, Tensor]]
    """{layer: keys and values (m or T, inner width)}: what each layer makes of tokens and features, so that the
    next picture does not make it again."""
    background_tokens: Tensor
    """(m, c): `E_{N+1}`."""
    background_routing: Tensor
    """(d_r,): `R_{N+1}`."""
    background_projected: dict[str, tuple[Tensor, Tensor]]
    """{cross-attention: keys and values (m, inner width)} of the background's tokens."""

    @property
    def prepared(self) -> PreparedSubject:
        """The first of `photos`."""
        return self.photos[0]

    def replace(self, **changes: Any) -> SubjectEncoding:
        """The same encoding with other settings of the subject, e.g. `replace(scale=0.6, region=box)`.

        Raises:
            ValueError: a setting outside its range, or one of `image`, `mask` and `segmenter`, on which
                the encoding depends.
        """
        if fixed := [name for name in changes if name in _PICTURE]:
            raise ValueError(f"{fixed} cannot change in an encoding: encode a new Subject")
        return replace(self, subject=replace(self.subject, **changes))


def encode_references(
    subjects: Sequence[Subject],
    *,
    adapter: SubjectAdapter,
    image_encoder: Any,
    feature_extractor: Any,
    vae: Any,
    device: torch.device,
) -> list[SubjectEncoding]:
    """Both branches of the subject encoding (method 3.2), all photos of all subjects as one batch.

    Raises:
        ValueError: a picture or mask that `Subject` refuses.
    """
    size = adapter.sizes.reference_size
    prepared = [tuple(photo.prepare(size) for photo in subject.photos) for subject in subjects]
    photos = [photo for of_subject in prepared for photo in of_subject]
    ends = list(itertools.accumulate(map(len, prepared)))
    ranges = [range(end - len(own), end) for end, own in zip(ends, prepared, strict=True)]
    pixels = np.stack([np.asarray(photo.image) for photo in photos])
    clip = feature_extractor(list(pixels), return_tensors="pt").pixel_values.to(device)
    # D10: the zero image is zero after normalisation.
    hidden = hidden_states(image_encoder, torch.cat([clip, torch.zeros_like(clip[:1])]))
    latents = encode_pixels(vae, _normalised(pixels).to(device))
    masks = np.stack([photo.mask for photo in photos])
    shares = F.interpolate(torch.from_numpy(masks)[:, None], tuple(latents.shape[-2:]), mode="area")
    by_photo = adapter.encode(
        image_hidden=hidden[None, :-1],
        zero_hidden=hidden[-1:],
        reference_latents=latents[None],
        reference_masks=shares[None].to(device),
        present=torch.ones(1, len(photos), dtype=torch.bool, device=device),
    )
    hidden = hidden.to(adapter.dtype)
    tokens = join_photos(adapter.subject_qformer, by_photo.tokens[0], hidden, ranges)
    routing = join_photos(adapter.routing_qformer, by_photo.routing[0, :, None], hidden, ranges)[:, 0]
    projected = adapter.project(replace(by_photo, tokens=tokens[None])).projected  # tokens by subject, G by photo
    background = {layer: pair for layer, pair in projected.items() if layer not in by_photo.features}

    def pair(layer: str, i: int) -> tuple[Tensor, Tensor]:
        key, value = projected[layer]
        if layer in background:
            return key[0, i], value[0, i]
        return _joined(key[0], ranges[i]), _joined(value[0], ranges[i])

    return [
        SubjectEncoding(
            subject=subject,
            photos=prepared[i],
            tokens=tokens[i],
            routing=routing[i],
            features={layer: _joined(values[0], ranges[i]) for layer, values in by_photo.features.items()},
            projected={layer: pair(layer, i) for layer in projected},
            background_tokens=tokens[-1],
            background_routing=routing[-1],
            background_projected={layer: (key[0, -1], value[0, -1]) for layer, (key, value) in background.items()},
        )
        for i, subject in enumerate(subjects)
    ]


def stack_encodings(rows: Sequence[Sequence[SubjectEncoding]]) -> EncodedSubjects:
    """One sample per row, shorter rows padded with absent subjects: what `SubjectConditioning` takes.

    Where subjects have different numbers of photos, those with fewer repeat theirs up to a common length, and `copies`
    says how often: keys that stand there c times, each with a c-th of the weight, are the keys once (D15).

    Args:
        rows: At least one encoding in each.

    Raises:
        ValueError: encodings that different adapters made.
    """
    first = rows[0][0]
    shapes = {_shape(encoding) for row in rows for encoding in row}
    if len(shapes) > 1:
        raise ValueError(f"`subjects` were encoded by different adapters: their shapes are {sorted(shapes)}")
    count = max(map(len, rows))
    most = math.lcm(*(len(encoding.photos) for row in rows for encoding in row))
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


def hidden_states(image_encoder: Any, pixels: Tensor) -> Tensor:
    """CLIP's penultimate hidden states (U, P, Dc) of normalised pixels (U, 3, H, W)."""
    weight = next(image_encoder.parameters())
    return image_encoder(pixels.to(weight.dtype), output_hidden_states=True).hidden_states[-2]


def encode_pixels(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (U, 3, H, W) in [-1, 1] to the latents (U, c, h, w) that the U-Net works on.

    The mode of the posterior, so that a reference always gives the same latents; normalised by the inverse
    of what diffusers' pipelines do before they decode.
    """
    with _safe_precision(vae):
        latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
    config = vae.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return (latents - mean) / std * config.scaling_factor
    return (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor


def _normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (U, H, W, 3) to float (U, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _joined(values: Tensor, photos: range) -> Tensor:
    """The rows of a subject's photos (U, T, …), one after another: (len(photos) · T, …)."""
    return values[photos.start : photos.stop].flatten(0, 1)


def _shape(encoding: SubjectEncoding) -> tuple[Any, ...]:
    photos = len(encoding.photos)
    features = tuple((layer, len(g) // photos, g.shape[1]) for layer, g in encoding.features.items())
    return (tuple(encoding.tokens.shape), tuple(encoding.routing.shape), features)


@contextmanager
def _safe_precision(vae: Any) -> Iterator[None]:
    """SDXL's own VAE overflows in float16 (`force_upcast`): run it in float32, then put it back."""
    upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if upcast:
        nn.Module.to(vae, torch.float32)  # ModelMixin's own `to` warns at every change of type
    try:
        yield
    finally:
        if upcast:
            nn.Module.to(vae, torch.float16)
