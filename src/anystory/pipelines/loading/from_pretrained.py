"""Loading and saving pipelines, and the parts that a plain SDXL checkpoint lacks.

Only safetensors are read and no remote code is run; the options that would allow either are refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from anystory.input_files import damaged_files_named
from anystory.models.adapter import SubjectAdapter
from anystory.pipelines.loading.asked import HUB_OPTIONS, OWN, dtype_of, refuse_unsafe
from anystory.pipelines.loading.assets import resolve_model
from anystory.pipelines.loading.bases import check_index, check_single_file
from anystory.pipelines.loading.parts import (
    SDXL_IMAGE_ENCODER,
    check_variant,
    image_encoder_beside,
    load_adapter,
    load_image_encoder,
    read_index,
)
from anystory.pipelines.loading.predictions import Prediction, prediction_of_file
from anystory.pipelines.loading.scaled_fp8 import load_scaled
from anystory.pipelines.loading.single_file import (
    SINGLE_FILE_CLASSES,
    check_text_encoders,
    fetched_file,
    scaled_parts,
    single_file_errors,
)
from anystory.pipelines.schedulers import predicting
from anystory.quiet import quiet_loading

__all__ = ["LoadingMixin", "check_image_encoder"]


class LoadingMixin(DiffusionPipeline):
    """`from_pretrained`, `from_single_file` and `save_pretrained` of a pipeline with an adapter.

    A saved folder names our classes by module (`["anystory.models.adapter", "SubjectAdapter"]`). diffusers looks such a
    class up in `sys.modules`, so it must be imported before: `mixin.py` does. A stock diffusers pipeline reads the
    folder too, once `anystory.pipelines` classes are imported.
    """

    adapter: SubjectAdapter | None
    image_encoder: Any
    feature_extractor: Any

    @classmethod
    @quiet_loading()
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        adapter: SubjectAdapter | str | os.PathLike[str] | None = OWN,
        image_encoder: Any = OWN,
        prediction_type: str | None = None,
        zero_snr: bool | None = None,
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
                name or a hub id `owner/name[/folder]`. By default that of the base's folder, if any; None is none.
            image_encoder: A CLIPVisionModelWithProjection or where it is, as for `adapter`. By default the
                base's own, then that beside the adapter, then CLIP ViT-H/14 (`SDXL_IMAGE_ENCODER`). None is none.
            prediction_type: What the base predicts, `"epsilon"` or `"v_prediction"`, if its scheduler has it wrong.
            zero_snr: Whether the last noise level has no signal, likewise.
            dtype: Type of all weights, or a dict by component as in diffusers. float32 by default, whatever
                the files hold. `torch_dtype` is its old name.
            **kwargs: As for diffusers' `from_pretrained`: `variant`, `revision`, `local_files_only`,
                components to use instead of loading them, or None to do without, …

        Raises:
            ValueError: no such model, one that is not SDXL's kind or is quantised in an unknown way, an adapter that is
                incomplete or made for another base, an invalid prediction, or an option that would load pickles or run
                remote code.
            OSError: a file is missing, or the hub cannot be reached.
        """
        refuse_unsafe(kwargs)
        base = resolve_model(pretrained_model_name_or_path)
        dtype = dtype or torch_dtype or torch.float32
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        options = hub | {name: kwargs[name] for name in ("revision",) if name in kwargs}
        with damaged_files_named(base):
            check_index(read_index(base, cls, **options), str(pretrained_model_name_or_path), given=kwargs.keys())
        check_variant(base, kwargs.get("variant"))
        parts = _Parts.find(adapter, image_encoder, dtype, hub, kwargs.get("variant"))
        kwargs |= parts.given
        with damaged_files_named(base):
            try:
                pipe = super().from_pretrained(base, dtype=dtype, **(kwargs | {"use_safetensors": True}))
            except IndexError as error:
                _explain_nameless_files(base, kwargs.get("variant"))
                raise error
            _apply_scales(pipe, given=kwargs.keys(), variant=kwargs.get("variant"))
        pipe.scheduler = predicting(pipe.scheduler, prediction_type, zero_snr)
        return parts.complete(pipe, without={name for name, value in kwargs.items() if value is None})

    @classmethod
    @quiet_loading()
    def from_single_file(
        cls,
        pretrained_model_link_or_path: str | os.PathLike[str],
        *,
        adapter: SubjectAdapter | str | os.PathLike[str] | None = OWN,
        image_encoder: Any = OWN,
        config: str | os.PathLike[str] | None = None,
        prediction_type: str | None = None,
        zero_snr: bool | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load SDXL, or a fine-tune of it, from one file in the original layout, and an adapter.

            AnyStoryPipeline.from_single_file("juggernaut.safetensors", adapter="folder", dtype=torch.float16)

        Args:
            pretrained_model_link_or_path: A `.safetensors` file, or its address in the hub.
            adapter, image_encoder: As for `from_pretrained`; the file holds neither.
            config: A folder in diffusers layout with the model's configuration files (its weights are not read), or
                a hub id. By default diffusers fetches SDXL's from the hub.
            prediction_type: What the model predicts, `"epsilon"` or `"v_prediction"`. By default what the file says
                (see `prediction_of_file`), else what the configuration says.
            zero_snr: Whether the last noise level has no signal, likewise.
            dtype: Type of all weights, float32 by default. `torch_dtype` is its old name.
            **kwargs: As for diffusers' `from_single_file`: components to use instead of loading them, …

        Raises:
            ValueError: as for `from_pretrained`; or a pickle, a file without a part of the model, or files that are
                neither here nor in a hub that can be reached.
            OSError: no such file.
        """
        refuse_unsafe(kwargs)
        source, dtype = os.fspath(pretrained_model_link_or_path), dtype or torch_dtype or torch.float32
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"`dtype` of a single file must be one torch.dtype, got {dtype!r}")
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        if not os.path.isfile(source):
            source = fetched_file(source, revision=kwargs.get("revision"), **hub)
        check_single_file(source, given=kwargs.keys())
        said = Prediction() if "scheduler" in kwargs else prediction_of_file(source, prediction_type)
        parts = _Parts.find(adapter, image_encoder, dtype, hub, None)
        without = {name for name, value in (kwargs | parts.given).items() if value is None}
        # What an SDXL file never holds is not looked for in the folder of configurations either.
        kwargs = dict.fromkeys(("feature_extractor", "adapter", "image_encoder")) | kwargs | parts.given
        config = None if config is None else os.fspath(config)
        read = [name for name in SINGLE_FILE_CLASSES if name not in kwargs]
        with damaged_files_named(*([] if config is None else [config])), single_file_errors(source, read, config):
            kwargs |= scaled_parts(source, read, config=config, dtype=dtype)
            pipe = super().from_single_file(  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
                source, config=config, dtype=dtype, **kwargs
            )
        check_text_encoders(pipe, source)
        pipe.scheduler = predicting(
            pipe.scheduler,
            prediction_type or said.prediction_type,
            said.zero_snr if zero_snr is None else zero_snr,
        )
        return parts.complete(pipe, without)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write every component in diffusers layout, the adapter in `adapter/`.

        Arguments as in diffusers. `from_pretrained` of the folder restores the whole pipeline.

        Raises:
            ValueError: `safe_serialization=False`, or a component that cannot be saved whole: with LoRAs that are not
                fused, with an IP-Adapter, or offloaded layer by layer.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        _check_savable(self.components)
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)


@dataclass
class _Parts:
    """What an adapter needs besides a base: found before the base is loaded, completed afterwards."""

    given: dict[str, Any]
    """{component: object, or None for "without"}; only what the caller has given."""
    encoder_source: str | os.PathLike[str]
    dtype: Any
    hub: dict[str, Any]

    @classmethod
    def find(cls, adapter: Any, image_encoder: Any, dtype: Any, hub: dict[str, Any], variant: str | None) -> _Parts:
        """Load what is named; objects stay as they are."""
        encoder_source: str | os.PathLike[str] = SDXL_IMAGE_ENCODER
        if isinstance(adapter, (str, os.PathLike)):
            encoder_source = image_encoder_beside(adapter) or encoder_source
            adapter = load_adapter(adapter, dtype=dtype_of("adapter", dtype), variant=variant, **hub)
        if isinstance(image_encoder, (str, os.PathLike)):
            image_encoder = load_image_encoder(image_encoder, dtype=dtype_of("image_encoder", dtype), **hub)
        named = {"adapter": adapter, "image_encoder": image_encoder}
        return cls({name: part for name, part in named.items() if part is not OWN}, encoder_source, dtype, hub)

    def complete(self, pipe: Any, without: Collection[str]) -> Any:
        """Add what an adapter needs and a plain SDXL model lacks; refuse what does not fit together.

        Args:
            pipe: What was loaded.
            without: Components that the caller wants to be None.
        """
        if pipe.adapter is not None and pipe.unet is not None:
            pipe.adapter.check_fits(pipe.unet)
        if pipe.adapter is not None and "image_encoder" not in without:
            if pipe.image_encoder is None:
                part = load_image_encoder(self.encoder_source, dtype=dtype_of("image_encoder", self.dtype), **self.hub)
                pipe.register_modules(image_encoder=part)
            check_image_encoder(pipe.image_encoder, pipe.adapter)
        if pipe.image_encoder is not None and pipe.feature_extractor is None and "feature_extractor" not in without:
            pipe.register_modules(feature_extractor=_matching_feature_extractor(pipe.image_encoder))
        return pipe


def _apply_scales(pipe: Any, given: Collection[str], variant: str | None) -> None:
    """Multiply 8-bit weights with their scales, which diffusers and transformers do not read."""
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and name not in given:
            folder = getattr(part.config, "_name_or_path", None) or getattr(part, "name_or_path", None)
            load_scaled(part, folder or "", variant)


def _matching_feature_extractor(image_encoder: CLIPVisionModelWithProjection) -> CLIPImageProcessor:
    """CLIP's own preprocessing at the image encoder's picture size, for folders without one."""
    size = image_encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def check_image_encoder(image_encoder: Any, adapter: SubjectAdapter) -> None:
    """Raises ValueError if an image encoder's tokens are not those that the adapter was made for."""
    config, sizes = image_encoder.config, adapter.sizes
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    if (tokens, config.hidden_size) != (sizes.clip_tokens, sizes.clip_dim):
        raise ValueError(
            f"the image encoder gives {tokens} tokens of width {config.hidden_size}, but the adapter was made for"
            f" {sizes.clip_tokens} of width {sizes.clip_dim}; for SDXL that is CLIP ViT-H/14 ({SDXL_IMAGE_ENCODER})"
        )


def _check_savable(components: Mapping[str, Any]) -> None:
    """Raises ValueError for a component that could not be read again."""
    for name, part in components.items():
        if not isinstance(part, nn.Module):
            continue
        if loras := getattr(part, "peft_config", None):
            raise ValueError(
                f"{name} has LoRAs ({', '.join(loras)}) that are not part of its weights: keep them with fuse_lora()"
                " and then unload_lora_weights(), or save without them after unload_lora_weights() alone"
            )
        if getattr(part, "encoder_hid_proj", None) is not None:
            raise ValueError(f"{name} has an IP-Adapter, which is not saved with it: call unload_ip_adapter() first")
        if any(parameter.is_meta for parameter in part.parameters()):
            raise ValueError(
                f"the weights of {name} are offloaded layer by layer: call remove_all_hooks(), then save, then enable"
                " the offloading again"
            )


def _explain_nameless_files(base: str, variant: str | None) -> None:
    """Raises ValueError if a file without a suffix made diffusers' search for a variant fail."""
    found = [path for path in sorted(Path(base).glob("*/*")) if "." not in path.name and path.is_file()]
    if variant is not None and found:
        raise ValueError(
            f"{found[0]}: diffusers cannot look for variant {variant!r} beside a file whose name has no suffix: rename"
            " it"
        ) from None
