from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from anystory.models import EncodedSubjects, SubjectAdapter
from models.tiny import encode, make_adapter, make_unet


@pytest.fixture(scope="session")
def unet() -> UNet2DConditionModel:
    """The tiny base. Tests must leave it as it is, which is also what an adapter promises."""
    return make_unet()


@pytest.fixture(scope="session")
def fresh_adapter(unet: UNet2DConditionModel) -> SubjectAdapter:
    return make_adapter(unet)


@pytest.fixture
def adapter(fresh_adapter: SubjectAdapter) -> SubjectAdapter:
    """An adapter of one's own for the tiny base."""
    return deepcopy(fresh_adapter)


@pytest.fixture
def encoded(adapter: SubjectAdapter) -> EncodedSubjects:
    """One sample with two subjects, without a graph."""
    with torch.no_grad():
        return encode(adapter, 1, 2)
