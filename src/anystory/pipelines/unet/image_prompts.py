"""An IP-Adapter beside subjects: both terms are added to what the text gives (see `models.attention`)."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline

from anystory.models.adapter import SubjectAdapter

__all__ = ["ImagePromptMixin"]


class ImagePromptMixin(DiffusionPipeline):
    """diffusers' IP-Adapter for a pipeline with an adapter."""

    adapter: SubjectAdapter | None
    image_encoder: Any
    feature_extractor: Any

    def unload_ip_adapter(self) -> None:
        """As in diffusers, which drops the image encoder as well: subjects need it, so it stays where they can be."""
        kept = {"image_encoder": self.image_encoder, "feature_extractor": self.feature_extractor}
        super().unload_ip_adapter()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        if self.adapter is not None:
            self.register_modules(**kept)
