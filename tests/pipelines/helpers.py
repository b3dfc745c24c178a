"""Tiny real components: the classes of SDXL and of the embedded model, with random weights.

Some weights are drawn larger than usual, so that a subject or a region visibly changes a picture.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import AdapterConfig
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines.loading.from_pretrained import LoadingMixin
from anystory.pipelines.sdxl import (
    AnyStoryControlNetImg2ImgPipeline,
    AnyStoryControlNetInpaintPipeline,
    AnyStoryControlNetPipeline,
    AnyStoryImg2ImgPipeline,
    AnyStoryInpaintPipeline,
    AnyStoryPipeline,
)
from anystory.subjects import Subject

SIZE = 32
"""Side of the tiny pipelines' pictures: latents of 16 × 16 ("sdxl") or 8 × 8 ("mini")."""

_CLIP_WIDTH = 32

KINDS: dict[str, Any] = {
    "text": AnyStoryPipeline,
    "image": AnyStoryImg2ImgPipeline,
    "inpaint": AnyStoryInpaintPipeline,
    "control": AnyStoryControlNetPipeline,
    "control image": AnyStoryControlNetImg2ImgPipeline,
    "control inpaint": AnyStoryControlNetInpaintPipeline,
}
"""Every pipeline of ours."""


def tokenizer() -> CLIPTokenizer:
    """One token per letter; no merges."""
    letters = string.ascii_lowercase + string.digits
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24)


def _text_encoder(kind: Any, layers: int = 2) -> Any:
    words: Any = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=_CLIP_WIDTH,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=24,
        projection_dim=_CLIP_WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return kind(config).eval()


def unet(
    cross_attention_dim: int, sample_size: int, latent_channels: int = 4, in_channels: int | None = None
) -> UNet2DConditionModel:
    """SDXL's layout: text and size embeddings added to time, deeper transformers further down."""
    sizes: dict[str, Any] = {
        "block_out_channels": (32, 64),
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
    }
    return UNet2DConditionModel(
        **sizes,
        sample_size=sample_size,
        in_channels=in_channels or latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        norm_num_groups=8,
        cross_attention_dim=cross_attention_dim,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=_CLIP_WIDTH + 6 * 8,
    ).eval()


def controlnet(base: UNet2DConditionModel, vae_factor: int, seed: int = 7) -> ControlNetModel:
    """A ControlNet for a U-Net; its last layers, zero in a fresh one, are random, so that it acts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # One halving of the picture per channel but the first, down to the latents' size.
        channels = (8, 16, 16)[: vae_factor.bit_length()]
        net = ControlNetModel.from_unet(base, conditioning_embedding_out_channels=channels).eval()
        for name, parameter in net.named_parameters():
            if "controlnet_" in name and name.endswith("weight"):
                torch.nn.init.normal_(parameter, std=0.2)
    return net


def image_encoder() -> CLIPVisionModelWithProjection:
    """17 tokens of width 32 from pictures of 16 × 16."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=_CLIP_WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=16,
            patch_size=4,
            projection_dim=_CLIP_WIDTH,
        )
    ).eval()


def feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def adapter_config() -> AdapterConfig:
    return AdapterConfig(
        clip_dim=_CLIP_WIDTH,
        clip_tokens=17,
        subject_tokens=4,
        token_dim=32,
        qformer_depth=2,
        qformer_dim=32,
        qformer_heads=2,
        qformer_head_dim=16,
        routing_dim=32,
        router_dim=16,
        router_heads=2,
        reference_size=SIZE,
    )


