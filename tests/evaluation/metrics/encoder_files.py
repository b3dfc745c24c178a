"""Tiny encoders with random weights, in the layouts that transformers publishes them in."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

WIDTH = 16


def write_clip(folder: Path) -> Path:
    """A CLIP model with both parts; its tokenizer has a token for each letter."""
    letters = string.ascii_lowercase + string.digits
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    last = len(tokens) - 1
    part = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    part |= {"projection_dim": WIDTH}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={
                **part, "vocab_size": len(tokens), "max_position_embeddings": 24, "bos_token_id": last - 1,
                "eos_token_id": last, "pad_token_id": last,
            },
            vision_config={**part, "image_size": 32, "patch_size": 8},
            projection_dim=WIDTH,
        )
    ).save_pretrained(folder)  # fmt: skip
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    return folder


def write_dino(folder: Path) -> Path:
    """A vision transformer without a pooler, as DINO is published."""
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, image_size=224,
        patch_size=56,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def write_dinov2(folder: Path) -> Path:
    """DINOv2, which interpolates its positions."""
    torch.manual_seed(2)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=112, patch_size=56
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def write_detector(folder: Path) -> Path:
    """OWL-ViT, a zero-shot detector."""
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor

    folder.mkdir(parents=True)
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    last = len(vocabulary) - 1
    part = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    words = {
        **part, "vocab_size": len(vocabulary), "max_position_embeddings": 16, "bos_token_id": last - 1,
        "eos_token_id": last, "pad_token_id": last,
    }  # fmt: skip
    config = OwlViTConfig(
        text_config=words, vision_config={**part, "image_size": 32, "patch_size": 8}, projection_dim=WIDTH
    )
    OwlViTForObjectDetection(config).save_pretrained(folder)
    tokens = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    side = {"height": 32, "width": 32}
    OwlViTProcessor(OwlViTImageProcessor(size=side, crop_size=side), tokens).save_pretrained(folder)
    return folder


def write_grounded_detector(folder: Path) -> Path:
    """Grounding DINO on a tiny Swin and a tiny BERT."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "character", "fox"]
    torch.manual_seed(4)
    backbone = SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], window_size=2,
        out_features=["stage2", "stage3"],  # pyright: ignore[reportCallIssue]
    )  # fmt: skip
    text = BertConfig(
        vocab_size=1024, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=WIDTH,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2, num_queries=6,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        num_feature_levels=3, max_text_len=16,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    tokens = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 64})
    GroundingDinoProcessor(pictures, tokens).save_pretrained(folder)
    return folder
