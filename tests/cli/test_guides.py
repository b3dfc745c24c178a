"""The guides' own commands and code: docs/sdxl.md run on tiny files, all others read by the command line's parser."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory import cli
from anystory.engine.options import ModelOptions
from cli.conftest import give_references
from cli.flux_files import write_published_files
from cli.klein_files import write_klein_files
from cli.parsing import parse_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "src" / "anystory" / "assets").glob("*/README.md")]
PAGES += [ROOT / "scripts" / "gpu" / "README.md"]
SDXL = (DOCS / "sdxl.md").read_text(encoding="utf-8")
FLUX = (DOCS / "flux.md").read_text(encoding="utf-8")


def commands(text: str, lead: str = "    ") -> list[list[str]]:
    """Every `anystory …` of a page that follows `lead` (a pattern) on its line, without that word."""
    found = re.findall(rf"(?m)^{lead}anystory (.*)$", text.replace("\\\n", " "))
    return [shlex.split(line, comments=True) for line in found]


def help_of(command: list[str]) -> str:
    verb = command[:2] if command[0] in ("adapter", "bench", "models") else command[:1]
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


def test_the_flux_guides_commands_run(flux, here, monkeypatch):
    """From the published files to the pictures: its commands on tiny files, the CPU as the GPU, and fp8 for nf4."""
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)  # offloading to the CPU is refused
    write_published_files(here, flux)
    hub_id = "black-forest-labs/FLUX.1-dev"
    exchanged = {hub_id: str(flux.base), "cuda": "cpu", "512": "64", "25": "2", "nf4": "fp8"}
    found, output = [words for words in commands(FLUX) if words[0] != "bench"], ""  # tests of `bench` run that
    assert {name for command in found for name in command} >= exchanged.keys()
    for command in found:
        if command[0] == "generate" and "--steps" not in command:
            command += ["--steps", "2"]
        result = CliRunner().invoke(cli.app, [exchanged.get(name, name) for name in command])
        assert result.exit_code == 0, (command, result.output)
        output += result.output
    assert [command[0] for command in found] == ["adapter", "models", "models", "generate", "replay", "generate"]
    assert "AnyStory adapter for FLUX.1" in output
    assert "shapes compared: adapter\nwhole" in output
    assert "the same picture, byte for byte" in output
    maps = {"0001-routing.png", "0002-routing.png"}  # one subject alone has none
    assert {path.name for path in Path("beach").glob("*.png")} == {"0001.png", "0002.png", "0003.png"} | maps


def test_the_klein_guides_commands_run(here, monkeypatch):
    """Its commands on tiny files, with the CPU as the GPU."""
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)  # offloading to the CPU is refused
    klein = write_klein_files(here)
    Image.new("RGB", (64, 64), "blue").save("beach.png")
    Image.new("L", (64, 64), 255).save("here.png")
    hub = "black-forest-labs/FLUX.2-klein-"
    exchanged = {f"{hub}4B": str(klein.distilled), f"{hub}base-4B": str(klein.base), "cuda": "cpu"}
    found = [words for words in commands((DOCS / "klein.md").read_text(encoding="utf-8")) if words[0] != "bench"]
    assert {name for command in found for name in command} >= exchanged.keys()
    for command in found:
        size = ["--size", "64"] if "--image" not in command else []
        more = [*size, "--steps", "2"] if command[0] == "generate" else []
        result = CliRunner().invoke(cli.app, [exchanged.get(name, name) for name in command] + more)
        assert result.exit_code == 0, (command, result.output)
    assert [command[0] for command in found] == ["generate", "replay", *["generate"] * 3, "models", "models"]


@pytest.mark.parametrize("page", ["sdxl", "pipelines", "flux", "klein"])
def test_the_options_that_a_guide_names_exist(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = commands(text)
    assert found
    for command in found:
        for option in (part for part in command if part.startswith("--")):
            assert option in help_of(command), option
    verbs = {
        "sdxl": (["adapter", "init"], ["generate"]),
        "pipelines": (["generate"], ["replay"]),
        "flux": (["generate"], ["bench", "flops"]),
        "klein": (["generate"], ["bench", "flops"]),
    }[page]
    known = "".join(map(help_of, verbs))
    named = set(re.findall(r"`(--[a-z-]+)", text))
    assert len(named) > 5
    assert not [option for option in named if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_command_line_understands_every_command_of_a_page(page):
    for words in commands(page.read_text(encoding="utf-8"), lead=r"(?:    )?(?:\.venv/bin/)?"):
        if words != ["--help"]:
            parse_command(words)