def components(layout: str = "sdxl", seed: int = 0, latent_channels: int = 4) -> dict[str, Any]:
    """All components of a tiny `AnyStoryPipeline`.

    Args:
        layout: "sdxl" (two text encoders, AutoencoderKL) or "mini" (the second text encoder only,
            PatchAutoencoder).
        seed: Of the weights; the global random state is left as it was.
        latent_channels: Of the "mini" layout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        both = layout == "sdxl"
        width, sample_size = (2 * _CLIP_WIDTH, SIZE // 2) if both else (_CLIP_WIDTH, SIZE // 4)
        base = unet(width, sample_size, latent_channels)
        adapter = SubjectAdapter.from_unet(base, adapter_config()).eval()
        for name, parameter in adapter.named_parameters():
            if "cross_projections" in name or "routers" in name:
                parameter.data.mul_(4)
        # The mask channel starts at zero: without this nothing would show what is in it.
        adapter.reference_net.unet.conv_in.weight.data[:, -1].normal_(0, 0.1, generator=generator(seed))
        if both:
            sizes: dict[str, Any] = {
                "block_out_channels": (16, 16),
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
            }
            vae: Any = AutoencoderKL(**sizes, norm_num_groups=8, scaling_factor=0.5)
        else:
            vae = PatchAutoencoder(
                latent_channels=latent_channels, block_out_channels=(16, 16, 16), encoder_width=16, norm_num_groups=8
            )
        return {
            "vae": vae.eval(),
            "text_encoder": _text_encoder(CLIPTextModel) if both else None,
            "tokenizer": tokenizer() if both else None,
            "text_encoder_2": _text_encoder(CLIPTextModelWithProjection),
            "tokenizer_2": tokenizer(),
            "unet": base,
            # With v-prediction the picture comes from the U-Net, not from the noise that a random U-Net leaves.
            "scheduler": EulerDiscreteScheduler(
                prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=not both
            ),
            "image_encoder": image_encoder(),
            "feature_extractor": feature_extractor(),
            "adapter": adapter,
        }


def pipeline(layout: str = "sdxl", seed: int = 0, latent_channels: int = 4, **changes: Any) -> AnyStoryPipeline:
    """A tiny pipeline without progress bar."""
    parts: dict[str, Any] = components(layout, seed, latent_channels) | {"add_watermarker": False} | changes
    pipe = AnyStoryPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pipeline_of(kind: str, layout: str = "sdxl", seed: int = 0, **changes: Any) -> Any:
    """A tiny pipeline of a kind in `KINDS`."""
    pipe = pipeline(layout, seed, **changes)
    if "control" not in kind:
        return KINDS[kind].from_pipe(pipe)
    return KINDS[kind].from_pipe(pipe, controlnet=controlnet(pipe.unet, pipe.vae_scale_factor))


def stock_class(kind: type) -> Any:
    """The diffusers pipeline that a pipeline of ours is made on."""
    return kind.__mro__[kind.__mro__.index(LoadingMixin) + 1]


def stock_of(pipe: Any) -> Any:
    """The diffusers pipeline on the same components."""
    parts: dict[str, Any] = {name: part for name, part in pipe.components.items() if name != "adapter"}
    stock = stock_class(type(pipe))(**parts, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    return stock


def picture(width: int = SIZE, height: int = SIZE) -> Image.Image:
    """A gradient with a bright square."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    rgb[height // 4 : height // 2, width // 4 : width // 2] = 240
    return Image.fromarray(rgb)


def mask(width: int = SIZE, height: int = SIZE) -> Image.Image:
    """White in the right half."""
    white = np.zeros((height, width), np.uint8)
    white[:, width // 2 :] = 255
    return Image.fromarray(white)


def given(kind: str, width: int = SIZE, height: int = SIZE) -> dict[str, Any]:
    """The pictures that a pipeline of a kind is called with, and four steps of which all or half are made."""
    found: dict[str, Any] = {"num_inference_steps": 4}
    if kind != "text":
        found["image"] = picture(width, height)
    if "image" in kind or "inpaint" in kind:
        found["strength"] = 0.5
        if "control" in kind:
            found["control_image"] = picture(width, height).rotate(180)
    if "inpaint" in kind:
        found["mask_image"] = mask(width, height)
    if "image" not in kind:
        found |= {"width": width, "height": height}
    return found


def subject(colour: tuple[int, int, int] = (200, 40, 40), name: str | None = None, **settings: Any) -> Subject:
    """A disc of one colour on a transparent square."""
    y, x = np.mgrid[:48, :48]
    inside = (x - 24) ** 2 + (y - 24) ** 2 < 18**2
    rgba = np.zeros((48, 48, 4), np.uint8)
    rgba[inside] = (*colour, 255)
    return Subject(Image.fromarray(rgba), name=name, **settings)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(pipe: Any, prompt: Any = "a fox", **arguments: Any) -> Any:
    """Two steps with guidance, as a float array."""
    defaults = {
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "generator": generator(),
        "output_type": "np",
    }
    return pipe(prompt, **(defaults | arguments))
