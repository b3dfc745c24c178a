"""A tiny SDXL on disk, and recipes that train an adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anystory.training.recipe import Recipe
from pipelines import helpers

SIZES = {
    "clip_dim": 32,
    "clip_tokens": 17,
    "subject_tokens": 4,
    "token_dim": 32,
    "qformer_depth": 2,
    "qformer_dim": 32,
    "qformer_heads": 2,
    "qformer_head_dim": 16,
    "routing_dim": 32,
    "router_dim": 16,
    "router_heads": 2,
    "reference_size": 32,
}
STAGE: dict[str, Any] = {"batch_size": 2, "learning_rate": 1e-3, "steps": 2, "warmup_steps": 1, "validate_every": 0}


def write_base(folder: Path) -> Path:
    """Two text encoders, AutoencoderKL, U-Net and scheduler in diffusers' layout, an image encoder beside them."""
    parts: dict[str, Any] = helpers.components("sdxl") | {"adapter": None}
    helpers.pipeline("sdxl", 0, 4, **parts).save_pretrained(folder / "sdxl")
    return folder / "sdxl"


def recipe_on(source: Path, *, dtype: str = "float32", **changes: Any) -> Recipe:
    """Both stages on a base, with samples from StoryWorld at 32 × 32."""
    values: dict[str, Any] = {
        "name": "tiny-sdxl",
        "level": "level1",
        "resolution": 32,
        "base": {"source": str(source), "dtype": dtype},
        "adapter": {"preset": "sdxl", **SIZES},
        "defaults": {"num_inference_steps": 2, "guidance_scale": 3.0},
        "stages": {
            "encoder": STAGE | {"options": {"pictures": 2, "picture_batch": 1}},
            "router": STAGE | {"options": {"pictures": 2}},
        },
    }
    return Recipe.model_validate(values | changes)
