"""LoRAs of `--lora` on a pipeline's base."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anystory.pipelines.record import LoraRecord
from anystory.pipelines.single_file import first_line

__all__ = ["add_loras"]


def add_loras(pipe: Any, loras: Sequence[LoraRecord]) -> None:
    """Load LoRAs and let them act together, each with its scale; nothing is merged into the weights.

    Raises:
        ValueError: a file that is no LoRA, or none for this model.
    """
    names = []
    for number, lora in enumerate(loras, start=1):
        name = f"lora-{number}"
        folder, file = Path(lora.file).parent, Path(lora.file).name
        try:
            with warnings.catch_warnings():
                # peft's word on a second LoRA, which is what is asked for.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                pipe.load_lora_weights(str(folder), weight_name=file, adapter_name=name, use_safetensors=True)
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise ValueError(f"--lora {lora.file} does not fit this model: {first_line(error)}") from error
        # Weights for layers that the model does not have are passed over with a warning.
        if not any(name in found for found in pipe.get_list_adapters().values()):
            raise ValueError(f"--lora {lora.file} does not fit this model: it changes none of its layers")
        names.append(name)
    if names:
        pipe.set_adapters(names, [lora.scale for lora in loras])
