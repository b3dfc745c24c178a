"""Which model draws, and how it is run. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.engine.errors import OptionError, check_text
from anystory.engine.limits import MOST_THREADS
from anystory.engine.record.schema import LoraRecord

if TYPE_CHECKING:
    from anystory.engine.record.schema import PictureRecord

__all__ = ["DEVICES", "DTYPES", "OFFLOADS", "QUANTIZATIONS", "ModelOptions", "check_device", "check_dtype"]

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
OFFLOADS = ("none", "model", "sequential")
QUANTIZATIONS = ("nf4", "int8", "fp8")


def check_dtype(dtype: str) -> None:
    """Raise OptionError for a type of weights that is not one of `DTYPES`."""
    if dtype not in DTYPES:
        raise OptionError("dtype", f"must be one of {', '.join(DTYPES)}, got {dtype!r}")


def check_device(device: str) -> None:
    """Raise OptionError for a device that is not one of `DEVICES`, or that this machine does not have."""
    kind = _kind_of_device(device)
    if kind == "cpu":
        return
    import torch

    if kind == "mps" and not torch.backends.mps.is_available():
        raise OptionError("device", f"mps: this machine has no Apple GPU that torch {torch.__version__} can use")
    if kind == "cuda" and not torch.cuda.is_available():
        raise OptionError("device", f"{device}: this machine has no CUDA GPU that torch {torch.__version__} can use")
    if ":" in device and int(device.partition(":")[2]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise OptionError("device", f"{device}: this machine's GPUs are cuda:0 to cuda:{last}")


def _kind_of_device(device: str) -> str:
    kind, colon, number = device.partition(":")
    numbered = kind == "cuda" and re.fullmatch("[0-9]{1,4}", number) is not None
    if kind not in DEVICES or (colon and not numbered):
        raise OptionError(
            "device", f"must be one of {', '.join(DEVICES)}, or cuda:N for the GPU of number N, got {device!r}"
        )
    return kind


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options about the model, by the names that a record has for them.

    Raises:
        OptionError: a value that cannot be, or that does not go with another. What this machine lacks, `check` says.
    """

    model: str = "mini"
    """An embedded model's name, a folder, a hub id, or a single `.safetensors` file in SDXL's original layout."""
    adapter: str | None = None
    """A folder or hub id; None for the model's own."""
    config: str | None = None
    """For a single file: the folder or hub id with its configuration files; None for SDXL's, from the hub."""
    image_encoder: str | None = None
    """A folder or hub id; None for the model's own, then that beside the adapter, then that of its family: CLIP
    ViT-H/14, or on FLUX.1 FLUX.1-Redux' SigLIP."""
    variant: str | None = None
    """Variant of the weights, such as "fp16"."""
    prediction_type: str | None = None
    """What the model predicts, "epsilon" or "v_prediction"; None for what it says itself."""
    zero_snr: bool | None = None
    """Whether its last noise level has no signal; None for what it says itself."""
    scheduler: str | None = None
    """A class of diffusers that the model's backend knows; None for the model's own."""
    karras: bool | None = None
    """Karras' noise levels; None for what the scheduler has."""
    loras: tuple[LoraRecord, ...] = ()
    """LoRAs on the model, each with its scale."""
    device: str = "cpu"
    """One of `DEVICES`, "cuda:1" and the like."""
    dtype: str = "float32"
    """One of `DTYPES`."""
    quantize: str | None = None
    """One of `QUANTIZATIONS`: fewer bits for the weights of a model's large parts, not for the adapter's; None for all
    of `dtype`."""
    offload: str = "none"
    """One of `OFFLOADS`."""
    tiling: bool | None = None
    """Tiling and slicing of the VAE; None for: when offloading, where the VAE has them."""
    threads: int | None = None
    """Threads of the computation; None for torch's own choice. A picture's last bits depend on it."""

    def __post_init__(self) -> None:
        for name in ("model", "adapter", "config", "image_encoder", "variant"):
            check_text(name, getattr(self, name))
        for lora in self.loras:
            check_text("lora", lora.file)
            if not lora.file.endswith(".safetensors"):
                raise OptionError("lora", f"{lora.file}: LoRAs must be .safetensors files; pickles are not loaded")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise OptionError("threads", f"must be 1 to {MOST_THREADS}, got {self.threads}")
        self._check_device()
        self._check_prediction()
        self._check_quantize()

    def _check_device(self) -> None:
        kind = _kind_of_device(self.device)
        check_dtype(self.dtype)
        if self.offload not in OFFLOADS:
            raise OptionError("offload", f"must be one of {', '.join(OFFLOADS)}, got {self.offload!r}")
        if kind == "cpu" and self.offload != "none":
            raise OptionError(
                "offload",
                f"{self.offload} keeps weights in the CPU's memory while the device does not need them, but the device"
                " is cpu, where all of them are anyway: leave it away, or name another device",
            )

    def _check_prediction(self) -> None:
        if self.prediction_type is None:
            return
        from anystory.pipelines.loading.predictions import PREDICTION_TYPES

        if self.prediction_type not in PREDICTION_TYPES:
            expected = " or ".join(PREDICTION_TYPES)
            raise OptionError("prediction_type", f"must be {expected}, got {self.prediction_type!r}")

    def _check_quantize(self) -> None:
        if self.quantize not in (None, *QUANTIZATIONS):
            raise OptionError("quantize", f"must be one of {', '.join(QUANTIZATIONS)}, got {self.quantize!r}")
        if self._needs_bitsandbytes and self.offload == "sequential":
            raise OptionError(
                "offload", f"sequential does not go with {self.quantize}, whose layers cannot move alone: take model"
            )

    @property
    def _needs_bitsandbytes(self) -> bool:
        return self.quantize in ("nf4", "int8")

    @classmethod
    def of_record(cls, record: PictureRecord, **changes: Any) -> ModelOptions:
        """What a picture was drawn with.

        Args:
            record: The picture's.
            **changes: Options to take instead of the record's; None for no change.

        Raises:
            OptionError: an entry of the record that cannot be.
        """
        threads = record.environment.get("threads", "")
        if not re.fullmatch("[1-9][0-9]{0,3}", threads):
            raise OptionError("threads", f"is needed: the record's number of threads is {threads!r}")
        given = {name: value for name, value in changes.items() if value is not None}
        options: dict[str, Any] = {name: getattr(record, name) for name in _RECORDED}
        options |= {"threads": int(threads)} | given
        if options["device"] == "cpu" and "offload" not in given:
            options["offload"] = "none"  # it decides where weights wait, not what is drawn
        return cls(**options)

    @property
    def recorded(self) -> dict[str, Any]:
        """The fields that a `PictureRecord` has too; the number of threads stands in its environment."""
        return {name: getattr(self, name) for name in _RECORDED}

    @property
    def is_single_file(self) -> bool:
        """Whether the model is one file."""
        from anystory.pipelines.loading.assets import embedded_models

        return self.model not in embedded_models() and Path(self.model).is_file()

    def absolute(self) -> ModelOptions:
        """The same with absolute paths, so that a record does not depend on where it is read."""
        from anystory.pipelines.loading.assets import embedded_models

        def path(name: str | None) -> str | None:
            here = name is not None and name not in embedded_models() and Path(name).exists()
            return str(Path(name).resolve()) if name is not None and here else name

        places = {name: path(getattr(self, name)) for name in ("adapter", "config", "image_encoder")}
        loras = tuple(replace(lora, file=str(Path(lora.file).resolve())) for lora in self.loras)
        return replace(self, **places, model=path(self.model) or self.model, loras=loras)

    def check(self) -> None:
        """Refuse what this machine cannot do, before a large model is loaded.

        Raises:
            OptionError: a device or an extra that is not here, an option that is not for such a file.
            FileNotFoundError: a single file that is not there.
        """
        check_device(self.device)
        self._check_bitsandbytes()
        self._check_files()

    def _check_bitsandbytes(self) -> None:
        if not self._needs_bitsandbytes:
            return
        if find_spec("bitsandbytes") is None:
            needed = "needs bitsandbytes, which is not installed: pip install 'anystory[quantize]'"
            raise OptionError("quantize", f"{self.quantize} {needed}")
        if _kind_of_device(self.device) != "cuda":
            raise OptionError(
                "quantize",
                f"{self.quantize} needs a CUDA GPU, but the device is {self.device}: take fp8, or name a GPU",
            )

    def _check_files(self) -> None:
        if self.model.endswith(".safetensors") and not Path(self.model).exists():
            raise FileNotFoundError(2, "No such file", self.model)
        if self.is_single_file and self.variant is not None:
            raise OptionError("variant", f"{self.variant} chooses among a folder's files, but {self.model} is one file")
        if self.config is not None and not self.is_single_file:
            raise OptionError("config", f"is for a single .safetensors file; {self.model} has its own configuration")
        for lora in self.loras:
            if not Path(lora.file).is_file():
                raise FileNotFoundError(2, "No such LoRA", lora.file)
        if self.loras:
            from diffusers.utils import is_peft_available

            if not is_peft_available():
                raise OptionError("lora", "needs an extra: pip install 'anystory[lora]'")


_RECORDED = tuple(field.name for field in fields(ModelOptions) if field.name != "threads")
