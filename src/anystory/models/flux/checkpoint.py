"""The authors' `anystory_flux.bin`, three dictionaries of tensors, as an adapter.

Every key is accounted for: used, without effect in the official code too, or unknown.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from anystory.models.flux.low_rank import KEYS, term_shapes
from anystory.models.flux_adapter import FluxSubjectAdapter

Tensors = Mapping[str, Tensor]

AUTHORS_CALL: Mapping[str, int | float] = MappingProxyType({"height": 512, "width": 512})
"""The only size that the authors show pictures of; FLUX.1's own is 1024."""
PARTS = ("ref", "redux", "router")

_EMBEDDER = {
    "redux_up.": "up.",
    "redux_down.": "down.",
    "redux_up_lora_A.": "up_term.lora_A.",
    "redux_up_lora_B.": "up_term.lora_B.",
    "redux_down_lora_A.": "down_term.lora_A.",
    "redux_down_lora_B.": "down_term.lora_B.",
    "gate_proj.": "gate.",
}
_BASE = ("redux_up.", "redux_down.")
"""What FLUX.1-Redux has itself, and the checkpoint may leave out."""

_DOUBLE = r"transformer_blocks\.\d+\."
_SINGLE = r"single_transformer_blocks\.\d+\.(norm\.linear|proj_mlp|proj_out|attn\.to_[qkv])"
_ACTS = {
    "ref": re.compile(
        rf"x_embedder|{_SINGLE}|{_DOUBLE}(norm1\.linear|attn\.to_[qkv]|attn\.to_out\.0|ff\.net\.2)",
    ),
    "router": re.compile(
        rf"context_embedder|{_SINGLE}|{_DOUBLE}(norm1_context\.linear|attn\.add_[qkv]_proj|attn\.to_add_out|ff_context\.net\.2)"
    ),
}
"""The layers on which a stream's terms act."""
_MAP = re.compile(r"transformer\.(.+)\.attn\.processor\.to_([qk])_routing_map_lora_([AB])\.(weight|bias)")
_SIDES = {"q": "query", "k": "key"}


@dataclass(kw_only=True)
class Converted:
    """An adapter, and what became of the checkpoint's tensors."""

    adapter: FluxSubjectAdapter
    used: list[str] = field(default_factory=list)
    inert: list[str] = field(default_factory=list)
    """Terms of layers on which nobody switches them on: the official code loads them, too, and they never act."""


def read_checkpoint(path: Path) -> dict[str, dict[str, Tensor]]:
    """The three dictionaries of `anystory_flux.bin`, by torch's reader that makes nothing but tensors.

    Raises:
        ValueError: a file that is damaged, holds other things than tensors, or is another kind of file.
    """
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile):
        # torch's own message advises to switch the protection off.
        raise ValueError(f"{path} was not read: it is damaged, or holds more than tensors") from None
    parts = {} if not isinstance(loaded, dict) else {k: v for k, v in loaded.items() if isinstance(v, dict)}
    if missing := [part for part in PARTS if part not in parts]:
        raise ValueError(f"{path} is no AnyStory checkpoint for FLUX.1: it has no {', '.join(missing)}")
    for part in PARTS:
        if other := [key for key, value in parts[part].items() if not isinstance(value, Tensor)]:
            raise ValueError(f"{path}: {part} holds {other[0]!r}, which is no tensor")
    return {part: parts[part] for part in PARTS}


