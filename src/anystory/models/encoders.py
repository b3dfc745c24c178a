"""CLIP branch and routing features: the two QFormers and what an encoded set of subjects is (3.2, 3.3).

Shapes: B samples, N subjects, S = N + 1 slots with the background last, P image tokens of width Dc,
m tokens of width c, d_r routing width, T reference tokens of width d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from torch import Tensor, nn

from anystory.models.configs import AdapterConfig


def subject_qformer(config: AdapterConfig) -> IPAdapterPlusImageProjection:
    """The QFormer that compresses CLIP's hidden states (…, P, Dc) to `E` (…, m, c)."""
    return IPAdapterPlusImageProjection(
        embed_dims=config.clip_dim,
        output_dims=config.token_dim,
        hidden_dims=config.qformer_dim,
        depth=config.qformer_depth,
        dim_head=config.qformer_head_dim,
        heads=config.qformer_heads,
        num_queries=config.subject_tokens,
    )


def routing_qformer(config: AdapterConfig) -> IPAdapterPlusImageProjection:
    """The QFormer of one query that gives the routing feature `R` (…, 1, d_r)."""
    return IPAdapterPlusImageProjection(
        embed_dims=config.clip_dim,
        output_dims=config.routing_dim,
        hidden_dims=config.qformer_dim,
        depth=config.qformer_depth,
        dim_head=config.qformer_head_dim,
        heads=config.qformer_heads,
        num_queries=1,
    )


