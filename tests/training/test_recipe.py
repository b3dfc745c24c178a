"""Recipes: packaged ones load and fit the shipping limit, bad ones are refused with the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anystory.training.components import BUILDERS, ModelFolder
from anystory.training.recipe import STAGES, Recipe, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipe_has_every_stage_and_fits_in_48_mib(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert set(recipe.stages) == set(STAGES)
    folder = ModelFolder(tmp_path, recipe)
    parameters = 0
    for component in ("vae", "text_encoder_2", "image_encoder", "unet"):
        module = BUILDERS[component](folder)
        parameters += sum(p.numel() for p in module.parameters())
        if component == "unet":
            folder.save("unet", module)
    adapter = BUILDERS["adapter"](folder)
    parameters += sum(p.numel() for p in adapter.parameters())
    assert 2 * parameters <= 48 * 2**20, "half-precision weights would not fit in the package"


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mini-cpu"):
        load_recipe("nothing")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone.yaml"):
        load_recipe(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("resolution", 33, "resolution"),
        ("resolution", -8, "resolution"),
        ("colour", 1, "colour"),
        ("stages", {"no": {}}, "stages"),
        ("adapter", {"preset": "huge"}, "huge"),
        ("adapter", {"preset": "mini", "wings": 2}, "wings"),
    ],
)
def test_bad_values_are_named(
    recipe_values: dict[str, Any], tmp_path: Path, key: str, value: object, named: str
) -> None:
    recipe_values[key] = value
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(recipe_values), encoding="utf-8")
    with pytest.raises(ValueError, match=named):
        load_recipe(path)


def test_text_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_recipe(path)


def test_building_twice_gives_equal_weights_and_leaves_the_global_random_state(recipe: Recipe, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, recipe)
    before = torch.random.get_rng_state()
    a, b = folder.load_or_build("vae"), folder.load_or_build("vae")
    assert torch.equal(before, torch.random.get_rng_state())
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)


def test_missing_component_says_which_stage_makes_it(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train stage 'vae'"):
        ModelFolder(tmp_path, recipe).load("vae")
