"""A tiny model, loaded once, and a story for it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from anystory.engine.backends.sdxl_model import SdxlModel
from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.story.reading import StoryFile, read_story
from cli.conftest import give_references
from pipelines import helpers

STORY = """\
title: Two
steps: 2
cast:
  red: {looks: a fox, photos: red.png}
  blue: {looks: a robot, photos: {image: blue.png, mask: blue-mask.png}}
places:
  sea: on a beach
panels:
  - Red waving
  - {prompt: Red and Blue, place: sea, narration: Then}
  - night
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout, as a folder."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 3, "guidance_scale": 4.0}).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def options(tiny: Path) -> ModelOptions:
    return ModelOptions(model=str(tiny), threads=1)


@pytest.fixture(scope="session")
def model(options: ModelOptions) -> Iterator[SdxlModel]:
    threads = torch.get_num_threads()
    loaded = load(options)
    assert isinstance(loaded, SdxlModel)
    yield loaded
    torch.set_num_threads(threads)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], StoryFile]:
    """Writes a story beside the pictures red.png and blue.png, and reads it."""
    folder = tmp_path / "story"
    folder.mkdir()
    give_references(folder)

    def written(text: str = STORY) -> StoryFile:
        path = folder / "story.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return read_story(path)

    return written
