"""The judge's parts at a tiny size: crops, rough masks, learning, reading, saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.crops import chests_of, crop_characters, crops_of, squares_around
from anystory.storyworld.attribute_classifier.degrade import degrade_masks, degrade_pictures
from anystory.storyworld.attribute_classifier.pictures import TrainingPictures, draw_pictures, to_bytes, to_pixels
from anystory.storyworld.attribute_classifier.report import Accuracy, match, measure
from anystory.storyworld.attribute_classifier.training import (
    Schedule,
    attribute_loss,
    train_character_net,
    train_scene_net,
)
from anystory.storyworld.level import load_level
from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_scene

SMALL: dict[str, Any] = {
    "size": 32, "crop": 16, "min_area": 20, "scene_widths": (8, 8, 8), "character_widths": (16, 16, 16),
    "chest_crop": 16, "chest_widths": (8, 8, 8),
}  # fmt: skip


def darken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Stands for an autoencoder."""
    return images - 0.5


@pytest.fixture(scope="module")
def config() -> ClassifierConfig:
    torch.set_num_threads(1)
    return ClassifierConfig.of_level(1, **SMALL)


@pytest.fixture(scope="module")
def pictures(config: ClassifierConfig) -> TrainingPictures:
    return draw_pictures(config, load_level(1), 96, seed=3, rebuild=darken, rebuilt=40)


def train(
    config: ClassifierConfig, pictures: TrainingPictures, steps: int, seed: int = 0
) -> tuple[AttributeClassifier, list[list[float]]]:
    torch.manual_seed(seed)
    judge = AttributeClassifier(config)
    losses: list[list[float]] = [[], []]
    schedule = Schedule(steps=steps, batch=16, learning_rate=1e-2, seed=seed)
    train_scene_net(judge.scene, pictures, schedule, lambda _, __, loss: losses[0].append(loss))
    train_character_net(
        judge.character, config, pictures, schedule, lambda _, __, loss: losses[1].append(loss), judge.scene
    )
    return judge, losses


def test_a_square_lies_around_its_mask() -> None:
    masks = torch.zeros(3, 32, 40, dtype=torch.bool)
    masks[0, 4:24, 10:15] = True
    masks[1, 8:10, 20:22] = True
    found = squares_around(masks)
    assert found[0].tolist() == pytest.approx([12.5, 14.0, 22.0])
    assert found[1].tolist() == pytest.approx([21.0, 9.0, 16.0]), "small ones are not enlarged without end"
    assert found[2].tolist() == pytest.approx([20.0, 16.0, 44.0]), "no mask: the whole picture"


def test_a_crop_is_what_lies_in_the_square() -> None:
    images = torch.rand(1, 3, 32, 32)
    masks = torch.zeros(1, 32, 32)
    masks[0, 8:24, 8:24] = 1
    crop = crop_characters(images, masks, torch.tensor([[16.0, 16.0, 16.0]]), 16)
    assert torch.allclose(crop[:, :3], images[..., 8:24, 8:24], atol=1e-5)
    assert torch.allclose(crop[:, 3], torch.ones(1, 16, 16), atol=1e-5)
    beyond = crop_characters(images, masks, torch.tensor([[0.0, 16.0, 16.0]]), 16)
    assert beyond[..., :7].abs().max() == 0


def test_the_close_up_shows_the_emblem() -> None:
    """Where a change of emblem changes the picture lies inside the close-up, for all but a few held-out characters."""
    config = ClassifierConfig.of_level(1)
    inside = []
    for i in range(24):
        scene = sample_scene(i, 1, "heldout")
        first, *others = scene.placements
        identity = replace(first.identity, emblem="none" if first.identity.emblem != "none" else "star")
        drawn = render_scene(scene, 64)
        other = render_scene(replace(scene, placements=(replace(first, identity=identity), *others)), 64)
        changed = np.argwhere((other.image != drawn.image).any(axis=-1)) + 0.5
        if len(changed) < 4:
            continue
        square = squares_around(torch.from_numpy(drawn.instances == 1)[None])
        x, y, side = chests_of(square, config.chest)[0].tolist()
        inside.append(np.abs(changed - (y, x)).max() <= side / 2)
    assert len(inside) >= 20
    assert np.mean(inside) >= 0.9


def test_both_crops_have_their_sizes(config: ClassifierConfig) -> None:
    whole, close = crops_of(torch.zeros(2, 3, 32, 32), torch.ones(2, 32, 32), torch.full((2, 3), 16.0), config)
    assert whole.shape == (2, 4, config.crop, config.crop)
    assert close.shape == (2, 4, config.chest_crop, config.chest_crop)


