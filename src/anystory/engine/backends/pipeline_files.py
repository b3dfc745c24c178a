"""Where a loaded pipeline's files lie, to be hashed, an autoencoder that works in tiles, offloading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anystory.engine.errors import OptionError
from anystory.engine.options import ModelOptions
from anystory.pipelines.loading.assets import embedded_models, resolve_model
from anystory.pipelines.loading.parts import locate

__all__ = ["Offloading", "tile", "weight_places"]


class Offloading:
    """Hooks that bring weights to the device. They belong to one pipeline at a time, though several share the weights.

    Args:
        options: Whether and how, and the device.
    """

    def __init__(self, options: ModelOptions) -> None:
        self.options = options
        self._hooked: Any = None

    def on(self, pipe: Any) -> Any:
        """A pipeline with the hooks, if there is offloading; else as it is."""
        if self.options.offload == "none" or pipe is self._hooked:
            return pipe
        if self._hooked is not None:
            self._hooked.remove_all_hooks()
        if self.options.offload == "model":
            pipe.enable_model_cpu_offload(device=self.options.device)
        else:
            pipe.enable_sequential_cpu_offload(device=self.options.device)
        self._hooked = pipe
        return pipe


def tile(vae: Any, wanted: bool | None, *, offloading: bool) -> bool:
    """Let a VAE work in tiles, one picture at a time: if that is wanted, or (None) when offloading, where it can.

    Returns:
        Whether it does.

    Raises:
        OptionError: it is wanted of a VAE that cannot.
    """
    able = hasattr(vae, "use_tiling")
    if wanted and not able:
        raise OptionError(
            "tiling", f"is not possible: this model's autoencoder ({type(vae).__name__}) cannot work in tiles"
        )
    tiling = able and (offloading if wanted is None else wanted)
    if tiling:
        vae.enable_tiling()
        vae.enable_slicing()
    return tiling


def weight_places(pipe: Any, options: ModelOptions, usual_encoder: str | None) -> dict[str, str]:
    """Where everything lies that was named, and the image encoder if it was fetched.

    Args:
        pipe: The loaded pipeline.
        options: What was named.
        usual_encoder: Where its family's image encoder is fetched from, if nothing else has one; None if it has none.
    """
    encoder = options.image_encoder
    if encoder is None and usual_encoder is not None and pipe.image_encoder is not None:
        fetched = locate(usual_encoder, "image_encoder").root
        encoder = usual_encoder if pipe.image_encoder.name_or_path == fetched else None
    named = {"model": options.model, "adapter": options.adapter, "config": options.config, "image_encoder": encoder}
    places: dict[str, str] = {name: _here(place) for name, place in named.items() if place is not None}
    return places | {f"lora-{number}": lora.file for number, lora in enumerate(options.loras, start=1)}


def _here(model: str) -> str:
    """Where the files of a single file, an embedded model, a folder, or a hub id that has been loaded lie."""
    if model not in embedded_models() and Path(model).is_file():
        return model
    found = resolve_model(model) if model.count("/") < 2 or Path(model).is_dir() else model
    if Path(found).is_dir():
        return found
    from huggingface_hub import snapshot_download

    owner, name, *inside = found.split("/")
    return str(Path(snapshot_download(f"{owner}/{name}", local_files_only=True), *inside))
