"""A tiny model, loaded once, and jobs for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from anystory.engine.backends.sdxl_model import SdxlModel
from anystory.engine.drawing import load
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from cli.conftest import give_references
from pipelines import helpers


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout, as a folder."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 3, "guidance_scale": 4.0}).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def model(folder: Path) -> Iterator[SdxlModel]:
    threads = torch.get_num_threads()
    loaded = load(ModelOptions(model=str(folder), threads=1))
    assert isinstance(loaded, SdxlModel)
    yield loaded
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return give_references(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="session")
def job(references: Path) -> Job:
    """A red disc and a blue square."""
    red = SubjectFiles(image=references / "red.png", name="red")
    blue = SubjectFiles(image=references / "blue.png", mask=references / "blue-mask.png", name="blue")
    return Job(prompt="f r", subjects=(red, blue))