def test_degrading_is_mild_and_repeatable() -> None:
    images = to_pixels(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8))
    flat = torch.full((8, 3, 32, 32), 0.2)
    one, two = (degrade_pictures(images, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, images)
    assert (degrade_pictures(flat, torch.Generator().manual_seed(5)).mean(dim=(2, 3)) - 0.2).abs().max() < 0.1


def test_rough_masks_stay_near_the_true_ones() -> None:
    masks = torch.zeros(64, 32, 32, dtype=torch.bool)
    masks[:, 6:26, 10:22] = True
    rough = degrade_masks(masks, torch.Generator().manual_seed(0))
    overlap = (rough & masks).sum(dim=(1, 2)) / (rough | masks).sum(dim=(1, 2))
    assert overlap.min() > 0.4
    assert 0.3 < (overlap == 1).float().mean() < 0.7, "about half are left as they are"
    dot = torch.zeros(8, 32, 32, dtype=torch.bool)
    dot[:, 5, 5] = True
    assert degrade_masks(dot, torch.Generator().manual_seed(0)).flatten(1).any(dim=1).all()


def test_pictures_come_with_their_truth(config: ClassifierConfig, pictures: TrainingPictures, tmp_path: Path) -> None:
    assert pictures.images.shape == (96, 32, 32, 3)
    assert len(pictures.rebuilt) == 40
    expected = to_bytes(darken(to_pixels(torch.from_numpy(pictures.images[:1])), torch.Generator()))
    assert np.array_equal(pictures.rebuilt[:1], expected.numpy())
    most = pictures.instances.max(axis=(1, 2))
    assert {1, 2, 3} <= set(most.tolist()), "also scenes with one more than the level has"
    areas = np.stack([(pictures.instances == c + 1).sum(axis=(1, 2)) for c in range(3)], axis=1)
    assert np.array_equal(pictures.labels[..., 0] >= 0, areas >= config.min_area)
    names = list(config.attributes)
    none = pictures.labels[..., names.index("headwear")] == 0
    assert (pictures.labels[..., names.index("headwear_colour")][none] == -1).all()
    pictures.save(tmp_path / "pictures.npz")
    again = TrainingPictures.load(tmp_path / "pictures.npz")
    assert np.array_equal(again.labels, pictures.labels)
    assert np.array_equal(again.images, pictures.images)


def test_it_learns(config: ClassifierConfig, pictures: TrainingPictures) -> None:
    _, losses = train(config, pictures, 40)
    for name, values, share in zip(("scene", "character"), losses, (0.7, 0.95), strict=True):
        assert np.mean(values[-5:]) < share * np.mean(values[:3]), f"{name}: {values[0]:.2f} to {values[-1]:.2f}"


def test_training_follows_from_its_seed(config: ClassifierConfig, pictures: TrainingPictures) -> None:
    (_, one), (_, same), (_, other) = (train(config, pictures, 2, seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_attributes_without_a_value_do_not_count() -> None:
    said = {"a": torch.tensor([[0.0, 0.0], [9.0, -9.0]]), "b": torch.tensor([[0.0, 0.0], [0.0, 0.0]])}
    assert float(attribute_loss(said, torch.tensor([[0, 1], [-1, -1]]))) == pytest.approx(np.log(2))
    assert float(attribute_loss(said, torch.tensor([[-1, -1], [0, -1]]))) == pytest.approx(0, abs=1e-6)


def test_a_reading_uses_the_vocabulary_and_survives_saving(
    config: ClassifierConfig, pictures: TrainingPictures, tmp_path: Path
) -> None:
    judge, _ = train(config, pictures, 10)
    images = to_pixels(torch.from_numpy(pictures.images[:8]))
    masks = [[pictures.instances[i] == 1] for i in range(8)]
    judge.save(tmp_path / "judge", dtype=torch.float32)
    again = AttributeClassifier.load(tmp_path / "judge")
    assert again.config == config
    for mine, its in zip(judge.read_instances(images, masks), again.read_instances(images, masks), strict=True):
        assert mine[0].attributes == its[0].attributes
        assert mine[0].confidence == pytest.approx(its[0].confidence, abs=1e-5)
    for first, second in zip(judge.read(images), again.read(images), strict=True):
        assert (first.place, first.light) == (second.place, second.light)
        assert first.place in config.places
        assert first.light in config.lights
        assert len(first.characters) == len(second.characters) <= config.max_characters
        for character in first.characters:
            assert character.mask.shape == (32, 32)
            assert character.mask.dtype == bool
            assert character.mask.sum() >= config.min_area
    for character in (row[0] for row in judge.read_instances(images, masks)):
        assert list(character.attributes) == list(config.attributes) == list(character.confidence)
        for name, value in character.attributes.items():
            assert value in config.attributes[name] or value == ""
            assert 0 < character.confidence[name] <= 1
        assert (character.attributes["headwear"] == "none") == (character.attributes["headwear_colour"] == "")


def test_reading_nothing_gives_nothing(config: ClassifierConfig) -> None:
    judge = AttributeClassifier(config)
    assert judge.read(torch.zeros(0, 3, 32, 32)) == []
    assert judge.read_instances(torch.zeros(2, 3, 32, 32), [[], []]) == [[], []]


def test_wrong_pictures_and_masks_are_refused(config: ClassifierConfig) -> None:
    judge = AttributeClassifier(config)
    with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\).*got \(1, 3, 64, 64\)"):
        judge.read(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="list of masks for each of the 2"):
        judge.read_instances(torch.zeros(2, 3, 32, 32), [[]])
    with pytest.raises(ValueError, match="32 × 32"):
        judge.read_instances(torch.zeros(1, 3, 32, 32), [[np.zeros((8, 8), bool)]])


def test_a_folder_that_holds_no_judge_is_refused(config: ClassifierConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.json; make one with `anystory judge train"):
        AttributeClassifier.load(tmp_path / "nowhere")
    folder = tmp_path / "judge"
    AttributeClassifier(config).save(folder)
    (folder / "config.json").write_text('{"level": 1')
    with pytest.raises(ValueError, match="no usable attribute classifier"):
        AttributeClassifier.load(folder)
    (folder / "config.json").write_text(replace(config, scene_widths=(8, 8, 16)).to_json())
    with pytest.raises(ValueError, match="no usable attribute classifier"):
        AttributeClassifier.load(folder)
    (folder / "config.json").write_text(config.to_json())
    (folder / "scene.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="no usable attribute classifier"):
        AttributeClassifier.load(folder)
    (folder / "scene.safetensors").unlink()
    with pytest.raises(ValueError, match="has no scene.safetensors"):
        AttributeClassifier.load(folder)


def test_impossible_settings_are_refused(config: ClassifierConfig) -> None:
    for wrong, message in (
        ({"size": 30}, "multiple of 8"),
        ({"crop": 8}, "greater than or equal to 16"),
        ({"max_characters": 5}, "less than or equal to 4"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(config, **wrong)
    with pytest.raises(ValueError, match="colour: Unexpected"):
        ClassifierConfig.from_json('{"colour": "red"}')
    with pytest.raises(ValueError, match=r"not an attribute classifier's config\.json"):
        ClassifierConfig.from_json("[]")
    with pytest.raises(ValueError, match="one of the two"):
        Schedule()
    with pytest.raises(ValueError, match="more than zero"):
        Schedule(steps=0)


def test_every_read_character_is_taken_once() -> None:
    left, right, nobody = np.zeros((3, 8, 8), bool)
    left[:, :3], right[:, 5:], nobody[:, 3:5] = True, True, True
    both = left | right
    assert match([left, right], [right, left]) == [(1, 1.0), (0, 1.0)]
    assert match([left, right], [both]) == [(0, 0.5), (None, 0.0)]
    assert match([left], [nobody]) == [(None, 0.0)]


def test_the_interval_is_wilsons() -> None:
    assert Accuracy(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Accuracy(0, 0).interval == (0.0, 1.0)
    assert Accuracy(50, 50).interval == pytest.approx((0.9286, 1.0), abs=1e-4)


def test_an_untrained_judge_scores_low_and_every_figure_is_there(config: ClassifierConfig) -> None:
    torch.manual_seed(0)
    found = measure(AttributeClassifier(config), 6, rebuild=darken)
    data = found.to_dict()
    assert set(data["pictures"]) == {"renders", "rebuilt"}
    scores = found.pictures["renders"].attributes["true masks"]
    assert scores["kind"].total <= found.characters.right
    assert scores["kind"].rate < 0.9
    assert found.judged["headwear_colour"].total < found.judged["headwear"].total


def test_a_report_may_begin_at_any_scene(config: ClassifierConfig) -> None:
    torch.manual_seed(0)
    judge = AttributeClassifier(config)
    whole, later = measure(judge, 4), measure(judge, 2, first=2)
    assert later.characters.total == sum(len(sample_scene(i, config.level, "heldout").placements) for i in (2, 3))
    assert whole.characters.total > later.characters.total
