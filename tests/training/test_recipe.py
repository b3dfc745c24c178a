"""Recipes: packaged ones load and fit the shipping limit, bad ones are refused with the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import PRESETS
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import BUILDERS, ModelFolder
from anystory.training.recipe import OPTIONAL_STAGES, STAGES, Recipe, load_recipe, recipe_names
from anystory.training.stages import check_recipe, check_router

from .test_loop import options


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("mini")])
def test_packaged_recipe_has_every_stage_and_fits_in_48_mib(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert set(STAGES) - set(OPTIONAL_STAGES) <= set(recipe.stages)
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


def test_a_coarse_map_that_nothing_trains_is_refused_before_anything_is(
    recipe_values: dict[str, Any], tmp_path: Path
) -> None:
    """D5: the argmax passes no gradient, so a pair of its own stays as random as it was."""
    recipe_values["stages"]["router"]["options"]["coarse_weight"] = 0
    recipe_values["adapter"]["map_projections"] = "separate"
    recipe = Recipe.model_validate(recipe_values)
    with pytest.raises(ValueError, match="coarse_weight must be more than 0 .* 'separate'.*: say 1.0, or begin with"):
        run_stages(recipe.stage_names, recipe, options(tmp_path), {})
    assert not list(tmp_path.iterdir())
    recipe_values["adapter"]["map_projections"] = "shared"
    check_router(ModelFolder(tmp_path, Recipe.model_validate(recipe_values)))
    shared = ModelFolder(tmp_path, Recipe.model_validate(recipe_values))
    folder = ModelFolder(tmp_path / "begun", recipe)
    folder.save(
        "adapter", shared.seeded(lambda: SubjectAdapter.from_unet(BUILDERS["unet"](shared), shared.adapter_sizes()))
    )
    check_router(folder)  # what the folder holds is what is trained, not what the recipe would make


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
        (
            "adapter",
            {"preset": "mini", "map_projections": "both"},
            "map_projections must be one of 'shared', 'separate'",
        ),
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


# Recipes on a base.

ON_SDXL = [name for name in recipe_names() if name.startswith("sdxl")]


@pytest.mark.parametrize("name", ON_SDXL)
def test_sdxl_recipes_have_the_papers_numbers(name: str) -> None:
    recipe = load_recipe(name)
    (stage,) = recipe.stage_names
    settings = recipe.stages[stage]
    check_recipe(recipe.with_sources(data=("level1",)))
    assert settings.learning_rate == 1e-4
    assert settings.global_batch == 64
    assert settings.gradient_checkpointing
    assert settings.options["clip_drop"] == 0.1
    assert recipe.adapter.config() == PRESETS["sdxl"]
    if stage == "router":
        assert settings.options["route_loss_weight"] == 0.1
        assert settings.options["coarse_weight"] == 1.0
        assert not settings.options["include_background"]
    else:
        assert settings.options["gate"] == "paper"


def test_the_recipes_that_the_issue_names_are_there() -> None:
    wanted = {f"sdxl_{stage}{size}" for stage in ("encoder", "router") for size in ("", "_80gb", "_24gb")}
    assert wanted == set(ON_SDXL)


def test_places_of_the_command_line() -> None:
    recipe = load_recipe("sdxl_router")
    with pytest.raises(ValueError, match="names no samples"):
        check_recipe(recipe)
    moved = recipe.with_sources(base="elsewhere/sdxl", data=("level1",), adapter="start")
    assert moved.base is not None
    assert (moved.base.source, moved.base.variant, moved.base.dtype) == ("elsewhere/sdxl", None, "bfloat16")
    assert (moved.level, moved.start) == ("level1", "start")
    with pytest.raises(ValueError, match="nowhere"):
        recipe.with_sources(data=("nowhere",))
    with pytest.raises(ValueError, match="from nothing"):
        load_recipe("mini-cpu").with_sources(base="x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unet": {"sample_size": 8}}, "exclude each other"),
        ({"stages": {"vae": {"batch_size": 1, "learning_rate": 1.0}}}, "frozen"),
        ({"base": {"source": "x", "dtype": "float16"}}, "dtype"),
        ({"shards": ["a"], "level": "level1"}, "level and shards"),
    ],
)
def test_what_does_not_go_with_a_base(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(load_recipe("sdxl_encoder").model_dump() | changes)
