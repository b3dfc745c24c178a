"""Which backend a model belongs to, by its name, folder or file. No torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

from anystory.engine.backends.base import Backend
from anystory.engine.backends.flux import FluxBackend
from anystory.engine.backends.klein import KleinBackend
from anystory.engine.backends.sdxl import SdxlBackend
from anystory.input_files import read_object
from anystory.pipelines.loading.assets import embedded_models, hub_index, is_hub_id, resolve_model
from anystory.pipelines.loading.bases import kind_of_index, kind_of_keys
from anystory.pipelines.loading.headers import read_headers

__all__ = ["BACKENDS", "backend_of", "place_of"]

BACKENDS: tuple[Backend, ...] = (SdxlBackend(), FluxBackend(), KleinBackend())
"""Every family of models that can be drawn with. The first one gets what cannot be looked at here."""


def backend_of(model: str) -> Backend:
    """The backend of an embedded model's name, a folder, a `.safetensors` file, or a hub id.

    What is damaged or missing here gets the first backend, which says so.

    Raises:
        ValueError: a model that no backend draws with; a hub id that the hub does not give.
    """
    place = place_of(model)
    if place is None:
        return BACKENDS[0]
    for backend in BACKENDS:
        if backend.draws(place):
            return backend
    expected = ", or ".join(backend.title for backend in BACKENDS)
    raise ValueError(f"{model} is {_kind_of(place)}, which cannot be drawn with here: expected {expected}")


def place_of(model: str) -> Path | None:
    """Where a model can be looked at, if it can: a file with a header, or a folder with an index.

    Of a hub id that has not been downloaded, the index is fetched; it decides between the backends.

    Raises:
        ValueError: the hub does not give it.
    """
    if model in embedded_models():
        return Path(resolve_model(model))
    place = Path(model)
    if is_hub_id(model) and not os.path.exists(model):
        place = hub_index(model).parent
    try:
        if place.is_file():
            return place if place.suffix == ".safetensors" and read_headers([place]) else None
        return place if read_object(place / "model_index.json").get("_class_name") else None
    except (OSError, ValueError):  # missing or damaged: loading it says where
        return None


def _kind_of(place: Path) -> str:
    if place.is_file():
        return kind_of_keys(read_headers([place]))
    return kind_of_index(read_object(place / "model_index.json"))
