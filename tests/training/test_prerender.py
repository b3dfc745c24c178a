"""Samples drawn ahead: the same ones as the stream's, each once an epoch, and never more than the clock allows."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from functools import partial
from multiprocessing import resource_sharer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from anystory.cli import app
from anystory.training.data import storyworld
from anystory.training.data.memory import DEVICE_SHARE, SampleMemory, fits, memory_batches
from anystory.training.data.prerender import CHUNK, draw_ahead
from anystory.training.data.prerender_settings import Prerender
from anystory.training.data.stream import Sample, collate, stream_batches, told_worker_deaths
from anystory.training.failures import DrawingFailed
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageName
from anystory.training.stages import build_stage
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.trainer import train

from .test_loop import options

scenes = partial(storyworld.scene_sample, level="level1", size=16, seed=0)
pairs = partial(
    storyworld.personal_sample, level="level1", size=16, reference_size=24, seed=3, min_subjects=1, max_subjects=2
)


def number(index: int) -> Sample:
    return {"square": np.array([index, index**2]), "name": str(index)}


def slow_number(index: int) -> Sample:
    time.sleep(0.002)
    return number(index)


def refuses_at_fifty(index: int) -> Sample:
    if index == 50:
        raise ValueError("fifty is too many")
    return number(index)


def dies_at_fifty(index: int) -> Sample:
    if index == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return number(index)


def dies_after_two_batches(index: int) -> Sample:
    if index == 4:
        time.sleep(0.3)  # until the second batch is on its way
        os.kill(os.getpid(), signal.SIGKILL)
    return number(index)


def closes_its_socket_and_dies(index: int) -> Sample:
    if index == 4:
        time.sleep(0.3)
        resource_sharer.stop()  # pyright: ignore[reportAttributeAccessIssue]
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGKILL)
    return number(index)


def assert_equal(batch: Sample, expected: Sample) -> None:
    assert batch.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert batch[key].dtype == value.dtype
            assert torch.equal(batch[key], value), key
        else:
            assert batch[key] == value


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fetch", [scenes, pairs])
def test_the_memory_holds_the_samples_of_the_stream(fetch: partial[Sample], workers: int) -> None:
    count = CHUNK + 8
    memory = draw_ahead(fetch, Prerender(count, first=5, workers=workers), "test", quiet=True)
    stream = stream_batches(fetch, start=5, batch_size=count, workers=0)
    assert_equal(memory.rows(torch.arange(count)), next(stream))
    index = torch.tensor([7, 0, count - 1])
    assert_equal(memory.rows(index), collate([fetch(5 + int(i)) for i in index]))


def filled(count: int) -> SampleMemory:
    return draw_ahead(number, Prerender(count, workers=0), "test", quiet=True)


def test_a_folder_of_samples_is_opened_by_another_process(tmp_path: Path) -> None:
    drawn = collate([pairs(index) for index in range(6)])
    memory = SampleMemory(pairs(0), 8, tmp_path)
    assert SampleMemory.open(tmp_path) is None, "nobody has said that it is whole"
    assert memory.write(0, drawn) == 6
    memory.shorten(6)
    memory.keep(tmp_path)
    opened = SampleMemory.open(tmp_path)
    assert opened is not None
    assert opened.count == 6
    index = torch.tensor([4, 0, 5])
    for key, value in memory.rows(index).items():
        same = opened.rows(index)[key]
        assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, key


@pytest.mark.parametrize("batch_size", [3, 10, 25])
def test_every_epoch_has_every_sample_once_in_an_order_of_its_own(batch_size: int) -> None:
    batches = memory_batches(filled(10), start=0, batch_size=batch_size, seed=1)
    names = [name for _ in range(10) for name in next(batches)["name"]]
    epochs = [names[i : i + 10] for i in range(0, len(names), 10)]
    assert len(epochs) >= 3
    for epoch in epochs:
        assert sorted(map(int, epoch)) == list(range(10))
    assert epochs[0] != epochs[1]
    other = next(memory_batches(filled(10), start=0, batch_size=10, seed=2))["name"]
    assert other != epochs[0], "another seed is another order"


def test_a_batch_belongs_together() -> None:
    batch = next(memory_batches(filled(50), start=0, batch_size=20, seed=0))
    assert [str(a) for a in batch["square"][:, 0].tolist()] == batch["name"]
    assert torch.equal(batch["square"][:, 0] ** 2, batch["square"][:, 1])


@pytest.mark.parametrize("done", [1, 4, 9])
def test_a_resumed_run_goes_on_in_the_same_order(done: int) -> None:
    memory = filled(10)
    unbroken = memory_batches(memory, start=0, batch_size=4, seed=0)
    for _ in range(done):
        next(unbroken)
    resumed = memory_batches(memory, start=4 * done, batch_size=4, seed=0)
    for _ in range(5):
        assert_equal(next(resumed), next(unbroken))


@pytest.mark.parametrize("workers", [0, 2])
def test_drawing_ends_with_its_time_and_leaves_no_hole(workers: int) -> None:
    began = time.monotonic()
    settings = Prerender(1_000_000, workers=workers, minutes=0.5 / 60)
    memory = draw_ahead(slow_number, settings, "test", quiet=True)
    assert time.monotonic() - began < 30
    assert CHUNK <= memory.count < 1_000_000
    assert memory.count % CHUNK == 0
    assert_equal(memory.rows(torch.arange(memory.count)), collate([number(i) for i in range(memory.count)]))


def test_what_a_drawing_process_refuses_is_told() -> None:
    with pytest.raises(ValueError, match="^fifty is too many$"):
        draw_ahead(refuses_at_fifty, Prerender(1000, workers=2), "test", quiet=True)
    assert not multiprocessing.active_children()


def test_a_drawing_process_that_dies_is_noticed() -> None:
    with pytest.raises(DrawingFailed, match="a process that draws samples died"):
        draw_ahead(dies_at_fifty, Prerender(1000, workers=2), "test", quiet=True)
    assert not multiprocessing.active_children()


def test_a_death_that_shows_as_a_closed_socket_is_noticed() -> None:
    batches = stream_batches(closes_its_socket_and_dies, start=0, batch_size=2, workers=1)
    next(batches)
    time.sleep(0.8)
    with pytest.raises(DrawingFailed, match="a process that draws samples died"):
        next(batches)
    assert not multiprocessing.active_children()


def test_a_death_beside_the_reading_is_noticed() -> None:
    batches = stream_batches(dies_after_two_batches, start=0, batch_size=2, workers=1)
    with pytest.raises(DrawingFailed, match="a process that draws samples died"), told_worker_deaths():
        next(batches)
        time.sleep(30)
    del batches
    assert not multiprocessing.active_children()


def test_a_death_ends_a_training_run_with_a_sentence(recipe: Recipe, tmp_path: Path) -> None:
    stage = build_stage("vae", ModelFolder(tmp_path / "model", recipe))
    fetch = stage.fetch()

    def dies(index: int) -> Sample:
        if index == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return fetch(index)

    stage.fetch = lambda: dies  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DrawingFailed, match="a process that draws samples died"):
        train(stage, recipe.stages["vae"], options(tmp_path, steps=1000, workers=1))
    assert not multiprocessing.active_children()


def test_a_signal_stops_the_drawing() -> None:
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        draw_ahead(slow_number, Prerender(1_000_000, workers=2), "test", quiet=True)
    assert not multiprocessing.active_children()


def test_the_log_says_how_many_and_how_fast(capfd: pytest.CaptureFixture[str]) -> None:
    draw_ahead(number, Prerender(40, workers=0), "vae")
    assert "[vae] drawing: 40 of 40 samples" in capfd.readouterr().err


def test_samples_stay_where_they_leave_room_to_train() -> None:
    million = 1_000_000 * 128 * 128 * 4  # picture and instances
    assert fits(million, 139 * 2**30)
    assert not fits(million, 78 * 2**30)
    assert fits(60, int(100 * DEVICE_SHARE) + 40)
    memory = filled(4)
    assert not memory.move_to(torch.device("cpu"))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"count": 0}, "count"), ({"first": -1}, "first"), ({"workers": -1}, "workers"), ({"minutes": 0.0}, "minutes")],
)
def test_bad_settings_are_named(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Prerender(**{"count": 1, **values})  # pyright: ignore[reportArgumentType]


def test_too_many_samples_for_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="GiB of memory"):
        SampleMemory({"image": np.zeros((1024, 1024, 3), np.uint8)}, 10**15)


def test_a_resumed_run_from_memory_equals_the_unbroken_one(recipe: Recipe, tmp_path: Path) -> None:
    ends = {}
    config = recipe.stages["vae"].model_copy(update={"decay_fraction": 0.0})
    ahead = Prerender(10, workers=0)  # batches of 4: the third goes over into the second epoch
    for run, budgets in (("broken", (2, 4)), ("unbroken", (4,))):
        for budget in budgets:
            stage = build_stage("vae", ModelFolder(tmp_path / run / "model", recipe))
            resume = budget != budgets[0]
            train(stage, config, options(tmp_path / run, resume=resume, steps=budget, prerender=ahead))
            shutil.rmtree(tmp_path / run / "model")  # a resumed run has its weights from the checkpoint alone
        last = find_checkpoint(tmp_path / run / "vae")
        assert last is not None
        ends[run] = load_file(last / "model.safetensors")
    for key, value in ends["unbroken"].items():
        assert torch.equal(value, ends["broken"][key]), key


def test_drawing_does_not_count_as_training(recipe: Recipe, tmp_path: Path) -> None:
    stage = build_stage("vae", ModelFolder(tmp_path / "model", recipe))
    fetch = stage.fetch()

    def slow(index: int) -> Sample:
        time.sleep(0.2 if index < 2**40 else 0)
        return fetch(index)

    stage.fetch = lambda: slow  # pyright: ignore[reportAttributeAccessIssue]
    began = time.monotonic()
    ahead = Prerender(10, workers=0)
    progress = train(stage, recipe.stages["vae"], options(tmp_path, steps=1, prerender=ahead))
    assert time.monotonic() - began > 2
    assert progress.seconds < 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prerender-minutes", "2"], "--prerender-minutes says how --prerender draws"),
        (["--prerender-first", "0"], "--prerender-first says how --prerender draws"),
        (["--prerender", "9", "--prerender-minutes", "0"], "minutes must be positive"),
    ],
)
def test_mistakes_on_the_command_line_are_told(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["train", "vae", "--out", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "ahead", "in_steps"),
    [
        # Samples of one picture; of two, beside two references, as are the two on the sheet at the end. Everything is
        # encoded in one go, or again in each step.
        ("base", [6], [4, 4, 4]),
        ("encoder", [12, 12, 4], [*[8, 8] * 3, 4]),
        ("router", [12, 12, 4], [*[8, 8] * 3, 4]),
    ],
)
def test_what_is_encoded_once_teaches_what_pictures_teach(
    recipe: Recipe,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: StageName,
    ahead: list[int],
    in_steps: list[int],
) -> None:
    extra = {"detail_weight": 9.0, **({} if name == "base" else {"targets": 2})}
    settings = recipe.stages[name].model_copy(
        update={"validate_every": 0, "log_every": 1, "options": recipe.stages[name].options | extra}
    )
    recipe = recipe.model_copy(update={"stages": recipe.stages | {name: settings}})
    folder = ModelFolder(tmp_path / "model", recipe)
    parts = ["vae", "tokenizer_2", "text_encoder_2"]
    for part in parts if name == "base" else [*parts, "unet", "scheduler", "image_encoder", "feature_extractor"]:
        folder.save(part, folder.load_or_build(part))
    if name != "base":
        folder.save("adapter", folder.adapter(folder.load("unet")))
    ends = []
    for encodes in (True, False):
        out = tmp_path / str(encodes)
        shutil.copytree(folder.path, out / "model")  # training writes into it
        stage = build_stage(name, ModelFolder(out / "model", recipe))
        calls: list[int] = []
        latents = stage.latents  # pyright: ignore[reportAttributeAccessIssue]
        stage.latents = lambda pixels, calls=calls, latents=latents: calls.append(len(pixels)) or latents(pixels)  # pyright: ignore
        if not encodes:
            stage.encoders_ahead = dict  # pyright: ignore[reportAttributeAccessIssue]
        drawn = Prerender(6, workers=0)
        train(stage, settings, options(out, steps=3, prerender=drawn, precision="fp32", quiet=False))
        assert calls == (ahead if encodes else in_steps)
        lines = (out / name / "log.jsonl").read_text().splitlines()
        ends.append([json.loads(line)["loss"] for line in lines])
    told = capfd.readouterr().err
    assert f"[{name}] encoding image: 6 of 6 samples" in told
    assert (f"[{name}] encoding references: 6 of 6 samples" in told) == (name != "base")
    assert len(ends[0]) == 3
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
