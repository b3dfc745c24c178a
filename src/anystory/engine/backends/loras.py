"""LoRAs on a pipeline's base."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from anystory.engine.errors import OptionError
from anystory.engine.record.schema import LoraRecord
from anystory.pipelines.loading.headers import read_headers
from anystory.pipelines.loading.single_file import first_line

__all__ = ["add_loras"]

_TEXT = {
    "text_encoder": ("text_encoder.", "lora_te1_", "lora_te_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
"""How the weights of a text encoder's layers begin, in diffusers' files and in kohya's."""

_PASSED_OVER = {
    ("lora_te2_", "lora_te3_", "text_encoders.t5xxl."): "its weights for the T5 text encoder",
    (".diff", ".diff_b"): "its new biases and norms (diff)",
}
"""{what keys of FLUX's LoRAs begin or end with: what they are}, where diffusers drops them as it reads a file."""


def add_loras(pipe: Any, loras: Sequence[LoraRecord]) -> None:
    """Load LoRAs and let them act together, each with its scale; nothing is merged into the weights.

    Raises:
        OptionError: a file that is no LoRA, or none for this model.

    Warns:
        UserWarning: a part of a LoRA was left out; diffusers passes over it without a word.
    """
    names = []
    for number, lora in enumerate(loras, start=1):
        name = f"lora-{number}"
        try:
            _refuse_control(pipe, lora.file)
            with warnings.catch_warnings():
                # peft's word on a second LoRA, which is what is asked for.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                pipe.load_lora_weights(**_source(pipe, lora.file), adapter_name=name, use_safetensors=True)
        except (MemoryError, OptionError):
            raise
        except Exception as error:  # a damaged file makes diffusers and peft fail in ways of their own
            raise OptionError("lora", f"{lora.file} does not fit this model: {first_line(error)}") from error
        # Weights for layers that the model does not have are passed over with a warning.
        if not any(name in found for found in pipe.get_list_adapters().values()):
            raise OptionError("lora", f"{lora.file} does not fit this model: it changes none of its layers")
        for sentence in _left_out(pipe, lora.file, name):
            warnings.warn(f"the LoRA {lora.file}: {sentence}", UserWarning, stacklevel=2)
        names.append(name)
    if names:
        pipe.set_adapters(names, [lora.scale for lora in loras])


def _source(pipe: Any, file: str) -> dict[str, Any]:
    """A file, for diffusers; its weights without those of text encoders that the model lacks, which would stop it."""
    absent = tuple(start for part, starts in _TEXT.items() if getattr(pipe, part, None) is None for start in starts)
    if not any(key.startswith(absent) for key in read_headers([Path(file)])):
        return {"pretrained_model_name_or_path_or_dict": str(Path(file).parent), "weight_name": Path(file).name}
    weights = {key: value for key, value in load_file(file).items() if not key.startswith(absent)}
    return {"pretrained_model_name_or_path_or_dict": weights}


def _refuse_control(pipe: Any, file: str) -> None:
    """Raise OptionError for a Control LoRA of FLUX, for which diffusers changes the base's first layer and norms."""
    if _denoiser(pipe) != "transformer":
        return
    headers = read_headers([Path(file)])
    if any(key.endswith((".query_norm.scale", ".norm_q.weight")) for key in headers):
        raise OptionError("lora", f"{file} is a Control LoRA: it needs a picture to follow, which is not possible here")


def _left_out(pipe: Any, file: str, name: str) -> Iterator[str]:
    """What of a file has not become part of the model under an adapter's name."""
    keys = read_headers([Path(file)])
    if any("dora_scale" in key for key in keys):
        yield "its weights named dora_scale (DoRA) were left out, so that it acts as an ordinary LoRA"
    if _denoiser(pipe) == "transformer":
        for marks, what in _PASSED_OVER.items():
            if any(key.startswith(marks) or key.endswith(marks) for key in keys):
                yield f"{what} were left out"
    configs = {"unet_config": pipe.unet.config} if _denoiser(pipe) == "unet" else {}
    loaded = pipe.lora_state_dict(str(Path(file).parent), weight_name=Path(file).name, use_safetensors=True, **configs)
    state = loaded[0] if isinstance(loaded, tuple) else loaded
    asked = {_layer(key, _denoiser(pipe)) for key in state if "lora" in key}
    missing = sorted(
        asked - {f"{part}.{layer}" for part in pipe._lora_loadable_modules for layer in _changed(pipe, part, name)}
    )
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        yield f"{len(missing)} of its {len(asked)} layers are not in this model and were left out: {shown}"


def _denoiser(pipe: Any) -> str:
    """Of a pipeline: "unet" or "transformer"."""
    return pipe._lora_loadable_modules[0]


def _layer(key: str, denoiser: str) -> str:
    """The component and layer that a weight of a LoRA belongs to, e.g. `unet.mid_block.….attn1.to_q`.

    diffusers' older files say `….attn1.processor.to_q_lora.down.weight`, and `to_out` for the layer `to_out.0`.
    """
    layer = re.split(r"[._]lora", key)[0].replace(".processor.", ".")
    layer = re.sub(r"\.to_out$", ".to_out.0", layer)
    parts = (f"{denoiser}.", "text_encoder.", "text_encoder_2.")
    return layer if layer.startswith(parts) else f"{denoiser}.{layer}"


def _changed(pipe: Any, part: str, name: str) -> Iterator[str]:
    """The layers of a component that have weights of this adapter."""
    model = getattr(pipe, part)
    for layer, module in () if model is None else model.named_modules():
        if name in getattr(module, "lora_A", ()):
            yield layer
            if part.startswith(
                "text_encoder"
            ):  # in files they have a prefix that the encoders of some versions of transformers lack
                yield f"text_model.{layer}"
