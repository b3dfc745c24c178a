"""The stages' losses once more, from the paper's equations in plain torch: one slot at a time, draws in a fixed order.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L pixels of a layer, h × w latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anystory.training.data.stream import Sample


def pixels(images: Tensor) -> Tensor:
    """uint8 (…, H, W, 3) to (…, 3, H, W) in [-1, 1]."""
    return images.movedim(-1, -3) / 127.5 - 1


# The frozen encoders.


def text_of(stage: Any, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Penultimate states and the pooled text of the one text encoder, padded to its length."""
    [tokenizer], [encoder] = stage.texts.tokenizers, stage.texts.encoders
    length = tokenizer.model_max_length
    ids = torch.tensor([tokenizer(c, padding="max_length", max_length=length).input_ids for c in captions])
    found = encoder(ids, output_hidden_states=True)
    return found.hidden_states[-2], found.text_embeds


def latents_of(stage: Any, images: Tensor) -> Tensor:
    """The mean of the autoencoder's posterior, standardised by its buffers."""
    mean, _ = stage.vae.encoder(pixels(images)).chunk(2, dim=1)
    per_channel = (slice(None), None, None)
    return (mean - stage.vae.latent_mean[per_channel]) / stage.vae.latent_std[per_channel]


def averaged(masks: Tensor, side: int) -> Tensor:
    """Means over the squares that a side's worth of pixels covers. (…, H, W) -> (…, side, side)."""
    return masks.unflatten(-2, (side, -1)).unflatten(-1, (side, -1)).mean((-3, -1))


def clip_states(stage: Any, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """CLIP's penultimate states of pictures, resized by Pillow and normalised, and of a zero input, last."""
    side = stage.image_encoder.config.image_size
    rows = []
    for image in images.float().div(255).numpy():
        channels = [Image.fromarray(image[..., c]).resize((side, side), Image.Resampling.BICUBIC) for c in range(3)]
        rows.append([(np.asarray(channel) - m) / s for channel, m, s in zip(channels, mean, std, strict=True)])
    seen = torch.tensor(np.array([*rows, np.zeros((3, side, side))]), dtype=torch.float32)
    return stage.image_encoder(seen, output_hidden_states=True).hidden_states[-2]


# The subjects.


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """`E`, `R` and `G` of a batch."""

    tokens: Tensor
    """(B, S, m, c)."""
    routing: Tensor
    """(B, S, d_r)."""
    features: dict[str, Tensor]
    """{self-attention: (B, N, T, d)}."""
    present: Tensor
    """(B, S) bool."""


def encode(stage: Any, batch: Sample, mean: Sequence[float], std: Sequence[float]) -> Encoded:
    """Each subject that is there; rows of the others are zero."""
    adapter, present = stage.adapter, batch["present"]
    images, alpha = batch["references"][present], batch["reference_alpha"][present] / 255
    with torch.no_grad():
        hidden = clip_states(stage, images, mean, std)
        latents = latents_of(stage, images)
    found = adapter.reference_net(latents, averaged(alpha, latents.shape[-1])[:, None])

    def by_sample(rows: Tensor) -> Tensor:
        places = torch.zeros(*present.shape, *rows.shape[1:])
        places[present] = rows
        return places

    def with_background(rows: Tensor) -> Tensor:
        return torch.cat([by_sample(rows[:-1]), rows[-1:].expand(len(present), 1, *rows.shape[1:])], dim=1)

    return Encoded(
        tokens=with_background(adapter.subject_qformer(hidden)),
        routing=with_background(adapter.routing_qformer(hidden)[:, 0]),
        features={layer: by_sample(rows) for layer, rows in found.items()},
        present=torch.cat([present, torch.ones(len(present), 1, dtype=torch.bool)], dim=1),
    )


# Who owns each pixel. A gate is (B, S, side, side), one-hot.


def one_hot(scores: Tensor) -> Tensor:
    """The largest slot, (B, S, …) -> (B, S, …)."""
    return torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).movedim(-1, 1).float()


