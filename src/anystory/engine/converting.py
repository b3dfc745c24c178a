"""The authors' checkpoint as folders that `AnyStoryFluxPipeline.from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import SiglipImageProcessor, SiglipVisionModel

from anystory.files import atomic_folder, sha256_file
from anystory.models.flux.checkpoint import Converted, convert_checkpoint, read_checkpoint, read_redux

__all__ = ["write_converted"]


_SHARD = "2GB"
"""Largest file: as much is copied while it is written."""


def write_converted(checkpoint: Path, out: Path, *, redux: Path | None, dtype: str) -> Converted:
    """Write `adapter/` and, where FLUX.1-Redux is given, `image_encoder/` and `feature_extractor/`.

    Args:
        checkpoint: `anystory_flux.bin`.
        out: Where to; it appears whole or not at all.
        redux: The folder of FLUX.1-Redux.
        dtype: "bfloat16" and the like.

    Raises:
        ValueError: a file that is not what it should be; see `checkpoint`.
        OSError: SigLIP is not in the folder of FLUX.1-Redux.
    """
    kind = getattr(torch, dtype)
    converted = convert_checkpoint(read_checkpoint(checkpoint), None if redux is None else read_redux(redux))
    origin = (
        f"Converted by `anystory adapter convert` from `{checkpoint.name}` (SHA-256 `{sha256_file(checkpoint)}`), which"
        " the authors of AnyStory published (hub `Junjie96/AnyStory`); rounded to "
        f"{dtype}. The terms of that publication apply."
    )
    with atomic_folder(out) as fresh:
        converted.adapter.to(kind).save_pretrained(fresh / "adapter", max_shard_size=_SHARD, origin=origin)
        if redux is not None:
            _copy_siglip(redux, fresh, kind)
    return converted


def _copy_siglip(redux: Path, out: Path, dtype: torch.dtype) -> None:
    encoder = SiglipVisionModel.from_pretrained(redux, subfolder="image_encoder", dtype=dtype, use_safetensors=True)
    encoder.save_pretrained(out / "image_encoder")
    side = encoder.config.image_size
    SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(out / "feature_extractor")
