"""`anystory generate` and `anystory replay` on a tiny model with random weights."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from anystory import AnyStoryPipeline, Subject
from anystory.cli import app
from anystory.cli.flags.picture import parse_size
from anystory.engine.record.png_text import KEYWORD
from anystory.engine.saving import free_number
from pipelines.png_files import chunks

from .conftest import give_references


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def generate(model: Path, out: Path, *arguments: Any) -> Any:
    return run("generate", "f r", "--model", model, "--out", out, "--seed", 5, "--threads", 1, *arguments)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def picture_sha256(path: Path) -> str:
    """Of a PNG without its record."""
    plain = io.BytesIO()
    with Image.open(path) as image:
        image.load()
        image.info.clear()
        image.save(plain, format="PNG")
    return hashlib.sha256(plain.getvalue()).hexdigest()


@pytest.fixture(scope="session")
def drawn_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    references = give_references(tmp_path_factory.mktemp("given"))
    out = tmp_path_factory.mktemp("drawn") / "out"
    subjects = ["-s", references / "red.png", "-s", f"{references / 'blue.png'}:{references / 'blue-mask.png'}"]
    result = generate(model, out, *subjects, "--region", "2:0.5,0,1,1", "--negative", "x")
    assert result.exit_code == 0, result.output
    shutil.rmtree(references)
    return out


@pytest.fixture
def drawn(drawn_once: Path, tmp_path: Path) -> Path:
    """A folder with one picture of both subjects, to be spoilt; the originals of the references are gone."""
    return shutil.copytree(drawn_once, tmp_path / "out")


def test_the_picture_is_the_pipelines(model, references, tmp_path):
    out = tmp_path / "out"
    result = generate(model, out, "-s", references / "red.png", "--steps", 2, "--guidance", 5, "--num", 2)
    assert result.exit_code == 0, result.output
    pipe = AnyStoryPipeline.from_pretrained(model, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    for number, seed in ((1, 5), (2, 6)):
        expected = pipe(
            "f r",
            subjects=[Subject(references / "red.png")],
            num_inference_steps=2,
            guidance_scale=5.0,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        np.testing.assert_array_equal(np.asarray(Image.open(out / f"{number:04d}.png")), np.asarray(expected))
        assert f"{out / f'{number:04d}.png'} (seed {seed})" in result.stdout


def test_what_is_written(drawn):
    names = sorted(path.name for path in drawn.iterdir())
    assert names == ["0001-routing.png", "0001.json", "0001.png", "references"]
    record = json.loads((drawn / "0001.json").read_text())
    assert record["format"] == "anystory-record/1"
    assert (record["prompt"], record["negative_prompt"], record["seed"]) == ("f r", "x", 5)
    assert (record["steps"], record["guidance"]) == (3, 4.0)  # the model's own
    assert (record["width"], record["height"]) == Image.open(drawn / "0001.png").size
    assert record["picture_sha256"] == picture_sha256(drawn / "0001.png")
    assert record["environment"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["environment"]["threads"] == "1"
    red, blue = record["subjects"]
    assert (red["name"], red["cutout"], red["mask"], red["region"]) == ("red", "alpha", None, None)
    assert (blue["name"], blue["cutout"], blue["region"]) == ("blue", "mask", [0.5, 0, 1, 1])
    for file in (red["image"], blue["image"], blue["mask"]):
        assert sha256(drawn / file["file"]) == file["sha256"]
    weights = {name for name in record["weights"] if name.endswith(".safetensors")}
    assert "model/adapter/diffusion_pytorch_model.safetensors" in weights
    model = Path(record["model"])
    for name, digest in record["weights"].items():
        assert sha256(model / name.removeprefix("model/")) == digest


def test_what_takes_a_while_is_announced_before_anything_is_read(tmp_path, references):
    (references / "red.png").write_bytes(b"no picture")
    result = run("generate", "f", "-s", references / "red.png", "--out", tmp_path / "out")
    assert result.exit_code == 2
    said = result.stderr.splitlines()
    assert (said[0], len(said)) == ("loading mini …", 2)
    assert said[1].startswith("anystory: ")


def test_the_sheet_can_be_left_out(model, references, tmp_path):
    result = generate(model, tmp_path / "out", "-s", references / "red.png", "--no-sheet")
    assert result.exit_code == 0, result.output
    assert not list((tmp_path / "out").glob("*routing*"))


def test_without_subjects_it_is_the_base_model(model, tmp_path):
    result = generate(model, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.json", "0001.png"]
    assert run("replay", "--trust-paths", tmp_path / "out" / "0001.json", "--out", tmp_path / "again").exit_code == 0


def test_nothing_is_overwritten(model, references, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "0007-notes.txt").write_text("mine")
    for _ in range(2):
        assert generate(model, out, "-s", references / "red.png", "--no-sheet").exit_code == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["0008.png", "0009.png"]
    assert len(list((out / "references").iterdir())) == 1
    assert free_number(out) == 10


def test_unknown_words_are_named(model, tmp_path):
    result = run("generate", "f rax", "--model", model, "--out", tmp_path / "out", "--seed", 0, "--threads", 1)
    assert result.exit_code == 0
    assert "warning: this model does not know the word 'rax'" in result.stderr
    assert "'f'" not in result.stderr


def test_names_are_those_of_the_sheet_and_the_record(model, references, tmp_path):
    subjects = ["-s", f"mara={references / 'red.png'}", "-s", f"mara={references / 'blue.png'}"]
    result = generate(model, tmp_path / "out", *subjects, "-s", references / "red.png", "--scale", "mara:0.5")
    assert result.exit_code == 0, result.output
    for folder, last in (
        ("out", None),
        ("again", run("replay", "--trust-paths", tmp_path / "out/0001.json", "-o", tmp_path / "again")),
    ):
        assert last is None or last.exit_code == 0, last.output
        mara, red = json.loads((tmp_path / folder / "0001.json").read_text())["subjects"]
        assert (mara["name"], len(mara["more"]), mara["scale"]) == ("mara", 1, 0.5)
        assert (red["name"], len(red["more"]), red["scale"]) == ("red", 0, 1.0)


def test_a_name_in_the_prompt_is_no_word_for_the_model(model, references, tmp_path):
    result = run(
        *("generate", "f mara", "--model", model, "--out", tmp_path / "out", "--seed", 0, "--threads", 1),
        *("-s", f"Mara={references / 'red.png'}"),
    )
    assert result.exit_code == 0
    assert "does not know the word 'mara': a subject's name is for the results only" in result.stderr


# --- replay ---


def test_replay_draws_the_same_bytes_when_the_originals_are_gone(drawn, tmp_path):
    result = run("replay", "--trust-paths", drawn / "0001.json", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert "the same picture, byte for byte" in result.stdout
    assert picture_sha256(tmp_path / "again" / "0001.png") == picture_sha256(drawn / "0001.png")
    again = json.loads((tmp_path / "again" / "0001.json").read_text())
    assert again["replay_of"] == str(drawn / "0001.json")
    for subject in again["subjects"]:  # the replay can be replayed: it has references of its own
        assert (tmp_path / "again" / subject["image"]["file"]).is_file()


def edit(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))


def test_replay_says_what_differs(drawn, tmp_path):
    record = drawn / "0001.json"
    data = json.loads(record.read_text())
    weights = {**data["weights"], "model/unet/config.json": "0" * 64}
    edit(record, seed=6, weights=weights, environment=data["environment"] | {"torch": "1.0", "threads": "1"})
    result = run("replay", "--trust-paths", record, "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert "not the recorded picture:" in result.stdout
    assert "grey levels on average" in result.stdout
    assert f"torch: 1.0 then, {data['environment']['torch']} now" in result.stdout
    assert f"model/unet/config.json: {'0' * 64} then" in result.stdout
    assert "diffusers" not in result.stdout


def test_replay_tells_equal_pixels_in_another_file(drawn, tmp_path):
    edit(drawn / "0001.json", picture_sha256="0" * 64)
    result = run("replay", "--trust-paths", drawn / "0001.json", "--out", tmp_path / "again")
    assert result.exit_code == 0
    assert "the same pixels in another file" in result.stdout


def test_replay_notices_a_changed_reference(drawn, tmp_path):
    reference = next((drawn / "references").glob("red*"))
    Image.new("RGB", (48, 48), "green").save(reference)
    edit(drawn / "0001.json", subjects=_with_segmenter_none(drawn / "0001.json"))
    result = run("replay", "--trust-paths", drawn / "0001.json", "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert f"references/{reference.name}: another content" in result.stdout


def _with_segmenter_none(path: Path) -> list[dict[str, Any]]:
    return [subject | {"segmenter": "none"} for subject in json.loads(path.read_text())["subjects"]]


def test_replay_of_a_missing_reference(drawn, tmp_path):
    shutil.rmtree(drawn / "references")
    result = run("replay", "--trust-paths", drawn / "0001.json", "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert "is missing: a record needs the files in references/" in result.stderr
    assert not (tmp_path / "again").exists()


def test_replay_of_a_picture(drawn, tmp_path):
    """Alone with its references, in another folder and under another name."""
    moved = tmp_path / "sent"
    shutil.copytree(drawn / "references", moved / "references")
    shutil.copy(drawn / "0001.png", moved / "fox.png")
    model = json.loads((drawn / "0001.json").read_text())["model"]
    unknown = run("replay", moved / "fox.png", "--out", tmp_path / "again")
    assert unknown.exit_code == 2
    assert re.search("was drawn with the model 'tiny', .* give --model, or replay the .json", unknown.stderr)
    result = run("replay", moved / "fox.png", "--out", tmp_path / "again", "--model", model)
    assert result.exit_code == 0, result.output
    assert "the same picture, byte for byte" in result.stdout
    names = [subject["name"] for subject in json.loads((tmp_path / "again" / "0001.json").read_text())["subjects"]]
    assert names == ["red", "blue"]


def test_replay_of_a_picture_that_was_changed(drawn, tmp_path):
    path, model = drawn / "0001.png", json.loads((drawn / "0001.json").read_text())["model"]
    with Image.open(path) as image:
        darker, info = image.point([value // 2 for value in range(256)] * len(image.getbands())), PngInfo()
        info.add_text(KEYWORD, image.info[KEYWORD])
    darker.save(path, pnginfo=info)
    result = run("replay", path, "--out", tmp_path / "again", "--model", model)
    assert result.exit_code == 1, result.output
    assert "byte for byte; but" in result.stdout
    assert f"{path} is another: it was changed afterwards" in result.stdout


def test_the_record_inside_a_picture_names_no_folder(drawn):
    record, inside = (json.loads(text) for text in ((drawn / "0001.json").read_text(), record_inside(drawn)))
    assert "/" in record["model"]
    assert inside["model"] == "…/tiny"
    assert [subject["image"]["original"] for subject in inside["subjects"]] == ["red.png", "blue.png"]
    for subject in record["subjects"]:
        for file in filter(None, (subject["image"], subject["mask"])):
            file["original"] = Path(file["original"]).name
    assert inside == record | {"model": "…/tiny"}
    assert str(Path(record["model"]).parent) not in record_inside(drawn)


def record_inside(out: Path) -> str:
    with Image.open(out / "0001.png") as image:
        return image.info[KEYWORD]


def test_no_metadata(model, references, tmp_path):
    result = generate(model, tmp_path / "out", "-s", references / "red.png", "--no-metadata", "--no-sheet")
    assert result.exit_code == 0, result.output
    path = tmp_path / "out" / "0001.png"
    assert set(chunks(path.read_bytes())) <= {"IHDR", "IDAT", "IEND"}
    assert json.loads(path.with_suffix(".json").read_text())["picture_sha256"] == sha256(path)
    result = run("replay", path, "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert f"{path} holds no record" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "is no valid JSON"),
        ("[]", "must hold a JSON object, got list"),
        ('{"format": "anystory-record/9"}', "format 'anystory-record/1'"),
        ('{"format": "anystory-record/1"}', "is damaged"),
        ('{"format": "anystory-record/1", "subjects": []}', "prompt: Field required"),
    ],
)
def test_replay_of_what_is_no_record(tmp_path, text, message):
    path = tmp_path / "r.json"
    path.write_text(text)
    result = run("replay", "--trust-paths", path, "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr


# --- refusals, all before anything is written ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "nowhere.png"], "nowhere.png: no such file"),
        (["-s", "{red}:nowhere.png"], "there is no mask 'nowhere.png'"),
        (
            ["-s", "{red}:{red}", "--region", "2:0,0,1,1"],
            "there is no subject 2; they are named 'red', or counted from 1 to 1",
        ),
        (["-s", "{red}", "--region", "1:0,0,1"], "--region must be I:X0,Y0,X1,Y1"),
        (["-s", "{red}", "--region", "1:0,0,1,1", "--region", "1:0,0,1,1"], "has a region already"),
        (["-s", "{red}", "--region", "1:0,0,40,40"], "fractions of width and height, not pixels"),
        (["--size", "big"], "--size must be a number of pixels or WIDTHxHEIGHT"),
        (["--size", "33", "-s", "{red}"], "multiple"),
        (["--device", "abacus"], "--device must be one of"),
        (["--dtype", "int8"], "--dtype must be one of"),
        (["--model", "nothing"], "no model 'nothing'"),
    ],
)
def test_refusals(model, references, tmp_path, arguments, message):
    red = references / "red.png"
    result = generate(model, tmp_path / "out", *(argument.format(red=red) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("anystory: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


# --- parsing ---


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("96x64", (96, 64)), ("96×64", (96, 64)), (None, (None,) * 2)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "64x0", "x64", "-8", "6.4"])
def test_bad_sizes(text):
    with pytest.raises(ValueError, match="--size"):
        parse_size(text)
