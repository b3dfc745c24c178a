"""CPU offloading of FLUX.1 with an adapter."""

from __future__ import annotations

from typing import Any, ClassVar

import accelerate
from diffusers import DiffusionPipeline

__all__ = ["FluxOffloadMixin"]

_WHOLE = ["SiglipMultiheadAttentionPoolingHead"]
"""Modules that read the weights of their layers without calling them: no hook of a layer would load those."""


class FluxOffloadMixin(DiffusionPipeline):
    """diffusers' two kinds of CPU offloading, with an adapter.

    The adapter stays on the device: its terms are called from inside the transformer, where no hook would load them.
    """

    # References are encoded before the text, so that the encoders make room for one another in this order.
    model_cpu_offload_seq = "image_encoder->text_encoder->text_encoder_2->transformer->vae"
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["adapter", "image_encoder"]

    image_encoder: Any

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers: one layer at a time on the device, but SigLIP's last module as a whole."""
        super().enable_sequential_cpu_offload(*args, **kwargs)
        if self.image_encoder is not None:
            self.image_encoder.to("cpu")
            accelerate.cpu_offload(self.image_encoder, self._offload_device, preload_module_classes=_WHOLE)
