from __future__ import annotations

import pytest
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from models.tiny import make_adapter, make_unet

from anystory.models import SubjectAdapter


@pytest.fixture(scope="session")
def unet() -> UNet2DConditionModel:
    """The tiny base. Tests must leave it as it is, which is also what an adapter promises."""
    return make_unet()


@pytest.fixture
def adapter(unet: UNet2DConditionModel) -> SubjectAdapter:
    return make_adapter(unet)
