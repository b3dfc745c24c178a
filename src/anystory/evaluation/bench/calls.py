"""The calls whose cost is measured, on made-up inputs: a U-Net step, encoding references, text, decoding.

Shapes: N subjects, rows = 2 with guidance: [unconditional; conditional].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from anystory.evaluation.bench.networks import Networks
from anystory.models.attention import project_context
from anystory.models.conditioning import SubjectConditioning
from anystory.models.encoders import EncodedSubjects, encode_slots
from anystory.models.gates import Argmax, Decision, Gate, PixelGroup
from anystory.models.reference_net import ReferenceNet
from anystory.models.router import Size

GUIDED_ROWS = 2


def even_groups(subjects: int, pixels: int, foreground: float, device: torch.device) -> tuple[PixelGroup, ...]:
    """One sample's pixels: a share is foreground, split evenly among the subjects; the rest is background."""
    covered = round(foreground * pixels) if subjects else 0
    bounds = [round(i * covered / max(subjects, 1)) for i in range(subjects + 1)] + [pixels]
    return tuple(
        PixelGroup(sample=0, slot=slot, pixels=torch.arange(start, stop, device=device))
        for slot, (start, stop) in enumerate(pairwise(bounds))
        if stop > start
    )


class EvenGate(Gate):
    """Pixel groups of one sample that are laid out in advance, whatever the router says.

    The router's work is done all the same. On the meta device there is no decision to read; on others a random
    router would give all pixels to one slot.

    Args:
        foreground: Share of the pixels that belong to subjects.
    """

    def __init__(self, foreground: float) -> None:
        self.foreground = foreground
        self._groups: dict[Size, tuple[PixelGroup, ...]] = {}  # built once: the bench measures the method

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        decision, (slots, height, width) = Argmax()(logits, noise), logits.shape[1:]
        if (height, width) not in self._groups:
            self._groups[height, width] = even_groups(slots - 1, height * width, self.foreground, logits.device)
        decision.groups = self._groups[height, width]
        return decision


def encoded_subjects(networks: Networks, subjects: int, projected: bool) -> EncodedSubjects:
    """N made-up encoded subjects of one sample.

    Args:
        networks: whose adapter they are for.
        subjects: N ≥ 1.
        projected: with the keys and values of every layer, as the pipeline keeps them.
    """
    sizes, adapter = networks.sizes, networks.adapter
    random = partial(torch.randn, device=networks.device, dtype=networks.dtype)
    size = sizes.adapter
    encoded = EncodedSubjects(
        tokens=random(1, subjects + 1, size.subject_tokens, size.token_dim),
        routing=random(1, subjects + 1, size.routing_dim),
        features={
            layer.self_attention: random(1, subjects, _tokens(networks, layer.dim), layer.dim)
            for layer in adapter.layers[1:]
        },
        present=torch.ones(1, subjects + 1, dtype=torch.bool, device=networks.device),
    )
    return adapter.project(encoded) if projected else encoded


def conditioning(encoded: EncodedSubjects, fast: bool = True, foreground: float = 0.5) -> SubjectConditioning:
    """What a guided call on these subjects carries; `foreground` is the share of the pixels that belong to them."""
    return SubjectConditioning(encoded=encoded, gate=EvenGate(foreground), guidance=True, fast=fast)


def unet_call(
    networks: Networks, *, rows: int = GUIDED_ROWS, latent: int | None = None, unet: Any = None, **options: Any
) -> Callable[[], Any]:
    """A step of the U-Net, or of `unet` in its place, as a function without arguments; `options` are passed on."""
    sizes = networks.sizes
    side = sizes.latent if latent is None else latent
    random = partial(torch.randn, device=networks.device, dtype=networks.dtype)
    added = {"text_embeds": random(rows, sizes.pooled_dim), "time_ids": random(rows, 6)}
    added |= options.pop("added", {})
    return partial(
        networks.unet if unet is None else unet,
        random(rows, 4, side, side),
        torch.ones((), device=networks.device),
        encoder_hidden_states=random(rows, sizes.text_tokens, sizes.adapter.token_dim),
        added_cond_kwargs=added,
        **options,
    )


def reference_net_call(networks: Networks, net: ReferenceNet, references: int, latent: int) -> Callable[[], Any]:
    """ReferenceNet on a batch of references."""
    random = partial(torch.randn, device=networks.device, dtype=networks.dtype)
    return partial(net, random(references, 4, latent, latent), random(references, 1, latent, latent))


def encode_call(networks: Networks, subjects: int, net: ReferenceNet | None = None) -> Callable[[], Any]:
    """All that N new references cost before the first step: image encoder (with the zero image), VAE, QFormers,
    ReferenceNet, and with the adapter's own `net` also every layer's keys and values."""
    sizes, adapter = networks.sizes, networks.adapter
    random = partial(torch.randn, device=networks.device, dtype=networks.dtype)
    images = random(subjects + 1, 3, sizes.clip_image, sizes.clip_image)
    pictures = random(subjects, 3, sizes.adapter.reference_size, sizes.adapter.reference_size)
    side = sizes.reference_latent
    masks = random(subjects, 1, side, side)
    # On the CPU: which subjects are present is known there, and `encode_slots` asks.
    present = torch.ones(1, subjects, dtype=torch.bool)

    def encode() -> Any:
        hidden = networks.image_encoder(images, output_hidden_states=True).hidden_states[-2]
        latents = cast(Any, networks.vae.encode(pictures)).latent_dist.mode()
        features = (net or adapter.reference_net)(latents, masks)
        tokens = encode_slots(adapter.subject_qformer, hidden[None, :-1], hidden[-1:], present)
        encoded = EncodedSubjects(
            tokens=tokens,
            routing=adapter.routing_of(tokens, lambda own: encode_slots(own, hidden[None, :-1], hidden[-1:], present)),
            features={layer: value[None] for layer, value in features.items()},
            present=present,
        )
        return encoded if net is not None else adapter.project(encoded)

    return encode


def prompt_call(networks: Networks) -> Callable[[], Any]:
    """The prompt's keys and values in every cross-attention, with guidance: what the fast form does once."""
    sizes = networks.sizes
    shape = (GUIDED_ROWS, sizes.text_tokens, sizes.adapter.token_dim)
    text = torch.randn(shape, device=networks.device, dtype=networks.dtype)
    layers: list[Any] = [networks.unet.get_submodule(layer.cross_attention) for layer in networks.adapter.layers]

    def project() -> None:
        for layer in layers:
            project_context(layer, text)

    return project


def decode_call(networks: Networks) -> Callable[[], Any]:
    """The VAE's decoder on one picture."""
    side = networks.sizes.latent
    vae: Any = networks.vae
    return partial(vae.decode, torch.randn(1, 4, side, side, device=networks.device, dtype=networks.dtype))


def text_call(networks: Networks) -> Callable[[], Any]:
    """Prompt and negative prompt, each on its own through every text encoder, as diffusers does it."""
    ids = torch.zeros(1, networks.sizes.text_tokens, dtype=torch.int64, device=networks.device)

    def encode() -> None:
        for encoder in networks.text_encoders:
            for _ in range(GUIDED_ROWS):
                encoder(ids, output_hidden_states=True)

    return encode


def _tokens(networks: Networks, width: int) -> int:
    """T: a reference's tokens in a layer of this width."""
    side = networks.sizes.reference_latent // 2 ** networks.sizes.channels.index(width)
    return side * side
