"""What the frozen encoders of targets are, as hashes: what a cache of their work is known by."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from transformers import CLIPTokenizer

from anystory.data.stream.cache_writer import hash_weights

if TYPE_CHECKING:
    from anystory.training.stages.text import TextEncoders

__all__ = ["hash_encoders"]

_VAE_SETTINGS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast")
_TEXT_SETTINGS = ("hidden_act", "num_attention_heads", "layer_norm_eps", "eos_token_id")
"""Settings that change what a model gives and do not show in its weights."""


def hash_encoders(vae: Any, texts: TextEncoders) -> dict[str, str]:
    """SHA-256 by name of everything that makes latents and text embeddings: weights with their types, what of the
    settings they do not show, vocabularies. The device does not count.
    """
    named = {"vae": _of_model(vae, _VAE_SETTINGS)}
    for name, encoder in zip(texts.names, texts.encoders, strict=True):
        named[name] = _of_model(encoder, _TEXT_SETTINGS)
    for name, tokenizer in zip(texts.names, texts.tokenizers, strict=True):
        named[name.replace("text_encoder", "tokenizer")] = _of_tokenizer(tokenizer)
    return named


def _of_model(model: Any, settings: tuple[str, ...]) -> str:
    values = {name: getattr(model.config, name, None) for name in settings}
    return _digest([type(model).__name__, values, hash_weights(model.state_dict())])


def _of_tokenizer(tokenizer: CLIPTokenizer) -> str:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding"):  # what the last call set, not the tokenizer's own
        parts.pop(name, None)
    return _digest([parts, tokenizer.model_max_length, tokenizer.pad_token_id])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
