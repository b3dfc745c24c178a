"""The public IP-Adapter-Plus weights: reading the file as it is published, and its names in diffusers' and our terms.

Shapes: n queries of hidden width h, CLIP width Dc, H heads of width 64, token width c, d keys' width of a layer.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["HEAD_DIM", "IPAdapterPlus", "attention_keys", "read_ip_adapter_plus", "resampler_weights"]

HEAD_DIM = 64
"""Width of a head in the published Resampler; the file does not tell it, diffusers assumes it too."""

EXPECTED = (
    "IP-Adapter-Plus for SDXL with CLIP ViT-H (h94/IP-Adapter: sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors)"
)

_PARTS = ("image_proj", "ip_adapter")

# Keys of `image_proj` by which the other published kinds are told.
_OTHER_KINDS = {
    "proj.weight": "the plain IP-Adapter, which sees the pooled image embedding only",
    "perceiver_resampler.proj_in.weight": "IP-Adapter FaceID Plus",
    "norm.weight": "IP-Adapter FaceID or Full",
    "proj.0.weight": "IP-Adapter FaceID or Full",
}

# Names in the published Resampler and in diffusers' IPAdapterPlusImageProjection; all others are the same.
_RENAMED = (
    (r"(layers\.\d+)\.0\.norm1\.", r"\1.ln0."),
    (r"(layers\.\d+)\.0\.norm2\.", r"\1.ln1."),
    (r"(layers\.\d+)\.0\.to_q\.", r"\1.attn.to_q."),
    (r"(layers\.\d+)\.0\.to_out\.", r"\1.attn.to_out.0."),
    (r"(layers\.\d+)\.1\.0\.", r"\1.ff.0."),
    (r"(layers\.\d+)\.1\.1\.", r"\1.ff.1.net.0.proj."),
    (r"(layers\.\d+)\.1\.3\.", r"\1.ff.1.net.2."),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class IPAdapterPlus:
    """The two parts of the file, under their published names."""

    image_proj: Mapping[str, Tensor]
    """The Resampler: `latents` (1, n, h), `proj_in.weight` (h, Dc), `layers.0.0.to_kv.weight` (2 · 64 H, h), …"""
    ip_adapter: Mapping[str, Tensor]
    """Keys and values of each cross-attention: `1.to_k_ip.weight` (d, c), `1.to_v_ip.weight`, `3.to_k_ip…`."""

    @property
    def queries(self) -> int:
        """n."""
        return self.image_proj["latents"].shape[1]

    def sizes(self) -> dict[str, int]:
        """The fields of `AdapterConfig` that follow from the file.

        Raises:
            ValueError: a tensor that tells one is missing or has no sensible shape.
        """
        try:
            return {
                "clip_dim": self.image_proj["proj_in.weight"].shape[1],
                "token_dim": self.image_proj["proj_out.weight"].shape[0],
                "subject_tokens": self.queries,
                "qformer_depth": len({key.split(".")[1] for key in self.image_proj if key.startswith("layers.")}),
                "qformer_dim": self.image_proj["latents"].shape[2],
                "qformer_heads": self.image_proj["layers.0.0.to_q.weight"].shape[0] // HEAD_DIM,
                "qformer_head_dim": HEAD_DIM,
            }
        except KeyError as error:
            raise ValueError(f"the IP-Adapter lacks image_proj.{error.args[0]}: expected {EXPECTED}") from None
        except IndexError:
            raise ValueError(f"the IP-Adapter's image_proj has tensors of other shapes: expected {EXPECTED}") from None


def read_ip_adapter_plus(path: str | Path) -> IPAdapterPlus:
    """Reads the published file.

    Args:
        path: `.safetensors` (`image_proj.latents`, `ip_adapter.1.to_k_ip.weight`, …), or `.bin`: the same as nested
            dicts in a pickle, of which torch's restricted reader takes tensors and nothing else.

    Raises:
        ValueError: another kind of IP-Adapter, another file, or one that is damaged or holds more than tensors.
        OSError: the file is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    if path.suffix == ".safetensors":
        parts = _read_safetensors(path)
    elif path.suffix in (".bin", ".pt", ".pth"):
        parts = _read_pickle(path)
    else:
        raise ValueError(f"{path}: expected a .safetensors or .bin file, {EXPECTED}")
    image_proj, ip_adapter = (parts.get(name) or {} for name in _PARTS)
    if not image_proj or not ip_adapter:
        raise ValueError(f"{path} has no image_proj and ip_adapter parts: expected {EXPECTED}")
    if "latents" not in image_proj:
        kind = next((kind for key, kind in _OTHER_KINDS.items() if key in image_proj), "another kind of IP-Adapter")
        raise ValueError(f"{path} is {kind}: expected {EXPECTED}")
    return IPAdapterPlus(image_proj=image_proj, ip_adapter=ip_adapter)


def resampler_weights(image_proj: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The Resampler's weights under diffusers' names; keys and values come as one matrix and leave as two.

    The two modules compute the same: only names differ.
    """
    weights: dict[str, Tensor] = {}
    for key, value in image_proj.items():
        if match := re.fullmatch(r"(layers\.\d+)\.0\.to_kv\.weight", key):
            weights[f"{match[1]}.attn.to_k.weight"], weights[f"{match[1]}.attn.to_v.weight"] = value.chunk(2)
            continue
        for old, new in _RENAMED:
            key = re.sub(rf"^{old}", new, key)
        weights[key] = value
    return weights


def attention_keys(unet: UNet2DConditionModel) -> dict[str, str]:
    """{cross-attention layer: number in the file, e.g. "1"}.

    IP-Adapter was trained with its processors in one list, in the order of `unet.attn_processors`: down, **up**, mid,
    self-attentions at even places, cross-attentions at odd ones. That is not the order in which the layers run.
    """
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    cross = [name for name in names if name.endswith(".attn2")]
    return {name: str(2 * place + 1) for place, name in enumerate(cross)}


def _read_safetensors(path: Path) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                part, _, name = key.partition(".")
                if part in _PARTS:
                    parts.setdefault(part, {})[name] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download it again") from None
    return parts


def _read_pickle(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        # torch's own message advises to switch the protection off.
        raise ValueError(
            f"{path} was not read, because it is damaged or holds more than tensors: use the .safetensors file"
        ) from None
    if not isinstance(loaded, dict):
        return {}
    return {
        name: {key: value for key, value in part.items() if isinstance(value, Tensor)}
        for name, part in loaded.items()
        if name in _PARTS and isinstance(part, dict)
    }
