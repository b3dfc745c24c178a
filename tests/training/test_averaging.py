"""`anystory train average`: weights between two trainings of one model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from anystory.cli import app
from anystory.models.saved.checksums import read_sums, write_all_sums
from anystory.pipelines.loading.assets import resolve_model
from anystory.training.model.averaging import average_models


def average(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", "average", *map(str, arguments)])


def write(folder: Path, *files: dict[str, Tensor], part: str = "unet") -> Path:
    """A model of one part, cut into these files."""
    (folder / part).mkdir(parents=True)
    (folder / part / "config.json").write_text(folder.name)
    for number, tensors in enumerate(files):
        save_file(tensors, folder / part / f"weights-{number}.safetensors")
    return folder


A = {"x": torch.tensor([0.0, 2.0]), "count": torch.tensor([7])}
B = {"x": torch.tensor([4.0, 4.0]), "count": torch.tensor([9])}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, [2.0, 3.0]), (0.25, [1.0, 2.5]), (0.0, [0.0, 2.0]), (1.0, [4.0, 4.0])]
)
def test_weights_lie_between_and_all_else_is_the_firsts(tmp_path: Path, share: float, expected: list[float]) -> None:
    one, two = write(tmp_path / "one", A), write(tmp_path / "two", B)
    assert average_models(one, two, tmp_path / "out", share) == ["unet"]
    found = load_file(tmp_path / "out" / "unet" / "weights-0.safetensors")
    assert found["x"].tolist() == expected
    assert found["count"].tolist() == [7], "whole numbers are no weights"
    assert (tmp_path / "out" / "unet" / "config.json").read_text() == "one"


def test_files_may_be_cut_differently_and_keep_the_firsts_type(tmp_path: Path) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in A.items()}
    one = write(tmp_path / "one", {"x": half["x"]}, {"count": half["count"]})
    average_models(one, write(tmp_path / "two", B), tmp_path / "out")
    found = load_file(tmp_path / "out" / "unet" / "weights-0.safetensors")
    assert found["x"].dtype == torch.float16
    assert found["x"].tolist() == [2.0, 3.0]


def test_lists_of_hashes_are_written_anew(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", A), write(tmp_path / "two", B)
    for folder in (one / "unet", one):
        write_all_sums(folder)
    average_models(one, two, tmp_path / "out")
    for folder in ("unet", "."):
        sums = read_sums(tmp_path / "out" / folder)
        assert sums.keys() == read_sums(one / folder).keys()
        write_all_sums(tmp_path / "out" / folder)
        assert read_sums(tmp_path / "out" / folder) == sums
        assert sums != read_sums(one / folder)


@pytest.mark.parametrize(
    ("files", "part", "share", "said"),
    [
        ([B], "unet", "1.5", "--share must be between 0 and 1, got 1.5"),
        ([B], "unet", "nan", "--share must be between 0 and 1, got nan"),
        ([B], "adapter", "0.5", "has weights in unet, and"),
        ([], "unet", "0.5", "holds no weights"),
        ([{"x": B["x"]}], "unet", "0.5", "only one of the models has the weight count in unet"),
        ([B | {"y": torch.ones(2)}], "unet", "0.5", "only one of the models has the weight y in unet"),
        ([B | {"x": torch.zeros(3)}], "unet", "0.5", "x in unet has the sizes (2,) and (3,)"),
    ],
)
def test_what_is_no_other_training_of_the_model_is_refused(
    tmp_path: Path, files: list[dict[str, Tensor]], part: str, share: str, said: str
) -> None:
    one, two = write(tmp_path / "one", A), write(tmp_path / "two", *files, part=part)
    refused = average(one, two, "--out", tmp_path / "out", "--share", share)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_damaged_weights_and_a_folder_in_the_way_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", A), write(tmp_path / "two", B)
    assert "exists already" in average(one, two, "--out", one).stderr
    assert "lies in a model that is averaged" in average(one, two, "--out", two / "new").stderr
    (two / "unet" / "weights-0.safetensors").write_bytes(b"no weights")
    damaged = average(one, two, "--out", tmp_path / "out")
    assert damaged.exit_code == 2
    assert "weights-0.safetensors cannot be read" in damaged.stderr
    assert not (tmp_path / "out").exists()


def test_the_embedded_model_with_another_base_is_whole(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(resolve_model("mini"), other)
    for path in (other / "unet").glob("*.safetensors"):
        save_file({key: value * 1.5 for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    done = average("mini", other, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "averaged unet" in done.output
    verified = CliRunner().invoke(app, ["models", "verify", str(tmp_path / "out")])
    assert verified.exit_code == 0, verified.output
