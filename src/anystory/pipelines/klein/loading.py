"""Loading FLUX.2 klein with subjects: a folder or hub id in diffusers' layout; nothing else is needed."""

from __future__ import annotations

import os
from typing import Any

import torch

from anystory.input_files import damaged_files_named
from anystory.pipelines.loading.asked import HUB_OPTIONS, SafetensorsMixin, refuse_unsafe
from anystory.pipelines.loading.bases import kind_of_index
from anystory.pipelines.loading.parts import check_variant, read_index
from anystory.quiet import quiet_loading

__all__ = ["KleinLoadingMixin"]

_TRANSFORMER, _TEXT_ENCODER = "Flux2Transformer2DModel", "Qwen3ForCausalLM"
"""FLUX.2-dev has the same transformer, larger, and another text encoder."""


class KleinLoadingMixin(SafetensorsMixin):
    """`from_pretrained` of a FLUX.2 klein pipeline."""

    @classmethod
    @quiet_loading()
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        dtype: Any = None,
        torch_dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Load FLUX.2 klein.

            AnyStoryFlux2KleinPipeline.from_pretrained("black-forest-labs/FLUX.2-klein-4B", dtype=torch.bfloat16)

        Args:
            pretrained_model_name_or_path: A folder in diffusers layout, or a hub id.
            dtype: Type of all weights, or a dict by component as in diffusers. float32 by default. `torch_dtype` is its
                old name.
            **kwargs: As for diffusers' `from_pretrained`: `variant`, `quantization_config`, components to use instead
                of loading them, …

        Raises:
            ValueError: no such model, one that is not FLUX.2 klein, or an option that would load pickles or run remote
                code.
            OSError: a file is missing, or the hub cannot be reached.
        """
        refuse_unsafe(kwargs)
        base = os.fspath(pretrained_model_name_or_path)
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        with damaged_files_named(base):
            index = read_index(base, cls, **hub)
        for part, expected in (("transformer", _TRANSFORMER), ("text_encoder", _TEXT_ENCODER)):
            if part not in kwargs and (index.get(part) or [None, None])[1] != expected:
                raise ValueError(f"{base} is {kind_of_index(index)}: expected FLUX.2 klein or a fine-tune of it")
        check_variant(base, kwargs.get("variant"))
        with damaged_files_named(base):
            return super().from_pretrained(
                base, dtype=dtype or torch_dtype or torch.float32, **(kwargs | {"use_safetensors": True})
            )
