"""What a story needs to know of a model before it is loaded: its words, its number of subjects, its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anystory.engine.backends.klein import KleinBackend
from anystory.engine.backends.klein_job import MOST_REFERENCES
from anystory.engine.backends.registry import backend_of
from anystory.engine.inventory.describe import find
from anystory.engine.options import ModelOptions
from anystory.engine.record.provenance import weight_hashes
from anystory.engine.vocabulary import UnknownWord, unknown_words
from anystory.input_files import read_object
from anystory.pipelines.checks.advice import cut_text

__all__ = ["ModelFacts", "model_digest", "model_facts"]

_PLACES = ("model", "adapter", "config", "image_encoder")
_SAME_PICTURE = ("device", "offload", "tiling")
"""Options that change a picture's last bits at most; the number of threads is another."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model, seen from outside."""

    max_subjects: int | None
    """The most subjects in a picture that it was trained with; 0 without an adapter, None if it does not say."""
    size_multiple: int
    """Width and height of a picture must be multiples of this, in pixels."""
    unknown_words: Callable[[str], list[UnknownWord]]
    """The words of a text that it does not know."""
    cut: Callable[[str], str]
    """The end of a text that it does not read; "" for a short one."""


def model_facts(options: ModelOptions) -> ModelFacts | None:
    """What is known of a model that lies on this machine; None for one that is not downloaded yet.

    Raises:
        ValueError: a damaged configuration.
    """
    try:
        place = find(options.model)
        adapter = place / "adapter" if options.adapter is None else find(options.adapter)
    except ValueError:
        return None
    tokenizers = _tokenizers(place)
    return ModelFacts(
        max_subjects=MOST_REFERENCES if _is_klein(place) else _max_subjects(adapter),
        size_multiple=backend_of(options.model).size_multiple(place),
        unknown_words=lambda text: unknown_words(text, tokenizers),
        cut=lambda text: min((cut_text(tokenizer, text) for tokenizer in tokenizers), key=len, default=""),
    )


def _is_klein(place: Path) -> bool:
    """Whether a model draws subjects without an adapter."""
    return (place / "model_index.json").is_file() and KleinBackend().draws(place)


def _max_subjects(adapter: Path) -> int | None:
    config = adapter / "config.json"
    if not config.is_file():
        inside = adapter / "adapter" / "config.json"
        return _max_subjects(adapter / "adapter") if inside.is_file() else 0
    sizes = read_object(config).get("adapter_config")
    return sizes.get("max_subjects") if isinstance(sizes, dict) else None


def _tokenizers(place: Path) -> list[Any]:
    """The model's tokenizers; none for a single file, whose vocabulary is large."""
    folders = [place / name for name in ("tokenizer", "tokenizer_2") if (place / name).is_dir()]
    if not folders:
        return []
    from transformers import AutoTokenizer

    return [AutoTokenizer.from_pretrained(folder) for folder in folders]


def model_digest(options: ModelOptions) -> str:
    """SHA-256 of everything of a model that can change a picture: its files and options, not where they lie.

    A model that is not on this machine yet counts by its name.

    Raises:
        OSError: a file cannot be read.
    """
    left_out = (*_SAME_PICTURE, *_PLACES)
    # What is left open is left out, so that an option that a later version brings changes nothing.
    parts = {name: value for name, value in options.recorded.items() if name not in left_out and value is not None}
    for name in _PLACES:
        source = getattr(options, name)
        if source is not None:
            parts[name] = _hashes(source)
    parts["loras"] = [[_hashes(lora.file), lora.scale] for lora in options.loras]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hashes(source: str) -> Any:
    try:
        place = find(source)
    except ValueError:
        return source
    return sorted(weight_hashes({"": place}).items())
