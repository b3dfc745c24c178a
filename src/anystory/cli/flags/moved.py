"""Options of what draws a recorded picture again. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.flags.model import Threads

__all__ = ["MovedFlags", "TrustPaths"]

TrustPaths = Annotated[
    bool,
    typer.Option(
        "--trust-paths",
        help="Follow the record's paths out of its folder. Use it only if you trust the record's author.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class MovedFlags:
    """What is elsewhere now, or should be otherwise, than the record says."""

    model: Annotated[str | None, typer.Option(help="Where the model is now, if it has moved.")] = None
    adapter: Annotated[str | None, typer.Option(help="Where the adapter is now, if it has moved.")] = None
    config: Annotated[str | None, typer.Option(help="Where a single file's configuration is now, if it has moved.")] = (
        None
    )
    image_encoder: Annotated[str | None, typer.Option(help="Where the image encoder is now, if it has moved.")] = None
    lora: Annotated[
        list[Path] | None, typer.Option(help="Where the LoRAs are now, in the recorded order. Repeatable.")
    ] = None
    segmenter: Annotated[str | None, typer.Option(help="Where the segmenter's file is now, if it has moved.")] = None
    device: Annotated[str | None, typer.Option(help="Another device than the recorded one.")] = None
    offload: Annotated[str | None, typer.Option(help="Another offloading than the recorded one.")] = None
    threads: Threads = None

    def changes(self) -> dict[str, Any]:
        """Arguments of `engine.replay.restore`."""
        changes = asdict(self)
        return {"loras": tuple(changes.pop("lora") or ()), **changes}
