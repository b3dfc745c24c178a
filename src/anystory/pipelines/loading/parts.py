"""Load the parts of a pipeline one by one: adapter, image encoder, U-Net. Only safetensors are read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from anystory.input_files import damaged_files_named, read_object
from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import AdapterConfig
from anystory.models.saved.key_report import CheckpointKeyError, KeyReport
from anystory.pipelines.loading.assets import embedded_models, not_given, resolve_model, split_hub_id
from anystory.pipelines.loading.bases import check_index, check_single_file
from anystory.pipelines.loading.headers import read_headers, weight_files
from anystory.pipelines.loading.scaled_fp8 import dequantised, is_scaled, load_scaled
from anystory.pipelines.loading.single_file import first_line, single_file_errors

__all__ = [
    "SDXL_IMAGE_ENCODER",
    "check_variant",
    "image_encoder_beside",
    "load_adapter",
    "load_image_encoder",
    "load_unet",
    "locate",
    "read_adapter_sizes",
    "read_index",
]

SDXL_IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"
"""CLIP ViT-H/14 (257 × 1280 hidden states), the paper's image encoder. In that repository it lies beside the
SD 1.5 adapters; `sdxl_models/image_encoder` is ViT-bigG/14, which does not fit."""


def load_adapter(
    source: str | os.PathLike[str], *, dtype: torch.dtype, variant: str | None = None, **options: Any
) -> SubjectAdapter:
    """Load a SubjectAdapter.

    Args:
        source: An adapter's folder, a pipeline's folder that holds `adapter/`, an embedded model's name, or a
            hub id `owner/name[/folder]`.
        dtype: Type of the weights.
        variant: Which weights to take, if the source has them.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        ValueError: nothing of that name, no adapter, or an incomplete one.
        OSError: a file is missing, or the hub cannot be reached.
    """
    place = locate(source, "adapter")
    options |= {"subfolder": place.subfolder or None, "dtype": dtype}
    with damaged_files_named(place.folder):
        if variant is not None:
            # A base with variants may go together with an adapter without.
            with suppress(OSError):
                return SubjectAdapter.from_pretrained(place.root, variant=variant, **options)
        return SubjectAdapter.from_pretrained(place.root, **options)


def read_adapter_sizes(source: str | os.PathLike[str]) -> AdapterConfig:
    """An adapter's sizes, from its configuration alone; `source` as for `load_adapter`.

    Raises:
        ValueError: nothing of that name, no adapter, or sizes that cannot be.
    """
    place = locate(source, "adapter")
    try:
        config = cast("dict[str, Any]", SubjectAdapter.load_config(place.root, subfolder=place.subfolder or None))
        return AdapterConfig(**config["adapter_config"])
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source} is no adapter: its config.json does not say an adapter's sizes ({error})"
        ) from error


def load_image_encoder(
    source: str | os.PathLike[str], *, dtype: torch.dtype, **options: Any
) -> CLIPVisionModelWithProjection:
    """Load a CLIP vision model; arguments and errors as for `load_adapter`, `image_encoder/` the folder."""
    place = locate(source, "image_encoder")
    try:
        with damaged_files_named(place.folder):
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                place.root, subfolder=place.subfolder, dtype=dtype, use_safetensors=True, **options
            )
    except OSError as error:
        raise ValueError(
            f"the image encoder {source} was not found ({first_line(error)}): pass image_encoder=FOLDER, or load it"
            " once while the hub (huggingface.co) can be reached"
        ) from error
    load_scaled(encoder, Path(place.root, place.subfolder))
    return encoder


def load_unet(
    source: str | os.PathLike[str],
    *,
    dtype: torch.dtype,
    config: str | os.PathLike[str] | None = None,
    variant: str | None = None,
    **options: Any,
) -> UNet2DConditionModel:
    """Load only the U-Net of a base.

    Args:
        source: A pipeline's folder, a U-Net's folder, an embedded model's name, a hub id, or a single
            `.safetensors` file in the original layout.
        dtype: Type of the weights.
        config: For a single file, as for `from_single_file`.
        variant: As in diffusers.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        ValueError: nothing of that name, a model of another kind, or a U-Net that is not whole.
        OSError: a file is missing, or the hub cannot be reached.
    """
    if os.path.isfile(source):
        check_single_file(source, parts=("unet",))
        place = None if config is None else locate(config, "unet")
        found = {} if place is None else {"config": place.root, "subfolder": place.subfolder or None}
        read = [] if place is None else [place.folder]
        with damaged_files_named(*read), single_file_errors(source, ("unet",), config):
            weights: Any = os.fspath(source)
            if is_scaled(read_headers([Path(source)])):
                weights = dequantised(load_file(source), weights, dtype)
            return UNet2DConditionModel.from_single_file(weights, torch_dtype=dtype, **found, **options)
    place = locate(source, "unet")
    if not os.path.isdir(place.root):
        place = place._replace(subfolder=place.subfolder or "unet")
    if (index := Path(place.root) / "model_index.json").is_file():
        check_index(read_object(index), str(source))
    check_variant(place.folder, variant)
    with damaged_files_named(place.folder):
        loaded: Any = UNet2DConditionModel.from_pretrained(
            place.root,
            subfolder=place.subfolder or None,
            torch_dtype=dtype,
            use_safetensors=True,
            variant=variant,
            output_loading_info=True,
            **options,
        )
    unet, info = loaded
    if load_scaled(unet, Path(place.root, place.subfolder), variant):
        return unet
    if report := KeyReport.of_loading_info(info):
        raise CheckpointKeyError(f"{source} has no whole U-Net", report)
    return unet


def check_variant(folder: str | os.PathLike[str], variant: str | None) -> None:
    """Refuse a variant of which a local folder holds no weights; diffusers' own error does not say so.

    Args:
        folder: a pipeline's or a component's. Anything but a local folder is skipped.
        variant: of the weights' files; None for none.

    Raises:
        ValueError: there are no such weights; names the variants that there are.
    """
    if variant is None or not os.path.isdir(folder):
        return
    found = {name for place in (Path(folder), *Path(folder).glob("*/")) for name in weight_files(place)}
    if variant not in found:
        there = ", ".join(sorted(found - {""})) or "none"
        raise ValueError(f"{folder} holds no weights of the variant {variant!r}; its variants are: {there}")


def read_index(base: str, pipeline_class: type[DiffusionPipeline], **options: Any) -> dict[str, Any]:
    """The `model_index.json` of a folder or hub id.

    Raises:
        ValueError: a folder without one; a hub id that does not exist, or is not cached and cannot be reached.
    """
    try:
        return cast("dict[str, Any]", pipeline_class.load_config(base, **options))
    except OSError as error:
        if os.path.isdir(base):
            raise ValueError(f"{base} has no model_index.json: expected a model folder in diffusers layout") from None
        raise not_given(base, error) from error


class PartLocation(NamedTuple):
    """A folder or hub id, and a folder inside it ("" for none)."""

    root: str
    subfolder: str

    @property
    def folder(self) -> str:
        """Its path, if it is local."""
        return os.path.join(self.root, self.subfolder)


def locate(source: str | os.PathLike[str], part: str) -> PartLocation:
    """A source as `from_pretrained` takes it; `part` is the folder's name inside a saved pipeline."""
    source = os.fspath(source)
    if source in embedded_models():
        return PartLocation(resolve_model(source), part)
    if os.path.isdir(source):
        inside = (Path(source) / part / "config.json").is_file()
        return PartLocation(source, part if inside else "")
    hub_id = split_hub_id(source)
    if hub_id is None:
        raise ValueError(
            f"no {part} at {source!r}: expected a folder that exists, an embedded model {embedded_models()},"
            " or a hub id 'owner/name[/folder]'"
        )
    return PartLocation(*hub_id)


def image_encoder_beside(adapter: str | os.PathLike[str]) -> str | None:
    """The image encoder's folder in the saved pipeline that an adapter's source names, if any."""
    place = locate(adapter, "adapter")
    folder = Path(place.root) / "image_encoder"
    return str(folder) if (folder / "config.json").is_file() else None
