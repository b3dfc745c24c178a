"""The guides' own commands and code: docs/sdxl.md run on tiny files, the options of docs/pipelines.md."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory import cli
from anystory.cli.model_options import ModelOptions
from cli.conftest import give_references

DOCS = Path(__file__).parents[2] / "docs"
SDXL = (DOCS / "sdxl.md").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """Every indented `anystory …` of a page, without that word."""
    return [
        shlex.split(line, comments=True) for line in re.findall(r"(?m)^    anystory (.*)$", text.replace("\\\n", " "))
    ]


def help_of(command: list[str]) -> str:
    verb = command[:2] if command[0] in ("adapter", "models") else command[:1]
    return CliRunner().invoke(cli.app, [*verb, "--help"], env={"COLUMNS": "200"}).output


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with the pictures that the pages speak of."""
    monkeypatch.chdir(give_references(tmp_path))
    (tmp_path / "red.png").rename(tmp_path / "fox.png")
    (tmp_path / "blue.png").rename(tmp_path / "robot.png")
    return tmp_path


def test_the_sdxl_guides_python_runs(files, adapter, here):
    """Its own text, on tiny files: only what cannot be here (names in the hub, half precision, a GPU) is exchanged."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", SDXL, flags=re.DOTALL))
    for theirs, ours in {
        '"stabilityai/stable-diffusion-xl-base-1.0"': repr(str(files.base)),
        '"juggernaut.safetensors"': f"{str(files.single)!r}, config={str(files.config)!r}",
        'adapter="sdxl-adapter"': f"adapter={str(adapter)!r}, image_encoder={str(files.image_encoder)!r}",
        "torch.float16": "torch.float32",
        "pipe.enable_model_cpu_offload()": "pipe.set_progress_bar_config(disable=True)",
        "subjects=[fox, robot]": "subjects=[fox, robot], num_inference_steps=2",
    }.items():
        assert theirs in code, theirs
        code = code.replace(theirs, ours)
    exec(compile(code, "docs/sdxl.md", "exec"), {})
    assert (here / "beach.png").is_file()
    assert (here / "juggernaut" / "adapter" / "config.json").is_file()


def test_the_sdxl_guides_commands_run(files, here, monkeypatch):
    """From nothing to the pictures, in the page's order: its commands with tiny files, and the CPU as the GPU."""
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)  # offloading to the CPU is refused
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copy(files.single, "juggernaut.safetensors")
    exchanged = {
        "stabilityai/stable-diffusion-xl-base-1.0": [str(files.base)],
        "h94/IP-Adapter/sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors": [str(files.ip_adapter)],
        "juggernaut.safetensors": ["juggernaut.safetensors", "--config", str(files.config)],
        "cuda": ["cpu"],
    }
    more = {"adapter": ["--reference-size", "32"], "generate": ["--steps", "2"]}
    found, output = commands(SDXL), ""
    assert {name for command in found for name in command} >= exchanged.keys()
    for command in found:
        if command[0] == "generate" and not Path("sdxl-adapter/image_encoder").exists():
            shutil.copytree(files.image_encoder, "sdxl-adapter/image_encoder")  # as the page says, without the hub
        arguments = [part for name in command for part in exchanged.get(name, [name])] + more.get(command[0], [])
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 0, (command, result.output)
        output += result.output
    assert [command[0] for command in found] == ["adapter", *["models"] * 3, "generate", "replay", "generate"]
    assert "the same picture, byte for byte" in output
    assert {path.name for path in Path("beach").glob("*.png")} == {
        f"000{number}{end}.png" for number in (1, 2) for end in ("", "-routing")
    }


@pytest.mark.parametrize("page", ["sdxl", "pipelines"])
def test_the_options_that_a_guide_names_exist(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = commands(text)
    assert found
    for command in found:
        for option in (part for part in command if part.startswith("--")):
            assert option in help_of(command), option
    verbs = {"sdxl": (["adapter", "init"], ["generate"]), "pipelines": (["generate"], ["replay"])}[page]
    known = "".join(map(help_of, verbs))
    named = set(re.findall(r"`(--[a-z-]+)", text))
    assert len(named) > 5
    assert not [option for option in named if option not in known]
