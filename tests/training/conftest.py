"""A recipe small enough to train every stage for a few steps in a test."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anystory.training.launch.options import RunOptions
from anystory.training.launch.runner import run_stages
from anystory.training.recipe import Recipe, load_recipe

TINY: dict[str, Any] = {
    "name": "tiny",
    "level": "level1",
    "resolution": 32,
    "max_text_tokens": 40,
    "autoencoder": {
        "latent_channels": 4,
        "block_out_channels": [16, 16, 16],
        "encoder_width": 16,
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
    },
    "image_encoder": {
        "hidden_size": 192,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "patch_size": 4,
    },
    "unet": {
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "transformer_layers_per_block": 1,
        "attention_head_dim": [1, 2],
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
    },
    "scheduler": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "adapter": {"preset": "mini"},
    "defaults": {"num_inference_steps": 2, "guidance_scale": 2.0},
    "stages": {
        name: {
            "batch_size": 4,
            "learning_rate": 1e-3,
            "steps": 2,
            "warmup_steps": 1,
            "validate_every": 0,  # its figures and their plot take longer than the steps
            "options": options,
        }
        for name, options in {
            "vae": {"latent_noise": 0.3},
            "clip": {},
            "base": {"train_text_encoder": True, "foreground_weight": 1.0},
            "encoder": {"gate": "masks", "pictures": 2},
            "router": {"coarse_weight": 1.0, "pictures": 2},
        }.items()
    },
}

WITH_DECODER: dict[str, Any] = {
    **TINY,
    "stages": {**TINY["stages"], "decoder": {**TINY["stages"]["vae"], "options": {"discriminator_width": 8}}},
}
"""The same with the stage that a model can do without: all there are."""


STEP_BY_STEP: dict[str, Any] = {
    "batch_size": 2,
    "warmup_steps": 3,
    "decay_fraction": 0.5,
    "checkpoint_minutes": 1e-9,
    "log_every": 1,
    "validate_samples": 2,
}
"""For a stage that is killed: a checkpoint and a line in the log after every step."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """All stages but the decoder's, two steps each: the run's folder, which nobody changes, and its recipe."""
    torch.set_num_threads(1)
    values = copy.deepcopy(TINY)
    values["stages"]["vae"] |= {"validate_every": 500, "validate_samples": 4}
    out, recipe = tmp_path_factory.mktemp("run"), Recipe.model_validate(values)
    run_stages(recipe.stage_names, recipe, RunOptions(out=out, model=out / "model", workers=0, quiet=True), {})
    return out, Recipe.model_validate(TINY)


@pytest.fixture
def recipe_values() -> dict[str, Any]:
    """The tiny recipe as a dictionary, to be changed freely."""
    return copy.deepcopy(TINY)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """The tiny recipe as a YAML file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return path


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    """The tiny recipe, checked."""
    return load_recipe(recipe_file)
