"""The calls whose cost is measured, on made-up inputs: steps with each method, encoding references, text, decoding.

Shapes: N subjects, S tokens of the picture, T of a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from diffusers import FluxPipeline
from PIL import Image
from torch import Tensor
from transformers import SiglipImageProcessorPil

from anystory.evaluation.bench.flux.networks import TOKEN, FluxNetworks
from anystory.evaluation.bench.flux.official import OfficialCall
from anystory.models.flux.inputs import EncodedReference, FluxInputs, Placed, Window
from anystory.models.flux.owners import Groups
from anystory.models.flux.state import Acting, FluxRoutingState
from anystory.pipelines.flux.encoding import encode_references
from anystory.subjects import Subject

Method = Literal["stock", "fast", "plain", "official"]
"""The pipeline without subjects, ours in both forms, the authors' computation."""


@dataclass(frozen=True)
class StepKind:
    """What a step does."""

    acting: Acting
    computes: bool
    """Whether the references run through the blocks in it; else their keys and values are there, if they act."""

    @property
    def name(self) -> str:
        """For tables."""
        if not self.acting:
            return "stock"
        what = "references computed" if self.computes else "references kept" if self.acting.references else ""
        return " + ".join(filter(None, (what, "appearances" if self.acting.appearance else "")))


def kinds_of(steps: int, subjects: int) -> list[StepKind]:
    """The steps of a picture, one by one, with the pipeline's own windows."""
    appearance, references = Window(start=0.1, end=0.3), Window(start=0.09 if subjects > 1 else 0.0, end=1.0)
    kinds: list[StepKind] = []
    for step in range(steps):
        acting = Acting(appearance=appearance.holds(step, steps), references=references.holds(step, steps))
        computes = acting.references and not any(kind.computes for kind in kinds)
        kinds.append(StepKind(acting if subjects else Acting(), computes and subjects > 0))
    return kinds


def encoded_references(networks: FluxNetworks, subjects: int, shown: float) -> tuple[EncodedReference, ...]:
    """N made-up encoded subjects. Of each `shown` (0 to 1) of the reference's tokens show the subject."""
    sizes, random = networks.sizes, _random(networks)
    tokens = sizes.tokens(sizes.reference_size)
    mask = torch.arange(tokens) < round(shown * tokens)  # on the CPU: how many it shows is known there
    return tuple(
        EncodedReference(
            appearance=random(81, sizes.t5[0]),
            routing=random(9, sizes.t5[0]),
            latents=random(tokens, 4 * sizes.latent_channels),
            mask=mask,
        )
        for _ in range(subjects)
    )


def even_groups(owners: Tensor, subjects: int) -> Groups:
    """Pixels (S,) split evenly, whoever owns them.

    The router's work is done all the same. On the meta device there is no decision to read; on others a random router
    would give most pixels to one subject.
    """
    bounds = [round(n * len(owners) / subjects) for n in range(subjects + 1)]
    sizes = tuple((n, end - start) for n, (start, end) in enumerate(pairwise(bounds)) if end > start)
    return Groups(order=torch.arange(len(owners), device=owners.device), sizes=sizes)


