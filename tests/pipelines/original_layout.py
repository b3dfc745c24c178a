"""SDXL as one file: the layout of `sd_xl_base_1.0.safetensors` (Stability's generative-models), written by hand.

    model.diffusion_model.…               the U-Net
    conditioner.embedders.0.transformer.… CLIP ViT-L as in transformers
    conditioner.embedders.1.model.…       OpenCLIP ViT-bigG: fused q, k, v; a transposed projection
    first_stage_model.…                   the autoencoder: attention as 1×1 convolutions, decoder levels counted upwards

The way back, which is what is tested, is diffusers' own.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from . import helpers

UNET = "model.diffusion_model."
CLIP_L = "conditioner.embedders.0.transformer.text_model."
CLIP_G = "conditioner.embedders.1.model."
VAE = "first_stage_model."


def components(seed: int = 0) -> dict[str, Any]:
    """A plain tiny SDXL whose text encoders have different widths, as SDXL's have; no adapter, no image encoder."""
    parts = helpers.components("sdxl", seed)
    parts |= {"adapter": None, "image_encoder": None, "feature_extractor": None}
    words: Any = helpers.tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        # 10 layers: by a tensor of the tenth, tools tell SDXL's files from others.
        config = CLIPTextConfig(
            vocab_size=len(words), hidden_size=48, intermediate_size=64, num_hidden_layers=10, num_attention_heads=4,
            max_position_embeddings=24, projection_dim=48, bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )  # fmt: skip
        parts["text_encoder_2"] = CLIPTextModelWithProjection(config).eval()
        parts["unet"] = type(parts["unet"])(
            **{**parts["unet"].config, "cross_attention_dim": 32 + 48, "projection_class_embeddings_input_dim": 48 + 48}
        ).eval()
    return parts


def original_weights(parts: dict[str, Any]) -> dict[str, Tensor]:
    """All weights of a pipeline's components under their original names."""
    weights = {
        **{f"{UNET}{key}": value for key, value in unet_weights(parts["unet"]).items()},
        **{f"{VAE}{key}": value for key, value in vae_weights(parts["vae"]).items()},
        **{f"{CLIP_L}{_unwrapped(key)}": value for key, value in parts["text_encoder"].state_dict().items()},
        **{f"{CLIP_G}{key}": value for key, value in open_clip_weights(parts["text_encoder_2"]).items()},
    }
    # Buffers and numbers that the real file has and nobody reads.
    weights[f"{CLIP_L}embeddings.position_ids"] = torch.arange(24)[None]
    weights[f"{CLIP_G}logit_scale"] = torch.tensor(4.6)
    return {key: value.contiguous() for key, value in weights.items()}


def write_folder(parts: dict[str, Any], folder: Path) -> Path:
    """The model as a diffusers folder, without an adapter."""
    StableDiffusionXLPipeline(
        **{name: part for name, part in parts.items() if name != "adapter"}, add_watermarker=False
    ).save_pretrained(folder)
    return folder


def without_weights(model: Path, folder: Path) -> Path:
    """A copy of a model's folder with its configuration files only."""
    return shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))


