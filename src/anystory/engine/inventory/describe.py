"""What lies on disk: models, adapters and public files, described by their configurations and headers alone.

Nothing here reads weights or imports torch, so a model of many gigabytes is described at once.
"""

from __future__ import annotations

import os
from pathlib import Path

from anystory.engine.backends.description import Description, pipeline_parts
from anystory.engine.backends.registry import BACKENDS
from anystory.input_files import check_model_files, read_object
from anystory.pipelines.loading.assets import embedded_models, resolve_model, split_hub_id
from anystory.pipelines.loading.bases import kind_of_index, kind_of_keys
from anystory.pipelines.loading.headers import part_of, read_headers, tensors_of

__all__ = ["cached_models", "describe", "find"]

_ADAPTERS = ("SubjectAdapter", "FluxSubjectAdapter")


def describe(source: str | os.PathLike[str]) -> Description:
    """Describe an embedded model, a folder, a `.safetensors` file, or a hub id that has been downloaded.

    Raises:
        ValueError: nothing of that name is here, or it is nothing that we know.
    """
    name = os.fspath(source)
    place = find(name)
    if place.is_dir():
        check_model_files(place)
        place = _adapter_in(place)
        if not any((place / file).is_file() for file in ("model_index.json", "config.json")):
            raise ValueError(
                f"{name} holds neither model_index.json nor config.json: expected a model's or adapter's folder"
            )
    found = (backend.describe(name, place) for backend in BACKENDS)
    return next((description for description in found if description is not None), None) or _unknown(name, place)


def _adapter_in(folder: Path) -> Path:
    """The adapter in a folder that holds it and its image encoder, as `anystory adapter convert` writes them."""
    inside = folder / "adapter"
    alone = not any((folder / file).is_file() for file in ("model_index.json", "config.json"))
    return inside if alone and (inside / "config.json").is_file() else folder


def _unknown(source: str, place: Path) -> Description:
    """What no backend knows: a component's folder, another kind of pipeline or of file."""
    if place.is_file():
        tensors = read_headers([place])
        part = part_of(place.name, tensors, place.stat().st_size)
        fits = "nothing that AnyStory does"
        return Description(source=source, path=place, kind=kind_of_keys(tensors), parts=(part,), fits=fits)
    if (place / "model_index.json").is_file():
        index = read_object(place / "model_index.json")
        parts, variants = pipeline_parts(place, index)
        fits = "nothing that AnyStory does"
        return Description(
            source=source, path=place, kind=kind_of_index(index), parts=parts, variants=variants, fits=fits
        )
    config = read_object(place / "config.json")
    kind = str(config.get("_class_name") or (config.get("architectures") or ["a model"])[0])
    part = part_of(place.name, *tensors_of(place), kind)
    return Description(source=source, path=place, kind=kind, parts=(part,))


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


def _of_use(snapshot: Path) -> list[str]:
    """Pipelines with an adapter or for one, adapters, and IP-Adapter-Plus files in a downloaded repository."""
    if (snapshot / "model_index.json").is_file():
        return ["."] if any(backend.draws(snapshot) for backend in BACKENDS) else []
    configs = [path for pattern in ("config.json", "*/config.json") for path in sorted(snapshot.glob(pattern))]
    adapters = [path.parent for path in configs if read_object(path).get("_class_name") in _ADAPTERS]
    files = [path for pattern in ("*.safetensors", "*/*.safetensors") for path in sorted(snapshot.glob(pattern))]
    public = [path for path in files if path.parent not in adapters and _is_of_use(path)]
    return [path.relative_to(snapshot).as_posix() for path in [*adapters, *public]]


def _is_of_use(path: Path) -> bool:
    try:
        tensors = read_headers([path])
    except (ValueError, OSError):
        return False
    return kind_of_keys(tensors) == "SDXL" or "image_proj.latents" in tensors
