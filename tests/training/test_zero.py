"""What is refused of DeepSpeed's settings and of what accelerate made of them; test_launch.py trains with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn

from anystory.training import devices
from anystory.training.recipe import StageConfig
from anystory.training.zero import ZeroEngine, check_settings, is_zero


def launched(stage: int = 2, offload: str = "none", bf16: bool = False) -> Any:
    """As much of an accelerator as says how the run was launched."""
    config = {
        "zero_optimization": {"stage": stage, "offload_optimizer": {"device": offload, "nvme_path": None}},
        "bf16": {"enabled": bf16},
    }
    plugin = SimpleNamespace(deepspeed_config=config)
    return SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, state=SimpleNamespace(deepspeed_plugin=plugin))


def test_stage_two_is_taken() -> None:
    assert is_zero(launched())
    check_settings(launched())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stage": 3}, "ZeRO stage 3 is not supported: take stage 2"),
        ({"offload": "cpu"}, "offloading is not supported"),
        ({"bf16": True}, "set mixed_precision to 'no'"),
    ],
)
def test_settings_that_a_run_could_not_keep_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_settings(launched(**changes))


@pytest.mark.parametrize(("asked", "kind"), [("FSDP", "FSDP"), ("DEEPSPEED", "DEEPSPEED")])
def test_what_accelerate_takes_instead_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str, kind: str) -> None:
    taken = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, num_processes=2)
    monkeypatch.setattr(devices, "Accelerator", lambda **_: taken)
    monkeypatch.setenv(f"ACCELERATE_USE_{asked}", "true")
    with pytest.raises(ValueError, match=f"{kind} was asked for and accelerate took MULTI_CPU instead"):
        devices.make_accelerator()


def test_other_optimizers_are_refused() -> None:
    config = StageConfig(batch_size=1, learning_rate=1e-3, optimizer="adamw8bit", steps=1)
    stage = nn.Linear(2, 2)
    parameters = dict(stage.named_parameters())
    with pytest.raises(ValueError, match="DeepSpeed goes with optimizer 'adamw'"):
        ZeroEngine(stage, config, parameters, torch.optim.AdamW(parameters.values()), launched())
