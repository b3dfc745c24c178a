"""What `anystory generate` warns about, and pictures that are none: said on stderr, and in the exit code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from anystory import cli

from .test_generate import generate


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> list[str]:
    """The warnings on stderr of the whole program, which decides what of Python's warnings is shown, and how."""
    monkeypatch.setattr("sys.argv", ["anystory", "generate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_every_warning_is_a_line(model, references, tmp_path, monkeypatch, capsys):
    given = ["-s", references / "red.png", "-s", references / "red.png", "--negative", "x", "--guidance", "1"]
    prompt = "a " * 22 + "f o x"
    said = told(monkeypatch, capsys, prompt, *given, "--model", model, "--out", tmp_path, "--size", 80, "--steps", 1)
    assert said == [
        "warning: the prompt is longer than the 22 tokens that this model reads; without effect: 'f o x'",
        "warning: the negative prompt has no effect at guidance 1: it acts with a guidance above 1",
        "warning: 80×80 is far from the 32×32 pixels that this model was trained at: parts of the picture may be"
        " repeated, cropped or confused",
        "warning: 'red' and 'red 2' are the same picture, and the router cannot tell them apart: 'red' gets the pixels"
        " of both; give each a region to see it twice",
    ]


def changed(model: Path, target: Path, file: str, name: str, value: float) -> Path:
    """A copy of a model with one of its tensors set to a value."""
    shutil.copytree(model, target)
    weights = load_file(target / file)
    weights[name].fill_(value)
    save_file(weights, target / file, metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("subjects", [0, 1])
def test_a_picture_that_is_not_made_of_numbers(model, references, tmp_path, subjects):
    bad = changed(model, tmp_path / "bad", "unet/diffusion_pytorch_model.safetensors", "conv_out.bias", float("nan"))
    given = ["-s", references / "red.png"] * subjects
    for where, more, message in (
        (bad, [], "the weights of unet hold such values"),
        (model, ["--guidance", "1e30"], "guidance 1e+30; try a lower one"),
    ):
        result = generate(where, tmp_path / "out", *given, *more)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        line = result.stderr.splitlines()[-1]  # after that it is loading
        assert line.startswith("anystory: the picture is not made of numbers (NaN or infinity): ")
        assert message in line
    assert not (tmp_path / "out").exists()


def test_a_black_picture(model, references, tmp_path):
    file = "vae/diffusion_pytorch_model.safetensors"
    [name] = [name for name in load_file(model / file) if name.startswith("decoder.") and name.endswith("bias")][-1:]
    bad = changed(model, tmp_path / "bad", file, name, -1e4)
    result = generate(bad, tmp_path / "out", "-s", references / "red.png")
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1].startswith("anystory: the picture is black all over")
    assert not (tmp_path / "out").exists()