def read_redux(folder: Path) -> dict[str, Tensor]:
    """The weights of FLUX.1-Redux' `image_embedder`, from its folder or from that of the whole model.

    Raises:
        ValueError: no such weights there.
    """
    inside = folder / "image_embedder" if (folder / "image_embedder").is_dir() else folder
    files = sorted(inside.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no safetensors of an image_embedder: expected the folder of FLUX.1-Redux")
    return {key: value for file in files for key, value in load_file(file).items()}


def convert_checkpoint(checkpoint: Mapping[str, Tensors], redux: Tensors | None = None) -> Converted:
    """Read the three dictionaries.

    Args:
        checkpoint: `ref`, `redux` and `router`, each {key: tensor}.
        redux: The weights of FLUX.1-Redux' `image_embedder`, for a checkpoint that has only what was added to them.

    Raises:
        ValueError: a part, tensor or partner is missing, a key is unknown, or shapes do not fit each other.
    """
    if missing := [part for part in PARTS if part not in checkpoint]:
        raise ValueError(f"this is no AnyStory checkpoint for FLUX.1: it has no {', '.join(missing)}")
    embedders = {"appearance": dict(checkpoint["redux"]), "routing": {}}
    maps: dict[str, Tensor] = {}
    loras: dict[str, dict[str, Tensor]] = {"ref": dict(checkpoint["ref"]), "router": {}}
    for key, tensor in checkpoint["router"].items():
        if key.startswith("router_embedder."):
            embedders["routing"][key.removeprefix("router_embedder.")] = tensor
        elif found := _MAP.fullmatch(key):
            layer, side, letter, kind = found.groups()
            maps[f"{layer}.{_SIDES[side]}.lora_{letter}.{kind}"] = tensor
        else:
            loras["router"][key] = tensor

    terms, inert = {}, []
    for part, tensors in loras.items():
        own, unused = _terms(part, tensors)
        terms[part], inert = own, inert + [f"{part}: {key}" for key in unused]
    filled = {name: _embedder(name, tensors, redux) for name, tensors in embedders.items()}
    appearance = filled["appearance"]
    adapter = FluxSubjectAdapter(
        reference_shapes=term_shapes(terms["ref"]),
        routing_shapes=term_shapes(terms["router"]),
        map_shapes=term_shapes(maps),
        redux_dim=appearance["up.weight"].shape[1],
        text_dim=appearance["down.weight"].shape[0],
        embedder_rank=appearance["up_term.lora_A.weight"].shape[0],
        default_call=dict(AUTHORS_CALL),
    )
    state = {f"{name}.{key}": value for name, tensors in filled.items() for key, value in tensors.items()}
    for name, tensors in (("reference_terms", terms["ref"]), ("routing_terms", terms["router"]), ("map_terms", maps)):
        state |= {f"{name}.{key}": value for key, value in tensors.items()}
    try:
        adapter.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's tensors do not fit each other: {error}") from None
    used = [f"{part}: {key}" for part in PARTS for key in checkpoint[part]]
    return Converted(adapter=adapter, used=[key for key in used if key not in set(inert)], inert=inert)


def _embedder(name: str, tensors: Tensors, redux: Tensors | None) -> dict[str, Tensor]:
    """An embedder's tensors under our names.

    Raises:
        ValueError: one is unknown or missing.
    """
    base = {} if redux is None else {key: value for key, value in redux.items() if key.startswith(_BASE)}
    found = {}
    for key, tensor in (base | dict(tensors)).items():
        prefix = next((prefix for prefix in _EMBEDDER if key.startswith(prefix)), None)
        if prefix is None:
            raise ValueError(f"the {name} embedder has an unknown tensor {key}")
        found[_EMBEDDER[prefix] + key.removeprefix(prefix)] = tensor
    wanted = [our + kind for our in _EMBEDDER.values() for kind in ("weight", "bias") if our + kind not in found]
    if missing := [key for key in wanted if not key.endswith("lora_A.bias")]:
        hint = "; give the folder of FLUX.1-Redux, whose layers it adds to" if redux is None else ""
        raise ValueError(f"the {name} embedder has no {', '.join(missing)}{hint}")
    return found


def _terms(part: str, tensors: Tensors) -> tuple[dict[str, Tensor], list[str]]:
    """A stream's terms by layer, with α / r multiplied into B; and the keys that have no effect.

    Raises:
        ValueError: a key that is no term of a layer of the transformer.
    """
    found: dict[str, Tensor] = {}
    inert, alphas = [], {}
    for key, tensor in tensors.items():
        layer, _, kind = key.removeprefix("transformer.").rpartition(".lora_")
        if key.endswith(".alpha"):
            layer = key.removeprefix("transformer.").removesuffix(".alpha")
        elif not key.startswith("transformer.") or f"lora_{kind}" not in KEYS:
            raise ValueError(
                f"{part} has an unknown tensor {key}: expected transformer.<layer>.lora_A.weight and the like"
            )
        if not _ACTS[part].fullmatch(layer):
            inert.append(key)
        elif key.endswith(".alpha"):
            alphas[layer] = float(tensor)
        else:
            found[f"{layer}.lora_{kind}"] = tensor
    for layer, alpha in alphas.items():
        rank = found[f"{layer}.lora_A.weight"].shape[0]
        for kind in ("weight", "bias"):
            if (key := f"{layer}.lora_B.{kind}") in found and alpha != rank:
                found[key] = (found[key].float() * (alpha / rank)).to(found[key].dtype)
    return found, inert
