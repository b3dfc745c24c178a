"""The nodes loaded as ComfyUI loads them, and what the example workflows need: pictures, a library and a tiny model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library
from anystory.version import ASSETS
from integrations.comfy_graph import Workflow, core_nodes

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The folder, loaded by its path under a name that is no package's."""
    name = "custom_nodes_x_anystory"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ComfyUI would have its pictures, with a library of Mara and Bo; what is kept lies in `output`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.setenv("ANYSTORY_CAST", str(tmp_path / "cast"))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("fox", "robot"):
        shutil.copy(ASSETS / "demo" / f"{name}.png", inputs)
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(inputs / "scene.png")
    for name, file in (("Mara", "blue-rabbit.png"), ("Bo", "red-rabbit.png")):
        Library().add(name, [ASSETS / "demo" / file], description=f"a {file.partition('-')[0]} rabbit")
    return inputs


@pytest.fixture
def nodes(pack: ModuleType, folder: Path) -> dict[str, Any]:
    """All nodes by their names."""
    return pack.NODE_CLASS_MAPPINGS | core_nodes(folder)


@pytest.fixture(scope="session")
def workflow() -> Callable[..., Workflow]:
    """Gives an example workflow with another model, and with other values of inputs as `NODE__input`."""

    def read(name: str, model: Path | str = "mini", **changes: Any) -> Workflow:
        found = json.loads((PACK / "api_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        found["1"]["inputs"]["model"] = str(model)
        for place, value in changes.items():
            number, _, entry = place.removeprefix("n").partition("__")
            found[number]["inputs"][entry] = value
        return found

    return read