def smaller(maps: Tensor, side: int) -> Tensor:
    """D7: bilinear, antialiased."""
    return torch.nn.functional.interpolate(maps, size=(side, side), mode="bilinear", antialias=True)


@dataclass
class TrueOwners:
    """Stage 1: true masks (B, S, H, W) are the gates of every layer."""

    masks: Tensor

    def decide(self, layer: str, states: Tensor) -> Tensor:
        return self.at(layer, int(states.shape[1] ** 0.5))

    def at(self, layer: str, side: int) -> Tensor:
        return one_hot(smaller(self.masks, side))


class RoutedOwners:
    """Coarse map, masked cross-attention, refined map; hard Gumbel-softmax in stage 2, else (None) the argmax."""

    def __init__(
        self, adapter: Any, encoded: Encoded, temperature: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        self.adapter, self.encoded = adapter, encoded
        self.temperature, self.generator = temperature, generator
        self.maps: dict[str, tuple[Tensor, Tensor]] = {}
        """{cross-attention: coarse and refined probabilities (B, S, side, side)}."""
        self.logits: dict[str, Tensor] = {}
        self.gates: dict[tuple[str, int], Tensor] = {}

    def decide(self, layer: str, states: Tensor) -> Tensor:
        router, side = self.adapter.routers[layer.replace(".", "-")], int(states.shape[1] ** 0.5)
        routing, width = self.encoded.routing, router.to_q.out_features
        absent = ~self.encoded.present[:, :, None]
        shared = hasattr(router, "map_slot")  # D5: one pair of projections for both maps, or one for each
        pairs = ["map", "map"] if shared else ["coarse", "refined"]
        of_slots, of_pixels = ([getattr(router, f"{pair}_{of}") for pair in pairs] for of in ("slot", "pixel"))
        coarse = of_slots[0](routing) @ of_pixels[0](states).mT / width**0.5
        coarse = coarse.masked_fill(absent, -torch.inf)
        won = one_hot(coarse).bool()
        area = won | ~won.any(-1, keepdim=True)  # D4: a slot that wins nothing sees all
        heads = []
        for query, key, value in zip(
            *(
                part.chunk(router.heads, -1)
                for part in (router.to_q(routing), router.to_k(states), router.to_v(states))
            ),
            strict=True,
        ):
            scores = query @ key.mT / query.shape[-1] ** 0.5
            heads.append(scores.masked_fill(~area, -torch.inf).softmax(-1) @ value)
        refined_routing = router.norm(routing + router.to_out(torch.cat(heads, -1)))
        refined = of_slots[1](refined_routing) @ of_pixels[1](states).mT / width**0.5
        refined = refined.masked_fill(absent, -torch.inf)
        both = [logits.unflatten(-1, (side, side)) for logits in (coarse, refined)]
        self.maps[layer] = both[0].softmax(1), both[1].softmax(1)
        self.logits[layer] = both[1]
        return self.at(layer, side)

    def at(self, layer: str, side: int) -> Tensor:
        if (layer, side) not in self.gates:
            logits = self.logits[layer]
            if logits.shape[-1] != side:  # D7: the probabilities are resized, not the logits
                logits = smaller(logits.softmax(1), side).clamp_min(1e-12).log()
                logits = logits.masked_fill(~self.encoded.present[:, :, None, None], -torch.inf)
            if self.temperature is None:
                return one_hot(logits)
            drawn = torch.empty(logits.shape).exponential_(generator=self.generator)
            noisy = (logits - drawn.log()) / self.temperature
            soft = noisy.softmax(1)
            self.gates[layer, side] = one_hot(noisy) + (soft - soft.detach())
        return self.gates[layer, side]


# The injection.


@contextmanager
def injected(stage: Any, encoded: Encoded, owners: TrueOwners | RoutedOwners) -> Iterator[None]:
    """Inside, the stage's U-Net injects the subjects by the equations below."""
    before, preceding = stage.unet.attn_processors, []

    def attend(name: str, attn: Any, states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        heads = partial(torch.chunk, chunks=attn.heads, dim=-1)
        context = states if encoder_hidden_states is None else encoder_hidden_states
        parts = heads(attn.to_q(states)), heads(attn.to_k(context)), heads(attn.to_v(context))
        if encoder_hidden_states is not None:
            gate = owners.decide(name, states).flatten(2)
            preceding.append(name)
            out = _cross(parts, stage.adapter.cross_projections[name.replace(".", "-")], encoded, gate, heads)
        elif not preceding:  # no map precedes the first self-attention
            out = [_attention(*one)[0] for one in zip(*parts, strict=True)]
        else:
            gate = owners.at(preceding[-1], int(states.shape[1] ** 0.5)).flatten(2)
            projection, features = stage.adapter.reference_projections[name.replace(".", "-")], encoded.features[name]
            out = _with_references(parts, projection, features, gate, heads)
        return attn.to_out[0](torch.cat(out, -1))

    names = [name.removesuffix(".processor") for name in before]
    stage.unet.set_attn_processor({f"{name}.processor": _Processor(partial(attend, name)) for name in names})
    try:
        yield
    finally:
        stage.unet.set_attn_processor(before)


class _Processor:
    """diffusers looks at a processor's `__call__`."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        self.attend = attend

    def __call__(self, attn: Any, states: Tensor, encoder_hidden_states: Tensor | None = None, **rest: Any) -> Tensor:
        return self.attend(attn, states, encoder_hidden_states, **rest)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """One head's attention (B, L, e), and the log-sum-exp of its scores (B, L)."""
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def _cross(parts: Any, projection: Any, encoded: Encoded, gate: Tensor, heads: Any) -> list[Tensor]:
    """`Ẑ = Attn(Q, K, V) + Σ_i σ(M_i) ⊙ Attn(Q, E_i Ŵ_k, E_i Ŵ_v)`."""
    out = [_attention(*one)[0] for one in zip(*parts, strict=True)]
    for slot in range(gate.shape[1]):
        own = encoded.tokens[:, slot]
        keys, values = heads(projection.to_k(own)), heads(projection.to_v(own))
        for h, query in enumerate(parts[0]):
            out[h] = out[h] + gate[:, slot, :, None] * _attention(query, keys[h], values[h])[0]
    return out


def _with_references(parts: Any, projection: Any, features: Tensor, gate: Tensor, heads: Any) -> list[Tensor]:
    """`(e^s o + Σ_i m_i e^{r_i} o_i) / (e^s + Σ_i m_i e^{r_i})` with γ = 0."""
    subjects = range(features.shape[1])
    keys = [heads(projection.to_k(features[:, i])) for i in subjects]
    values = [heads(projection.to_v(features[:, i])) for i in subjects]
    out = []
    for h, (query, key, value) in enumerate(zip(*parts, strict=True)):
        own, s = _attention(query, key, value)
        others = [_attention(query, keys[i][h], values[i][h]) for i in subjects]
        # Who does not own a pixel adds nothing; for its gradient it is imagined at most as strong as who does.
        there = [torch.where(gate[:, i] > 0, r, -torch.inf) for i, (_, r) in enumerate(others)]
        strongest = torch.stack([s, *there]).amax(0).detach()
        logits = [torch.where(gate[:, i] > 0, r, torch.minimum(r, strongest)) for i, (_, r) in enumerate(others)]
        weights = [gate[:, i] * (logit - strongest).exp() for i, logit in enumerate(logits)]
        total = (s - strongest).exp() + torch.stack(weights).sum(0)
        mixed = (s - strongest).exp()[..., None] * own
        for weight, (other, _) in zip(weights, others, strict=True):
            mixed = mixed + weight[..., None] * other
        out.append(mixed / total[..., None])
    return out
