"""Every command of docs/training.md, in its order, on a tiny model of SDXL's layout.

What is exchanged is said in `EXCHANGED` and `MORE`, and nothing else is: a renamed option or recipe breaks this test.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.engine.options import ModelOptions
from anystory.training.recipe import load_recipe
from anystory.training.state.checkpoints import find_checkpoint
from cli.parsing import parse_command
from cli.sdxl_files import SdxlFiles, write_sdxl_files
from data.build.folders import POSES, drawn, identity, save
from training.conftest import TINY
from training.sdxl_base import SIZES

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")

SIZE = 32
"""Side of pictures and references, for 1024 and 512."""

SDXL_RECIPES = ("sdxl_encoder_24gb", "sdxl_router_24gb")
PAPERS = ("sdxl_encoder", "sdxl_router")
"""Launched on several processes: `test_training_guide_launched.py`."""

EXCHANGED = {
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "h94/IP-Adapter/sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors": "ip-adapter-plus_sdxl_vit-h.safetensors",
    **{name: f"recipes/{name}.yaml" for name in SDXL_RECIPES},  # the recipes themselves, made small: see `shrink`
    "mini-gpu": "recipes/tiny.yaml",
    "1000000": "8",  # --prerender
    "120": "0.001",  # --minutes: what is trained is as long as it was
    "2000": "1",  # --steps
    "1000": "1",
    "20000": "4",  # StoryWorld's samples
    "512": str(SIZE),  # their size
    "0.02": "0.7",  # --heldout: Ann's hash is 0.57, Rex's 0.96
    "cuda": "cpu",
    "float16": "float32",
}
"""Single words of the guide, and what stands for them here."""

MORE = {
    "adapter init": ["--reference-size", str(SIZE), "--dtype", "float32"],
    "data build": ["--workers", "1", "--set", "filter.least_side=64", "--set", "filter.least_sharpness=0"],
    "data storyworld": ["--workers", "0"],
    "train cache": ["--device", "cpu"],
    "generate": ["--steps", "2", "--size", str(SIZE), "--image-encoder", "image_encoder"],
    "train mini": ["--recipe", "recipes/tiny.yaml", "--steps", "1", "--workers", "0"],
    "train base": ["--workers", "0"],
    "bench training": ["--recipe", "recipes/tiny.yaml", "--model", "runs/mini/model", "--stages", "base"],
}
"""Options that a command gets besides, by its first words."""


def commands(text: str) -> list[list[str]]:
    """Every line of the page's shell blocks, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def small(words: list[str]) -> list[str]:
    """A command's words with everything exchanged and added; options that stand twice count with their last value."""
    name = " ".join(words[:2])
    more = next((given for key, given in MORE.items() if name == key or words[0] == key), [])
    if words[:2] == ["train", "base"] and "--recipe" not in words:
        more = [*more, "--recipe", "recipes/tiny.yaml"]
    if words[:2] == ["bench", "training"]:
        more = [*more, "--rounds", "1", "--steps", "1"]
    found = [*(EXCHANGED.get(word, word) for word in words), *more]
    if words[0] == "train" and "--workers" in words:
        found += ["--workers", "0", "--precision", "bf16"]  # as it would be on a GPU
    if "--start" in found:
        found[found.index("--start") + 1] = "runs/mini/model"
    return found


