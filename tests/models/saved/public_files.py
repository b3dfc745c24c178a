"""IP-Adapter-Plus as it is published, key by key, at tiny sizes; written to disk as .safetensors or .bin.

Names and shapes follow `ip-adapter-plus_sdxl_vit-h` (tencent-ailab/IP-Adapter, `resampler.py`,
`attention_processor.py`): there n = 16 queries, h = 1280, Dc = 1280, 20 heads of 64, c = 2048, 4 layers,
70 pairs of keys and values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

HEAD = 64


def ip_adapter_plus(
    unet: Any,
    *,
    clip_dim: int = 12,
    hidden: int = 16,
    heads: int = 2,
    queries: int = 4,
    depth: int = 4,
    seed: int = 5,
) -> dict[str, dict[str, Tensor]]:
    """{"image_proj": …, "ip_adapter": …} with random weights, for a U-Net."""
    generator = torch.Generator().manual_seed(seed)
    width, inner = unet.config.cross_attention_dim, heads * HEAD

    def linear(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * columns**-0.5

    def norm(prefix: str, size: int) -> dict[str, Tensor]:
        return {
            f"{prefix}.weight": 1 + 0.3 * torch.randn(size, generator=generator),
            f"{prefix}.bias": 0.3 * torch.randn(size, generator=generator),
        }

    image_proj = {
        "latents": torch.randn(1, queries, hidden, generator=generator),
        "proj_in.weight": linear(hidden, clip_dim),
        "proj_in.bias": torch.randn(hidden, generator=generator),
        "proj_out.weight": linear(width, hidden),
        "proj_out.bias": torch.randn(width, generator=generator),
        **norm("norm_out", width),
    }
    for i in range(depth):
        image_proj |= {
            **norm(f"layers.{i}.0.norm1", hidden),
            **norm(f"layers.{i}.0.norm2", hidden),
            f"layers.{i}.0.to_q.weight": linear(inner, hidden),
            f"layers.{i}.0.to_kv.weight": linear(2 * inner, hidden),
            f"layers.{i}.0.to_out.weight": linear(hidden, inner),
            **norm(f"layers.{i}.1.0", hidden),
            f"layers.{i}.1.1.weight": linear(4 * hidden, hidden),
            f"layers.{i}.1.3.weight": linear(hidden, 4 * hidden),
        }
    # As IP-Adapter numbers them: one list of all processors, self-attentions (which have no weights) included.
    ip_adapter = {}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            keys = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            ip_adapter[f"{number}.to_k_ip.weight"] = linear(keys, width)
            ip_adapter[f"{number}.to_v_ip.weight"] = linear(keys, width)
    return {"image_proj": image_proj, "ip_adapter": ip_adapter}


def write_ip_adapter(parts: dict[str, dict[str, Tensor]], path: Path) -> Path:
    """`.safetensors`: flat names. `.bin`: nested dicts, pickled by torch, as published."""
    if path.suffix == ".safetensors":
        flat = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        save_file(flat, path, metadata={"format": "pt"})
    else:
        torch.save(parts, path)
    return path
