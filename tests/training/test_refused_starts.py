"""A training command that is refused changes nothing: in a new folder, in somebody else's, and in a run's."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from anystory.cli import app
from anystory.files import only_writer
from anystory.training.state.checkpoint import read_progress
from anystory.training.state.checkpoints import Checkpoints
from cli.refusals import DAMAGE, refused, spoil, tree

from .conftest import TINY


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny.yaml`, and `other.yaml` with another autoencoder."""
    folder = tmp_path_factory.mktemp("recipes")
    other = copy.deepcopy(TINY)
    other["autoencoder"]["encoder_width"] = 32
    for name, values in (("tiny", TINY), ("other", other)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def begun_once(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun") / "run"
    run("vae", "--recipe", recipes / "tiny.yaml", "--out", out, "--workers", 0, "--steps", 1)
    run("vae", "--recipe", recipes / "tiny.yaml", "--out", out, "--workers", 0, "--steps", 2, "--resume")
    return out


@pytest.fixture
def begun(begun_once: Path, tmp_path: Path) -> Path:
    """A run with two checkpoints of stage vae, to be spoilt."""
    return shutil.copytree(begun_once, tmp_path / "run", symlinks=True)


# --- new folders ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encoder", "--start", "mini"], "but recipe 'tiny' says"),  # found out when the copy of mini is read
        (["base"], "train stage 'vae' into this --out first"),
        (["vae", "--minutes", "clip=3"], "--minutes takes a number"),
        (["vae", "--prerender", "0"], None),
        (["vae", "--pack-to", "{out}/model"], "it would lose its precision"),
        (["vae", "--pack-to", "{out}"], "must not lie in each other"),
        (["vae", "--pack-to", "{out}/.."], "must not lie in each other"),
        (["vae", "--pack-to", "{file}"], "is a file"),
        (["vae", "--pack-to", "{home}"], "holds letters, photos"),
        (["vae", "--pack-to", "{file}/deeper"], "is a file"),
    ],
)
def test_a_new_folder_is_not_begun(recipes, tmp_path, arguments, said):
    (tmp_path / "file").write_text("mine")
    for name in ("letters", "photos"):
        (tmp_path / "home" / name).mkdir(parents=True)
    places = {name: tmp_path / name for name in ("out", "file", "home")}
    given = [argument.format(**places) for argument in arguments]
    command = ["train", *given, "--recipe", recipes / "tiny.yaml", "--out", tmp_path / "out", "--workers", "0"]
    if said is None:  # the option's own range
        before = tree(tmp_path)
        assert CliRunner().invoke(app, [str(argument) for argument in command]).exit_code == 2
        assert tree(tmp_path) == before
    else:
        assert said in refused(tmp_path, *command)


# --- somebody else's folders ---


@pytest.mark.parametrize("name", ["model/unet/config.json", "vae/notes.txt", "run.json", "model"])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_files_of_somebody_else_are_not_overwritten(recipes, tmp_path, name, resume):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"mine": true}')
    command = ["train", "vae", "--recipe", recipes / "tiny.yaml", "--out", tmp_path / "out", "--workers", 0, *resume]
    assert f"holds {name.partition('/')[0]}, which no training run wrote" in refused(tmp_path, *command)


# --- a run's folder ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vae", "--recipe", "{tiny}"], "resume them with --resume"),
        (["vae", "--recipe", "{other}", "--resume"], "has encoder_width 16, but recipe 'tiny' says 32"),
        (["mini", "--recipe", "{other}", "--resume"], "has encoder_width 16, but recipe 'tiny' says 32"),
    ],
)
def test_a_run_stays_as_it_is(recipes, begun, tmp_path, arguments, said):
    places = {name: recipes / f"{name}.yaml" for name in ("tiny", "other")}
    given = [argument.format(**places) for argument in arguments]
    assert said in refused(tmp_path, "train", *given, "--out", begun, "--workers", 0, "--steps", 4)


def test_two_runs_in_one_folder(recipes, begun, tmp_path):
    with only_writer(begun):
        for command in (["vae", "--recipe", recipes / "tiny.yaml", "--resume", "--out", begun], ["resume", begun]):
            assert f"another program is writing into {begun}" in refused(tmp_path, "train", *command)
    run("resume", begun)
    assert not (begun / ".lock").exists()


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["run.json", "model/training.json", "vae/log.jsonl"])
def test_a_damaged_file_of_a_run_is_named(begun, tmp_path, name, kind):
    if (name, kind) in {("vae/log.jsonl", "empty"), ("model/training.json", "missing entries")}:
        return  # whole: a stage that has logged or exported nothing yet
    if name == "vae/log.jsonl":
        run_file = json.loads((begun / "run.json").read_text())
        run_file["options"]["steps"] = 3  # a stage that is finished does not read it
        (begun / "run.json").write_text(json.dumps(run_file))
    spoil(begun / name, kind)
    said = refused(tmp_path, "train", "resume", begun)
    assert str(begun / name) in said
    assert any(
        word in said for word in ("--resume", "remove", "move the file away", "save it as a file", "larger than")
    )


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["progress.json", "manifest.json"])
def test_a_damaged_checkpoint_is_set_aside(begun, capsys, name, kind):
    stage = begun / "vae"
    first, second = (stage / "checkpoints" / f"step-0000000{number}" for number in (1, 2))
    spoil(second / name, kind)
    assert Checkpoints(stage).newest() == first
    assert f"checkpoint {second} is damaged" in capsys.readouterr().err
    assert (second.parent / f"damaged-{second.name}").is_dir()
    spoil(first / name, kind)
    for _ in range(2):  # it stays refused: nothing is forgotten by asking
        with pytest.raises(ValueError, match="there is none before it: remove"):
            Checkpoints(stage).newest()
    if name == "progress.json":
        with pytest.raises(ValueError, match=re.escape(str(first))):
            read_progress(first)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(begun, tmp_path):
    checkpoints = begun / "vae" / "checkpoints"
    spoil(checkpoints / "step-00000002" / "progress.json", "other entries")
    assert "step-00000002 is damaged" in refused(
        tmp_path, "train", "export", begun, "--out", tmp_path / "out", "--checkpoint", "step-2"
    )
    run("resume", begun)
    assert (checkpoints / "step-00000002" / "manifest.json").is_file(), "step 2 was trained again"
