"""Loading and saving pipelines, and the parts that a plain SDXL checkpoint lacks.

Only safetensors are read and no remote code is run; the options that would allow either are refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from anystory.models.adapter import SubjectAdapter
from anystory.pipelines.assets import embedded_models, resolve_model

__all__ = ["SDXL_IMAGE_ENCODER", "LoadingMixin", "load_adapter", "load_image_encoder"]

SDXL_IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"
"""CLIP ViT-H/14 (257 × 1280 hidden states), the paper's image encoder. In that repository it lies beside the
SD 1.5 adapters; `sdxl_models/image_encoder` is ViT-bigG/14, which does not fit."""

_HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
_SAFE = {"use_safetensors": True, "trust_remote_code": False, "custom_pipeline": None, "use_onnx": False}


class LoadingMixin(DiffusionPipeline):
    """`from_pretrained` and `save_pretrained` of a pipeline with an adapter.

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
            pretrained_model_name_or_path: `"mini"`, a folder in diffusers layout, or a hub id.
            adapter: A SubjectAdapter, or where it is: its folder, a pipeline's folder, an embedded model's
                name or a hub id `owner/name[/folder]`. By default that of the base's folder, if any.
            image_encoder: A CLIPVisionModelWithProjection or where it is, as for `adapter`. By default the
                base's own, then that beside the adapter, then CLIP ViT-H/14 (`SDXL_IMAGE_ENCODER`).
            dtype: Type of all weights, or a dict by component as in diffusers. float32 by default, whatever
                the files hold. `torch_dtype` is its old name.
            **kwargs: As for diffusers' `from_pretrained`: `variant`, `revision`, `local_files_only`,
                components to use instead of loading them, …

        Raises:
            ValueError: no such model, an adapter that is incomplete, or an option that would load pickles or
                run remote code.
        """
        _refuse_unsafe(kwargs)
        base = resolve_model(pretrained_model_name_or_path)
        dtype = dtype or torch_dtype or torch.float32
        hub = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
        encoder_source: str | os.PathLike[str] = SDXL_IMAGE_ENCODER
        if isinstance(adapter, (str, os.PathLike)):
            encoder_source = _image_encoder_beside(adapter) or encoder_source
            adapter = load_adapter(adapter, dtype=_dtype_of("adapter", dtype), **hub)
        if isinstance(image_encoder, (str, os.PathLike)):
            image_encoder = load_image_encoder(image_encoder, dtype=_dtype_of("image_encoder", dtype), **hub)
        given = {"adapter": adapter, "image_encoder": image_encoder}
        kwargs |= {name: part for name, part in given.items() if part is not None}
        pipe = super().from_pretrained(base, dtype=dtype, **(kwargs | {"use_safetensors": True}))
        # What an adapter needs and a plain SDXL folder lacks.
        if pipe.adapter is not None and pipe.image_encoder is None:
            part = load_image_encoder(encoder_source, dtype=_dtype_of("image_encoder", dtype), **hub)
            pipe.register_modules(image_encoder=part)
        if pipe.image_encoder is not None and pipe.feature_extractor is None:
            pipe.register_modules(feature_extractor=_matching_feature_extractor(pipe.image_encoder))
        return pipe

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write every component in diffusers layout, the adapter in `adapter/`.

        Arguments as in diffusers. `from_pretrained` of the folder restores the whole pipeline.

        Raises:
            ValueError: `safe_serialization=False`.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)


def load_adapter(source: str | os.PathLike[str], *, dtype: torch.dtype, **options: Any) -> SubjectAdapter:
    """Load a SubjectAdapter.

    Args:
        source: An adapter's folder, a pipeline's folder that holds `adapter/`, an embedded model's name, or a
            hub id `owner/name[/folder]`.
        dtype: Type of the weights.
        options: `cache_dir`, `token`, … as in diffusers.

    Raises:
        ValueError: nothing of that name, or an incomplete adapter.
    """
    place = _locate(source, "adapter")
    return SubjectAdapter.from_pretrained(place.root, subfolder=place.subfolder or None, dtype=dtype, **options)


def load_image_encoder(
    source: str | os.PathLike[str], *, dtype: torch.dtype, **options: Any
) -> CLIPVisionModelWithProjection:
    """Load a CLIP vision model; arguments and errors as for `load_adapter`, `image_encoder/` the folder."""
    place = _locate(source, "image_encoder")
    return CLIPVisionModelWithProjection.from_pretrained(
        place.root, subfolder=place.subfolder, dtype=dtype, use_safetensors=True, **options
    )


class _Place(NamedTuple):
    """A folder or hub id, and a folder inside it ("" for none)."""

    root: str
    subfolder: str


def _locate(source: str | os.PathLike[str], part: str) -> _Place:
    """What `from_pretrained` wants for a source; `part` is the folder's name inside a saved pipeline."""
    source = os.fspath(source)
    if source in embedded_models():
        return _Place(resolve_model(source), part)
    if os.path.isdir(source):
        inside = (Path(source) / part / "config.json").is_file()
        return _Place(source, part if inside else "")
    owner, _, rest = source.partition("/")
    name, _, subfolder = rest.partition("/")
    if not owner.strip(".~") or not name:
        raise ValueError(
            f"no {part} at {source!r}: expected a folder that exists, an embedded model {embedded_models()},"
            " or a hub id 'owner/name[/folder]'"
        )
    return _Place(f"{owner}/{name}", subfolder)


def _image_encoder_beside(adapter: str | os.PathLike[str]) -> str | None:
    """The image encoder's folder in the saved pipeline that an adapter's source names, if it names one."""
    place = _locate(adapter, "adapter")
    folder = Path(place.root) / "image_encoder"
    return str(folder) if (folder / "config.json").is_file() else None


def _matching_feature_extractor(image_encoder: CLIPVisionModelWithProjection) -> CLIPImageProcessor:
    """CLIP's own preprocessing at the image encoder's picture size, for folders that hold none."""
    size = image_encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def _refuse_unsafe(options: dict[str, Any]) -> None:
    for name, safe in _SAFE.items():
        if options.get(name) not in (None, safe):
            raise ValueError(f"`{name}` must be {safe}, got {options[name]!r}: no pickle, no remote code")


def _dtype_of(component: str, dtype: Any) -> torch.dtype:
    """diffusers takes one dtype, or a dict by component with a "default"."""
    return dtype.get(component, dtype.get("default", torch.float32)) if isinstance(dtype, dict) else dtype
