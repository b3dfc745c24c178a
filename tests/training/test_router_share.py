"""Stage 1 with the router deciding in a share of the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.training.components import ModelFolder
from anystory.training.loop import train
from anystory.training.options import RunOptions
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.stream import collate


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which every stage before `encoder` has been trained."""
    from training.conftest import TINY

    recipe = Recipe.model_validate(TINY)
    out = tmp_path_factory.mktemp("share")
    for name in ("vae", "clip", "base"):
        stage = build_stage(name, ModelFolder(out / "model", recipe))  # pyright: ignore[reportArgumentType]
        train(stage, recipe.stages[name], RunOptions(out=out, model=out / "model", workers=0, quiet=True, steps=1))  # pyright: ignore[reportArgumentType]
    return out


def encoder(trained: Path, recipe: Recipe, **options: Any) -> Any:
    config = recipe.stages["encoder"]
    config = config.model_copy(update={"options": {**config.options, **options}})
    recipe = recipe.model_copy(update={"stages": {**recipe.stages, "encoder": config}})
    stage = build_stage("encoder", ModelFolder(trained / "model", recipe))
    for parameter in stage.parameters():
        parameter.requires_grad_(False)
    for parameter in stage.trained_parameters().values():
        parameter.requires_grad_(True)
    return stage


def losses(stage: Any) -> dict[str, Tensor]:
    batch = collate([stage.fetch()(i) for i in range(4)])
    return stage(batch, torch.Generator().manual_seed(1))


def test_the_router_decides_but_does_not_learn(trained: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(trained, recipe, router_share=1.0, free_drop=0.0)
    for name, value in stage.adapter.state_dict().items():
        if name.startswith("routers"):
            value.normal_(0, 1)  # so that somebody owns something
    first = losses(stage)
    first["loss"].backward()
    reached = {name for name, p in stage.adapter.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("reference_net") for name in reached)
    assert any(name.startswith("cross_projections") for name in reached)
    assert not any(name.startswith("rout") for name in reached)
    for name, value in stage.adapter.state_dict().items():
        if name.startswith("routers"):
            value.neg_()
    assert losses(stage)["loss"] != first["loss"], "another router, another decision"


def test_true_masks_decide_without_it(trained: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(trained, recipe, router_share=0.0)
    before = losses(stage)["loss"]
    for name, value in stage.adapter.state_dict().items():
        if name.startswith("routers"):
            value.normal_(0, 1)
    assert losses(stage)["loss"] == before


def test_samples_without_condition_have_no_subject(trained: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(trained, recipe, router_share=1.0, free_drop=1.0)
    batch = collate([stage.fetch()(i) for i in range(4)])
    found = stage(batch, torch.Generator().manual_seed(1))["loss"]
    batch["references"] = 255 - batch["references"]
    assert stage(batch, torch.Generator().manual_seed(1))["loss"] == found


def test_a_share_is_a_share(trained: Path, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="router_share"):
        encoder(trained, recipe, router_share=1.5)
