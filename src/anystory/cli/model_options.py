"""Which model draws and how it is run: what `generate`, `replay` and `demo` ask of a session, and a record keeps.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.pipelines.record import LoraRecord

if TYPE_CHECKING:
    from anystory.pipelines.record import PictureRecord

__all__ = ["DEVICES", "DTYPES", "OFFLOADS", "ModelOptions", "check_device", "parse_loras"]

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
OFFLOADS = ("none", "model", "sequential")


def check_device(device: str) -> None:
    """Refuse a `--device` that is none of `DEVICES`, or that this machine has not.

    Raises:
        ValueError: says which there are.
    """
    kind = device.split(":")[0]
    if kind not in DEVICES:
        raise ValueError(f"--device must be one of {', '.join(DEVICES)}, got {device!r}")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError(f"--device {device}: this machine has no CUDA GPU that torch {torch.__version__} can use")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options about the model, by the names that a record has for them."""

    model: str = "mini"
    """An embedded model's name, a folder, a hub id, or a single `.safetensors` file in SDXL's original layout."""
    adapter: str | None = None
    """A folder or hub id; None for the model's own."""
    config: str | None = None
    """For a single file: the folder or hub id with its configuration files; None for SDXL's, from the hub."""
    image_encoder: str | None = None
    """A folder or hub id; None for the model's own, then that beside the adapter, then CLIP ViT-H/14."""
    variant: str | None = None
    """Variant of the weights, such as "fp16"."""
    scheduler: str | None = None
    """A name of `cli.schedulers.scheduler_names`; None for the model's own."""
    karras: bool | None = None
    """Karras' noise levels; None for what the scheduler has."""
    loras: tuple[LoraRecord, ...] = ()
    device: str = "cpu"
    """One of `DEVICES`, "cuda:1" and the like."""
    dtype: str = "float32"
    """One of `DTYPES`."""
    offload: str = "none"
    """One of `OFFLOADS`."""
    tiling: bool | None = None
    """Tiling and slicing of the VAE; None for: when offloading, where the VAE has them."""
    threads: int | None = None
    """Threads of the computation; None for torch's own choice. A picture's last bits depend on it."""

    @classmethod
    def of_record(cls, record: PictureRecord) -> ModelOptions:
        """What a picture was drawn with."""
        kept = {name: getattr(record, name) for name in _RECORDED}
        return cls(**kept, threads=int(record.environment["threads"]))

    @property
    def recorded(self) -> dict[str, Any]:
        """The fields that a `PictureRecord` has too; the number of threads stands in its environment."""
        return {name: getattr(self, name) for name in _RECORDED}

    @property
    def is_single_file(self) -> bool:
        """Whether the model is one file."""
        from anystory.pipelines.assets import embedded_models

        return self.model not in embedded_models() and Path(self.model).is_file()

    def absolute(self) -> ModelOptions:
        """The same with absolute paths, so that a record does not depend on where it is read."""
        from anystory.pipelines.assets import embedded_models

        def path(name: str | None) -> str | None:
            here = name is not None and name not in embedded_models() and Path(name).exists()
            return str(Path(name).resolve()) if name is not None and here else name

        places = {name: path(getattr(self, name)) for name in ("adapter", "config", "image_encoder")}
        loras = tuple(replace(lora, file=str(Path(lora.file).resolve())) for lora in self.loras)
        return replace(self, **places, model=path(self.model) or self.model, loras=loras)

    def check(self) -> None:
        """Refuse what cannot be before a large model is loaded.

        Raises:
            ValueError: an option that is none of its values, that does not go with another, or that this machine or
                installation cannot do.
            FileNotFoundError: a single file that is not there.
        """
        self._check_device()
        self._check_files()
        if self.scheduler is not None:
            from anystory.cli.schedulers import check_scheduler

            check_scheduler(self.scheduler, self.karras)

    def _check_device(self) -> None:
        kind = self.device.split(":")[0]
        check_device(self.device)
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.offload not in OFFLOADS:
            raise ValueError(f"--offload must be one of {', '.join(OFFLOADS)}, got {self.offload!r}")
        if kind == "cpu" and self.offload != "none":
            raise ValueError(
                f"--offload {self.offload} keeps weights in the CPU's memory while the device does not need them, but"
                " --device is cpu, where all of them are anyway: leave --offload away, or name another device"
            )

    def _check_files(self) -> None:
        if self.model.endswith(".safetensors") and not Path(self.model).exists():
            raise FileNotFoundError(2, "No such file", self.model)
        if self.is_single_file and self.variant is not None:
            raise ValueError(f"--variant {self.variant} chooses among a folder's files, but {self.model} is one file")
        if self.config is not None and not self.is_single_file:
            raise ValueError(f"--config is for a single .safetensors file; {self.model} has its own configuration")
        for lora in self.loras:
            if not lora.file.endswith(".safetensors"):
                raise ValueError(f"--lora {lora.file}: LoRAs must be .safetensors files; pickles are not loaded")
            if not Path(lora.file).is_file():
                raise FileNotFoundError(2, "No such LoRA", lora.file)
        if self.loras:
            from diffusers.utils import is_peft_available

            if not is_peft_available():
                raise ValueError("--lora needs an extra: pip install 'anystory[lora]'")


_RECORDED = tuple(field.name for field in fields(ModelOptions) if field.name != "threads")


def parse_loras(texts: Sequence[str]) -> tuple[LoraRecord, ...]:
    """Each `PATH` or `PATH:SCALE`; the scale is 1 by default. A colon inside a name is none before a scale.

    Raises:
        ValueError: a scale that is not finite.
    """
    found = []
    for text in texts:
        path, _, number = text.rpartition(":")
        try:
            scale = float(number)
        except ValueError:
            path, scale = text, 1.0
        if Path(text).is_file() or not path:
            path, scale = text, 1.0
        if not math.isfinite(scale):
            raise ValueError(f"--lora must be PATH or PATH:SCALE with a finite scale, got {text!r}")
        found.append(LoraRecord(file=path, scale=scale))
    return tuple(found)
