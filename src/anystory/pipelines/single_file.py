"""What can go wrong in a single file of SDXL, said by the names of the weights; the reading itself is diffusers'."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    fetch_diffusers_config,
)
from safetensors.torch import load_file

from anystory.models.key_report import CheckpointKeyError, KeyReport, compare_keys, shapes_of

__all__ = ["check_text_encoders", "first_line", "single_file_errors"]

_CONVERTED = {
    "unet": (UNet2DConditionModel, convert_ldm_unet_checkpoint),
    "vae": (AutoencoderKL, convert_ldm_vae_checkpoint),
}
"""{component: (its class, diffusers' function that gives its weights their names)}."""


@contextmanager
def single_file_errors(
    source: str | os.PathLike[str], parts: Collection[str], config: str | os.PathLike[str] | None
) -> Iterator[None]:
    """Around diffusers' reading of a single file: its errors in words that help.

    Args:
        source: the file, or its address.
        parts: the components that are read from it.
        config: where the configuration files are, or None for the hub.

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
        # diffusers stops at the first wrong weight, or at one that is missing without its name.
        if os.path.isfile(source) and (report := _report(source, parts, config)):
            raise CheckpointKeyError(f"{source} is not a whole model", report) from error
        raise


def check_text_encoders(pipe: Any, source: str | os.PathLike[str]) -> None:
    """Refuses a file without some of the text encoders' weights: diffusers leaves those without values.

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


def first_line(error: Exception) -> str:
    """What a library said, without its advice."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".: ")


def _report(source: str | os.PathLike[str], parts: Collection[str], config: str | os.PathLike[str] | None) -> KeyReport:
    """The U-Net's and the autoencoder's weights in a file, against their configuration."""
    weights = load_file(source)
    where = fetch_diffusers_config(weights)["pretrained_model_name_or_path"] if config is None else os.fspath(config)
    found: dict[str, tuple[int, ...]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for part in parts:
        if part not in _CONVERTED:
            continue
        kind, convert = _CONVERTED[part]
        inside = None if os.path.isfile(os.path.join(where, "config.json")) else part
        with torch.device("meta"):
            model: Any = kind.from_config(kind.load_config(where, subfolder=inside))
        expected |= shapes_of(model.state_dict(), f"{part}.")
        found |= shapes_of(convert(weights, model.config), f"{part}.")
    return compare_keys(found, expected)
