"""Weights in fewer bits: bitsandbytes' while a pipeline is loaded, or 8-bit floats in a loaded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import transformers
from diffusers import ModelMixin, PipelineQuantizationConfig
from diffusers.hooks import apply_layerwise_casting
from torch import nn

__all__ = ["quantization_config", "store_in_fp8"]

_SETTINGS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int8": {"load_in_8bit": True},
}
_TEXT_AS_IT_IS: dict[str, Any] = {
    "skip_modules_pattern": (r"\bwo$", r"\blm_head$"),
    "skip_modules_classes": (nn.Embedding,),
}
"""What transformers takes the type of its states from: that of T5's `wo` and of the embeddings, as they are stored.
Qwen3's `lm_head` is its embeddings."""


def quantization_config(name: str, parts: Sequence[str], dtype: torch.dtype) -> PipelineQuantizationConfig:
    """What `from_pretrained` takes to keep parts of a pipeline in 4 or 8 bits, by bitsandbytes.

    Args:
        name: "nf4" or "int8".
        parts: Names of components; a `text_encoder…` is transformers', others are diffusers'.
        dtype: What is computed in.
    """
    settings: dict[str, Any] = dict(_SETTINGS[name])
    if name == "nf4":
        settings["bnb_4bit_compute_dtype"] = dtype
    kinds: dict[bool, Any] = {True: transformers.BitsAndBytesConfig, False: diffusers.BitsAndBytesConfig}
    mapping = {part: kinds[part.startswith("text_encoder")](**settings) for part in parts}
    return PipelineQuantizationConfig(quant_mapping=mapping)


def store_in_fp8(models: Sequence[Any], dtype: torch.dtype) -> None:
    """Keep the weights of models as 8-bit floats (float8_e4m3fn); each layer casts its own to `dtype` while it runs.

    Norms, embeddings and LoRAs stay as they are.

    Args:
        models: Of diffusers, or the text encoders T5 and Qwen3.
        dtype: What is computed in.
    """
    kinds: dict[str, Any] = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": dtype}
    for model in models:
        if isinstance(model, ModelMixin):
            model.enable_layerwise_casting(**kinds)
        else:
            apply_layerwise_casting(model, **kinds, **_TEXT_AS_IT_IS)
