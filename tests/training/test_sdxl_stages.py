"""Both stages on a base of SDXL's kind: two text encoders, AutoencoderKL, a folder in diffusers' layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.training.data.stream import collate
from anystory.training.launch.runner import run_stages
from anystory.training.model.base_parts import BaseParts
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import BaseRecipe, Recipe
from anystory.training.stages import build_stage, check_router
from pipelines import helpers, original_layout

from .sdxl_base import recipe_on, write_base
from .test_loop import options


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """Both stages, two steps each."""
    out, recipe = tmp_path_factory.mktemp("run"), recipe_on(base)
    run_stages(recipe.stage_names, recipe, options(out), {})
    return out, recipe


def test_both_stages_change_their_own_weights_and_the_adapter_draws(
    trained: tuple[Path, Recipe], base: Path, tmp_path: Path
) -> None:
    out, recipe = trained
    fresh = ModelFolder(tmp_path / "none", recipe)
    before = fresh.adapter(fresh.load("unet")).state_dict()
    after = load_file(out / "model" / "adapter" / "diffusion_pytorch_model.safetensors")
    changed = {name.partition(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed >= {"subject_qformer", "reference_net", "cross_projections", "routing_qformer", "routers"}
    pipe = AnyStoryPipeline.from_pretrained(base, adapter=out / "model", image_encoder=base)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.defaults(subjects=True) == recipe.defaults, "a picture takes what the recipe says"
    with_subject = helpers.draw(pipe, subjects=[helpers.subject()]).images
    assert np.isfinite(with_subject).all()
    assert not np.array_equal(with_subject, helpers.draw(pipe).images), "the adapter does nothing"


def test_the_adapter_that_a_router_begins_with_has_the_say_on_its_coarse_map(
    trained: tuple[Path, Recipe], tmp_path: Path
) -> None:
    """Whatever the recipe's own preset is: its sizes are not those that are trained."""
    _, recipe = trained
    router = recipe.stages["router"].model_copy(update={"options": {"coarse_weight": 0.0}})
    kinds = {}
    for kind in ("shared", "separate"):
        own = recipe.adapter.model_copy(update={"map_projections": kind})
        made = ModelFolder(tmp_path, recipe.model_copy(update={"adapter": own}))
        made.adapter(made.load("unet")).save_pretrained(tmp_path / kind)
        begun = recipe.model_copy(update={"start": str(tmp_path / kind), "stages": {"router": router}})
        kinds[kind] = ModelFolder(tmp_path / "none", begun)
    assert "routers" in {name.partition(".")[0] for name in build_stage("router", kinds["shared"]).trained_parameters()}
    check_router(kinds["shared"])
    for refuses in (check_router, partial(build_stage, "router")):
        with pytest.raises(ValueError, match="coarse_weight must be more than 0"):
            refuses(kinds["separate"])
    nothing = recipe.model_copy(update={"start": str(tmp_path), "stages": {"router": router}})
    with pytest.raises(ValueError, match="is no adapter"):
        check_router(ModelFolder(tmp_path / "none", nothing))


def test_sheets_are_drawn_in_batches(trained: tuple[Path, Recipe]) -> None:
    out, recipe = trained
    sheet = Image.open(sorted((out / "encoder" / "samples").glob("*.png"))[-1])
    side = 3 * recipe.resolution
    assert sheet.size == (2 * side, 4 * side)  # two samples; two references, the drawn and the true picture


def test_sheets_read_their_samples_once(trained: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    out, recipe = trained
    stage = build_stage("encoder", ModelFolder(out / "model", recipe))
    opened: list[None] = []
    held_out = stage.held_out
    monkeypatch.setattr(stage, "held_out", lambda: opened.append(None) or held_out())
    first, second = stage.sample_picture(), stage.sample_picture()
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert len(opened) == 1


def test_the_text_condition_is_the_pipelines_own(base: Path, tmp_path: Path) -> None:
    recipe = recipe_on(base)
    stage = build_stage("encoder", ModelFolder(tmp_path, recipe))
    captions = ["a fox", "two bears at night"]
    hidden, pooled = stage.text({"caption": captions})  # pyright: ignore
    pipe = AnyStoryPipeline.from_pretrained(base)
    expected, _, expected_pooled, _ = pipe.encode_prompt(captions, do_classifier_free_guidance=False)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(pooled, expected_pooled)


def test_a_single_file_is_a_base_too(tmp_path: Path) -> None:
    parts = original_layout.components()
    file = original_layout.write_single_file(parts, tmp_path / "sdxl.safetensors")
    components: dict[str, Any] = {**parts, "adapter": None}
    pipe = AnyStoryPipeline(**components, add_watermarker=False)
    pipe.save_pretrained(tmp_path / "folder")
    for source, config in ((file, tmp_path / "folder"), (tmp_path / "folder", None)):
        base = BaseParts(BaseRecipe(source=str(source), config=config and str(config), dtype="float32"))
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            expected = getattr(pipe, part).state_dict()
            loaded = base.load(part)
            assert not any(parameter.requires_grad for parameter in loaded.parameters())
            for name, value in loaded.state_dict().items():
                torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)  # the file is in half precision
        assert base.load("scheduler").config["prediction_type"] == pipe.scheduler.config["prediction_type"]


def test_an_adapter_to_start_from(trained: tuple[Path, Recipe], base: Path, tmp_path: Path) -> None:
    out, _ = trained
    source = out / "model" / "adapter"
    stage = build_stage("router", ModelFolder(tmp_path, recipe_on(base, start=str(source))))
    expected = load_file(source / "diffusion_pytorch_model.safetensors")
    for name, value in stage.adapter.state_dict().items():  # pyright: ignore
        assert torch.equal(value, expected[name]), name
    with pytest.raises(ValueError, match="needs trained encoders"):
        build_stage("router", ModelFolder(tmp_path, recipe_on(base)))


def test_the_size_condition_of_a_sample_reaches_the_network(trained: tuple[Path, Recipe]) -> None:
    out, recipe = trained
    stage = build_stage("encoder", ModelFolder(out / "model", recipe))
    batch = collate([stage.fetch()(i) for i in range(2)])

    def loss(sizes: torch.Tensor | None) -> float:
        found = batch if sizes is None else batch | {"size_condition": sizes}
        with torch.no_grad():
            return float(stage(found, torch.Generator().manual_seed(1))["loss"])

    whole = torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2)
    assert loss(whole) == loss(None)
    assert loss(whole * 8) != loss(None)


def test_a_bf16_base_keeps_trained_weights_in_fp32(base: Path, tmp_path: Path) -> None:
    recipe = recipe_on(base, dtype="bfloat16")
    stage = build_stage("encoder", ModelFolder(tmp_path, recipe))
    trained = {id(p) for p in stage.trained_parameters().values()}
    types = {(id(p) in trained, p.dtype) for p in stage.adapter.parameters()}  # pyright: ignore
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    batch = collate([stage.fetch()(0)])
    with pytest.raises(ValueError, match="--precision bf16"):
        stage(batch, torch.Generator())
    out = tmp_path / "run"
    run_stages(recipe.stage_names, recipe, options(out, precision="bf16"), {})
    saved = load_file(out / "model" / "adapter" / "diffusion_pytorch_model.safetensors")
    assert all(bool(value.isfinite().all()) for value in saved.values())
