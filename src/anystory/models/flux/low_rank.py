"""Low-rank terms beside the linear layers of a transformer that itself stays as it is.

Shapes: r rank, L tokens, … any leading axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor, nn

Shape: TypeAlias = tuple[int, int, int, bool]
"""(in, out, rank, whether there is a bias) of a term."""

KEYS = ("lora_A.weight", "lora_B.weight", "lora_B.bias")
"""A term's tensors, below the name of its layer; the last one may be missing."""


class LowRank(nn.Module):
    """`B A x + β`: what is added to a linear layer's output.

    Args:
        in_features, out_features: Of the layer.
        rank: r, rows of A.
        bias: Whether B has β.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = False) -> None:
        super().__init__()
        self.lora_A = nn.Linear(in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, out_features, bias=bias)

    @property
    def widths(self) -> str:
        """Of the layer, in words."""
        return f"{self.lora_A.in_features} to {self.lora_B.out_features}"

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out), in the type of `x`."""
        return self.lora_B(self.lora_A(x.to(self.lora_A.weight.dtype))).to(x.dtype)


class LowRankTerms(nn.Module):
    """The terms of one stream by the names of the transformer's layers, `transformer_blocks.0.attn.to_q` for example.

    The names of its tensors are those of PEFT: `<layer>.lora_A.weight`, `<layer>.lora_B.weight`, `<layer>.lora_B.bias`.

    Args:
        shapes: Of each layer's term.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        super().__init__()
        # A plain dictionary: the tree below has the same modules, where their tensors get the names above.
        self._terms = {name: LowRank(*shape) for name, shape in shapes.items()}
        for name, term in self._terms.items():
            *rooms, last = name.split(".")
            place: nn.Module = self
            for room in rooms:
                if room not in place._modules:
                    place.add_module(room, nn.Module())
                place = place.get_submodule(room)
            place.add_module(last, term)

    def get(self, name: str) -> LowRank | None:
        """The term of a layer, or None where it has none."""
        return self._terms.get(name)

    def names(self) -> list[str]:
        """The layers that have a term."""
        return list(self._terms)


def term_shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shapes of terms that such tensors fill: each layer has its own rank, with a bias or without.

    Raises:
        ValueError: a tensor of another name or shape, or one without its partner.
    """
    layers: dict[str, None] = {}
    for key in tensors:
        layer, dot, tensor = key.rpartition(".lora_")
        if not dot or f"lora_{tensor}" not in KEYS:
            raise ValueError(f"{key} is no tensor of a low-rank term: those end in {', '.join(KEYS)}")
        layers.setdefault(layer)
    return {layer: _shape(layer, tensors) for layer in layers}


def _shape(layer: str, tensors: Mapping[str, Tensor]) -> Shape:
    down, up, bias = (tensors.get(f"{layer}.{key}") for key in KEYS)
    if down is None or up is None:
        raise ValueError(f"{layer} has one of {KEYS[0]} and {KEYS[1]} only: a low-rank term needs both")
    fits = down.ndim == up.ndim == 2 and down.shape[0] == up.shape[1] and (bias is None or bias.shape == up.shape[:1])
    if not fits:
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (down, up, bias)]
        raise ValueError(f"{layer}: A (r, in), B (out, r) and bias (out,) do not fit each other: {shapes}")
    return down.shape[1], up.shape[0], down.shape[0], bias is not None
