"""The pieces of the training: each against a few lines of its own, or a case whose answer is known."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from torch import nn

from anystory.data.stream.references import augment_reference
from anystory.files import atomic_folder
from anystory.subjects.arrays import rgba_on_white
from anystory.training.data.storyworld import personal_sample
from anystory.training.data.stream import StreamSampler, stream_batches
from anystory.training.launch.stopping import StopRequest
from anystory.training.model.components import ModelFolder, check_components
from anystory.training.model.exports import note_export, stale_stages
from anystory.training.model.tokenizer import build_tokenizer
from anystory.training.recipe import Recipe
from anystory.training.runlog import RunLog, read_log
from anystory.training.stages.clip import contrastive_loss
from anystory.training.stages.common import NoiseOptions, NoiseSchedule, picture_detail, weighted_mse
from anystory.training.state.ema import NamedEMA
from anystory.training.state.train_state import Progress

from .conftest import TINY


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_noise_and_target_are_those_of_diffusers(prediction: Literal["v_prediction", "epsilon"]) -> None:
    values = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    schedule = NoiseSchedule(EulerDiscreteScheduler(prediction_type=prediction, **values))
    reference = DDPMScheduler(prediction_type=prediction, **values)
    clean, noise, t = numbers(3, 4, 2, 2), numbers(3, 4, 2, 2, seed=1), torch.tensor([0, 500, 999])
    noisy, target = schedule.add_noise(clean, noise, t)
    torch.testing.assert_close(noisy, reference.add_noise(clean, noise, t))  # pyright: ignore[reportArgumentType]
    velocity = reference.get_velocity(clean, noise, t)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(target, velocity if prediction == "v_prediction" else noise)


def test_a_prediction_type_that_is_not_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        NoiseSchedule(EulerDiscreteScheduler(prediction_type="sample"))


def test_a_model_draws_with_the_recipes_sampler_and_trains_on_the_same_noise(tmp_path: Path) -> None:
    plain = Recipe.model_validate(TINY)
    recipe = Recipe.model_validate({**TINY, "sampler": "UniPCMultistepScheduler"})
    folder = ModelFolder(tmp_path, recipe)
    folder.save("scheduler", folder.load_or_build("scheduler"))
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "UniPCMultistepScheduler"]
    # Whoever trains on keeps it, also with a recipe that says nothing.
    read = ModelFolder(tmp_path, plain).load("scheduler")
    assert type(read) is UniPCMultistepScheduler
    ours, eulers = NoiseSchedule(read), NoiseSchedule(ModelFolder(tmp_path / "other", plain).load_or_build("scheduler"))
    assert torch.equal(ours.signal, eulers.signal)
    assert torch.equal(ours.noise, eulers.noise)
    assert ours.prediction == eulers.prediction
    check_components(recipe)
    with pytest.raises(ValueError, match="diffusers has no scheduler 'UniPC'"):
        check_components(Recipe.model_validate({**TINY, "sampler": "UniPC"}))


def test_weighted_error_counts_characters_more_and_keeps_its_scale() -> None:
    prediction, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    target[..., 0] = 1.0  # the left half is wrong by one
    mask = torch.zeros(1, 4, 4)
    mask[..., :2] = 1  # and it is the character
    loss, plain = weighted_mse(prediction, target, mask, extra=3.0)
    assert plain == 0.5
    assert loss == pytest.approx((2 * 4 * 1.0) / (2 * 4 + 2 * 1))
    assert weighted_mse(prediction, target, mask, extra=0.0)[0] == 0.5
    assert weighted_mse(prediction, target, torch.ones(1, 4, 4), extra=3.0)[0] == pytest.approx(0.5)


def test_flat_colours_have_no_detail_and_contrast_in_a_cell_has() -> None:
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[..., :4] = -1.0  # two flat halves: the edge lies between two cells
    assert picture_detail(pixels, (2, 2)).abs().max() < 1e-6
    pixels[:, :, :2, :4], pixels[:, :, 2:4, :4] = 1.0, -1.0  # black and white in one cell
    found = picture_detail(pixels, (2, 2))
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-6)
    pixels[:, 1:] = 0  # in one of three colours
    assert picture_detail(pixels, (2, 2))[0, 0, 0] == pytest.approx(1 / 3)


def test_details_weigh_on_characters_only() -> None:
    prediction, target = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    target[..., 0] = 1.0
    mask, detail = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, 5.0]]])
    loss, plain = weighted_mse(prediction, target, mask, 2.0 + detail)
    assert plain == 0.5
    assert loss == pytest.approx(6 / 7)
    assert weighted_mse(prediction, target, mask, detail)[0] == pytest.approx(4 / 5)


def test_contrastive_loss_is_low_for_matching_pairs_and_counts_hits() -> None:
    texts = torch.eye(4)
    loss, hits = contrastive_loss(texts, texts, torch.tensor(100.0))
    assert loss < 1e-6
    assert hits == 1
    loss, hits = contrastive_loss(texts, texts.roll(1, dims=0), torch.tensor(100.0))
    assert loss > 10
    assert hits == 0


def test_ema_follows_its_formula_and_stands_in_only_inside_the_context() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    ema = NamedEMA({"p": parameter}, decay=0.999)
    expected = 1.0
    for step in range(5):
        with torch.no_grad():
            parameter.fill_(float(step))
        ema.update(step)
        decay = min(0.999, 1 - (1 + step) ** (-2 / 3)) if step else 0.0
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(ema.tensors["p"], torch.tensor([expected]))
    with ema.applied():
        torch.testing.assert_close(parameter.detach(), torch.tensor([expected]))
    assert parameter.item() == 4.0


def test_processes_share_the_stream_without_gap_or_overlap() -> None:
    shares = [iter(StreamSampler(100, 3, rank, 2)) for rank in range(2)]
    drawn = [[next(share) for _ in range(9)] for share in shares]
    assert sorted(drawn[0] + drawn[1]) == list(range(100, 118))
    assert drawn[0][:3] == [100, 101, 102]
    assert drawn[1][:3] == [103, 104, 105]


def _square(index: int) -> dict[str, object]:
    return {"square": np.array(index**2), "name": str(index)}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    batches = stream_batches(_square, start=5, batch_size=2, workers=workers)
    drawn = [next(batches) for _ in range(3)]
    assert [b["name"] for b in drawn] == [["5", "6"], ["7", "8"], ["9", "10"]]
    assert torch.equal(drawn[1]["square"], torch.tensor([49, 64]))


def test_reference_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert rgba_on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


def test_augmentation_moves_the_subject_and_keeps_its_colour() -> None:
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[24:40, 28:36] = (200, 40, 90, 255)
    moved = augment_reference(rgba, random.Random(3), probability=1.0)
    assert moved.shape == rgba.shape
    assert not np.array_equal(moved, rgba)
    inside = moved[moved[..., 3] == 255][:, :3].astype(int)
    assert len(inside) > 20
    assert np.abs(inside - (200, 40, 90)).max() <= 2, "transparent black must not bleed into the colour"
    again = augment_reference(rgba, random.Random(3), probability=1.0)
    assert np.array_equal(moved, again)
    assert augment_reference(rgba, random.Random(3), probability=0.0) is rgba


def test_personal_samples_have_as_many_references_as_characters() -> None:
    settings = {"level": "level1", "size": 32, "reference_size": 32, "seed": 0}
    for index in range(6):
        sample = personal_sample(index, min_subjects=1, max_subjects=2, **settings)  # pyright: ignore
        count = int(sample["present"].sum())
        assert set(np.unique(sample["instances"])) - {0} <= set(range(1, count + 1))
        assert [bool(alpha.any()) for alpha in sample["reference_alpha"]] == sample["present"].tolist()
        both = personal_sample(index, min_subjects=2, max_subjects=2, **settings)  # pyright: ignore
        assert both["present"].all()


def test_every_word_is_one_token_and_unknown_words_fall_apart() -> None:
    words = ["fox", "foxes", "fog", "robot", "robots", "a", "banana", "an", "and"]
    tokenizer = build_tokenizer(words, max_tokens=12)
    for word in words:
        assert len(tokenizer.tokenize(word)) == 1, word
    assert len(tokenizer.tokenize("dragon")) > 1
    ids = tokenizer("a fox", padding="max_length", max_length=12).input_ids
    assert len(ids) == 12
    assert ids[0] == tokenizer.bos_token_id
    assert ids[3] == tokenizer.eos_token_id
    for broken in ("top hat", "größe", "12"):
        with pytest.raises(ValueError, match=broken):
            build_tokenizer(["fox", broken], max_tokens=12)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(target) as fresh:
        (fresh / "a").write_text("half")
        raise RuntimeError("stop")
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as fresh:
        (fresh / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_later_stages_are_stale_when_an_earlier_one_goes_on(tmp_path: Path) -> None:
    for step, stage in enumerate(("vae", "clip", "base", "encoder"), start=1):
        note_export(tmp_path, stage, step)  # pyright: ignore[reportArgumentType]
    assert stale_stages(tmp_path) == []
    note_export(tmp_path, "clip", 9)
    assert stale_stages(tmp_path) == ["base", "encoder"]
    note_export(tmp_path, "base", 10)
    assert stale_stages(tmp_path) == ["encoder"]


def test_a_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, Progress(), enabled=True)
    for step in (1, 20, 40):
        log.scalars({"loss": 1.0}, Progress(step=step))
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 60, "lo')  # killed here
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 20, 40]
    RunLog(tmp_path, Progress(step=20), enabled=True).close()
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 20]


def test_a_signal_asks_first_and_a_second_ctrl_c_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        signal.raise_signal(signal.SIGTERM)  # launchers send it twice
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_time_steps_follow_their_distribution() -> None:
    generator, device = torch.Generator().manual_seed(0), torch.device("cpu")
    uniform = NoiseOptions().timesteps(20_000, 1000, generator, device).float() / 1000
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert uniform.quantile(0.25) == pytest.approx(0.25, abs=0.02)
    pure = NoiseOptions(timestep_std=1.0, timestep_mean=-0.6, timestep_uniform=0.0)
    drawn = pure.timesteps(20_000, 1000, generator, device)
    logits = ((drawn.float() + 0.5) / 1000).logit()
    assert logits.mean() == pytest.approx(-0.6, abs=0.03)
    assert logits.std() == pytest.approx(1.0, abs=0.03)
    assert ((drawn >= 0) & (drawn < 1000)).all()
    mixed = NoiseOptions(timestep_std=0.01, timestep_mean=0.0, timestep_uniform=0.5)
    far = (mixed.timesteps(20_000, 1000, generator, device).float() / 1000 - 0.5).abs() > 0.05
    assert far.float().mean() == pytest.approx(0.5 * 0.9, abs=0.02)
