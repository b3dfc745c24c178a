"""The official computation that ours is compared with: it gives the numbers of the authors' own code."""

from __future__ import annotations

import pytest
import torch

from anystory.evaluation.bench.flux.official import OfficialCall
from anystory.models.flux.state import Acting
from models.flux.official_tiny import TIMES, Case
from models.flux.test_official import adapter, assert_close, below, call, inputs_of, transformer

CASES = [Case(n, mode, True, "wide") for n, mode in ((1, "router"), (2, "shift"), (3, "router"), (3, "unmasked shift"))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_it_draws_what_the_authors_code_draws(case: Case) -> None:
    settings = case.settings
    official = OfficialCall(
        transformer=transformer(),
        adapter=adapter(case.lora_bias),
        inputs=inputs_of(case, fast=True),
        acting=Acting(appearance=bool(settings["redux"]), references=True),
    )
    expected = below(f"{case.name}: ")
    before = transformer().attn_processors
    for number, time in enumerate(TIMES):
        with official.installed():
            found = call(case, time)
        assert_close(found, expected[f"output {number}"])
        if f"owners {number}" in expected:
            assert torch.equal(
                torch.stack([owners[0] for owners in official.owners.values()]).byte(), expected[f"owners {number}"]
            )
    assert transformer().attn_processors == before
    for block, kept in official.cached.items():
        for part, name in zip(kept, ("key", "value"), strict=True):
            if f"{name} {block}" in expected:
                assert_close(part.transpose(1, 2), expected[f"{name} {block}"])
