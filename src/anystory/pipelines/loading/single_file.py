"""Single files of SDXL: diffusers reads them; here its errors name the weights, and 8-bit files get their scales."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    create_diffusers_clip_model_from_ldm,
    fetch_diffusers_config,
)
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from anystory.models.saved.key_report import CheckpointKeyError, KeyReport, compare_keys, shapes_of
from anystory.pipelines.loading.headers import read_headers
from anystory.pipelines.loading.scaled_fp8 import dequantised, is_scaled

__all__ = [
    "SINGLE_FILE_CLASSES",
    "check_text_encoders",
    "fetched_file",
    "first_line",
    "scaled_parts",
    "single_file_errors",
]

SINGLE_FILE_CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
"""{component: its class} of what SDXL's single files hold."""

_ADDRESS = re.compile(r"https?://[^/]+/(?P<repo>[^/]+/[^/]+)/(?:blob|resolve)/(?P<revision>[^/]+)/(?P<file>[^?]+)")

_CONVERTED = {
    "unet": convert_ldm_unet_checkpoint,
    "vae": convert_ldm_vae_checkpoint,
}
"""{component: diffusers' function that gives its weights their names}."""


@contextmanager
def single_file_errors(
    source: str | os.PathLike[str], parts: Collection[str], config: str | os.PathLike[str] | None
) -> Iterator[None]:
    """Turn errors of diffusers' single-file reader into helpful ones.

    Args:
        source: the file, or its address.
        parts: the components that are read from it.
        config: the folder of the configuration files, or None for the hub.

    Raises:
        CheckpointKeyError: weights are missing, unexpected or of another shape.
        ValueError: the configuration files are not here, and the hub cannot be reached.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the configuration for {source} was not found ({first_line(error)}): pass config=FOLDER with the"
            " configuration files of an SDXL model in diffusers layout (model_index.json, unet/config.json,"
            " tokenizer/, …), or load it once while the hub (huggingface.co) can be reached"
        ) from error
    except (NotImplementedError, RuntimeError, ValueError) as error:
        # diffusers stops at the first wrong weight, and does not name a missing one.
        if os.path.isfile(source) and (report := _report(source, parts, config)):
            raise CheckpointKeyError(f"{source} is not a whole model", report) from error
        raise


def check_text_encoders(pipe: Any, source: str | os.PathLike[str]) -> None:
    """Refuse a file without some of the text encoders' weights, which diffusers leaves without values.

    Args:
        pipe: what was read.
        source: the file.

    Raises:
        CheckpointKeyError: the names of all such weights.
    """
    encoders = {name: getattr(pipe, name) for name in ("text_encoder", "text_encoder_2")}
    missing = tuple(
        f"{part}.{name}"
        for part, encoder in encoders.items()
        if encoder is not None
        for name, parameter in encoder.named_parameters()
        if parameter.is_meta
    )
    if missing:
        raise CheckpointKeyError(f"{source} is not a whole model", KeyReport(missing=missing))


def fetched_file(address: str, revision: str | None = None, **options: Any) -> str:
    """Download a file of the hub, or take it from the cache; the path of the local copy.

    Args:
        address: as a browser shows it, https://huggingface.co/OWNER/NAME/blob/main/FILE.safetensors.
        revision: overrides that of the address.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        FileNotFoundError: no address, and no such file.
        ValueError: not a safetensors file, not an address of the hub, or it cannot be downloaded.
    """
    if "://" not in address:
        raise FileNotFoundError(2, "No such file", address)
    if not address.partition("?")[0].endswith(".safetensors"):
        raise ValueError(f"{address}: single files must be .safetensors; pickles are not loaded")
    if (match := _ADDRESS.fullmatch(address.partition("?")[0])) is None:
        raise ValueError(f"{address}: expected https://huggingface.co/OWNER/NAME/blob/main/FILE.safetensors")
    known = {
        name: options[name] for name in ("cache_dir", "force_download", "local_files_only", "token") if name in options
    }
    try:
        return hf_hub_download(match["repo"], match["file"], revision=revision or match["revision"], **known)
    except OSError as error:
        raise ValueError(
            f"{address} is not cached here, and the hub did not give it ({first_line(error)}): check the address and"
            " the connection, or name a file"
        ) from error


def scaled_parts(
    source: str, parts: Collection[str], *, config: str | os.PathLike[str] | None, dtype: torch.dtype
) -> dict[str, Any]:
    """Read the components of a file with 8-bit weights and scales; {} for any other file, which diffusers reads.

    Args:
        source: the file.
        parts: which components; keys of `SINGLE_FILE_CLASSES`.
        config: a folder or hub id with the configuration files; None for SDXL's, from the hub.
        dtype: of the components.

    Raises:
        ValueError: quantised in another way.
        Exception: as diffusers raises them; see `single_file_errors`.
    """
    if not is_scaled(read_headers([Path(source)])):
        return {}
    weights, found = dequantised(load_file(source), source, dtype), {}
    for part in parts:
        kind, place = SINGLE_FILE_CLASSES[part], {"config": config, "subfolder": part, "torch_dtype": dtype}
        if part in _CONVERTED:
            found[part] = kind.from_single_file(dict(weights), **place)
        else:
            found[part] = create_diffusers_clip_model_from_ldm(kind, dict(weights), **place)
    return found


def first_line(error: Exception) -> str:
    """A library's error, without its advice."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".: ")


def _report(source: str | os.PathLike[str], parts: Collection[str], config: str | os.PathLike[str] | None) -> KeyReport:
    """Compare the U-Net's and the autoencoder's weights in a file with their configuration."""
    weights = dequantised(load_file(source), str(source))
    where = fetch_diffusers_config(weights)["pretrained_model_name_or_path"] if config is None else os.fspath(config)
    found: dict[str, tuple[int, ...]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for part in parts:
        if part not in _CONVERTED:
            continue
        kind, convert = SINGLE_FILE_CLASSES[part], _CONVERTED[part]
        inside = None if os.path.isfile(os.path.join(where, "config.json")) else part
        with torch.device("meta"):
            model: Any = kind.from_config(kind.load_config(where, subfolder=inside))
        expected |= shapes_of(model.state_dict(), f"{part}.")
        found |= shapes_of(convert(weights, model.config), f"{part}.")
    return compare_keys(found, expected)
