"""The weights that ship: whole, small enough, and able to do what the card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import anystory
from anystory import AnyStoryPipeline, Subject
from anystory.models.conditioning import SubjectConditioning
from anystory.pipelines.vocabulary import unknown_words
from anystory.training.components import ModelFolder
from anystory.training.data import personal_sample
from anystory.training.recipe import load_recipe
from anystory.training.stages import build_stage
from anystory.training.stages.personal import PersonalStage
from anystory.training.stream import collate

ASSETS = Path(anystory.__file__).parent / "assets"
MIB = 2**20


@pytest.fixture(scope="module")
def mini() -> AnyStoryPipeline:
    torch.set_num_threads(1)
    pipe = AnyStoryPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: AnyStoryPipeline, prompt: str, names: tuple[str, ...], seed: int = 0, steps: int = 10):
    subjects = [Subject(ASSETS / "demo" / f"{name}.png", name=name) for name in names]
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, subjects=subjects, num_inference_steps=steps, generator=generator)


def test_weights_fit_the_package() -> None:
    shards = list((ASSETS / "mini").rglob("*.safetensors"))
    assert sum(shard.stat().st_size for shard in shards) <= 48 * MIB
    for shard in shards:
        assert shard.stat().st_size <= 16 * MIB, shard
        for name, tensor in load_file(shard).items():
            assert tensor.dtype in (torch.float16, torch.int64), name
            assert tensor.isfinite().all(), name
    assert (ASSETS / "mini" / "README.md").read_text().startswith("---"), "the model card is part of the model"


def test_the_recipe_describes_the_weights() -> None:
    folder = ModelFolder(ASSETS / "mini", load_recipe("mini-cpu"))
    for component in ("vae", "unet"):
        folder.load(component)  # raises where a size differs


def test_the_demo_prompts_have_no_unknown_words(mini: AnyStoryPipeline) -> None:
    tokenizers = (mini.tokenizer, mini.tokenizer_2)
    assert unknown_words("a fox and a robot waving on a beach at dusk", tokenizers) == []
    assert [word for word, _ in unknown_words("a fox riding a bicycle", tokenizers)] == ["riding", "bicycle"]


def test_two_look_alikes_keep_their_colours_apart(mini: AnyStoryPipeline) -> None:
    out = draw(mini, "two rabbits standing together in a snowy field", ("blue-rabbit", "red-rabbit"))
    picture = np.asarray(out.images[0], dtype=float)
    assert picture.shape == (64, 64, 3)
    blue, red = out.routing.masks()
    assert min(blue.sum(), red.sum()) >= 40, "both characters own a part of the picture"
    redness = picture[..., 0] - picture[..., 2]
    assert redness[red].mean() > redness[blue].mean() + 40


def test_without_subjects_it_draws_the_place(mini: AnyStoryPipeline) -> None:
    night, day = (
        np.asarray(draw(mini, f"a bear standing in a forest {light}", ()).images[0], dtype=float)
        for light in ("at night", "on a sunny day")
    )
    assert day.mean() > night.mean() + 25


def test_the_router_segments_scenes_it_has_never_seen() -> None:
    """The routed masks of held-out scenes at a little noise, against the true instances."""
    torch.set_num_threads(1)
    recipe = load_recipe("mini-cpu")
    stage = build_stage("router", ModelFolder(ASSETS / "mini", recipe))
    assert isinstance(stage, PersonalStage)
    assert recipe.level is not None
    samples = [
        personal_sample(
            index, level=recipe.level, size=64, reference_size=64, seed=0, min_subjects=2, max_subjects=2,
            split="heldout", augment=False,
        )
        for index in range(8)
    ]  # fmt: skip
    batch = collate(samples)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        conditioning = SubjectConditioning(encoded=stage.encode_subjects(batch), record="pictures")
        clean = stage.clean_latents(batch)
        t = torch.full((len(samples),), 300)
        noisy, _ = stage.schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), t)
        attention = {"subject_conditioning": conditioning}
        with stage.adapter.installed_on(stage.unet):
            stage.predict(noisy, t, stage.text(batch), stage.sizes(batch), attention)
    fine = [maps.refined for maps in conditioning.maps.values() if maps.refined.shape[-1] == 16]
    owners = torch.stack(fine).mean(dim=0).argmax(dim=1).numpy()
    overlaps = []
    for owner, instances in zip(owners, batch["instances"].numpy(), strict=True):
        truth = np.asarray(Image.fromarray(instances).resize((16, 16), Image.Resampling.NEAREST))
        for subject in (1, 2):
            mine, yours = owner == subject - 1, truth == subject
            overlaps.append((mine & yours).sum() / max(1, (mine | yours).sum()))
    assert np.mean(overlaps) > 0.5, f"mean IoU {np.mean(overlaps):.2f}"