def shrink(name: str, files: SdxlFiles) -> dict[str, Any]:
    """The recipe that ships, on the tiny base, with little of everything; nothing else changes."""
    values = load_recipe(name).model_dump(mode="json", exclude_unset=True)
    values |= {"resolution": SIZE, "defaults": {"num_inference_steps": 2, "guidance_scale": 7.5}}
    values["adapter"] |= SIZES | {"clip_dim": 16, "clip_tokens": 257}
    values["base"] |= {"source": str(files.base), "image_encoder": str(files.image_encoder)}
    for stage in values["stages"].values():
        stage |= {"batch_size": 1, "global_batch": 2, "validate_samples": 1}
        stage["options"] |= {"pictures": 1}
    return values


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the pictures that the page speaks of and small things for large ones."""
    torch.set_num_threads(1)
    files = write_sdxl_files(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in (*SDXL_RECIPES, *PAPERS):
        (tmp_path / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(shrink(name, files)))
    less = {"batch_size": 2, "validate_every": 500, "validate_samples": 2}
    stages = {name: stage | less for name, stage in TINY["stages"].items()}
    (tmp_path / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"stages": stages}))
    listing = re.search(r"\n    photos/\n((?:      .*\n)+)", GUIDE)
    assert listing is not None
    subjects: dict[str, int] = {}
    for place, file in enumerate(listing.group(1).split()):
        if file.endswith(".txt"):
            (tmp_path / "photos" / file).write_text("ann on a beach\n")
            continue
        number = subjects.setdefault(file.partition("/")[0], len(subjects))
        pixels = drawn(identity(number), POSES[place % len(POSES)], (200, 220 - 20 * place, 240))
        save(pixels, tmp_path / "photos" / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)  # offloading to the CPU is refused
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.slow
def test_every_command_runs(here: Path) -> None:
    ran: list[str] = []
    for words in commands(GUIDE):
        if words[0] in ("python3.11", "pip", "accelerate"):
            continue  # the two tests below
        if words[0] == "python":
            done = subprocess.run([sys.executable, str(ROOT / words[1]), *words[2:]], capture_output=True, text=True)
            assert done.returncode == 0, (words, done.stderr)
            continue
        assert words[0] == "anystory", words
        if words[1:3] == ["train", "plan"] and words[3] not in SDXL_RECIPES:
            parse_command(words[1:])  # counted at full size elsewhere; here it would take half a minute
            continue
        result = CliRunner().invoke(app, small(words[1:]))
        assert result.exit_code == 0, (small(words[1:]), result.output)
        ran.append(" ".join(words[1:3]))
    assert len(ran) > 15
    for run, stage in (("who", "encoder"), ("where", "router"), ("both", "router")):
        assert find_checkpoint(here / "runs" / run / stage) is not None
    picture = np.asarray(Image.open(here / "first" / "0001.png"))
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.std() > 1
    assert (here / "curves.png").is_file()
    assert (here / "router-best" / "adapter").is_dir()
    assert (here / "mini-base" / "unet").is_dir()


def test_commands_for_many_gpus_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by accelerate's parser and configuration class, and their training commands by ours."""
    monkeypatch.chdir(ROOT)
    launches = [words for words in commands(GUIDE) if words[:2] == ["accelerate", "launch"]]
    used = set()
    for words in launches:
        given = launch_command_parser().parse_args(words[2:])
        used.add(Path(given.config_file).stem)
        config: Any = ClusterConfig.from_yaml_file(given.config_file)
        found, _, _ = _validate_launch_command(given)
        assert found.num_processes == config.num_processes
        assert (found.num_machines > 1) == (found.main_process_ip is not None)
        assert found.module
        assert found.training_script == "anystory"
        arguments = found.training_script_args
        parse_command(arguments)
        if arguments[1] == "resume":
            continue
        recipe = load_recipe(arguments[1])
        for name in recipe.stage_names:
            assert recipe.stages[name].accumulation(found.num_processes) >= 1
    assert used == {"ddp", "ddp_multinode", "fsdp2", "zero2"}
    assert sorted(words[words.index("--machine_rank") + 1] for words in launches if "--machine_rank" in words) == [
        "0",
        "1",
    ]


def test_what_is_installed_and_named_exists() -> None:
    (install,) = [words for words in commands(GUIDE) if words[0] == "pip"]
    assert (ROOT / install[install.index("-c") + 1]).is_file()
    extras = re.search(r"\[(.*)\]", install[-1])
    assert extras is not None
    known = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.group(1).split(","):
        assert re.search(rf"(?m)^{extra} = \[", known), extra
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", GUIDE):
        assert (ROOT / "docs" / link).exists(), link
    for option in set(re.findall(r"`(--[a-z-]+)", GUIDE)):
        assert any(option in page for page in helps()), option


def helps() -> list[str]:
    verbs = [["train", name] for name in ("run", "plan", "export", "average")]
    verbs += [["data", "build"], ["data", "storyworld"], ["bench", "training"]]
    wide = {"COLUMNS": "200"}
    pages = [CliRunner().invoke(app, [*verb, "--help"], env=wide).output for verb in verbs]
    return [*pages, " ".join(action for action in launch_command_parser()._option_string_actions)]


def test_python_of_the_page_is_python() -> None:
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S):
        compile(block, "docs/training.md", "exec")
        exec("\n".join(line for line in block.splitlines() if line.startswith(("import ", "from "))), {})


def test_no_command_is_outside_a_block() -> None:
    """Lines that look like commands are in shell blocks, where the tests above find them."""
    outside = re.sub(r"```.*?```", "", GUIDE, flags=re.S)
    assert not re.findall(r"(?m)^ {4}(?:\S*anystory|accelerate|python) .*$", outside)
