"""Stage 1 with the router deciding in a share of the steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.models import SubjectAdapter
from anystory.training.data.stream import collate
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage


@pytest.fixture(scope="module")
def begun(trained: tuple[Path, Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which every stage before `encoder` has been trained."""
    out = tmp_path_factory.mktemp("share")
    shutil.copytree(trained[0] / "model", out / "model", ignore=shutil.ignore_patterns("adapter"))
    return out


def encoder(begun: Path, recipe: Recipe, **options: Any) -> Any:
    config = recipe.stages["encoder"]
    config = config.model_copy(update={"options": {**config.options, **options}})
    recipe = recipe.model_copy(update={"stages": {**recipe.stages, "encoder": config}})
    stage = build_stage("encoder", ModelFolder(begun / "model", recipe))
    for parameter in stage.parameters():
        parameter.requires_grad_(False)
    for parameter in stage.trained_parameters().values():
        parameter.requires_grad_(True)
    return stage


def losses(stage: Any) -> dict[str, Tensor]:
    batch = collate([stage.fetch()(i) for i in range(4)])
    return stage(batch, torch.Generator().manual_seed(1))


def test_the_router_decides_but_does_not_learn(begun: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(begun, recipe, router_share=1.0, free_drop=0.0)
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


def test_true_masks_decide_without_it(begun: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(begun, recipe, router_share=0.0)
    before = losses(stage)["loss"]
    for name, value in stage.adapter.state_dict().items():
        if name.startswith("routers"):
            value.normal_(0, 1)
    assert losses(stage)["loss"] == before


def test_samples_without_condition_have_no_subject(begun: Path, recipe: Recipe) -> None:
    torch.manual_seed(0)
    stage = encoder(begun, recipe, router_share=1.0, free_drop=1.0)
    batch = collate([stage.fetch()(i) for i in range(4)])
    found = stage(batch, torch.Generator().manual_seed(1))["loss"]
    batch["references"] = 255 - batch["references"]
    assert stage(batch, torch.Generator().manual_seed(1))["loss"] == found


def test_a_share_is_a_share(begun: Path, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="router_share"):
        encoder(begun, recipe, router_share=1.5)


def test_the_exported_adapter_knows_how_many_subjects_it_saw(begun: Path, recipe: Recipe, tmp_path: Path) -> None:
    run = shutil.copytree(begun, tmp_path / "run")
    for most, noted in ((1, 1), (2, 2), (1, 2)):
        encoder(run, recipe, gate="masks", max_subjects=most).export(run / "model")
        assert SubjectAdapter.from_pretrained(run / "model" / "adapter").sizes.max_subjects == noted
