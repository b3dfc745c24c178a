"""The tiny FLUX, references and cases of `official.safetensors`: plain torch and diffusers, nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor

HEADS, HEAD_DIM, TEXT_DIM, POOLED_DIM, CHANNELS, REDUX_DIM, RANK = 2, 16, 24, 8, 16, 12, 4
WIDTH = HEADS * HEAD_DIM
BLOCKS = 2
"""Double ones, and as many single ones."""
TEXT, REFERENCE_SIDE, MOST_SUBJECTS = 5, 4, 3
SIZES = {"square": (4, 4), "wide": (3, 6)}
"""Rows and columns of picture tokens."""

DOUBLE = {
    "ref": ("norm1.linear", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.2"),
    "router": (
        *("norm1_context.linear", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        *("attn.to_add_out", "ff_context.net.2"),
    ),
}
SINGLE = ("norm.linear", "proj_mlp", "proj_out", "attn.to_q", "attn.to_k", "attn.to_v")
FIRST = {"ref": "x_embedder", "router": "context_embedder"}


def build_transformer() -> FluxTransformer2DModel:
    """Seeded; biases and norms are not left at 0 and 1."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=CHANNELS,
        num_layers=BLOCKS,
        num_single_layers=BLOCKS,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_DIM,
        pooled_projection_dim=POOLED_DIM,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    ).eval()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.05))
    return transformer


def build_vae() -> AutoencoderKL:
    """For its configuration only: eight pixels a latent."""
    sizes: dict[str, Any] = {
        "block_out_channels": (8,) * 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "shift_factor": 0.1,
    }
    return AutoencoderKL(**sizes)


def ids(rows: int, columns: int, left: int = 0) -> Tensor:
    """Position ids (rows · columns, 3) of a picture's tokens; a reference's lie `left` columns beside it."""
    grid = torch.zeros(rows, columns, 3)
    grid[..., 1] += torch.arange(rows)[:, None]
    grid[..., 2] += torch.arange(columns)[None] - left
    return grid.reshape(-1, 3)


def lora_layers(kind: str) -> list[str]:
    """The layers on which the official code switches a LoRA on."""
    names = [FIRST[kind]]
    names += [f"transformer_blocks.{i}.{name}" for i in range(BLOCKS) for name in DOUBLE[kind]]
    return names + [f"single_transformer_blocks.{i}.{name}" for i in range(BLOCKS) for name in SINGLE]


def build_checkpoint(transformer: FluxTransformer2DModel, lora_bias: bool) -> dict[str, dict[str, Tensor]]:
    """Random weights in the exact layout of `anystory_flux.bin`."""
    random = torch.Generator().manual_seed(1 + lora_bias)

    def normal(*shape: int, scale: float = 0.3) -> Tensor:
        return torch.randn(shape, generator=random) * scale

    def lora(kind: str) -> dict[str, Tensor]:
        found = {}
        for i, name in enumerate(lora_layers(kind)):
            layer: Any = transformer.get_submodule(name)
            out, into = layer.weight.shape
            rank = RANK + i % 2  # ranks may differ from layer to layer
            found[f"transformer.{name}.lora_A.weight"] = normal(rank, into)
            found[f"transformer.{name}.lora_B.weight"] = normal(out, rank)
            if lora_bias:
                found[f"transformer.{name}.lora_B.bias"] = normal(out)
        return found

    def embedder() -> dict[str, Tensor]:
        hidden = 3 * TEXT_DIM
        shapes = {
            "redux_up.weight": (hidden, REDUX_DIM),
            "redux_up.bias": (hidden,),
            "redux_down.weight": (TEXT_DIM, hidden),
            "redux_down.bias": (TEXT_DIM,),
            "redux_up_lora_A.weight": (RANK, REDUX_DIM),
            "redux_up_lora_B.weight": (hidden, RANK),
            "redux_up_lora_B.bias": (hidden,),
            "redux_down_lora_A.weight": (RANK, hidden),
            "redux_down_lora_B.weight": (TEXT_DIM, RANK),
            "redux_down_lora_B.bias": (TEXT_DIM,),
            "gate_proj.weight": (1, TEXT_DIM),
            "gate_proj.bias": (1,),
        }
        return {name: normal(*shape) for name, shape in shapes.items()}

    maps = {}
    for room in ("transformer_blocks", "single_transformer_blocks"):
        for i, side in product(range(BLOCKS), "qk"):
            name = f"transformer.{room}.{i}.attn.processor.to_{side}_routing_map_lora"
            maps |= {f"{name}_A.weight": normal(RANK, WIDTH), f"{name}_B.weight": normal(WIDTH, RANK)}
            maps[f"{name}_B.bias"] = normal(WIDTH)
    router = {f"router_embedder.{name}": value for name, value in embedder().items()}
    return {"ref": lora("ref"), "redux": embedder(), "router": router | lora("router") | maps}


MODES: dict[str, dict[str, float]] = {
    "reference": {"redux": False, "router": False},
    "redux": {"redux": True, "router": False},
    "router": {"redux": True, "router": True},
    "shift": {"redux": True, "router": True, "shift": 0.7},
    "unmasked": {"redux": True, "router": True, "masks": False},
    "unmasked shift": {"redux": True, "router": False, "masks": False, "shift": -0.4},
}


@dataclass(frozen=True)
class Case:
    """One way of drawing."""

    subjects: int
    mode: str
    lora_bias: bool
    size: str

    @property
    def name(self) -> str:
        return f"{self.subjects} {self.mode}{' bias' if self.lora_bias else ''} {self.size}"

    @property
    def settings(self) -> dict[str, float]:
        return {"redux": False, "router": False, "shift": 0.0, "masks": True} | MODES[self.mode]

    @property
    def pixels(self) -> int:
        rows, columns = SIZES[self.size]
        return rows * columns


def cases() -> Iterator[Case]:
    """All of them; without subjects one a size, since nothing else can differ."""
    for size in SIZES:
        yield Case(0, "reference", False, size)
    for subjects, mode, bias, size in product(range(1, MOST_SUBJECTS + 1), MODES, (False, True), SIZES):
        yield Case(subjects, mode, bias, size)


def build_inputs() -> dict[str, Tensor]:
    """What all cases are given."""
    random = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    side = REFERENCE_SIDE
    inputs = {
        "siglip": normal(MOST_SUBJECTS, 729, REDUX_DIM),
        "siglip mask": (torch.rand((MOST_SUBJECTS, 27, 27), generator=random) > 0.4).float(),
        "reference": normal(MOST_SUBJECTS, side * side, CHANNELS),
        "reference mask": (torch.rand((MOST_SUBJECTS, side * side), generator=random) > 0.3).float(),
        "text": normal(1, TEXT, TEXT_DIM),
        "pooled": normal(1, POOLED_DIM),
    }
    inputs["siglip mask"][:, :9, :12] = 0  # whole windows without a subject
    inputs["siglip mask"] = inputs["siglip mask"].flatten(1)
    return inputs | {f"latents {size}": normal(1, rows * columns, CHANNELS) for size, (rows, columns) in SIZES.items()}


TIMES = (0.9, 0.4)
"""Of the caching call and of the one that reads the cache."""
GUIDANCE = 3.5
WINDOWS = {"redux": (0.1, 0.3), "reference": (0.09, 1.0)}
STEPS = (8, 25)
