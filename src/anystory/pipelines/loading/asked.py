"""What callers of every pipeline's `from_pretrained` may ask for, and what they may not."""

from __future__ import annotations

import os
from typing import Any

import torch
from diffusers import DiffusionPipeline

__all__ = ["HUB_OPTIONS", "OWN", "SafetensorsMixin", "dtype_of", "refuse_unsafe"]

OWN: Any = object()
"""The default of a component that may be None: what the model itself has."""
HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
_SAFE = {"use_safetensors": True, "trust_remote_code": False, "custom_pipeline": None, "use_onnx": False}


def refuse_unsafe(options: dict[str, Any]) -> None:
    """Raise ValueError for an option that would load pickles or run remote code."""
    for name, safe in _SAFE.items():
        if options.get(name) not in (None, safe):
            raise ValueError(f"`{name}` must be {safe}, got {options[name]!r}: no pickle, no remote code")


def dtype_of(component: str, dtype: Any) -> torch.dtype:
    """diffusers takes one dtype, or a dict by component with a "default"."""
    return dtype.get(component, dtype.get("default", torch.float32)) if isinstance(dtype, dict) else dtype


class SafetensorsMixin(DiffusionPipeline):
    """A pipeline that writes safetensors only."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write every component in diffusers layout, each in its folder; arguments as in diffusers.

        Raises:
            ValueError: `safe_serialization=False`.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)
