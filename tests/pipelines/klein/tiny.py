"""A tiny random FLUX.2 klein with every component."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from anystory.pipelines.klein import AnyStoryFlux2KleinPipeline
from anystory.subjects import Subject

WORDS = ("<pad>", "<end>", "<unk>", "user", "assistant", "a", "fox", "and", "robot", "on", "beach", "in", "snow", "red")
REFERENCE = 64
"""Side of a reference, pixels: 4 × 4 tokens."""
_TEMPLATE = "{% for m in messages %}user {{ m['content'] }} {% endfor %}assistant"


def build_tokenizer() -> Any:
    """One token a word, and a chat template."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, chat_template=_TEMPLATE, model_max_length=64, **special)


def build_transformer(double: int = 2, single: int = 2) -> Flux2Transformer2DModel:
    """Seeded; norms are not left at 1."""
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ).eval()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.05))
    return transformer


def build_vae() -> AutoencoderKLFlux2:
    torch.manual_seed(2)
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()
    statistics: Any = vae.bn
    statistics.running_mean.normal_(0, 0.1)
    statistics.running_var.uniform_(0.01, 0.03)
    return vae


def build_parts(*, distilled: bool = True, transformer: Any = None, layers: int = 3) -> dict[str, Any]:
    """All components, and whether the model is distilled; weights are random.

    Klein's call reads up to the 27th layer of its text encoder, unless it is told others.
    """
    transformer = transformer or build_transformer()
    torch.manual_seed(1)
    qwen = Qwen3Config(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=8, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, max_position_embeddings=64, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": build_vae(),
        "text_encoder": Qwen3ForCausalLM(qwen).eval(),
        "tokenizer": build_tokenizer(),
        "transformer": transformer,
        "is_distilled": distilled,
    }


def build_pipeline(**which: Any) -> AnyStoryFlux2KleinPipeline:
    """A fresh one; arguments as for `build_parts`."""
    pipe = AnyStoryFlux2KleinPipeline(**build_parts(**which), reference_size=REFERENCE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def pipeline(distilled: bool = True) -> AnyStoryFlux2KleinPipeline:
    """One that no test changes."""
    return build_pipeline(distilled=distilled)


def stock_of(pipe: Any, kind: Any = Flux2KleinPipeline) -> Any:
    """diffusers' own pipeline on the same components."""
    stock = kind(**pipe.components, is_distilled=pipe.config["is_distilled"])
    stock.set_progress_bar_config(disable=True)
    return stock


CALL: dict[str, Any] = {
    "height": 64,
    "width": 96,
    "num_inference_steps": 4,
    "max_sequence_length": 16,
    "text_encoder_out_layers": (1, 2, 3),
    "output_type": "pt",
}
PROMPT = "a fox and a robot on a beach"


def subject(colour: tuple[int, int, int], **settings: Any) -> Subject:
    picture = np.full((40, 40, 4), (*colour, 0), dtype=np.uint8)
    picture[2:38, 12:28, 3] = 255
    return Subject(Image.fromarray(picture), **settings)


def draw(pipe: Any = None, prompt: Any = PROMPT, seed: int = 0, **arguments: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return (pipe or pipeline())(prompt=prompt, generator=generator, **{**CALL, **arguments})


FOX, ROBOT, OTHER = (
    subject((200, 90, 20), name="fox"),
    subject((30, 60, 200), name="robot"),
    subject((20, 160, 40), name="robot"),
)
