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
from anystory.engine.vocabulary import unknown_words
from anystory.evaluation.storyworld.cases import draw_cases, instance_masks
from anystory.files import sha256_file
from anystory.models import RecordedMaps, SubjectConditioning
from anystory.models.saved.checksums import SUMS, UNLISTED, read_sums
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union
from anystory.storyworld.dataset import descriptions
from anystory.training.data.storyworld import personal_sample
from anystory.training.data.stream import collate
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import load_recipe
from anystory.training.stages import build_stage
from anystory.training.stages.common import unet_output
from anystory.training.stages.personal import PersonalStage

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


def test_it_knows_its_own_kind_of_references(mini: AnyStoryPipeline) -> None:
    """No alarm for characters of its world that it has never seen; alarm for noise, rough or smooth."""
    own = [Subject(path) for path in sorted((ASSETS / "demo").glob("*.png"))]
    own += [Subject(Image.fromarray(descriptions(i, split="heldout", size=150)["reference"])) for i in range(40)]
    rng = np.random.default_rng(0)
    strange = []
    for _ in range(5):
        rough = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        smooth = Image.fromarray(rough[:5, :5]).resize((64, 64), Image.Resampling.BICUBIC)
        strange += [Subject(picture, segmenter="none") for picture in (Image.fromarray(rough), smooth)]
    far = [one.strangeness for one in mini.encode_subjects(own)]
    assert max(far) < 1
    far = [one.strangeness for one in mini.encode_subjects(strange)]
    assert min(far) > 1.2


def test_it_finds_its_characters_in_a_picture_and_misses_who_is_absent(mini: AnyStoryPipeline) -> None:
    """By the fusion that ships with it, on held-out scenes (docs/segment.md has the figures)."""
    scenes = [case for case in draw_cases(8, level="level1", split="heldout", size=64) if len(case.references) == 2][:3]
    overlaps, emptied = [], []
    for number, case in enumerate(scenes):
        known = [Subject(reference, name=f"subject {i}") for i, reference in enumerate(case.references)]
        found = mini.segment(case.true, known)
        overlaps += [intersection_over_union(a, b) for a, b in zip(found.masks, instance_masks(case), strict=True)]
        stranger = Subject(scenes[number - 1].references[0], name="stranger")
        emptied.append(not mini.segment(case.true, [known[0], stranger]).present[1])
    assert np.mean(overlaps) > 0.6
    assert sum(emptied) >= 2


def test_the_hashes_that_ship_are_those_of_the_files() -> None:
    """`anystory train … --pack-to` writes them; the card, which people edit, has none."""
    model = ASSETS / "mini"
    there = {path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()}
    named = {name: path for name, path in there.items() if path.name not in UNLISTED}
    assert read_sums(model) == {name: sha256_file(path) for name, path in named.items()}
    assert there.keys() - named.keys() <= {"README.md", "adapter/README.md", SUMS, f"adapter/{SUMS}"}


def test_no_file_that_ships_says_where_it_was_made() -> None:
    for path in ASSETS.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(encoding="utf-8"), path


def test_the_recipe_describes_the_weights() -> None:
    folder = ModelFolder(ASSETS / "mini", load_recipe("mini-128"))
    for component in ("vae", "unet"):
        folder.load(component)  # raises where a size differs


def test_the_demo_prompts_have_no_unknown_words(mini: AnyStoryPipeline) -> None:
    tokenizers = (mini.tokenizer, mini.tokenizer_2)
    assert unknown_words("a fox and a robot waving on a beach at dusk", tokenizers) == []
    assert [word for word, _ in unknown_words("a fox riding a bicycle", tokenizers)] == ["riding", "bicycle"]


def test_two_look_alikes_keep_their_colours_apart(mini: AnyStoryPipeline) -> None:
    out = draw(mini, "two rabbits standing together in a snowy field", ("blue-rabbit", "red-rabbit"))
    picture = np.asarray(out.images[0], dtype=float)
    assert picture.shape == (128, 128, 3)
    blue, red = out.routing.masks()
    assert min(blue.sum(), red.sum()) >= 400, "both characters own a part of the picture"
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
    recipe = load_recipe("mini-128")
    stage = build_stage("router", ModelFolder(ASSETS / "mini", recipe))
    assert isinstance(stage, PersonalStage)
    assert recipe.level is not None
    samples = [
        personal_sample(
            index, level=recipe.level, size=recipe.resolution, reference_size=recipe.resolution, seed=0,
            min_subjects=2, max_subjects=2, split="heldout", augment=False,
        )
        for index in range(8)
    ]  # fmt: skip
    batch = collate(samples)
    generator = torch.Generator().manual_seed(0)
    record = RecordedMaps()
    with torch.no_grad():
        conditioning = SubjectConditioning(encoded=stage.encode_subjects(batch), record=record)
        clean = stage.clean_latents(batch)
        t = torch.full((len(samples),), 300)
        noisy, _ = stage.schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), t)
        attention = {"subject_conditioning": conditioning}
        with stage.adapter.installed_on(stage.unet):
            unet_output(stage.unet, noisy, t, stage.text(batch), stage.sizes(batch), attention)
    fine = [maps.refined for maps in record.maps.values() if maps.refined.shape[-1] == 16]
    owners = torch.stack(fine).mean(dim=0).argmax(dim=1).numpy()
    overlaps = []
    for owner, instances in zip(owners, batch["instances"].numpy(), strict=True):
        truth = np.asarray(Image.fromarray(instances).resize((16, 16), Image.Resampling.NEAREST))
        for subject in (1, 2):
            mine, yours = owner == subject - 1, truth == subject
            overlaps.append((mine & yours).sum() / max(1, (mine | yours).sum()))
    assert np.mean(overlaps) > 0.5, f"mean IoU {np.mean(overlaps):.2f}"