class Drawing:
    """A square picture that is drawn with one method: its steps.

    Args:
        method: See `Method`.
        networks: What draws.
        side: Of the picture, pixels.
        references: All of them are in the picture.
    """

    def __init__(
        self, method: Method, networks: FluxNetworks, side: int, references: tuple[EncodedReference, ...]
    ) -> None:
        self.method, self.networks, self.side = method, networks, side
        # Built here, not in a measured step; a stock picture's memory holds no adapter.
        self.transformer, self.adapter = networks.transformer, networks.adapter if references else None
        placed = tuple(Placed(reference=n) for n in range(len(references)))
        self.inputs: FluxInputs | None = None
        if references:
            self.inputs = FluxInputs(
                references=references,
                prompts=(0,) * len(references),
                samples=(placed,),
                fast=method == "fast",
                group=partial(even_groups, subjects=len(references)),
            )
        self.state: FluxRoutingState | OfficialCall | None = None

    def step(self, kind: StepKind) -> Callable[[], None]:
        """A step of this kind as a function without arguments; the first one must compute the references."""
        arguments = self._arguments()

        def run() -> None:
            if kind.computes:
                self.state = self._new_state()
            with self._installed(kind.acting):
                self.transformer(**arguments, joint_attention_kwargs=self._given())

        return run

    @property
    def cached_bytes(self) -> int:
        """Of the references' keys and values."""
        if isinstance(self.state, OfficialCall):
            return sum(part.nbytes for pair in self.state.cached.values() for part in pair)
        return 0 if self.state is None else self.state.keys.bytes

    def _new_state(self) -> FluxRoutingState | OfficialCall:
        assert self.inputs is not None
        assert self.adapter is not None
        adapter, transformer = self.adapter, self.transformer
        if self.method == "official":
            return OfficialCall(transformer=transformer, adapter=adapter, inputs=self.inputs)
        return FluxRoutingState(
            inputs=self.inputs,
            transformer=transformer,
            reference_terms=adapter.reference_terms,
            routing_terms=adapter.routing_terms,
        )

    def _installed(self, acting: Acting) -> AbstractContextManager[Any]:
        if self.state is None:
            return nullcontext()
        self.state.acting = acting
        if isinstance(self.state, OfficialCall):
            return self.state.installed()
        assert self.adapter is not None
        return self.adapter.installed_on(self.transformer, self.state)

    def _given(self) -> dict[str, Any]:
        return {"subject_conditioning": self.state} if isinstance(self.state, FluxRoutingState) else {}

    def _arguments(self) -> dict[str, Any]:
        sizes, device, random = self.networks.sizes, self.networks.device, _random(self.networks)
        tokens, rows = sizes.tokens(self.side), self.side // TOKEN
        return {
            "hidden_states": random(1, tokens, 4 * sizes.latent_channels),
            "encoder_hidden_states": random(1, sizes.text_tokens, sizes.t5[0]),
            "pooled_projections": random(1, sizes.clip[0]),
            "timestep": torch.full((1,), 0.5, device=device, dtype=self.networks.dtype),
            "guidance": torch.full((1,), 3.5, device=device, dtype=torch.float32),
            "txt_ids": torch.zeros(sizes.text_tokens, 3, device=device),
            "img_ids": FluxPipeline._prepare_latent_image_ids(1, rows, rows, device, torch.float32),
        }


def encode_call(networks: FluxNetworks, subjects: int) -> Callable[[], Any]:
    """All that N new references cost before the first step: SigLIP, both embedders, the VAE's encoder."""
    sizes = networks.sizes
    side = sizes.siglip_image
    picture = Image.new("RGB", (sizes.reference_size, sizes.reference_size))
    return partial(
        encode_references,
        [Subject(picture, segmenter="none") for _ in range(subjects)],
        adapter=networks.adapter,
        image_encoder=networks.image_encoder,
        feature_extractor=SiglipImageProcessorPil(size={"height": side, "width": side}),
        vae=networks.vae,
        device=networks.device,
    )


def text_call(networks: FluxNetworks) -> Callable[[], Any]:
    """The prompt through both text encoders."""
    ids = partial(torch.zeros, dtype=torch.int64, device=networks.device)
    clip, t5 = ids(1, 77), ids(1, networks.sizes.text_tokens)

    def encode() -> None:
        networks.text_encoder(clip)
        networks.text_encoder_2(t5)

    return encode


def decode_call(networks: FluxNetworks, side: int) -> Callable[[], Any]:
    """The VAE's decoder on one picture."""
    vae: Any = networks.vae
    latent = side // 2 ** (len(networks.sizes.vae_channels) - 1)
    return partial(vae.decode, _random(networks)(1, networks.sizes.latent_channels, latent, latent))


def _random(networks: FluxNetworks) -> Callable[..., Tensor]:
    return partial(torch.randn, device=networks.device, dtype=networks.dtype)
