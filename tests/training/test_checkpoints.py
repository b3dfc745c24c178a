"""Checkpoints: whole or not there, the last few and the best, and told apart from damaged ones."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from anystory.training.failures import DiskFull
from anystory.training.state import checkpoint as one
from anystory.training.state.checkpoint import Metric, damage, load_checkpoint, read_metric
from anystory.training.state.checkpoints import Checkpoints, best_checkpoint, find_checkpoint
from anystory.training.state.optimizer_state import OptimizerState
from anystory.training.state.train_state import Progress, TrainState


def state(steps: int = 1, at: int = 0) -> TrainState:
    """Two parameters after some steps, said to be at step `at`; the second never gets a gradient."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name: nn.Parameter(torch.randn(n, generator=generator)) for name, n in (("w", 3), ("never", 2))}
    optimizer = torch.optim.AdamW(parameters.values())
    for _ in range(steps):
        parameters["w"].grad = torch.ones(3)
        optimizer.step()
    averages = {name: value.detach().clone() for name, value in parameters.items()}
    return TrainState(parameters, averages, OptimizerState(optimizer, parameters), Progress(at))


def held(parameters: dict[str, nn.Parameter]) -> OptimizerState:
    return OptimizerState(torch.optim.AdamW(parameters.values()), parameters)


def steps_of(stage: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (stage / "checkpoints").glob("step-*"))


def test_everything_comes_back(tmp_path: Path) -> None:
    kept, other = state(steps=3), state(steps=0)
    kept.progress = Progress(7, 28, 1.5)
    Checkpoints(tmp_path).save(kept)
    found = find_checkpoint(tmp_path)
    assert found is not None
    load_checkpoint(found, other)
    assert other.progress == Progress(7, 28, 1.5)
    assert torch.equal(other.parameters["w"], kept.parameters["w"])
    moments = dict(other.optimizer.tensors())
    assert list(moments) == ["w"], "a parameter that never had a gradient has no moments"
    for key, value in dict(kept.optimizer.tensors())["w"].items():
        assert torch.equal(moments["w"][key], value), key


def test_the_last_few_and_the_best_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep_last=2)
    for step, value in enumerate([5.0, 3.0, None, float("nan"), 4.0, None], start=1):
        store.save(state(at=step), None if value is None else Metric("loss", value))
    assert steps_of(tmp_path) == [2, 5, 6]
    best = best_checkpoint(tmp_path)
    assert best is not None
    assert best.name == "step-00000002"
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["checkpoint"] == best.name
    assert Checkpoints(tmp_path).newest() == tmp_path / "checkpoints" / "step-00000006"


def test_larger_may_be_better(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep_last=1)
    for step, value in enumerate([0.2, 0.9, 0.5], start=1):
        store.save(state(at=step), Metric("iou", value, larger_is_better=True))
    assert steps_of(tmp_path) == [2, 3]


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "manifest"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        newest = store.save(state(step, at=step))
    victim = newest / ("manifest.json" if how == "manifest" else "ema.safetensors")
    content = bytearray(victim.read_bytes())
    if how == "missing":
        victim.unlink()
    elif how == "flipped":
        content[-1] ^= 1
        victim.write_bytes(content)
    else:
        victim.write_bytes(content[: len(content) // 2])
    found = Checkpoints(tmp_path).newest()
    assert found is not None
    assert found.name == "step-00000001"
    said = capsys.readouterr().err
    assert "step-00000002 is damaged" in said
    assert victim.name in said
    assert "resuming from step-00000001" in said
    again = Checkpoints(tmp_path)
    assert again.newest() == found, "the damaged one is set aside"
    again.save(state(2, at=2))
    assert steps_of(tmp_path) == [1, 2]
    assert not list((tmp_path / "checkpoints").glob("damaged-*")), "it goes when there is a good one in its place"


def test_a_run_whose_only_checkpoint_is_damaged_does_not_start_over_by_itself(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(state(at=1))
    (path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"damaged \(model\.safetensors has 4 of \d+ bytes\), and there is none before"
    ):
        Checkpoints(tmp_path).newest()


def test_what_a_killed_run_left_half_done_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(state(at=1))
    for name in (".step-00000002.tmp", ".step-00000000.gone"):
        half = tmp_path / "checkpoints" / name
        half.mkdir()
        (half / "progress.json").write_text('{"step": 2, "samples": 0, "seconds": 0}')
    found = find_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "step-00000001"
    store.save(state(at=3))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000001", "step-00000003"]


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(state(at=1))
    other = state(0)
    wide = {"w": nn.Parameter(torch.zeros(4)), "never": other.parameters["never"]}
    with pytest.raises(ValueError, match=r"model\.safetensors .* does not fit this model: 1 tensors"):
        load_checkpoint(path, TrainState(wide, other.averages, held(wide)))


class FullDisk:
    """Files above a size fail as on a full disk, until `room` of the store's folders are gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, most: int) -> None:
        real = one.save_file

        def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
            if len(list(folder.glob("step-*"))) > most:
                path.write_bytes(b"half of it")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(tensors, path)

        monkeypatch.setattr(one, "save_file", save)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Checkpoints(tmp_path)
    last = store.save(state(at=1))
    FullDisk(monkeypatch, tmp_path / "checkpoints", most=0)
    with pytest.raises(DiskFull, match=rf"the last good checkpoint is .*{last.name}.*anystory train resume"):
        store.save(state(2, at=2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [last.name]
    assert damage(last) is None


def test_older_checkpoints_make_room_but_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Checkpoints(tmp_path, keep_last=4)
    for step in (1, 2, 3, 4):
        store.save(state(at=step), Metric("loss", 0.1) if step == 2 else None)
    FullDisk(monkeypatch, tmp_path / "checkpoints", most=2)
    store.save(state(at=5))
    assert steps_of(tmp_path) == [2, 4, 5]
    assert "removed step-00000001, step-00000003" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a mebibyte, where the system lets us make one."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=512k none {place} 2>/dev/null"):
        pytest.skip("no right to mount a file system here")
    yield place
    os.system(f"umount {place}")


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    parameters = {"w": nn.Parameter(torch.zeros(40_000))}  # a checkpoint takes 320 kB
    large = TrainState(parameters, {"w": torch.zeros(40_000)}, held(parameters), Progress(1))
    store = Checkpoints(small_disk, keep_last=5)
    last = store.save(large, Metric("loss", -1))
    large.progress = Progress(2)
    with pytest.raises(DiskFull, match="the disk is full"):
        store.save(large)
    assert find_checkpoint(small_disk) == last
    assert damage(last) is None
    assert read_metric(last) == Metric("loss", -1)
