"""A tiny model folder and reference pictures for the verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from cli.flux_files import FluxFiles, write_flux_files
from cli.sdxl_files import SdxlFiles, write_sdxl_files
from pipelines import helpers


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout, as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 3, "guidance_scale": 4.0}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> SdxlFiles:
    """A tiny SDXL and IP-Adapter-Plus as they are published."""
    return write_sdxl_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def flux(tmp_path_factory: pytest.TempPathFactory) -> FluxFiles:
    """A tiny FLUX.1 and an adapter for it."""
    return write_flux_files(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def adapter(files: SdxlFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `anystory adapter init` makes of these."""
    out = tmp_path_factory.mktemp("made") / "adapter"
    given = ["--base", files.base, "--ip-adapter", files.ip_adapter, "--out", out]
    options = [*map(str, given), "--reference-size", "32", "--dtype", "float32"]
    result = CliRunner().invoke(app, ["adapter", "init", *options])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """A folder with references; see `give_references`."""
    folder = tmp_path / "given"
    folder.mkdir()
    return give_references(folder)


def give_references(folder: Path) -> Path:
    """Draw a red disc `red.png` (alpha) and a blue square `blue.png` with its mask `blue-mask.png`."""
    y, x = np.mgrid[:48, :48]
    disc = np.zeros((48, 48, 4), np.uint8)
    disc[(x - 24) ** 2 + (y - 24) ** 2 < 300] = (200, 40, 40, 255)
    Image.fromarray(disc).save(folder / "red.png")
    square = np.full((48, 48, 3), 90, np.uint8)
    square[10:38, 10:38] = (40, 40, 200)
    Image.fromarray(square).save(folder / "blue.png")
    Image.fromarray((square[..., 2] == 200).astype(np.uint8) * 255).save(folder / "blue-mask.png")
    return folder
