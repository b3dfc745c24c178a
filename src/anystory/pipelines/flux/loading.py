"""Loading and saving FLUX.1 with an adapter: a base of diffusers' layout, and what the base lacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import SiglipImageProcessor, SiglipVisionModel

from anystory.input_files import damaged_files_named
from anystory.models.flux_adapter import FluxSubjectAdapter
from anystory.models.saved.key_report import CheckpointKeyError, KeyReport
from anystory.pipelines.loading.asked import HUB_OPTIONS, OWN, SafetensorsMixin, dtype_of, refuse_unsafe
from anystory.pipelines.loading.bases import kind_of_index
from anystory.pipelines.loading.parts import locate, read_index
from anystory.quiet import quiet_loading

__all__ = ["REDUX", "FluxLoadingMixin", "load_flux_adapter"]

REDUX = "black-forest-labs/FLUX.1-Redux-dev"
"""Its SigLIP is the image encoder that the authors' weights were trained with."""


class FluxLoadingMixin(SafetensorsMixin):
    """`from_pretrained` and `save_pretrained` of a FLUX.1 pipeline with an adapter."""

    @classmethod
    @quiet_loading()
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        adapter: Any = OWN,
        image_encoder: Any = OWN,
        dtype: Any = None,
        torch_dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Load a folder that `save_pretrained` wrote, or FLUX.1 and an adapter.

            AnyStoryFluxPipeline.from_pretrained(
                "black-forest-labs/FLUX.1-dev", adapter="folder", dtype=torch.bfloat16
            )

        Args:
            pretrained_model_name_or_path: A folder in diffusers layout, or a hub id.
            adapter: A FluxSubjectAdapter, or where it is: its folder, a folder that holds `adapter/`, or a hub id
                `owner/name[/folder]`. Left out, that of the base's folder, if any; None is none.
            image_encoder: A SiglipVisionModel, or a folder or hub id that holds `image_encoder/`. By default the base's
                own, then that beside the adapter, then FLUX.1-Redux' (`REDUX`). None is none.
            dtype: Type of all weights, or a dict by component as in diffusers. float32 by default. `torch_dtype` is its
                old name.
            **kwargs: As for diffusers' `from_pretrained`: `variant`, `quantization_config` (the adapter itself keeps
                its bits), components to use instead of loading them, …

        Raises:
            ValueError: no such model, one that is not FLUX.1, an adapter that is incomplete or made for another
                transformer, or an option that would load pickles or run remote code.
            OSError: a file is missing, or the hub cannot be reached.
        """
        refuse_unsafe(kwargs)
        base, dtype = os.fspath(pretrained_model_name_or_path), dtype or torch_dtype or torch.float32
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        with damaged_files_named(base):
            index = read_index(base, cls, **hub)
        if "transformer" not in kwargs and (index.get("transformer") or [None, None])[1] != "FluxTransformer2DModel":
            raise ValueError(f"{base} is {kind_of_index(index)}: expected FLUX.1 or a fine-tune of it")
        places = [] if adapter is OWN or not isinstance(adapter, (str, os.PathLike)) else [adapter]
        own = adapter is OWN and (index.get("adapter") or [None])[0] is not None
        if own and kwargs.get("quantization_config") is not None:
            adapter = base  # loaded apart, so that it keeps its bits whatever the configuration names
        if isinstance(adapter, (str, os.PathLike)):
            adapter = load_flux_adapter(adapter, dtype=dtype_of("adapter", dtype), **hub)
        given = {"adapter": adapter, "image_encoder": _encoder(image_encoder, dtype, hub)}
        kwargs |= {name: part for name, part in given.items() if part is not OWN}
        with damaged_files_named(base):
            pipe = super().from_pretrained(base, dtype=dtype, **(kwargs | {"use_safetensors": True}))
        return _completed(pipe, kwargs, [*places, REDUX], dtype, hub)


def load_flux_adapter(
    source: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32, **options: Any
) -> FluxSubjectAdapter:
    """Load a FluxSubjectAdapter.

    Args:
        source: Its folder, a folder that holds `adapter/`, or a hub id `owner/name[/folder]`.
        dtype: Type of the weights.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        ValueError: nothing of that name, no adapter for FLUX.1, or an incomplete one.
        OSError: a file is missing, or the hub cannot be reached.
    """
    place = locate(source, "adapter")
    where = {"subfolder": place.subfolder or None, **options}
    with damaged_files_named(place.folder):
        name = FluxSubjectAdapter.load_config(place.root, **where)["_class_name"]  # pyright: ignore[reportArgumentType,reportCallIssue]
        if name != FluxSubjectAdapter.__name__:
            raise ValueError(
                f"{source} is a {name}, not an adapter for FLUX.1: make one with `anystory adapter convert`"
            )
        loaded: Any = FluxSubjectAdapter.from_pretrained(
            place.root, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **where
        )
    adapter, info = loaded
    if report := KeyReport.of_loading_info(info):
        raise CheckpointKeyError(f"{source} is no whole adapter", report)
    return adapter


def _encoder(image_encoder: Any, dtype: Any, hub: dict[str, Any]) -> Any:
    """An image encoder that is given by name, loaded."""
    if not isinstance(image_encoder, (str, os.PathLike)):
        return image_encoder
    return _load_siglip(image_encoder, dtype_of("image_encoder", dtype), hub)


def _completed(pipe: Any, given: dict[str, Any], places: list[Any], dtype: Any, hub: dict[str, Any]) -> Any:
    """What was loaded, with the image encoder that an adapter needs: from the first place that has one."""
    if pipe.adapter is None:
        return pipe
    pipe.adapter.check_fits(pipe.transformer)
    if pipe.image_encoder is None and "image_encoder" not in given:
        *here, last = places
        beside = next((place for place in here if _holds_encoder(place)), last)
        pipe.register_modules(image_encoder=_load_siglip(beside, dtype_of("image_encoder", dtype), hub))
    if pipe.image_encoder is not None and pipe.feature_extractor is None and "feature_extractor" not in given:
        side = pipe.image_encoder.config.image_size
        pipe.register_modules(feature_extractor=SiglipImageProcessor(size={"height": side, "width": side}))
    return pipe


def _holds_encoder(source: str | os.PathLike[str]) -> bool:
    return (Path(source) / "image_encoder" / "config.json").is_file()


def _load_siglip(source: str | os.PathLike[str], dtype: torch.dtype, hub: dict[str, Any]) -> SiglipVisionModel:
    place = locate(source, "image_encoder")
    try:
        with damaged_files_named(place.folder):
            return SiglipVisionModel.from_pretrained(
                place.root, subfolder=place.subfolder or "image_encoder", dtype=dtype, use_safetensors=True, **hub
            )
    except OSError as error:
        raise ValueError(
            f"SigLIP was not found at {source} ({str(error).splitlines()[0]}): pass image_encoder=FOLDER, the folder of"
            f" {REDUX}, or load it once while the hub (huggingface.co) can be reached"
        ) from error
