"""What is shipped: the wheel holds the data that the code reads, and stays small."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = (".json", ".yaml", ".png", ".safetensors", ".txt", ".md", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_all_of_the_package(wheel):
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "anystory").rglob("*")
        if path.suffix in (".py", *DATA) and "__pycache__" not in path.parts
    }
    assert {"anystory/assets/demo/fox.png", "anystory/storyworld/levels/level1.json", "anystory/py.typed"} <= wanted
    assert wanted - set(wheel.namelist()) == set()


def test_the_installed_package_is_small(wheel):
    assert sum(file.file_size for file in wheel.infolist()) < 60e6


def test_nothing_else_is_shipped(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"anystory"}
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".pt", ".bin", ".pkl"))]
