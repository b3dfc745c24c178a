"""The options about the model, as `generate` has them. Nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from anystory.engine.limits import MOST_THREADS
from anystory.engine.options import ModelOptions
from anystory.engine.record.schema import LoraRecord

__all__ = ["ModelFlags", "Threads", "parse_loras"]

Threads = Annotated[
    int | None, typer.Option(min=1, max=MOST_THREADS, help="Threads of the computation; by default torch's own choice.")
]


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Which model draws, and how it is run."""

    model: Annotated[
        str,
        typer.Option(
            help="An embedded model (mini), SDXL, FLUX.1 or FLUX.2 klein as a folder or hub id, or a .safetensors file "
            "of SDXL."
        ),
    ] = "mini"
    adapter: Annotated[str | None, typer.Option(help="An adapter in place of the model's own: a folder or hub id.")] = (
        None
    )
    config: Annotated[
        str | None,
        typer.Option(
            help="For a single file: a folder or hub id with the configuration files; by default SDXL's, from the hub."
        ),
    ] = None
    image_encoder: Annotated[
        str | None,
        typer.Option(
            help="Image encoder: a folder or hub id; by default the model's, the adapter's, or CLIP ViT-H/14 "
            "(on FLUX.1 SigLIP)."
        ),
    ] = None
    variant: Annotated[str | None, typer.Option(help="Variant of the model's weights: fp16.")] = None
    prediction_type: Annotated[
        str | None,
        typer.Option(help="What the model predicts: epsilon or v_prediction; by default what its files say."),
    ] = None
    zero_snr: Annotated[
        bool | None,
        typer.Option(
            "--zero-snr/--no-zero-snr",
            help="Whether the model was trained from pure noise; by default what its files say.",
        ),
    ] = None
    scheduler: Annotated[
        str | None, typer.Option(help="A diffusers scheduler, such as UniPCMultistepScheduler; by default the model's.")
    ] = None
    karras: Annotated[
        bool | None, typer.Option("--karras/--no-karras", help="Karras' noise levels; by default the scheduler's.")
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH[:SCALE]", help="A LoRA (.safetensors) and its scale; 1 by default. Repeatable."),
    ] = None
    device: Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:N or mps.")] = "cpu"
    dtype: Annotated[str, typer.Option(help="Type to compute in: float32, bfloat16 or float16.")] = "float32"
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Saves memory: keep the weights of FLUX and its text encoder as nf4 or int8 (bitsandbytes) or fp8; "
            "of SDXL as fp8."
        ),
    ] = None
    offload: Annotated[
        str,
        typer.Option(
            help="Saves GPU memory: none, model (one model on the GPU at a time) or sequential (one layer at a time)."
        ),
    ] = "none"
    tiling: Annotated[
        bool | None,
        typer.Option("--tiling/--no-tiling", help="Run the VAE in tiles; by default only when offloading."),
    ] = None
    threads: Threads = None

    def options(self) -> ModelOptions:
        """What they say.

        Raises:
            ValueError: a value that cannot be.
        """
        same = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lora"}
        return ModelOptions(**same, loras=parse_loras(self.lora or []))


def parse_loras(texts: Sequence[str]) -> tuple[LoraRecord, ...]:
    """Each `PATH` or `PATH:SCALE`; the scale is 1 by default. A colon inside a name is part of it.

    Raises:
        ValueError: a scale that is not finite.
    """
    found = []
    for text in texts:
        path, _, number = text.rpartition(":")
        try:
            scale = float(number)
        except ValueError:
            path, scale = text, 1.0
        if Path(text).is_file() or not path:
            path, scale = text, 1.0
        if not math.isfinite(scale):
            raise ValueError(f"--lora must be PATH or PATH:SCALE with a finite scale, got {text!r}")
        found.append(LoraRecord(file=path, scale=scale))
    return tuple(found)
