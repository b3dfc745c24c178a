"""What lies on disk: models, adapters and public files, described by their configurations and headers alone.

Nothing here reads weights or imports torch, so a model of many gigabytes is described at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.models.families import describe_counts
from anystory.pipelines.assets import embedded_models, resolve_model, split_hub_id
from anystory.pipelines.bases import UNET_BY_ITSELF, kind_of_index, kind_of_keys
from anystory.pipelines.headers import Part, Tensors, part_of, parts_by_prefix, read_headers, tensors_of, weight_files

__all__ = ["Description", "cached_models", "describe", "find"]

_CLASS_OF_ADAPTER = "SubjectAdapter"
_SINGLE_FILE_PARTS = {
    "model.diffusion_model": "unet",
    "first_stage_model": "vae",
    "conditioner.embedders.0": "text_encoder",
    "conditioner.embedders.1": "text_encoder_2",
}
"""How the keys of a part begin in SDXL's original layout, and the part's name in diffusers."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model, as far as it can be told without its weights."""

    source: str
    path: Path
    kind: str
    parts: tuple[Part, ...] = ()
    layout: str = ""
    """Its U-Net's layers, or those of the U-Nets that it fits."""
    fits: str = ""
    """What it goes together with, in a sentence."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """An adapter's own configuration."""
    variants: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source,
            "path": str(self.path),
            "kind": self.kind,
            "layout": self.layout,
            "fits": self.fits,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "parts": [vars(part) for part in self.parts],
            "sizes": dict(self.sizes),
            "variants": list(self.variants),
        }


def describe(source: str | os.PathLike[str]) -> Description:
    """Describes an embedded model, a folder, a `.safetensors` file, or a hub id that has been downloaded.

    Raises:
        ValueError: nothing of that name is here, or it is nothing that we know.
    """
    name = os.fspath(source)
    path = find(name)
    if path.is_file():
        return _describe_file(name, path)
    if (path / "model_index.json").is_file():
        return _describe_pipeline(name, path)
    if (path / "config.json").is_file():
        config = _read_json(path / "config.json")
        if config.get("_class_name") == _CLASS_OF_ADAPTER:
            return _describe_adapter(name, path, config)
        kind = str(config.get("_class_name") or (config.get("architectures") or ["a model"])[0])
        tensors, size = tensors_of(path)
        return Description(
            source=name,
            path=path,
            kind=kind,
            parts=(part_of(path.name, tensors, size, kind),),
            layout=_unet_layout(tensors),
        )
    raise ValueError(f"{name} holds neither model_index.json nor config.json: expected a model's or adapter's folder")


def find(source: str) -> Path:
    """Where an embedded model, a folder, a file, or a downloaded hub id lies.

    Raises:
        ValueError: nowhere.
    """
    if source in embedded_models():
        return Path(resolve_model(source))
    path = Path(source)
    if path.exists():
        if path.is_file() and path.suffix != ".safetensors":
            raise ValueError(f"{source}: single files must be .safetensors; pickles are not opened")
        return path
    if (hub_id := split_hub_id(source)) is not None:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            repository, inside = hub_id
            snapshot = snapshot_download(repository, cache_dir=constants.HF_HUB_CACHE, local_files_only=True)
            cached = Path(snapshot, inside)
        except (LocalEntryNotFoundError, ValueError):
            cached = None
        if cached is not None and cached.exists():
            return cached
    raise ValueError(
        f"nothing called {source!r} is here: expected an embedded model {embedded_models()}, a folder, a .safetensors"
        " file, or a hub id 'owner/name[/path]' that has been downloaded (`hf download` does that)"
    )


