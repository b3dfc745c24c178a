"""The frozen parts of a base that exists: a folder, hub id or single file, read part by part as pipelines read them.

What a base is, and what is refused, is `anystory.pipelines`' to say; here its parts are handed to training.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.models.saved.key_report import CheckpointKeyError, KeyReport
from anystory.pipelines.loading.assets import resolve_model
from anystory.pipelines.loading.bases import check_index
from anystory.pipelines.loading.parts import (
    SDXL_IMAGE_ENCODER,
    load_image_encoder,
    load_unet,
    locate,
    read_index,
)
from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.training.recipe import BaseRecipe

PARTS = (
    "vae",
    "tokenizer",
    "text_encoder",
    "tokenizer_2",
    "text_encoder_2",
    "image_encoder",
    "feature_extractor",
    "unet",
    "scheduler",
)
"""Everything but the adapter."""

_AUTOENCODERS: dict[str, Any] = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
_TOKENIZED: dict[str, Any] = {
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


class BaseParts:
    """The parts of one base, each read when it is asked for."""

    def __init__(self, base: BaseRecipe) -> None:
        self.base = base
        self.dtype: torch.dtype = getattr(torch, base.dtype)
        self._from_file: dict[str, Any] | None = None
        self._index: dict[str, Any] | None = None

    def load(self, part: str) -> Any:
        """One part, in evaluation mode; None where the base has none (the first text encoder of some).

        The U-Net comes in float32, since an adapter may begin from its weights; the stage makes it `base.dtype`.

        Raises:
            ValueError: nothing of that name, not of SDXL's kind, or not whole.
            OSError: a file is missing, or the hub cannot be reached.
        """
        loaded = self._read(part)
        return loaded.eval().requires_grad_(False) if isinstance(loaded, nn.Module) else loaded

    def _read(self, part: str) -> Any:
        base = self.base
        if part == "vae" and base.vae is not None:
            return self._autoencoder(base.vae, AutoencoderKL)
        if part == "image_encoder":
            return load_image_encoder(self._image_encoder_source(), dtype=self.dtype)
        if part == "feature_extractor":
            return self._feature_extractor()
        if os.path.isfile(base.source):
            return self._file_parts().get(part)
        if part == "unet":
            return load_unet(base.source, dtype=torch.float32, variant=base.variant)
        entry = self.index.get(part) or (None, None)
        if entry[1] is None:
            return None
        root = resolve_model(base.source)
        if part == "scheduler":
            return EulerDiscreteScheduler.from_pretrained(root, subfolder=part)
        if part == "vae":
            if entry[1] not in _AUTOENCODERS:
                raise ValueError(f"{base.source} has a {entry[1]} as vae: expected one of {', '.join(_AUTOENCODERS)}")
            return self._autoencoder(base.source, _AUTOENCODERS[entry[1]])
        if part.startswith("tokenizer"):
            return _TOKENIZED[part].from_pretrained(root, subfolder=part)
        return _TOKENIZED[part].from_pretrained(
            root, subfolder=part, dtype=self.dtype, use_safetensors=True, variant=base.variant
        )

    @property
    def index(self) -> dict[str, Any]:
        """The base's `model_index.json`, checked."""
        if self._index is None:
            self._index = read_index(resolve_model(self.base.source), AnyStoryPipeline)
            check_index(self._index, self.base.source)
        return self._index

    def _autoencoder(self, source: str, kind: Any) -> Any:
        place = locate(source, "vae")
        inside = place.subfolder or ("vae" if source == self.base.source else None)
        vae, info = kind.from_pretrained(
            place.root,
            subfolder=inside,
            torch_dtype=getattr(torch, self.base.vae_dtype),
            use_safetensors=True,
            variant=self.base.variant if source == self.base.source else None,
            output_loading_info=True,
        )
        if report := KeyReport.of_loading_info(info):
            raise CheckpointKeyError(f"{source} has no whole autoencoder", report)
        return vae

    def _image_encoder_source(self) -> str:
        if self.base.image_encoder is not None:
            return self.base.image_encoder
        own = not os.path.isfile(self.base.source) and (self.index.get("image_encoder") or (None, None))[1] is not None
        return self.base.source if own else SDXL_IMAGE_ENCODER

    def _feature_extractor(self) -> Any:
        beside = not os.path.isfile(self.base.source) and self.base.image_encoder is None
        if beside and (self.index.get("feature_extractor") or (None, None))[1] is not None:
            return CLIPImageProcessorPil.from_pretrained(resolve_model(self.base.source), subfolder="feature_extractor")
        return CLIPImageProcessorPil()

    def _file_parts(self) -> dict[str, Any]:
        """What a single file holds: all of it is read at once, so it is read once."""
        if self._from_file is None:
            pipe = AnyStoryPipeline.from_single_file(self.base.source, config=self.base.config, dtype=torch.float32)
            parts = {name: getattr(pipe, name) for name in PARTS if getattr(pipe, name, None) is not None}
            for name in ("text_encoder", "text_encoder_2"):
                parts[name].to(self.dtype)
            nn.Module.to(parts["vae"], getattr(torch, self.base.vae_dtype))
            parts["scheduler"] = EulerDiscreteScheduler.from_config(parts["scheduler"].config)
            self._from_file = parts
        return self._from_file
