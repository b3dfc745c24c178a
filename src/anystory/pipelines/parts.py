"""Loading the parts of a pipeline one by one: adapter, image encoder, U-Net. Only safetensors are read."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPVisionModelWithProjection

from anystory.models.adapter import SubjectAdapter
from anystory.models.key_report import CheckpointKeyError, KeyReport
from anystory.pipelines.assets import embedded_models, resolve_model, split_hub_id
from anystory.pipelines.bases import check_index, check_single_file
from anystory.pipelines.single_file import first_line, single_file_errors

__all__ = [
    "SDXL_IMAGE_ENCODER",
    "image_encoder_beside",
    "load_adapter",
    "load_image_encoder",
    "load_unet",
    "locate",
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
        variant: Weights to take where the source has such a variant.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        ValueError: nothing of that name, no adapter, or an incomplete one.
        OSError: a file is missing, or the hub cannot be reached.
    """
    place = locate(source, "adapter")
    options |= {"subfolder": place.subfolder or None, "dtype": dtype}
    if variant is not None:
        # A base with variants and an adapter without go together, as the components of a pipeline do.
        with suppress(OSError):
            return SubjectAdapter.from_pretrained(place.root, variant=variant, **options)
    return SubjectAdapter.from_pretrained(place.root, **options)


def load_image_encoder(
    source: str | os.PathLike[str], *, dtype: torch.dtype, **options: Any
) -> CLIPVisionModelWithProjection:
    """Load a CLIP vision model; arguments and errors as for `load_adapter`, `image_encoder/` the folder."""
    place = locate(source, "image_encoder")
    try:
        return CLIPVisionModelWithProjection.from_pretrained(
            place.root, subfolder=place.subfolder, dtype=dtype, use_safetensors=True, **options
        )
    except OSError as error:
        raise ValueError(
            f"the image encoder {source} was not found ({first_line(error)}): pass image_encoder=FOLDER, or load it"
            " once while the hub (huggingface.co) can be reached"
        ) from error


def load_unet(
    source: str | os.PathLike[str],
    *,
    dtype: torch.dtype,
    config: str | os.PathLike[str] | None = None,
    variant: str | None = None,
    **options: Any,
) -> UNet2DConditionModel:
    """Load the U-Net of a base and nothing else of it.

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
        with single_file_errors(source, ("unet",), config):
            return UNet2DConditionModel.from_single_file(os.fspath(source), torch_dtype=dtype, **found, **options)
    place = locate(source, "unet")
    if not os.path.isdir(place.root):
        place = place._replace(subfolder=place.subfolder or "unet")
    if (index := Path(place.root) / "model_index.json").is_file():
        check_index(json.loads(index.read_text(encoding="utf-8")), str(source))
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
    if report := KeyReport.of_loading_info(info):
        raise CheckpointKeyError(f"{source} has no whole U-Net", report)
    return unet


def read_index(base: str, pipeline_class: type[DiffusionPipeline], **options: Any) -> dict[str, Any]:
    """The `model_index.json` of a folder or hub id.

    Raises:
        ValueError: a folder without one; a hub id that does not exist, or cannot be reached and is not cached.
    """
    try:
        return cast("dict[str, Any]", pipeline_class.load_config(base, **options))
    except OSError as error:
        if os.path.isdir(base):
            raise ValueError(f"{base} has no model_index.json: expected a model folder in diffusers layout") from None
        raise ValueError(
            f"{base} is not cached here, and the hub (huggingface.co) did not give its model_index.json"
            f" ({first_line(error)}): check the name and the connection, or name a folder"
        ) from error


class Place(NamedTuple):
    """A folder or hub id, and a folder inside it ("" for none)."""

    root: str
    subfolder: str


def locate(source: str | os.PathLike[str], part: str) -> Place:
    """What `from_pretrained` wants for a source; `part` is the folder's name inside a saved pipeline."""
    source = os.fspath(source)
    if source in embedded_models():
        return Place(resolve_model(source), part)
    if os.path.isdir(source):
        inside = (Path(source) / part / "config.json").is_file()
        return Place(source, part if inside else "")
    hub_id = split_hub_id(source)
    if hub_id is None:
        raise ValueError(
            f"no {part} at {source!r}: expected a folder that exists, an embedded model {embedded_models()},"
            " or a hub id 'owner/name[/folder]'"
        )
    return Place(*hub_id)


def image_encoder_beside(adapter: str | os.PathLike[str]) -> str | None:
    """The image encoder's folder in the saved pipeline that an adapter's source names, if it names one."""
    place = locate(adapter, "adapter")
    folder = Path(place.root) / "image_encoder"
    return str(folder) if (folder / "config.json").is_file() else None
