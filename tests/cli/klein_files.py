"""A tiny FLUX.2 klein on disk: distilled and base with small references, and the distilled one as diffusers has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import Flux2KleinPipeline

from pipelines.klein.tiny import build_parts, pipeline

__all__ = ["KleinFiles", "write_klein_files"]

OWN = {"text_encoder_out_layers": [1, 2, 3], "max_sequence_length": 16}


@dataclass(frozen=True)
class KleinFiles:
    """Where everything lies."""

    distilled: Path
    """With references of 64 pixels, and a text encoder of three layers."""
    base: Path
    """The same, undistilled."""
    stock: Path
    """A distilled one as it is published."""


def write_klein_files(folder: Path) -> KleinFiles:
    """All three."""
    found = KleinFiles(folder / "distilled", folder / "base", folder / "stock")
    for place, distilled in ((found.distilled, True), (found.base, False)):
        pipe = type(pipeline())(
            **pipeline(distilled).components, is_distilled=distilled, reference_size=64, default_call=OWN
        )
        pipe.save_pretrained(place)
    Flux2KleinPipeline(**build_parts(layers=27)).save_pretrained(found.stock)
    return found