def cached_models() -> list[str]:
    """Hub ids, with a path where a file or folder inside is meant, of what is cached here and of use to AnyStory."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = []
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        if repository.repo_type != "model" or not repository.revisions:
            continue
        newest = max(repository.revisions, key=lambda revision: revision.last_modified)
        found += [
            repository.repo_id + (f"/{inside}" if inside != "." else "") for inside in _of_use(newest.snapshot_path)
        ]
    return found


def _describe_pipeline(name: str, path: Path) -> Description:
    index = _read_json(path / "model_index.json")
    parts, variants, layout, own = [], set(), "", ""
    for component, entry in index.items():
        if not isinstance(entry, list) or not entry[1] or not (path / component).is_dir():
            continue
        tensors, size = tensors_of(path / component)
        variants |= weight_files(path / component).keys()
        if tensors:
            parts.append(part_of(component, tensors, size, entry[1]))
        if component == "unet":
            layout = _unet_layout(tensors)
        if component == "adapter":
            own = _adapter_layout(tensors, _read_json(path / component / "config.json"))
    kind = kind_of_index(index)
    if "unet" not in index or "text_encoder_2" not in index:
        fits = "not a base for AnyStory's SDXL adapters"
    elif own:
        fits = "whole: it has its adapter" if own == layout else f"broken: its adapter is for U-Nets with {own}"
    else:
        fits = f"adapters for U-Nets with {layout}"
    return Description(
        source=name,
        path=path,
        kind=kind,
        parts=tuple(parts),
        layout=layout,
        fits=fits,
        variants=tuple(sorted(variants - {""})),
    )


def _describe_adapter(name: str, path: Path, config: Mapping[str, Any]) -> Description:
    variants = weight_files(path)
    tensors, _ = tensors_of(path)
    layout = _adapter_layout(tensors, config)
    sizes = config.get("adapter_config") or {}
    return Description(
        source=name,
        path=path,
        kind="AnyStory adapter",
        parts=parts_by_prefix(tensors, lambda key: key.partition(".")[0]),
        layout=layout,
        fits=f"U-Nets with {layout}; image encoders with {sizes.get('clip_tokens')} tokens of width"
        f" {sizes.get('clip_dim')}",
        sizes=sizes,
        variants=tuple(sorted(variants.keys() - {""})),
    )


def _describe_file(name: str, path: Path) -> Description:
    tensors = read_headers([path])
    kind = kind_of_keys(tensors)
    if kind == "SDXL":
        layout = _unet_layout(tensors)
        parts = parts_by_prefix(tensors, _single_file_part)
        fits = f"adapters for U-Nets with {layout}, through from_single_file"
    elif kind == UNET_BY_ITSELF:
        layout, parts = _unet_layout(tensors), parts_by_prefix(tensors, _single_file_part)
        fits = f"`anystory adapter init`, as a base: its U-Net has {layout}"
    elif "image_proj.latents" in tensors:
        keys = [shape for key, (_, shape) in tensors.items() if key.endswith("to_k_ip.weight")]
        kind, parts = "IP-Adapter-Plus", parts_by_prefix(tensors, lambda key: key.partition(".")[0])
        layout = describe_counts(len(keys), keys[0][1]) if keys else ""
        fits = f"`anystory adapter init` with a base whose U-Net has {layout}"
    else:
        layout, parts, fits = "", (part_of(path.name, tensors, path.stat().st_size),), "nothing that AnyStory does"
    return Description(source=name, path=path, kind=kind, parts=parts, layout=layout, fits=fits)


def _of_use(snapshot: Path) -> list[str]:
    """Pipelines with an adapter or for one, adapters, and IP-Adapter-Plus files in a downloaded repository."""
    if (snapshot / "model_index.json").is_file():
        index = _read_json(snapshot / "model_index.json")
        return ["."] if "unet" in index and "text_encoder_2" in index else []
    configs = [path for pattern in ("config.json", "*/config.json") for path in sorted(snapshot.glob(pattern))]
    adapters = [path.parent for path in configs if _read_json(path).get("_class_name") == _CLASS_OF_ADAPTER]
    files = [path for pattern in ("*.safetensors", "*/*.safetensors") for path in sorted(snapshot.glob(pattern))]
    public = [path for path in files if path.parent not in adapters and _is_of_use(path)]
    return [path.relative_to(snapshot).as_posix() for path in [*adapters, *public]]


def _is_of_use(path: Path) -> bool:
    try:
        tensors = read_headers([path])
    except (ValueError, OSError):
        return False
    return kind_of_keys(tensors) == "SDXL" or "image_proj.latents" in tensors


def _single_file_part(key: str) -> str:
    return next((part for start, part in _SINGLE_FILE_PARTS.items() if key.startswith(f"{start}.")), "other")


def _unet_layout(tensors: Tensors) -> str:
    """The cross-attentions of a U-Net, in diffusers' or in the original names."""
    widths = [shape[1] for key, (_, shape) in tensors.items() if key.endswith("attn2.to_k.weight")]
    return describe_counts(len(widths), widths[0]) if widths else ""


def _adapter_layout(tensors: Tensors, config: Mapping[str, Any]) -> str:
    layers = sum(key.startswith("cross_projections.") and key.endswith("to_k.weight") for key in tensors)
    width = (config.get("unet_config") or {}).get("cross_attention_dim") or 0
    return describe_counts(layers, width[0] if isinstance(width, list) else width)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error})") from None
    return read if isinstance(read, dict) else {}
