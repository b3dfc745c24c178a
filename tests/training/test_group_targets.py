"""Several targets per reference: the same loss as with the references given again for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.data.storyworld_writer import write_storyworld
from anystory.training.data.samples import personal_samples
from anystory.training.data.stream import collate
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageName
from anystory.training.runlog import read_log
from anystory.training.stages import build_stage
from anystory.training.stages.personal import filled_slots
from anystory.training.trainer import train

from .conftest import TINY
from .sdxl_base import recipe_on
from .test_loop import options


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in which every part is there, trained or not."""
    recipe = Recipe.model_validate(TINY)
    folder = ModelFolder(tmp_path_factory.mktemp("targets"), recipe)
    for part in ("vae", "tokenizer_2", "text_encoder_2", "image_encoder", "feature_extractor", "unet", "scheduler"):
        folder.save(part, folder.load_or_build(part))
    folder.save("adapter", folder.adapter(folder.load("unet")))
    return folder.path


def stage_with(model: Path, name: StageName, **changes: Any) -> Any:
    recipe = Recipe.model_validate(TINY)
    config = recipe.stages[name]
    config = config.model_copy(update={"options": {**config.options, **changes}})
    recipe = recipe.model_copy(update={"stages": {**recipe.stages, name: config}})
    stage = build_stage(name, ModelFolder(model, recipe))
    stage.freeze_rest()
    return stage


def gradients(stage: Any, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    losses = stage(batch, torch.Generator().manual_seed(5))
    losses["loss"].backward()
    return losses, {name: p.grad for name, p in stage.trained_parameters().items() if p.grad is not None}


@pytest.mark.parametrize("name", ["encoder", "router"])
def test_references_encoded_once_teach_what_references_given_again_teach(model: Path, name: StageName) -> None:
    shared, plain = stage_with(model, name, targets=3), stage_with(model, name)
    batch = collate([shared.fetch()(i) for i in range(2)])
    assert batch["image"].shape == (2, 3, 32, 32, 3)
    rows = {key: batch[key].repeat_interleave(3, dim=0) for key in ("references", "reference_alpha", "present")}
    rows |= {"image": batch["image"].flatten(0, 1), "instances": batch["instances"].flatten(0, 1)}
    rows["caption"] = [caption for captions in batch["caption"] for caption in captions]
    found, found_gradients = gradients(shared, batch)
    expected, expected_gradients = gradients(plain, rows)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    assert found_gradients.keys() == expected_gradients.keys()
    for key, value in expected_gradients.items():
        torch.testing.assert_close(found_gradients[key], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("name", ["encoder", "router"])
def test_slots_that_nobody_fills_are_not_computed_and_teach_nothing(
    model: Path, name: StageName, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, three = (stage_with(model, name, targets=targets, max_subjects=n) for n in (1, 3))
    batch = collate([one.fetch()(i) for i in range(2)])
    assert batch["present"].shape == (2, 1)
    padded = dict(batch)
    for key in ("present", "references", "reference_alpha"):
        padded[key] = torch.cat([batch[key], *[torch.zeros_like(batch[key])] * 2], dim=1)
    seen: list[int] = []
    encode = three.encode_subjects
    monkeypatch.setattr(three, "encode_subjects", lambda b: seen.append(b["present"].shape[1]) or encode(b))
    expected, expected_gradients = gradients(one, batch)
    found, found_gradients = gradients(three, padded)
    assert seen == [1]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    for key, value in expected_gradients.items():
        torch.testing.assert_close(found_gradients[key], value)


def test_one_slot_stays_where_no_sample_has_a_subject_and_gaps_stay() -> None:
    present = torch.zeros(2, 3, dtype=torch.bool)
    assert filled_slots({"present": present})["present"].shape == (2, 1)
    present[1, 1] = True
    kept = filled_slots({"present": present, "reference_alpha": torch.arange(3).expand(2, 3), "caption": ["a", "b"]})
    assert torch.equal(kept["present"], present[:, :2])
    assert kept["reference_alpha"].tolist() == [[0, 1]] * 2
    assert kept["caption"] == ["a", "b"]


def test_one_target_is_todays_sample_and_held_out_samples_have_one(model: Path) -> None:
    one, three = stage_with(model, "encoder"), stage_with(model, "encoder", targets=3)
    first, group = one.fetch()(7), three.fetch()(7)
    assert first["image"].shape == (32, 32, 3)
    assert (group["image"][0] == first["image"]).all()
    assert group["caption"][0] == first["caption"]
    assert len(set(group["caption"])) > 1
    assert three.held_out()(7)["image"].shape == (32, 32, 3)


def test_a_run_with_several_targets_trains_and_validates(model: Path, tmp_path: Path) -> None:
    stage = stage_with(model, "encoder", targets=2)
    config = stage.folder.recipe.stages["encoder"].model_copy(update={"validate_every": 5, "validate_samples": 4})
    progress = train(stage, config, options(tmp_path, model=tmp_path / "model"))
    assert progress.step == 2
    assert "val_loss" in read_log(tmp_path / "encoder" / "log.jsonl")[-1]


def test_shards_have_one_target_a_sample(tmp_path: Path) -> None:
    write_storyworld(tmp_path, 2, size=32)
    recipe = recipe_on(tmp_path, level=None, shards=[str(tmp_path)])
    with pytest.raises(ValueError, match="targets 2 needs StoryWorld"):
        personal_samples(recipe, reference_size=32, min_subjects=1, max_subjects=2, targets=2)
