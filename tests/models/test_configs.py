from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict

import pytest

from anystory.models import PRESETS, AdapterConfig


def test_reading_a_preset_does_not_import_torch():
    code = (
        "import sys; from anystory.models.configs import PRESETS;"
        "print(PRESETS['mini'].subject_tokens, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["16", "False"]


def test_sdxl_preset_is_the_papers():
    sdxl = PRESETS["sdxl"]
    assert (sdxl.clip_dim, sdxl.clip_tokens) == (1280, 257)
    assert (sdxl.subject_tokens, sdxl.token_dim) == (64, 2048)
    assert (sdxl.qformer_depth, sdxl.qformer_dim, sdxl.qformer_heads * sdxl.qformer_head_dim) == (4, 1280, 1280)
    assert (sdxl.routing_dim, sdxl.router_dim, sdxl.reference_size) == (1280, 320, 512)
    assert sdxl.map_projections == "shared", "the figure names both inner products by the same two maps (D5)"


def test_presets_differ_in_numbers_only_and_cannot_be_changed():
    assert asdict(PRESETS["mini"]).keys() == asdict(PRESETS["sdxl"]).keys()
    with pytest.raises(FrozenInstanceError):
        PRESETS["mini"].clip_dim = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        PRESETS["mini"] = PRESETS["sdxl"]  # type: ignore[index]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_sizes_must_be_positive_integers(value):
    with pytest.raises(ValueError, match="subject_tokens must be a positive integer"):
        AdapterConfig(**{**asdict(PRESETS["mini"]), "subject_tokens": value})


def test_router_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="router_heads must divide router_dim, got 3"):
        AdapterConfig(**{**asdict(PRESETS["mini"]), "router_heads": 3})


@pytest.mark.parametrize("value", ["both", None, 1])
def test_routing_features_must_be_known(value):
    with pytest.raises(ValueError, match="routing_features must be one of 'decoupled', 'coupled', got"):
        AdapterConfig(**{**asdict(PRESETS["mini"]), "routing_features": value})


@pytest.mark.parametrize("value", ["both", None, 1, ["shared"]])
def test_map_projections_must_be_known(value):
    with pytest.raises(ValueError, match="map_projections must be one of 'shared', 'separate', got"):
        AdapterConfig(**{**asdict(PRESETS["mini"]), "map_projections": value})
