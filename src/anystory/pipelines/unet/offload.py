"""CPU offloading of a pipeline with an adapter."""

from __future__ import annotations

from typing import Any, ClassVar

import accelerate
from diffusers import DiffusionPipeline

from anystory.models.adapter import SubjectAdapter

__all__ = ["OffloadMixin"]


class OffloadMixin(DiffusionPipeline):
    """diffusers' two kinds of CPU offloading, with an adapter.

    The adapter stays on the device: the U-Net calls its routers and projections from inside, where no hook would load
    them. Its ReferenceNet, four fifths of it for SDXL, runs only before the sampling and is offloaded by itself.
    """

    # References are encoded before the text. In diffusers' order the last text encoder would stay on the device beside
    # the U-Net, because the image encoder's turn offloads it.
    model_cpu_offload_seq = "image_encoder->text_encoder->text_encoder_2->unet->vae"
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["adapter"]

    adapter: SubjectAdapter | None
    _reference_net_hook: Any = None

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers: one model at a time on the device. ReferenceNet counts as a model of its own."""
        super().enable_model_cpu_offload(*args, **kwargs)
        if self.adapter is not None:
            _, self._reference_net_hook = accelerate.cpu_offload_with_hook(
                self.adapter.reference_net, self._offload_device
            )
            self._all_hooks.append(self._reference_net_hook)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers: one layer at a time on the device, ReferenceNet's too."""
        super().enable_sequential_cpu_offload(*args, **kwargs)
        if self.adapter is not None:
            accelerate.cpu_offload(self.adapter.reference_net, self._offload_device)

    def remove_all_hooks(self) -> None:
        """As in diffusers, which looks for hooks on whole components only."""
        super().remove_all_hooks()
        self._reference_net_hook = None
        if self.adapter is not None:
            accelerate.hooks.remove_hook_from_module(self.adapter.reference_net, recurse=True)
