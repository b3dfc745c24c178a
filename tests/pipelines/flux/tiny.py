"""A tiny FLUX.1 pipeline with every component, on the transformer and adapter of `models/flux/official_tiny.py`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from anystory.models.flux.checkpoint import convert_checkpoint
from anystory.pipelines.flux import AnyStoryFluxPipeline
from anystory.subjects import Subject
from models.flux.official_tiny import POOLED_DIM, REDUX_DIM, TEXT_DIM, build_checkpoint, build_transformer, build_vae

WORDS = ("<pad>", "</s>", "<unk>", "a", "fox", "and", "robot", "on", "beach", "in", "snow")
REFERENCE = 64
"""Side of a reference, pixels: 4 × 4 tokens."""


def build_tokenizer(length: int) -> Any:
    """One token a word."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=length, **special)


def build_pipeline(*, schnell: bool = False) -> AnyStoryFluxPipeline:
    """A fresh one; all weights are random.

    Args:
        schnell: As FLUX.1-schnell: without an embedding of the guidance, and with fixed noise levels.
    """
    transformer = build_transformer()
    if schnell:
        weights = {k: v for k, v in transformer.state_dict().items() if "guidance_embedder" not in k}
        transformer = FluxTransformer2DModel.from_config({**transformer.config, "guidance_embeds": False}).eval()
        transformer.load_state_dict(weights)
    levels: dict[str, Any] = {"shift": 1.0} if schnell else {"shift": 3.0, "use_dynamic_shifting": True}
    checkpoint = build_checkpoint(transformer, lora_bias=True)
    adapter = convert_checkpoint(checkpoint).adapter
    adapter.register_to_config(reference_size=REFERENCE)
    torch.manual_seed(1)
    clip = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=POOLED_DIM, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    t5 = T5Config(vocab_size=len(WORDS), d_model=TEXT_DIM, d_kv=6, d_ff=8, num_layers=1, num_heads=2)
    siglip = SiglipVisionConfig(
        hidden_size=REDUX_DIM,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=54,
        patch_size=2,
    )
    pipe = AnyStoryFluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**levels),
        vae=build_vae().eval(),
        text_encoder=CLIPTextModel(clip).eval(),
        tokenizer=build_tokenizer(8),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=build_tokenizer(12),
        transformer=transformer,
        image_encoder=SiglipVisionModel(siglip).eval(),
        feature_extractor=SiglipImageProcessor(size={"height": 54, "width": 54}),
        adapter=adapter,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def pipeline() -> AnyStoryFluxPipeline:
    """One that no test changes."""
    return build_pipeline()


CALL: dict[str, Any] = {
    "height": 64,
    "width": 96,
    "num_inference_steps": 8,
    "max_sequence_length": 12,
    "output_type": "pt",
}
PROMPT = "a fox and a robot on a beach"


def subject(colour: tuple[int, int, int], **settings: Any) -> Subject:
    picture = np.full((40, 40, 4), (*colour, 0), dtype=np.uint8)
    picture[2:38, 17:23, 3] = 255
    return Subject(Image.fromarray(picture), **settings)


def draw(pipe: Any = None, prompt: Any = PROMPT, seed: int = 0, **arguments: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return (pipe or pipeline())(prompt, generator=generator, **{**CALL, **arguments})


FOX, ROBOT = subject((200, 90, 20), name="fox"), subject((30, 60, 200), name="robot")
