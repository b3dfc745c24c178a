"""One tiny pipeline of each layout; tests that change one build their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from anystory.pipelines.sdxl import AnyStoryPipeline

from . import helpers


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads only cost, and summation orders stay those of one machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=["sdxl", "mini"])
def pipe(request: pytest.FixtureRequest) -> AnyStoryPipeline:
    """A pipeline of each layout; not to be changed."""
    return helpers.pipeline(request.param)


@pytest.fixture(scope="session")
def mini() -> AnyStoryPipeline:
    """The "mini" layout only, for what does not depend on the layout; not to be changed."""
    return helpers.pipeline("mini")
