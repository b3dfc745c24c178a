"""`anystory adapter`: from files as they are published to a picture; what an adapter was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anystory import cli
from anystory.models import SubjectAdapter
from anystory.models.saved.checksums import read_sums
from anystory.pipelines.sdxl import AnyStoryPipeline
from cli.sdxl_files import SdxlFiles
from pipelines.helpers import draw, subject


def init(*arguments: object):
    options = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli.app, ["adapter", "init", "--reference-size", "32", *options])


def made(files: SdxlFiles, out: Path, *arguments: object) -> SubjectAdapter:
    result = init("--base", files.base, "--ip-adapter", files.ip_adapter, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return SubjectAdapter.from_pretrained(out, torch_dtype=torch.float32)


def test_what_is_made_and_said(files, adapter, tmp_path):
    assert {path.name for path in adapter.iterdir()} == {
        *("README.md", "SHA256SUMS.txt", "config.json"),
        "diffusion_pytorch_model.safetensors",
    }
    card = (adapter / "README.md").read_text()
    assert "Made by `anystory adapter init`, not trained." in card
    assert "ip-adapter-plus_sdxl_vit-h.safetensors" in card
    assert "RAIL++-M" in card
    loaded = SubjectAdapter.from_pretrained(adapter)
    assert (loaded.sizes.subject_tokens, loaded.sizes.clip_tokens, loaded.sizes.reference_size) == (16, 257, 32)
    result = init("--base", files.base, "--ip-adapter", files.ip_adapter, "--out", tmp_path / "a")
    assert "parameters in float16, 16 tokens per subject" in result.output
    assert "give every subject a region" in result.output


def test_every_form_of_the_sources_gives_the_same_adapter(files, adapter, tmp_path):
    expected = SubjectAdapter.from_pretrained(adapter).state_dict()
    half = made(files, tmp_path / "half")
    variant = made(files, tmp_path / "variant", "--variant", "fp16")
    pickled = init(
        *("--base", files.single, "--config", files.config, "--dtype", "float32", "--out", tmp_path / "single"),
        *("--ip-adapter", files.ip_adapter.with_suffix(".bin")),
    )
    assert pickled.exit_code == 0, pickled.output
    single = SubjectAdapter.from_pretrained(tmp_path / "single").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in single.items())
    random = ("routing_qformer", "routers")  # in half precision other numbers are drawn
    for other in (half, variant):
        for name, value in other.state_dict().items():
            assert name.startswith(random) or torch.equal(value, expected[name].half().float()), name


def test_it_draws_at_once_with_regions(files, adapter):
    pipe = AnyStoryPipeline.from_pretrained(
        files.base, adapter=adapter, image_encoder=files.image_encoder, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    left, right = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
    both = draw(pipe, subjects=[subject(region=left), subject((0, 0, 255), region=right)])
    assert np.isfinite(both.images).all()
    one, other = both.routing.masks()
    assert one[:, :14].all()  # beside the border between two maps of 4 pixels
    assert other[:, 18:].all()
    assert not (one & other).any()
    assert np.abs(both.images - draw(pipe).images).max() > 1e-3


def test_an_image_encoder_beside_the_adapter_is_found(files, adapter, tmp_path):
    import shutil

    shutil.copytree(adapter, tmp_path / "adapter")
    shutil.copytree(files.image_encoder, tmp_path / "adapter" / "image_encoder")
    pipe = AnyStoryPipeline.from_pretrained(files.base, adapter=tmp_path / "adapter", add_watermarker=False)
    assert pipe.image_encoder.config.hidden_size == 16


def test_the_papers_tokens_are_copies_and_it_says_so(files, adapter, tmp_path):
    result = init("--base", files.base, "--ip-adapter", files.ip_adapter, "--out", tmp_path / "a", "--tokens", 64)
    assert "near IP-Adapter-Plus, not equal to it" in result.output
    many = SubjectAdapter.from_pretrained(tmp_path / "a").subject_qformer.latents
    few = SubjectAdapter.from_pretrained(adapter).subject_qformer.latents
    assert many.shape[1] == 64
    torch.testing.assert_close(many[:, :16], few, atol=2e-3, rtol=2e-3)


def test_the_routers_maps_are_of_the_kind_that_is_asked_for(files, tmp_path):
    for kind in ("shared", "separate"):
        adapter = made(files, tmp_path / kind, "--map-projections", kind)
        assert adapter.sizes.map_projections == kind
        assert any("map_slot" in name for name in adapter.state_dict()) == (kind == "shared")


def test_a_seed_makes_the_same_adapter(files, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        made(files, tmp_path / name, "--seed", seed)
    a, b, c = (read_sums(tmp_path / name) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--dtype": "int8"}, "--dtype must be one of"),
        ({"--tokens": "17"}, "tokens must be a multiple of the IP-Adapter's 16 queries, got 17"),
        ({"--map-projections": "both"}, "map_projections must be one of 'shared', 'separate', got 'both'"),
        ({"--base": "nowhere"}, "no unet at 'nowhere'"),
        ({"--ip-adapter": "nowhere.bin"}, "No such file, nor owner/name/file of the hub"),
        ({"--ip-adapter": "h94/IP-Adapter/sdxl_models/x.bin"}, "the hub did not give it"),
        ({"--ip-adapter": "{single}"}, "has no image_proj and ip_adapter parts"),
        ({"--base": "{ip_adapter}"}, "is an IP-Adapter, not SDXL in its original single-file layout"),
        ({"--base": "mini"}, "the IP-Adapter does not fit this U-Net"),
        ({"--base": "{single}"}, "pass config=FOLDER"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(files, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = {"single": files.single, "ip_adapter": files.ip_adapter}
    given = {"--base": files.base, "--ip-adapter": files.ip_adapter, "--out": tmp_path / "out"} | options
    result = init(*(part for name, value in given.items() for part in (name, str(value).format(**places))))
    assert result.exit_code == 2
    assert message in result.stderr
    said = [line for line in result.stderr.splitlines() if not line.endswith(" …")]  # but for what it is doing
    assert said[0].startswith("anystory: ")
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_overwritten(files, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = init("--base", files.base, "--ip-adapter", files.ip_adapter, "--out", tmp_path)
    assert result.exit_code == 2
    assert "exists already and is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- what it was trained on ---


def references(*arguments: object):
    return CliRunner().invoke(cli.app, ["adapter", "references", *map(str, arguments)])


def test_an_adapter_learns_its_references(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    before = SubjectAdapter.from_pretrained(folder / "adapter")
    given = ["--recipe", "mini-cpu", "--pictures", 24, "--components", 3]
    result = references(folder, *given)
    assert result.exit_code == 0, result.output
    assert "24 references, at most 2 subjects in a picture" in result.stdout
    assert str(tmp_path) not in (folder / "adapter" / "config.json").read_text(), "where it was read from is private"
    after = SubjectAdapter.from_pretrained(folder / "adapter")
    assert (after.sizes.max_subjects, after.sizes.familiarity_components) == (2, 3)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())
    assert 0 < after.familiarity.limit < 100
    first = after.familiarity.state_dict()
    assert references(folder, *given).exit_code == 0  # the same again
    again = SubjectAdapter.from_pretrained(folder / "adapter").familiarity.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    pipe = AnyStoryPipeline.from_pretrained(folder)
    assert pipe.encode_subjects([subject()])[0].strangeness > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pictures", 8, "--components", 8], "8 components need more than 16 pictures, got 8"),
        (["--recipe", "nothing"], "no recipe 'nothing'"),
        (["--data", "level99"], "level99"),
    ],
)
def test_references_that_cannot_be_learned(model, options, message):
    result = references(model, "--recipe", "mini-cpu", *options)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output


def test_a_folder_without_an_image_encoder(adapter):
    result = references(adapter, "--recipe", "mini-cpu")
    assert result.exit_code == 2
    assert "has no adapter: name the folder of a whole model" in result.stderr
