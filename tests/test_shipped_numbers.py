"""What README and the model cards say in numbers of the shipped models, against the files themselves."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import anystory
from anystory.storyworld.level import load_level
from anystory.training.data.storyworld import level_words

ROOT = Path(__file__).parents[1]
PACKAGE = Path(anystory.__file__).parent
MINI, JUDGE = PACKAGE / "assets" / "mini", PACKAGE / "assets" / "judge"
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MIB = 2**20


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def card(folder: Path = MINI) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


MEASURED = ("familiarity.",)
"""Buffers, which are no parameters: what an adapter notes of the references that it has seen."""


@cache
def tensors(folder: Path) -> dict[str, int]:
    """Elements of every trained tensor in a folder's own safetensors files, from their headers."""
    found: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            found |= {k: math.prod(s.get_shape()) for k, s in slices.items() if s.get_dtype().startswith(("F", "BF"))}
    return {name: number for name, number in found.items() if not name.startswith(MEASURED)}


def component_folders() -> list[Path]:
    return sorted({file.parent for file in MINI.rglob("*.safetensors")})


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def class_of(folder: Path) -> str:
    values = config(folder)
    return values.get("_class_name") or values["architectures"][0]


def level() -> str:
    """The world that the model's card names."""
    return claimed(r"StoryWorld `(level\S+)`", card())[0]


def claimed(pattern: str, text: str) -> list[str]:
    """Every value of the pattern's one group; that there is none fails: a claim that moved is looked for in vain."""
    found = re.findall(pattern, re.sub(r"\s+", " ", text))
    assert found, f"nothing says {pattern!r} any more: change it here as well"
    return found


def assert_rounds_to(value: float, said: str) -> None:
    """`said` is the value, rounded to as many decimals as it has."""
    decimals = len(said.partition(".")[2])
    assert f"{value:.{decimals}f}" == said, f"the text says {said}, it is {value}"


def count(word: str) -> int:
    return WORDS.index(word) if word in WORDS else int(word)


def test_parameters_in_all() -> None:
    total = sum(sum(tensors(folder).values()) for folder in component_folders())
    for said in claimed(r"([\d.]+) million parameters", readme()):
        assert_rounds_to(total / 1e6, said)


def card_rows() -> dict[str, tuple[str, str]]:
    """What the card's table says of each class: the description, and the millions of parameters."""
    rows = re.findall(r"^\| (.+) \| `(\w+)` \| ([\d.]+) M \|$", card(), flags=re.MULTILINE)
    return {name: (described, said) for described, name, said in rows}


def test_parameters_of_each_part() -> None:
    parts = {class_of(folder): folder for folder in component_folders()}
    rows = card_rows()
    assert rows.keys() == parts.keys()
    for name, (_, said) in rows.items():
        assert_rounds_to(sum(tensors(parts[name]).values()) / 1e6, said)


SIZES: dict[str, Any] = {
    r"(\d+) layers": lambda c: c["num_hidden_layers"],
    r"width (\d+)": lambda c: c["hidden_size"],
    r"(\d+) tokens": lambda c: (
        c["max_position_embeddings"] if "vocab_size" in c else (c["image_size"] // c["patch_size"]) ** 2 + 1
    ),
    r"([\d/]+) channels": lambda c: "/".join(map(str, c["block_out_channels"])),
    r"^autoencoder, (\d+) ×": lambda c: config(MINI / "image_encoder")["image_size"],
    r"(\d+) ↔": lambda c: c["in_channels"],
    r"× (\d+)$": lambda c: c["latent_channels"],
}
"""What a description may say, and where a component's configuration has it."""


def test_sizes_of_each_part() -> None:
    parts = {class_of(folder): folder for folder in component_folders()}
    checked = 0
    for name, (described, _) in card_rows().items():
        for pattern, read in SIZES.items():
            for said in re.findall(pattern, described):
                assert said == str(read(config(parts[name]))), f"{name}: {described}"
                checked += 1
    assert checked > 5, "the descriptions name sizes"


def test_routers() -> None:
    routers = {name.split(".")[1] for name in tensors(MINI / "adapter") if name.startswith("routers.")}
    for said in claimed(r"(\d+) routers", card()):
        assert int(said) == len(routers)


def test_bytes() -> None:
    weights = sum(file.stat().st_size for file in MINI.rglob("*.safetensors"))
    for said in (*claimed(r"safetensors, ([\d.]+) MiB", card()), *claimed(r", in ([\d.]+) MiB", readme())):
        assert_rounds_to(weights / MIB, said)
    package = sum(f.stat().st_size for f in PACKAGE.rglob("*") if f.is_file() and f.suffix != ".pyc")
    for said in claimed(r"([\d.]+) MiB of installed package", readme()):
        assert float(said) == pytest.approx(package / MIB, abs=1), "code and pictures come and go: look once a MiB"


def test_picture_size_and_steps() -> None:
    with_steps = json.loads((MINI / "model_index.json").read_text())["default_call"]["num_inference_steps"]
    side = str(config(MINI / "image_encoder")["image_size"])
    for said in (*claimed(r"(\d+)-step picture", readme()), *claimed(r"sampling, (\d+) steps", card())):
        assert int(said) == with_steps
    for text in (readme(), card()):
        assert set(claimed(r"(\d+ × \d+) pixels", text)) == {f"{side} × {side}"}


def test_what_it_knows() -> None:
    world = load_level(level())
    counts = {
        "kinds": len(world.kinds),
        "poses": len(world.poses),
        "places": len(world.places),
        "lights": len(world.lights),
        "drawing style": len(world.styles),
    }
    sentence = claimed(r"It knows (\w+ kinds of characters, [^:]+)", readme())[0]
    for name, number in counts.items():
        assert count(claimed(rf"(\w+) {name}", sentence)[0]) == number, name
    assert count(claimed(r"at most (\w+) characters", sentence)[0]) == world.max_characters
    assert count(claimed(r"alone: .*?(\w+) kinds \(", card().replace("Six", "six"))[0]) == len(world.kinds)
    for name in ("kinds", "poses", "places"):
        listed = claimed(rf"\b\w+ {name} \(([^)]+)\)", card())[0]
        assert listed.split(", ") == list(getattr(world, name)), name


def test_words() -> None:
    known = json.loads((MINI / "tokenizer_2" / "tokenizer.json").read_text())["model"]["vocab"]
    words = level_words(level())
    assert {f"{word}</w>" for word in words} <= known.keys()
    for said in claimed(r"It knows (\d+) words", card()):
        assert int(said) == len(words)


def test_the_adapters_own_card() -> None:
    rows = re.findall(r"^\| .*?(?:\(`(\w+)`\)|all) \| ([\d,]+) \|$", card(MINI / "adapter"), flags=re.MULTILINE)
    assert len(rows) > 3
    for prefix, said in rows:
        own = [
            number for name, number in tensors(MINI / "adapter").items() if name.startswith(f"{prefix}." * bool(prefix))
        ]
        assert f"{sum(own):,}" == said, prefix or "all"


def test_the_judge() -> None:
    files = sorted(JUDGE.glob("*.safetensors"))
    rows = dict(re.findall(r"^\| `(\S+\.safetensors)` \| .* \| ([\d.]+) M \|$", card(JUDGE), flags=re.MULTILINE))
    assert rows.keys() == {file.name for file in files}
    for file in files:
        with safe_open(file, "numpy") as opened:
            total = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
        assert_rounds_to(total / 1e6, rows[file.name])
    for said in claimed(r"safetensors, ([\d.]+) MB together", card(JUDGE)):
        assert_rounds_to(sum(file.stat().st_size for file in files) / 1e6, said)
