"""AnyStoryFlux2KleinPipeline: FLUX.2 klein with subjects that do not mix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from anystory.pipelines.arguments import with_arguments_of
from anystory.pipelines.klein.mixin import REFERENCE_SIZE, AnyStoryKleinMixin

__all__ = ["AnyStoryFlux2KleinPipeline"]


class AnyStoryFlux2KleinPipeline(AnyStoryKleinMixin, Flux2KleinPipeline):
    """Text to image with subjects, on FLUX.2 klein as it is: nothing is trained.

        pipe = AnyStoryFlux2KleinPipeline.from_pretrained("black-forest-labs/FLUX.2-klein-4B", dtype=torch.bfloat16)
        out = pipe(prompt="a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])

    Its components are those of `Flux2KleinPipeline`.
    """

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLFlux2,
        text_encoder: Qwen3ForCausalLM,
        tokenizer: Qwen2TokenizerFast,
        transformer: Flux2Transformer2DModel,
        is_distilled: bool = False,
        reference_size: int = REFERENCE_SIZE,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            scheduler, vae, text_encoder, tokenizer, transformer, is_distilled,
            reference_size=reference_size, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(Flux2KleinPipeline.__call__, AnyStoryKleinMixin._call)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)
