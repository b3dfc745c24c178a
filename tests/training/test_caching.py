"""Caches of latents and texts: training with one computes what it computes without, and a wrong one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from anystory.data.shards.writer import ShardWriter
from anystory.data.storyworld_writer import write_storyworld
from anystory.data.stream.cache import INDEX_NAME, SampleCache
from anystory.evaluation.plan.estimate import count
from anystory.training.data.caching import TargetEncoders, cache_targets, cached_set, check_cache
from anystory.training.data.encoder_hashes import hash_encoders
from anystory.training.data.stream import collate
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.recipe import PERSONAL_STAGES, Recipe
from anystory.training.stages import build_stage
from anystory.training.stages.personal import PersonalStage
from data.samples import make_sample

from .conftest import TINY
from .sdxl_base import recipe_on, write_base
from .test_loop import options


@dataclass
class Given:
    """A recipe on shards, where its parts lie, and a cache of its targets."""

    recipe: Recipe
    model: Path
    cache: Path

    @property
    def cached(self) -> Recipe:
        return self.recipe.with_sources(cache=str(self.cache))

    def stage(self, name: str, recipe: Recipe) -> PersonalStage:
        stage = build_stage(name, ModelFolder(self.model, recipe))  # pyright: ignore
        assert isinstance(stage, PersonalStage)
        return stage


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight StoryWorld pairs and a photograph-like one that is wider than high; four held-out pairs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shards")
    write_storyworld(folder, 8, size=32)
    write_storyworld(folder, 4, size=32, split="heldout")
    with ShardWriter(folder, "wide") as writer:
        record, files = make_sample("wide", subjects=1, caption="a fox in the snow")
        writer.add(record, files.__getitem__)
    return folder


@pytest.fixture(scope="module", params=["mini", "sdxl"])
def given(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    place = tmp_path_factory.mktemp(request.param)
    model = place / "model"
    if request.param == "mini":
        recipe = Recipe.model_validate(TINY).with_sources(data=(str(shards),))
        folder = ModelFolder(model, recipe)
        for name in LOADERS:
            folder.save(name, folder.load_or_build(name))
    else:
        recipe = recipe_on(write_base(place)).with_sources(data=(str(shards),))
        folder = ModelFolder(model, recipe)
        folder.save("adapter", folder.adapter(folder.load("unet")))
    cache_targets(cached_set(recipe, PERSONAL_STAGES), folder, place / "cache", batch_size=3)
    return Given(recipe, model, place / "cache")


ONE = pytest.mark.parametrize("given", ["sdxl"], indirect=True)
"""For what does not depend on the kind of base."""


@pytest.mark.parametrize("name", PERSONAL_STAGES)
def test_losses_with_the_cache_equal_those_without(given: Given, name: str) -> None:
    stage, plain = given.stage(name, given.cached), given.stage(name, given.recipe)
    fetch, data = stage.fetch(), cached_set(given.recipe, PERSONAL_STAGES)
    assert len(data) == 9
    for first in (0, 7):  # the second batch reaches into the next epoch
        batch, whole = (collate([source(first + i) for i in range(4)]) for source in (fetch, data))
        assert "image" not in batch
        assert {"latents", "text_hidden", "text_pooled"} <= batch.keys()
        found, wanted = (own(part, torch.Generator().manual_seed(5)) for own, part in ((stage, batch), (plain, whole)))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
        # The loss looks at what was cached at all.
        other = stage(batch | {"latents": batch["latents"] + 1}, torch.Generator().manual_seed(5))
        assert abs(float((other["loss"] - found["loss"]).detach())) > 1e-3


def test_text_encoders_leave_the_device_and_still_serve_held_out_samples(given: Given) -> None:
    stage, plain = given.stage("encoder", given.cached), given.stage("encoder", given.recipe)
    encoders = {id(parameter) for parameter in stage.texts.encoders.parameters()}
    assert encoders.isdisjoint(map(id, stage.parameters()))
    assert not {id(p) for p in plain.texts.encoders.parameters()}.isdisjoint(map(id, plain.parameters()))
    with pytest.raises(NotImplementedError, match="meta"):  # where they would have gone, there is nothing to bring back
        stage.texts(["a fox"], torch.device("meta"))
    stage, held_out = given.stage("encoder", given.cached), plain.held_out()
    batch = collate([held_out(i) for i in range(2)])
    assert stage.validate([batch]) == plain.validate([batch])


@ONE
def test_a_plan_counts_the_cache(given: Given) -> None:
    cached, plain = (count(recipe, "encoder", batch_size=2) for recipe in (given.cached, given.recipe))
    assert cached.forward_flops < plain.forward_flops


def test_other_encoders_are_refused(given: Given) -> None:
    for name, weight in (("vae", "vae"), ("text_encoder_2", "texts")):
        stage = given.stage("encoder", given.cached)
        part = getattr(stage, weight) if weight == "vae" else stage.texts.pooled
        with torch.no_grad():
            next(part.parameters()).view(-1)[0] += 1
        with pytest.raises(ValueError, match=rf"is stale.*the encoder {name} is .{{12}}… there and"):
            stage.fetch()


def test_the_hashes_know_what_changes_the_result_and_nothing_else(given: Given) -> None:
    encoders = TargetEncoders(ModelFolder(given.model, given.recipe), torch.device("cpu"))
    before = hash_encoders(encoders.vae, encoders.texts)
    assert len(before) == 1 + 2 * len(encoders.texts.encoders)
    encoders.texts(["a fox"], torch.device("cpu"))  # sets the tokenizer's padding
    encoders.vae.to(memory_format=torch.channels_last)
    assert hash_encoders(encoders.vae, encoders.texts) == before
    encoders.vae.register_to_config(scaling_factor=2.0)
    encoders.texts.pooled.config.num_attention_heads = 1
    encoders.texts.tokenizers[-1].add_tokens("xyz")
    after = hash_encoders(encoders.vae, encoders.texts)
    assert {name for name in before if before[name] != after[name]} == {"vae", "text_encoder_2", "tokenizer_2"}


@ONE
def test_a_cache_of_other_samples_is_refused_before_anything_is_trained(given: Given, tmp_path: Path) -> None:
    run = options(tmp_path / "run")
    other_seed = given.cached.model_copy(update={"seed": 3})
    fewer = given.cached.model_dump()
    fewer["stages"]["router"]["options"] |= {"max_subjects": 1}
    cases = [
        (given.cached.model_copy(update={"resolution": 64}), "is stale.*resolution is 32 there and 64 here"),
        (other_seed, "seed is 0 there and 3 here"),
        (Recipe.model_validate(fewer), "max_subjects is 2 there and 1 here"),
        (given.cached.with_sources(cache=str(tmp_path / "none")), "does not exist"),
    ]
    for recipe, words in cases:
        with pytest.raises(ValueError, match=words):
            run_stages(PERSONAL_STAGES, recipe, run, {})
    with pytest.raises(ValueError, match="encoder 1 to 2, router 1 to 1.*--stage"):
        cached_set(Recipe.model_validate(fewer), PERSONAL_STAGES)
    with pytest.raises(ValueError, match="--prerender"):
        check_cache(given.cached, PERSONAL_STAGES, prerender=True)
    weighing = given.cached.model_dump()
    weighing["stages"]["encoder"]["options"] |= {"detail_weight": 2.0}
    with pytest.raises(ValueError, match="detail_weight of encoder looks at the pictures"):
        run_stages(PERSONAL_STAGES, Recipe.model_validate(weighing), run, {})
    with pytest.raises(ValueError, match="vae may train them"):
        check_cache(given.cached, ["vae"])
    drawn = given.cached.model_copy(update={"shards": (), "level": "level1"})
    with pytest.raises(ValueError, match="no shards that it was made from"):
        run_stages(PERSONAL_STAGES, drawn, run, {})
    with pytest.raises(ValueError, match="only shards can be cached"):
        cached_set(drawn.model_copy(update={"cache": None}), PERSONAL_STAGES)
    assert not run.out.exists()


@ONE
def test_a_killed_command_goes_on(given: Given, tmp_path: Path) -> None:
    data, folder = cached_set(given.recipe, PERSONAL_STAGES), ModelFolder(given.model, given.recipe)
    told: list[int] = []

    def killed(done: int) -> None:
        told.append(done)
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_targets(data, folder, tmp_path / "cache", batch_size=2, part_rows=4, seen=killed)
    assert told == [2, 4, 4, 6]
    with pytest.raises(ValueError, match="is not finished"):
        SampleCache.open(tmp_path / "cache")
    told.clear()
    cache_targets(data, folder, tmp_path / "cache", batch_size=2, part_rows=4, seen=told.append)
    assert told == [4, 6, 8, 8, 9, 9]
    cache_targets(data, folder, tmp_path / "whole", batch_size=2, part_rows=4)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cache" / path.name).read_bytes()
    (tmp_path / "cache" / INDEX_NAME).unlink()
    other = cached_set(given.recipe.model_copy(update={"seed": 9}), PERSONAL_STAGES)
    with pytest.raises(ValueError, match="beginning of another cache: seed is 0"):
        cache_targets(other, folder, tmp_path / "cache", part_rows=4)
