"""Loading and saving pipelines, and the parts that a plain SDXL checkpoint lacks.

Only safetensors are read and no remote code is run; the options that would allow either are refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from anystory.models.adapter import SubjectAdapter
from anystory.pipelines.assets import resolve_model
from anystory.pipelines.bases import check_index, check_single_file
from anystory.pipelines.parts import (
    SDXL_IMAGE_ENCODER,
    image_encoder_beside,
    load_adapter,
    load_image_encoder,
    read_index,
)
from anystory.pipelines.single_file import check_text_encoders, single_file_errors

__all__ = ["LoadingMixin", "check_image_encoder"]

_HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
_SAFE = {"use_safetensors": True, "trust_remote_code": False, "custom_pipeline": None, "use_onnx": False}


class LoadingMixin(DiffusionPipeline):
    """`from_pretrained`, `from_single_file` and `save_pretrained` of a pipeline with an adapter.

    Folders name classes of ours by module (`["anystory.models.adapter", "SubjectAdapter"]`). diffusers takes
    such a class from `sys.modules` and imports none, so whoever calls this has to have imported them: `mixin.py`
    does. A stock diffusers pipeline reads the folder too, once `anystory.pipelines` classes are imported.
    """

    adapter: SubjectAdapter | None
    image_encoder: Any
    feature_extractor: Any

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        adapter: SubjectAdapter | str | os.PathLike[str] | None = None,
        image_encoder: Any = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Load an embedded model, a folder that `save_pretrained` wrote, or an SDXL model and an adapter.

            AnyStoryPipeline.from_pretrained("mini")
            AnyStoryPipeline.from_pretrained("owner/some-sdxl", adapter="folder", dtype=torch.bfloat16)

        Args:
            pretrained_model_name_or_path: `"mini"`, a folder in diffusers layout, or a hub id. For a single file see
                `from_single_file`.
            adapter: A SubjectAdapter, or where it is: its folder, a pipeline's folder, an embedded model's
                name or a hub id `owner/name[/folder]`. By default that of the base's folder, if any.
            image_encoder: A CLIPVisionModelWithProjection or where it is, as for `adapter`. By default the
                base's own, then that beside the adapter, then CLIP ViT-H/14 (`SDXL_IMAGE_ENCODER`).
            dtype: Type of all weights, or a dict by component as in diffusers. float32 by default, whatever
                the files hold. `torch_dtype` is its old name.
            **kwargs: As for diffusers' `from_pretrained`: `variant`, `revision`, `local_files_only`,
                components to use instead of loading them, …

        Raises:
            ValueError: no such model, one that is not of SDXL's kind, an adapter that is incomplete or made for
                another base, or an option that would load pickles or run remote code.
            OSError: a file is missing, or the hub cannot be reached.
        """
        _refuse_unsafe(kwargs)
        base = resolve_model(pretrained_model_name_or_path)
        dtype = dtype or torch_dtype or torch.float32
        hub = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
        options = hub | {name: kwargs[name] for name in ("revision",) if name in kwargs}
        check_index(read_index(base, cls, **options), str(pretrained_model_name_or_path), given=kwargs.keys())
        parts = _Parts.find(adapter, image_encoder, dtype, hub, kwargs.get("variant"))
        kwargs |= {name: part for name, part in parts.given.items() if part is not None}
        pipe = super().from_pretrained(base, dtype=dtype, **(kwargs | {"use_safetensors": True}))
        return parts.complete(pipe)

    @classmethod
    def from_single_file(
        cls,
        pretrained_model_link_or_path: str | os.PathLike[str],
        *,
        adapter: SubjectAdapter | str | os.PathLike[str] | None = None,
        image_encoder: Any = None,
        config: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load SDXL, or a fine-tune of it, from one file in the original layout, and an adapter.

            AnyStoryPipeline.from_single_file("juggernaut.safetensors", adapter="folder", dtype=torch.float16)

        Args:
            pretrained_model_link_or_path: A `.safetensors` file, or its address in the hub.
            adapter, image_encoder: As for `from_pretrained`.
            config: A folder in diffusers layout with the model's configuration files (its weights are not read), or
                a hub id. By default diffusers fetches SDXL's from the hub.
            dtype: Type of all weights, float32 by default. `torch_dtype` is its old name.
            **kwargs: As for diffusers' `from_single_file`: components to use instead of loading them, …

        Raises:
            ValueError: a pickle, a file of another kind or without a part of the model, an adapter as for
                `from_pretrained`, or configuration files that are not here while the hub cannot be reached.
            OSError: no such file.
        """
        _refuse_unsafe(kwargs)
        source, dtype = os.fspath(pretrained_model_link_or_path), dtype or torch_dtype or torch.float32
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"`dtype` of a single file must be one torch.dtype, got {dtype!r}")
        if "://" not in source and not os.path.isfile(source):
            raise FileNotFoundError(2, "No such file", source)
        if os.path.isfile(source):
            check_single_file(source, given=kwargs.keys())
        elif not source.endswith(".safetensors"):
            raise ValueError(f"{source}: single files must be .safetensors; pickles are not loaded")
        hub = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
        parts = _Parts.find(adapter, image_encoder, dtype, hub, None)
        # What an SDXL file never holds is not looked for in the folder of configurations either.
        kwargs = {"feature_extractor": None} | kwargs | parts.given
        read = [name for name in ("unet", "vae", "text_encoder", "text_encoder_2") if name not in kwargs]
        with single_file_errors(source, read, config):
            pipe = super().from_single_file(  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
                source, config=None if config is None else os.fspath(config), dtype=dtype, **kwargs
            )
        check_text_encoders(pipe, source)
        return parts.complete(pipe)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write every component in diffusers layout, the adapter in `adapter/`.

        Arguments as in diffusers. `from_pretrained` of the folder restores the whole pipeline.

        Raises:
            ValueError: `safe_serialization=False`.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)


@dataclass
class _Parts:
    """What an adapter needs besides a base: found before the base is loaded, completed after."""

    given: dict[str, Any]
    """{component: object, or None if nobody has given it yet}."""
    encoder_source: str | os.PathLike[str]
    dtype: Any
    hub: dict[str, Any]

    @classmethod
    def find(cls, adapter: Any, image_encoder: Any, dtype: Any, hub: dict[str, Any], variant: str | None) -> _Parts:
        """Loads what is named; objects stay as they are."""
        encoder_source: str | os.PathLike[str] = SDXL_IMAGE_ENCODER
        if isinstance(adapter, (str, os.PathLike)):
            encoder_source = image_encoder_beside(adapter) or encoder_source
            adapter = load_adapter(adapter, dtype=_dtype_of("adapter", dtype), variant=variant, **hub)
        if isinstance(image_encoder, (str, os.PathLike)):
            image_encoder = load_image_encoder(image_encoder, dtype=_dtype_of("image_encoder", dtype), **hub)
        return cls({"adapter": adapter, "image_encoder": image_encoder}, encoder_source, dtype, hub)

    def complete(self, pipe: Any) -> Any:
        """Adds what an adapter needs and a plain SDXL model lacks; refuses what does not fit together."""
        if pipe.adapter is not None:
            pipe.adapter.check_fits(pipe.unet)
            if pipe.image_encoder is None:
                part = load_image_encoder(self.encoder_source, dtype=_dtype_of("image_encoder", self.dtype), **self.hub)
                pipe.register_modules(image_encoder=part)
            check_image_encoder(pipe.image_encoder, pipe.adapter)
        if pipe.image_encoder is not None and pipe.feature_extractor is None:
            pipe.register_modules(feature_extractor=_matching_feature_extractor(pipe.image_encoder))
        return pipe


def _matching_feature_extractor(image_encoder: CLIPVisionModelWithProjection) -> CLIPImageProcessor:
    """CLIP's own preprocessing at the image encoder's picture size, for folders that hold none."""
    size = image_encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def check_image_encoder(image_encoder: Any, adapter: SubjectAdapter) -> None:
    """Raises ValueError where an image encoder's tokens are not those that the adapter was made for."""
    config, sizes = image_encoder.config, adapter.sizes
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    if (tokens, config.hidden_size) != (sizes.clip_tokens, sizes.clip_dim):
        raise ValueError(
            f"the image encoder gives {tokens} tokens of width {config.hidden_size}, but the adapter was made for"
            f" {sizes.clip_tokens} of width {sizes.clip_dim}; for SDXL that is CLIP ViT-H/14 ({SDXL_IMAGE_ENCODER})"
        )


def _refuse_unsafe(options: dict[str, Any]) -> None:
    for name, safe in _SAFE.items():
        if options.get(name) not in (None, safe):
            raise ValueError(f"`{name}` must be {safe}, got {options[name]!r}: no pickle, no remote code")


def _dtype_of(component: str, dtype: Any) -> torch.dtype:
    """diffusers takes one dtype, or a dict by component with a "default"."""
    return dtype.get(component, dtype.get("default", torch.float32)) if isinstance(dtype, dict) else dtype
