"""`segment` on FLUX.1: what its routing tokens say about a noised picture.

FLUX.1's router gives every pixel to a subject. Here an empty reference competes with them, for the background: tokens
of zero are what the embedder makes of a picture that shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import FluxPipeline
from torch import Tensor

from anystory.models.flux.inputs import EncodedReference, FluxInputs, Placed
from anystory.models.flux.state import Acting, FluxRoutingState
from anystory.pipelines import inputs
from anystory.pipelines.flux.encoding import FluxSubjectEncoding, pack
from anystory.pipelines.segmenting import Look, Seen, SegmentMixin

__all__ = ["FluxSegmentMixin"]

_CONDITIONING = "subject_conditioning"
_GUIDANCE = 3.5
"""diffusers' default for FLUX.1-dev."""


class FluxSegmentMixin(SegmentMixin):
    """See `SegmentMixin`."""

    _encoding_kind: ClassVar[type[inputs.EncodedSubject]] = FluxSubjectEncoding
    _network: ClassVar[str] = "transformer"

    adapter: Any
    transformer: Any
    _plain_transformer: Any

    def _at_once(self, latents: Tensor) -> int:
        return 1

    @contextmanager
    def _router(self, row: Sequence[FluxSubjectEncoding], latents: Tensor, prompt: str) -> Iterator[Look]:
        device, dtype = self._execution_device, self.transformer.dtype
        height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
        state = self._recording(row)
        embeds, pooled, text_ids = self.encode_prompt(prompt, prompt_2=None, device=device)
        guided = bool(self.transformer.config.guidance_embeds)
        call = {
            "guidance": torch.full((1,), _GUIDANCE, device=device) if guided else None,
            "pooled_projections": pooled,
            "encoder_hidden_states": embeds,
            "txt_ids": text_ids,
            "img_ids": FluxPipeline._prepare_latent_image_ids(1, height, width, device, dtype),
            "joint_attention_kwargs": {_CONDITIONING: state},
        }

        def look(levels: Tensor, noise: Tensor) -> Seen:
            time = levels.to(device)
            noised = pack((1 - time) * latents + time * noise).to(dtype)
            target = pack(noise - latents)
            errors = []
            for acting in (Acting(), Acting(references=True)):
                state.acting = acting
                [found] = self.transformer(hidden_states=noised, timestep=time.to(dtype), return_dict=False, **call)
                errors.append((found - target).float().square().mean(dim=-1).unflatten(-1, (height, width)).cpu())
            assert state.logits
            maps = {layer: _slots(logits[0], (height, width))[None] for layer, logits in state.logits.items()}
            return Seen(maps=maps, error=errors[1], plain_error=errors[0])

        with self.adapter.installed_on(self._plain_transformer, state):
            yield look

    def _recording(self, row: Sequence[FluxSubjectEncoding]) -> FluxRoutingState:
        """The subjects, and the empty reference; regions are left out, so that the router says what it sees."""
        references = [one.reference.to(self._execution_device) for one in row]
        placed = [
            Placed(reference=i, appearance_scale=one.subject.scale, reference_scale=one.subject.reference_scale)
            for i, one in enumerate(row)
        ]
        nobody = Placed(reference=len(row), appearance_scale=0.0, reference_scale=0.0)
        return FluxRoutingState(
            inputs=FluxInputs(
                references=(*references, _empty(references[0])),
                prompts=(0,) * (len(row) + 1),
                samples=((*placed, nobody),),
            ),
            transformer=self._plain_transformer,
            reference_terms=self.adapter.reference_terms,
            routing_terms=self.adapter.routing_terms,
            logits={},
        )


def _empty(like: EncodedReference) -> EncodedReference:
    """The encoding of a picture that shows nothing."""
    routing = None if like.routing is None else torch.zeros_like(like.routing)
    return replace(
        like,
        appearance=torch.zeros_like(like.appearance),
        routing=routing,
        latents=torch.zeros_like(like.latents),
        mask=torch.zeros_like(like.mask),
    )


def _slots(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logits (S, pixels) to probabilities (S, h, w).

    They are plain inner products, of another size in each layer: divided by their spread, layers count alike.
    """
    logits = logits.float()
    spread = logits.std().clamp_min(torch.finfo(torch.float32).tiny)
    return (logits / spread).softmax(dim=0).unflatten(-1, grid).cpu()
