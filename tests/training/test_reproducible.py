"""Two runs of a recipe are made of the same bits, in whatever process and order of hash tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anystory.training.launch.run_file import RunFile, plain_options
from anystory.training.launch.runner import run_stages
from anystory.training.model.checkpoint_export import export_checkpoint
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.model.tokenizer import END, START, build_tokenizer
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.stages.clip import ClipStage
from anystory.training.state.checkpoints import find_checkpoint

from .fingerprints import fingerprints
from .test_loop import options


def test_components_samples_and_words_are_the_same_in_every_process(tmp_path: Path) -> None:
    program = str(Path(__file__).with_name("fingerprints.py"))
    processes = {
        tmp_path / f"{seed}.json": subprocess.Popen(
            [sys.executable, program, str(tmp_path / seed), str(tmp_path / f"{seed}.json")],
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    }
    expected = fingerprints(tmp_path / "here")
    assert len(expected) > 40
    for file, process in processes.items():
        assert process.wait() == 0
        found = json.loads(file.read_text())
        assert list(found) == list(expected)
        assert not [name for name in found if found[name] != expected[name]]


def test_what_was_read_is_written_as_it_was(recipe: Recipe, tmp_path: Path) -> None:
    """A resumed run reads what an unbroken one has made itself."""
    first, second = (ModelFolder(tmp_path / name, recipe) for name in ("first", "second"))
    for component in LOADERS:
        first.save(component, first.load_or_build(component))
        second.save(component, first.load(component))
    files = [path.relative_to(first.path) for path in sorted(first.path.rglob("*")) if path.is_file()]
    assert len(files) > len(LOADERS)
    assert not [file for file in files if (first.path / file).read_bytes() != (second.path / file).read_bytes()]


def test_word_ids_follow_from_the_merges() -> None:
    tokenizer = build_tokenizer(["fox", "robot", "box", "a"], max_tokens=8)
    trained = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    characters = [chr(c) for c in range(33, 127)]
    pieces = characters + [c + "</w>" for c in characters]
    pieces += ["".join(merge) for merge in trained["merges"]] + [START, END]
    assert tokenizer.get_vocab() == {piece: index for index, piece in enumerate(pieces)}
    assert {"fox</w>", "robot</w>", "box</w>"} < set(pieces)


@pytest.fixture
def begun(recipe: Recipe, tmp_path: Path) -> Path:
    """A run that has taken two steps of stage `clip` and was killed before its end."""
    run_stages(("clip",), recipe, options(tmp_path), {})
    for part in ("text_encoder_2", "image_encoder", "feature_extractor"):
        shutil.rmtree(tmp_path / "model" / part)
    (tmp_path / "model" / "training.json").unlink()
    asked = RunFile(stages=("clip",), recipe=recipe, options=plain_options(options(tmp_path)), minutes={})
    asked.write(tmp_path)
    return tmp_path


def test_the_tokenizer_is_written_before_the_first_step(recipe: Recipe, tmp_path: Path) -> None:
    stage = build_stage("clip", ModelFolder(tmp_path / "model", recipe))
    assert isinstance(stage, ClipStage)
    stage.begin(resumed=False)
    vocabulary = stage.tokenizer.get_vocab()
    again = build_stage("clip", ModelFolder(tmp_path / "model", recipe))
    assert isinstance(again, ClipStage)
    assert again.tokenizer.get_vocab() == vocabulary
    again.begin(resumed=False)  # a start after one that was killed before its first checkpoint


def test_a_process_that_does_not_write_leaves_the_folder_alone(recipe: Recipe, tmp_path: Path) -> None:
    build_stage("clip", ModelFolder(tmp_path / "model", recipe, writes=False)).begin(resumed=False)
    assert not (tmp_path / "model").exists()


def test_resuming_reads_the_tokenizer_that_was_begun_with(begun: Path, recipe: Recipe) -> None:
    """Also one that another version of the package would number otherwise."""
    words = build_tokenizer(["fox", "zebra"], max_tokens=recipe.max_text_tokens)
    folder = ModelFolder(begun / "model", recipe)
    folder.save("tokenizer_2", words)
    stage = build_stage("clip", folder)
    assert isinstance(stage, ClipStage)
    stage.begin(resumed=True)
    assert stage.tokenizer.get_vocab() == words.get_vocab()


def test_a_checkpoint_whose_word_ids_are_gone_is_not_trained_on_or_exported(begun: Path, recipe: Recipe) -> None:
    shutil.rmtree(begun / "model" / "tokenizer_2")
    with pytest.raises(ValueError, match="model/tokenizer_2 is gone.*remove the run's folder clip"):
        run_stages(("clip",), recipe, options(begun, resume=True, steps=4), {})
    with pytest.raises(ValueError, match="model/tokenizer_2 is gone"):
        export_checkpoint(begun, begun / "exported")
    assert not (begun / "exported").exists()


def test_an_exported_checkpoint_has_the_runs_tokenizer(begun: Path) -> None:
    export_checkpoint(begun, begun / "exported")
    file = "tokenizer_2/tokenizer.json"
    assert (begun / "exported" / file).read_bytes() == (begun / "model" / file).read_bytes()
    kept = find_checkpoint(begun / "clip")
    assert kept is not None
    weights = load_file(begun / "exported" / "text_encoder_2" / "model.safetensors")
    average = load_file(kept / "ema.safetensors")
    assert all(torch.equal(value, average[f"text_encoder.{name}"]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"level": "level2"}, "not made for recipe 'tiny' and level2: .* are not one token"),
        ({"max_text_tokens": 20}, "it has 40 tokens a text, not 20"),
    ],
)
def test_a_tokenizer_that_another_recipe_left_is_refused(
    recipe: Recipe, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    build_stage("clip", ModelFolder(tmp_path / "model", recipe)).begin(resumed=False)
    other = recipe.model_copy(update=changes)
    with pytest.raises(ValueError, match=told):
        run_stages(("clip",), other, options(tmp_path), {})
    assert not find_checkpoint(tmp_path / "clip")