def write_single_file(parts: dict[str, Any], path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A file as it is published."""
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in original_weights(parts).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return path


def unet_weights(unet: Any) -> dict[str, Tensor]:
    """diffusers' names to those of `input_blocks`, `middle_block`, `output_blocks`."""
    per_level = unet.config.layers_per_block + 1
    attended = {f"up_blocks.{i}" for i, block in enumerate(unet.up_blocks) if getattr(block, "attentions", None)}

    def place(key: str) -> str:
        if match := re.fullmatch(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", key):
            level, kind, index, rest = match.groups()
            number = int(level) * per_level + int(index) + 1
            return f"input_blocks.{number}.{int(kind == 'attentions')}.{resnet(rest) if kind == 'resnets' else rest}"
        if match := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", key):
            return f"input_blocks.{(int(match[1]) + 1) * per_level}.0.op.{match[2]}"
        if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", key):
            kind, index, rest = match.groups()
            return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(index)}.{resnet(rest)}"
        if match := re.fullmatch(r"(up_blocks\.(\d+))\.(resnets|attentions)\.(\d+)\.(.+)", key):
            _, level, kind, index, rest = match.groups()
            number = int(level) * per_level + int(index)
            return f"output_blocks.{number}.{int(kind == 'attentions')}.{resnet(rest) if kind == 'resnets' else rest}"
        if match := re.fullmatch(r"(up_blocks\.(\d+))\.upsamplers\.0\.conv\.(.+)", key):
            block, level, rest = match.groups()
            return f"output_blocks.{(int(level) + 1) * per_level - 1}.{2 if block in attended else 1}.conv.{rest}"
        for old, new in {
            "time_embedding.linear_1": "time_embed.0",
            "time_embedding.linear_2": "time_embed.2",
            "add_embedding.linear_1": "label_emb.0.0",
            "add_embedding.linear_2": "label_emb.0.2",
            "conv_in": "input_blocks.0.0",
            "conv_norm_out": "out.0",
            "conv_out": "out.2",
        }.items():
            if key.startswith(f"{old}."):
                return key.replace(old, new, 1)
        raise AssertionError(key)

    def resnet(rest: str) -> str:
        for old, new in {
            "norm1": "in_layers.0",
            "conv1": "in_layers.2",
            "time_emb_proj": "emb_layers.1",
            "norm2": "out_layers.0",
            "conv2": "out_layers.3",
            "conv_shortcut": "skip_connection",
        }.items():
            rest = re.sub(rf"^{old}\.", f"{new}.", rest)
        return rest

    return {place(key): value for key, value in unet.state_dict().items()}


def vae_weights(vae: Any) -> dict[str, Tensor]:
    """diffusers' names to those of the original autoencoder."""
    levels = len(vae.config.block_out_channels)

    def place(key: str) -> str:
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        key = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", key)
        key = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", key)
        key = re.sub(r"(up\.\d+)\.resnets\.(\d+)", r"\1.block.\2", key)
        key = re.sub(r"(up\.\d+)\.upsamplers\.0", r"\1.upsample", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
        key = key.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        key = re.sub(r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1", key)
        return key.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")

    weights = {place(key): value for key, value in vae.state_dict().items()}
    convolved = re.compile(r".*mid\.attn_1\.(q|k|v|proj_out)\.weight")
    return {key: value[:, :, None, None] if convolved.fullmatch(key) else value for key, value in weights.items()}


def open_clip_weights(text_encoder: Any) -> dict[str, Tensor]:
    """transformers' names to OpenCLIP's."""
    state = {_unwrapped(key): value for key, value in text_encoder.state_dict().items()}
    weights = {
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"),
        "ln_final.bias": state.pop("final_layer_norm.bias"),
        "text_projection": state.pop("text_projection.weight").T,
    }
    for kind in ("weight", "bias"):
        for i in range(text_encoder.config.num_hidden_layers):
            block, layer = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
            fused = [state.pop(f"{layer}.self_attn.{name}_proj.{kind}") for name in "qkv"]
            weights[f"{block}.attn.in_proj_{kind}"] = torch.cat(fused)
            for old, new in {
                "self_attn.out_proj": "attn.out_proj",
                "layer_norm1": "ln_1",
                "layer_norm2": "ln_2",
                "mlp.fc1": "mlp.c_fc",
                "mlp.fc2": "mlp.c_proj",
            }.items():
                weights[f"{block}.{new}.{kind}"] = state.pop(f"{layer}.{old}.{kind}")
    assert not state, sorted(state)
    return weights


def _unwrapped(key: str) -> str:
    """transformers has put text encoders' weights below `text_model.` or not, depending on its version."""
    return key.removeprefix("text_model.")
