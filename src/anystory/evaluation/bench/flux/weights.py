"""What the weights of a FLUX.1 pipeline with subjects take in memory, by precision and by offloading.

Counted from the sizes of the parameters; nothing is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from anystory.evaluation.bench.flux.networks import FluxNetworks, FluxSizes
from anystory.pipelines.loading.quantizing import store_in_fp8

COMPONENTS = ("transformer", "text_encoder_2", "text_encoder", "image_encoder", "vae", "adapter")
_QUANTISED = ("transformer", "text_encoder_2")
_T5_WO = r"\bwo$"
"""Layers of T5 that keep their type: it casts to the type of their weights."""
_BITS = {"int8": (1, lambda weight: 4 * weight.shape[0]), "nf4": (0.5, lambda weight: 4 * weight.numel() / 64)}
"""bitsandbytes' bytes of a number, and of the factors beside: one a row, one for 64 numbers."""


@dataclass(frozen=True, kw_only=True)
class WeightMemory:
    """Bytes of all weights."""

    precision: str
    """Of the linear layers of the transformer and of T5; everything else is bf16."""
    components: dict[str, int]
    offload_model: int
    """Of what is on the GPU at once where whole components come and go: the largest, and the adapter."""
    offload_sequential: int | None
    """The same where layers come and go; None where the precision does not allow it."""

    @property
    def total(self) -> int:
        """Without offloading."""
        return sum(self.components.values())


def weight_memory(sizes: FluxSizes) -> list[WeightMemory]:
    """Of bf16, fp8, int8 and nf4."""
    return [_memory(sizes, precision) for precision in ("bf16", "fp8", "int8", "nf4")]


def _memory(sizes: FluxSizes, precision: str) -> WeightMemory:
    networks = FluxNetworks(sizes=sizes, device=torch.device("meta"))
    parts = {name: getattr(networks, name) for name in COMPONENTS}
    if precision == "fp8":
        store_in_fp8([parts[name] for name in _QUANTISED], networks.dtype)
    packed = _BITS if precision in _BITS else {}
    components = {
        name: sum(
            _bytes(parameter, packed.get(precision) if _is_packed(name, parts[name], path) else None)
            for path, parameter in parts[name].named_parameters()
        )
        for name in COMPONENTS
    }
    own = components["adapter"]
    layers = [layer for name in COMPONENTS if name != "adapter" for layer in parts[name].modules()]
    largest = max(sum(_bytes(p, None) for p in layer.parameters(recurse=False)) for layer in layers)
    return WeightMemory(
        precision=precision,
        components=components,
        offload_model=max(size for name, size in components.items() if name != "adapter") + own,
        offload_sequential=largest + own if precision == "bf16" else None,
    )


def _is_packed(component: str, module: Any, path: str) -> bool:
    """Whether bitsandbytes packs a parameter: weights of linear layers."""
    layer, _, name = path.rpartition(".")
    if component not in _QUANTISED or name != "weight" or not isinstance(module.get_submodule(layer), nn.Linear):
        return False
    return component != "text_encoder_2" or not re.search(_T5_WO, layer)


def _bytes(parameter: nn.Parameter, packed: tuple[float, Callable[[Any], float]] | None) -> int:
    if packed is None:
        return parameter.numel() * parameter.element_size()
    each, beside = packed
    return int(parameter.numel() * each + beside(parameter))
