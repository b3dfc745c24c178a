"""Which backend a model belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)
from safetensors.torch import save_file

from anystory.engine.backends.base import Backend
from anystory.engine.backends.registry import BACKENDS, backend_of, place_of
from anystory.engine.drawing import load
from anystory.engine.inventory.describe import describe
from anystory.engine.options import ModelOptions
from cli.flux_files import FluxFiles, write_flux_files
from cli.sdxl_files import SdxlFiles, write_sdxl_files

NO_RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SdxlFiles:
    return write_sdxl_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def flux(tmp_path_factory) -> FluxFiles:
    return write_flux_files(tmp_path_factory.mktemp("flux"))


def pipeline_folder(folder: Path, **index: object) -> Path:
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_sdxls_models_in_every_form(folder, files):
    for model in ("mini", str(folder), str(files.base), str(files.single)):
        assert backend_of(model).name == "sdxl"
    assert describe(files.base).backend == describe(files.single).backend == describe("mini").backend == "sdxl"
    assert describe(files.base / "unet").backend == describe(files.ip_adapter).backend == ""


def test_flux_in_diffusers_layout(flux):
    for model in (flux.base, flux.whole, flux.schnell):
        assert backend_of(str(model)).name == "flux"
        assert describe(model).backend == "flux"
    assert describe(flux.adapter).backend == describe(flux.base / "transformer").backend == ""


def test_flux2_klein_in_diffusers_layout(tmp_path):
    index = {"transformer": ["diffusers", "Flux2Transformer2DModel"]}
    klein = pipeline_folder(tmp_path / "klein", _class_name="Flux2KleinPipeline", **index)
    assert backend_of(str(klein)).name == "klein"
    cached = pipeline_folder(tmp_path / "kv", _class_name="Flux2KleinKVPipeline", **index)
    with pytest.raises(ValueError, match="is FLUX.2 klein, which cannot be drawn with here"):
        backend_of(str(cached))


def test_models_that_nobody_draws_with_are_refused_in_a_sentence(tmp_path):
    fill = pipeline_folder(
        tmp_path / "fill", _class_name="FluxFillPipeline", transformer=["diffusers", "FluxTransformer2DModel"]
    )
    (tmp_path / "fill" / "transformer").mkdir()
    other = pipeline_folder(
        tmp_path / "flux2", _class_name="Flux2Pipeline", transformer=["diffusers", "Flux2Transformer2DModel"]
    )
    old = pipeline_folder(
        tmp_path / "sd15", _class_name="StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"]
    )
    lora = tmp_path / "lora.safetensors"
    save_file({"x.lora_A.weight": torch.zeros(1)}, lora)
    single = tmp_path / "flux1-dev.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, single)
    for model, kind in (
        (fill, "FLUX"),
        (other, "FLUX.2"),
        (single, "FLUX"),
        (old, "Stable Diffusion 1.x or 2.x"),
        (lora, "a LoRA"),
    ):
        sentence = f"^{model} is {kind}, which cannot be drawn with here: expected SDXL or a fine-tune of it, or FLUX.1"
        with pytest.raises(ValueError, match=sentence):
            backend_of(str(model))
        with pytest.raises(ValueError, match=sentence):
            load(ModelOptions(model=str(model)))
        assert describe(model).backend == ""


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"_class_name": null}', "\x00"])
def test_what_cannot_be_looked_at_is_left_to_the_first_backend(tmp_path, content):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(content)
    (tmp_path / "text.safetensors").write_text("<html>")
    for model in (tmp_path / "model", tmp_path / "text.safetensors", tmp_path / "nowhere", "m" * 300, "./m/n"):
        assert place_of(str(model)) is None
        assert backend_of(str(model)) is BACKENDS[0]


def test_a_downloaded_hub_id_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--flux" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--owner--flux" / "refs").mkdir()
    (tmp_path / "models--owner--flux" / "refs" / "main").write_text("0" * 40)
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (snapshot / "model_index.json").write_text(json.dumps(index))
    assert place_of("owner/flux") == snapshot
    assert backend_of("owner/flux").name == "flux"


def test_the_index_of_a_hub_id_is_fetched(flux, monkeypatch):
    """It decides between the backends before anything else of the model is here."""
    asked = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(flux.base / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert backend_of("black-forest-labs/FLUX.1-dev").name == "flux"
    assert asked == [("black-forest-labs/FLUX.1-dev", "model_index.json")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            LocalEntryNotFoundError("No internet.\nTry again."),
            "owner/name is not cached here, and the hub .* did not give its model_index.json .No internet.: check the",
        ),
        (
            GatedRepoError("403", response=NO_RESPONSE),
            "owner/name is given only to those .*https://huggingface.co/owner/name, then log in with `hf auth login`",
        ),
        (
            RemoteEntryNotFoundError("404", response=NO_RESPONSE),
            "owner/name has no model_index.json: expected a model in diffusers layout",
        ),
        (HFValidationError("no"), "no model 'owner/name': expected an embedded model"),
    ],
)
def test_a_hub_id_that_is_not_given_is_refused_in_a_sentence(monkeypatch, error, message):
    def fetch(*asked: str) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    asked: tuple[dict[str, Any], ...] = ({}, {"quantize": "fp8"}, {"scheduler": "DDIMScheduler"})
    for options in asked:
        with pytest.raises(ValueError, match=message):
            load(ModelOptions(model="owner/name", **options))


def test_names_are_unique_and_the_interface_is_whole():
    assert len({backend.name for backend in BACKENDS}) == len(BACKENDS)
    for backend in BACKENDS:
        wanted = {name for name in vars(Backend) if not name.startswith("_")}
        assert wanted <= set(dir(backend))
