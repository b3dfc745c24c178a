"""How strange a picture is, against a normal distribution written out; and what an adapter keeps of it."""

from __future__ import annotations

import json

import pytest
import torch

from anystory.models import SubjectAdapter
from anystory.models.familiarity import Familiarity, picture_features
from models.tiny import CONFIG, make_adapter, make_unet, seeded

WIDTH, COMPONENTS = CONFIG.clip_dim, 4


def features(count: int, seed: int) -> torch.Tensor:
    """Pictures of one kind: four directions of its own, and a little of all others."""
    directions = torch.randn(COMPONENTS, WIDTH, generator=seeded(0))
    generator = seeded(seed)
    inside = torch.randn(count, COMPONENTS, generator=generator) @ directions
    return 3 + inside + 0.05 * torch.randn(count, WIDTH, generator=generator)


def hidden(vectors: torch.Tensor) -> torch.Tensor:
    """Hidden states whose patches have these means, behind a class token that does not count."""
    spread = torch.randn(len(vectors), 4, WIDTH, generator=seeded(9))
    patches = vectors[:, None] + spread - spread.mean(dim=1, keepdim=True)
    return torch.cat([torch.full((len(vectors), 1, WIDTH), 100.0), patches], dim=1)


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return Familiarity.of(features(500, 1), COMPONENTS)


def test_the_features_are_the_mean_of_the_patches():
    vectors = features(3, 2)
    torch.testing.assert_close(picture_features(hidden(vectors)), vectors, rtol=0, atol=1e-4)


def test_the_distance_is_that_of_the_normal_distribution(known):
    """With its covariance written out: k directions with their variances, the rest in all others."""
    own = torch.eye(WIDTH, dtype=torch.float64)
    directions = known.directions.double()
    others = own - directions.T @ directions
    covariance = directions.T @ torch.diag(known.variances.double()) @ directions + known.rest.double() * others
    vectors = torch.cat([features(5, 3), torch.randn(5, WIDTH, generator=seeded(4))])
    standard = ((vectors - known.mean) * known.scale).double()
    square = (standard @ torch.linalg.inv(covariance) * standard).sum(dim=1)
    expected = (square / WIDTH).sqrt() / known.limit.double()
    torch.testing.assert_close(known(hidden(vectors)).double(), expected, rtol=1e-3, atol=1e-3)


def test_its_own_kind_is_familiar_and_another_is_not(known):
    assert known(hidden(features(500, 1))).max() == pytest.approx(1, rel=1e-3)  # what it was made from
    assert (known(hidden(features(200, 5))) < 1).float().mean() > 0.99
    other = 3 + torch.randn(200, COMPONENTS, generator=seeded(6)) @ torch.randn(COMPONENTS, WIDTH, generator=seeded(7))
    assert (known(hidden(other)) > 1).float().mean() > 0.95


def test_half_precision_tells_the_same(known):
    vectors = hidden(features(50, 8))
    half = Familiarity(WIDTH, COMPONENTS)
    half.load_state_dict(known.state_dict())
    torch.testing.assert_close(half.half()(vectors.half()), known(vectors), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(("count", "components"), [(8, 4), (100, 12), (100, 0)])
def test_numbers_that_cannot_be(count, components):
    with pytest.raises(ValueError, match="components"):
        Familiarity.of(features(count, 1), components)


def test_an_adapter_keeps_what_it_was_trained_on(known, tmp_path):
    adapter = make_adapter(make_unet())
    assert (adapter.familiarity, adapter.sizes.max_subjects) == (None, None)
    trained = {name: parameter.clone() for name, parameter in adapter.named_parameters()}
    adapter.note(max_subjects=2, familiarity=known)
    adapter.note(max_subjects=1)  # another stage, with fewer
    adapter.save_pretrained(tmp_path)
    again = SubjectAdapter.from_pretrained(tmp_path)
    assert again.sizes.max_subjects == 2
    vectors = hidden(features(5, 3))
    torch.testing.assert_close(again.familiarity(vectors), known(vectors))
    assert {name for name, _ in again.named_parameters()} == trained.keys()
    assert all(torch.equal(parameter, trained[name]) for name, parameter in again.named_parameters())
    assert not any(name.startswith("familiarity") for name in again.stage_parameters("encoder"))


def test_files_from_before_know_nothing(tmp_path):
    adapter = make_adapter(make_unet())
    adapter.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("max_subjects", "familiarity_components"):
        del config["adapter_config"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = SubjectAdapter.from_pretrained(tmp_path)
    assert (again.familiarity, again.sizes.max_subjects) == (None, None)
