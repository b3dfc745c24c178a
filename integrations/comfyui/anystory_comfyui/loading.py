"""The node that loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anystory.engine.options import DEVICES, DTYPES, OFFLOADS, QUANTIZATIONS, ModelOptions
from anystory.engine.record.schema import LoraRecord
from anystory.pipelines.loading.assets import embedded_models, resolve_model

from .host import default_device, make_room
from .sentences import in_a_sentence, sentence
from .wires import CATEGORY, MODEL, LoadedModel

__all__ = ["AnyStoryModel"]

_OWN = "default"
"""Leaves a choice to ComfyUI or to the model."""


class AnyStoryModel:
    """Loads a model with its adapter; see `anystory.engine.options.ModelOptions`."""

    DESCRIPTION = "Loads SDXL, FLUX.1, FLUX.2 klein or the embedded mini, with AnyStory's adapter."
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""

        def text(tooltip: str, default: str = "") -> tuple[str, dict[str, Any]]:
            return ("STRING", {"default": default, "tooltip": tooltip})

        def choice(first: str, *others: str, tooltip: str) -> tuple[list[str], dict[str, Any]]:
            return ([first, *others], {"default": first, "tooltip": tooltip})

        return {
            "required": {
                "model": text("mini, a folder or hub id in diffusers' layout, or SDXL's .safetensors file", "mini"),
            },
            "optional": {
                "adapter": text("A folder or hub id; empty for the model's own"),
                "image_encoder": text("A folder or hub id; empty for the model's, the adapter's, or its family's"),
                "config": text("For a .safetensors file: a folder or hub id with the configuration files"),
                "variant": text("Variant of the weights, such as fp16"),
                "lora": text("A LoRA: a .safetensors file"),
                "lora_scale": ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05}),
                "device": choice(_OWN, *DEVICES, tooltip="default: the device that ComfyUI draws on"),
                "dtype": choice("float32", *DTYPES[1:], tooltip="What to compute in; bfloat16 on a GPU"),
                "quantize": choice("none", *QUANTIZATIONS, tooltip="Fewer bits for the weights of the large parts"),
                "offload": choice(*OFFLOADS, tooltip="model: what is not running waits in the CPU's memory"),
                "scheduler": text("For SDXL: a scheduler of diffusers, such as UniPCMultistepScheduler"),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str | None = None) -> bool | str:
        """Refuse a model that is not there, before anything runs. None: it comes over a wire."""
        try:
            if model is not None and not Path(model).is_file():
                resolve_model(model)
        except ValueError as error:
            return sentence(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: str | None, adapter: str | None = None, **_: Any) -> str:
        """Changes when a file of the model or of the adapter does, so that it is loaded again."""
        return " ".join(str(_newest(name)) for name in (model, adapter) if name)

    @in_a_sentence
    def load(
        self,
        model: str,
        lora: str = "",
        lora_scale: float = 1.0,
        device: str = _OWN,
        quantize: str = "none",
        **given: Any,
    ) -> tuple[LoadedModel]:
        """The model on its device."""
        from anystory.engine.drawing import checked_backend, load

        options = ModelOptions(
            model=model,
            loras=(LoraRecord(file=lora, scale=lora_scale),) if lora else (),
            device=default_device() if device == _OWN else device,
            quantize=None if quantize == "none" else quantize,
            **{name: value for name, value in given.items() if value},
        )
        backend = checked_backend(options)
        make_room(options.device)
        return (LoadedModel(model=load(options), backend=backend),)


def _newest(name: str) -> int:
    """When a file or folder was last changed, in nanoseconds; 0 for what does not change or is not here."""
    place = Path(name)
    if name in embedded_models() or not place.exists():
        return 0
    files = place.rglob("*") if place.is_dir() else [place]
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)