class CoupledRouting(nn.Module):
    """The routing feature `R` (…, d_r) of a subject's own tokens `E` (…, m, c): their mean through two layers (D16)."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.token_dim)
        self.to_hidden = nn.Linear(config.token_dim, config.qformer_dim)
        self.to_out = nn.Linear(config.qformer_dim, config.routing_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.to_out(nn.functional.gelu(self.to_hidden(self.norm(tokens.mean(dim=-2)))))


def encode_slots(qformer: IPAdapterPlusImageProjection, images: Tensor, zero: Tensor, present: Tensor) -> Tensor:
    """Runs a QFormer on every subject that is there, and on the zero image for the background slot.

    Args:
        qformer: queries (m) of width c.
        images: (B, N, P, Dc) hidden states.
        zero: (1, P', Dc) hidden states of the all-zero image.
        present: (B, N) bool; absent subjects are not computed and give zeros.

    Returns:
        (B, N + 1, m, c), the background last.
    """
    batch, subjects = present.shape
    background = qformer(zero).expand(batch, -1, -1).unsqueeze(1)
    encoded = scatter_present(qformer(images.flatten(0, 1)[present.flatten()]), present)
    return torch.cat([encoded.unflatten(0, (batch, subjects)), background], dim=1)


def join_photos(
    qformer: IPAdapterPlusImageProjection, by_photo: Tensor, hidden: Tensor, photos: Sequence[range]
) -> Tensor:
    """What a QFormer makes of subjects by several photos: their hidden states are one sequence (D15).

    Args:
        qformer: queries (m) of width c.
        by_photo: (U + 1, m, c): what it made of each of U photos alone, and of the zero image.
        hidden: (U, P, Dc) hidden states of the photos.
        photos: for each of N subjects, which of the U are of it.

    Returns:
        (N + 1, m, c); a subject with one photo keeps what that gave.
    """

    def subject(own: range) -> Tensor:
        if len(own) == 1:
            return by_photo[own.start]
        return qformer(hidden[own.start : own.stop].flatten(0, 1)[None])[0]

    return torch.stack([*map(subject, photos), by_photo[-1]])


def scatter_present(values: Tensor, present: Tensor) -> Tensor:
    """Puts rows (number present, …) back at their places among (B · N, …); absent rows are zero."""
    flat = present.flatten()
    if len(values) == len(flat):
        return values
    return values.new_zeros(len(flat), *values.shape[1:]).index_copy(0, flat.nonzero().squeeze(1), values)


def check_references(
    sizes: AdapterConfig,
    image_hidden: Tensor,
    zero_hidden: Tensor,
    reference_latents: Tensor,
    reference_masks: Tensor,
    present: Tensor,
) -> None:
    """Raises ValueError where the arguments of `SubjectAdapter.encode` do not have the shapes that it wants."""
    if present.ndim != 2 or present.dtype != torch.bool or present.shape[1] < 1:
        raise ValueError(f"present must be (B, N) bool with N >= 1, got {present.dtype} {tuple(present.shape)}")
    slots = tuple(present.shape)
    tokens, width = sizes.clip_tokens, sizes.clip_dim
    if image_hidden.ndim != 4 or image_hidden.shape[:2] != slots or image_hidden.shape[3] != width:
        raise ValueError(f"image_hidden must be {(*slots, 'P', width)}, got {tuple(image_hidden.shape)}")
    if image_hidden.shape[2] == 0 or image_hidden.shape[2] % tokens:
        raise ValueError(f"image_hidden must have a multiple of {tokens} tokens, got {image_hidden.shape[2]}")
    if zero_hidden.shape != (1, tokens, width):
        raise ValueError(f"zero_hidden must be {(1, tokens, width)}, got {tuple(zero_hidden.shape)}")
    if reference_latents.ndim != 5 or reference_latents.shape[:2] != slots:
        raise ValueError(f"reference_latents must be {(*slots, 'c', 'h', 'w')}, got {tuple(reference_latents.shape)}")
    if reference_masks.shape != (*slots, 1, *reference_latents.shape[3:]):
        raise ValueError(
            f"reference_masks must be (B, N, 1, h, w) like reference_latents "
            f"{tuple(reference_latents.shape)}, got {tuple(reference_masks.shape)}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSubjects:
    """What the encoders know of the subjects of B samples; it does not depend on the sampling step."""

    tokens: Tensor
    """(B, S, m, c): `E_i`, the zero image's last."""
    routing: Tensor
    """(B, S, d_r): `R_i`, the zero image's last."""
    features: dict[str, Tensor]
    """{self-attention layer: (B, N, T, d)}: `G_i^l`, l = 2…L. Empty where `projected` stands in its place."""
    present: Tensor
    """(B, S) bool: False for padding; the background is always there."""
    copies: Tensor | None = None
    """(B, N) how many times a subject's reference tokens stand one after another in `features`, so that subjects with
    different numbers of photos fill the same T (D15); None for once. A copy counts as much as its original, so the
    attention divides the weight of a subject's keys by this."""
    projected: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values of every layer, where `SubjectAdapter.project` has computed them ahead, all heads together:
    {cross-attention: two of (B, S, m, inner width)} and {self-attention: two of (B, N, T, inner width)}."""

    @property
    def batch_size(self) -> int:
        """B."""
        return self.present.shape[0]

    @property
    def num_subjects(self) -> int:
        """N, padding included."""
        return self.present.shape[1] - 1

    def features_of(self, layer: str) -> Tensor:
        """`G` of a self-attention, (B, N, T, d).

        Raises:
            ValueError: they are not here any more.
        """
        if layer not in self.features:
            raise ValueError(
                f"the encoded subjects hold no features of {layer}: `SubjectAdapter.project` has put keys and values "
                "in their place, which neither training nor fast=False reads; give what it was called with"
            )
        return self.features[layer]

    def drop_clip(self, mask: Tensor) -> EncodedSubjects:
        """The same subjects, but where `mask` (B,) bool is True every slot's tokens are `E_{N+1}` (3.4).

        Keys and values of tokens that were computed ahead are forgotten, those of references stay.

        Raises:
            ValueError: `mask` is not (B,) bool.
        """
        if mask.shape != (self.batch_size,) or mask.dtype != torch.bool:
            raise ValueError(f"mask must be bool of shape ({self.batch_size},), got {mask.dtype} {tuple(mask.shape)}")
        tokens = torch.where(mask[:, None, None, None], self.tokens[:, -1:], self.tokens)
        references = {layer: pair for layer, pair in self.projected.items() if pair[0].shape[1] == self.num_subjects}
        return replace(self, tokens=tokens, projected=references)

    def repeat_interleave(self, repeats: int) -> EncodedSubjects:
        """Every sample `repeats` times in a row, as diffusers repeats a prompt for several images.

        A single sample is repeated without a copy: the results share its memory.
        """

        def repeat(value: Tensor) -> Tensor:
            if len(value) == 1:
                return value.expand(repeats, *value.shape[1:])
            return value.repeat_interleave(repeats, dim=0)

        return self._each(repeat, repeat)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> EncodedSubjects:
        """The same on another device or in another floating-point dtype."""
        return self._each(lambda value: value.to(device=device, dtype=dtype), lambda mask: mask.to(device=device))

    def _each(self, change: Callable[[Tensor], Tensor], change_mask: Callable[[Tensor], Tensor]) -> EncodedSubjects:
        return EncodedSubjects(
            tokens=change(self.tokens),
            routing=change(self.routing),
            features={layer: change(value) for layer, value in self.features.items()},
            present=change_mask(self.present),
            copies=None if self.copies is None else change_mask(self.copies),
            projected={layer: (change(key), change(value)) for layer, (key, value) in self.projected.items()},
        )
