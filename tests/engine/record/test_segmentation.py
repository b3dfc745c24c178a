"""The record of subjects found in a picture: read, refused, and without folders for others' eyes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anystory.engine.options import ModelOptions
from anystory.engine.record.schema import LoraRecord
from anystory.engine.record.segmentation import (
    FoundRecord,
    SegmentationRecord,
    load_segmentation,
    segmentation_text,
)
from anystory.engine.record.shared import shared_record
from anystory.segment.fusion import Fusion
from engine.record.records import FILE, record


def found(**changes: Any) -> SegmentationRecord:
    """A record with everything in it; lists where JSON has them, so that it equals what is read."""
    subjects = tuple(
        FoundRecord(subject=one, confidence=0.25, present=True, share=0.5, mask="1-mask.png", layer="1.png")
        for one in record().subjects
    )
    values: dict[str, Any] = {
        "picture": FILE,
        "width": 64,
        "height": 48,
        "subjects": subjects,
        "background": "background.png",
        "overlay": None,
        "prompt": "/imagine two friends",
        "seed": 3,
        "fusion": Fusion(levels=(0.1, 0.4)).to_dict(),
        "options": json.loads(json.dumps(ModelOptions().recorded)),
        "weights": {"model/unet/x.safetensors": "cd"},
        "environment": {"torch": "2.13.0"},
    }
    return SegmentationRecord(**(values | changes))


def test_what_is_written_is_read(tmp_path: Path):
    for number, made in enumerate((found(), found(overlay="overlay.png", seed=2**64 - 1))):
        path = tmp_path / f"{number}.json"
        path.write_text(segmentation_text(made), encoding="utf-8")
        assert load_segmentation(path) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format="anystory-record/1"), "not a record of this version.*anystory-segmentation/1"),
        (lambda data: data.pop("seed"), r"is damaged \(seed: Field required\)"),
        (lambda data: data.update(more=1), "more: Unexpected keyword argument"),
        (lambda data: data["subjects"][0].update(confidence=1.5), r"subjects\.0\.confidence"),
        (lambda data: data["subjects"][0].update(present="yes"), r"subjects\.0\.present"),
        (lambda data: data["picture"].pop("sha256"), r"picture\.sha256"),
    ],
)
def test_what_is_damaged_is_refused_by_its_entry(tmp_path: Path, change: Any, message: str):
    data = json.loads(segmentation_text(found()))
    change(data)
    (tmp_path / "r.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_segmentation(tmp_path / "r.json")


@pytest.mark.parametrize("content", ["", "[]", "no json", "[" * 20_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: str):
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.json"):
        load_segmentation(tmp_path / "r.json")


def test_a_shared_record_holds_names_and_no_folders():
    """The options are a dictionary, where those of a picture are entries of their own."""
    lora = LoraRecord(file="/home/ann/loras/a.safetensors", scale=0.5)
    options = ModelOptions(model="/home/ann/models/sdxl", adapter="owner/adapter", loras=(lora,)).recorded
    made = found(picture=replace(FILE, original="/home/ann/scene.png"), options=options)
    cut = {"segmenter": "/home/ann/u2netp.onnx", "cutout": "/home/ann/u2netp.onnx"}
    seen = tuple(replace(one, subject=replace(one.subject, **cut)) for one in made.subjects)
    for given in (replace(made, subjects=seen), replace(made, options=json.loads(segmentation_text(made))["options"])):
        shared = shared_record(given)
        assert "ann" not in segmentation_text(shared)
        assert "/somewhere" not in segmentation_text(shared)
        assert (shared.options["model"], shared.options["adapter"]) == ("…/sdxl", "owner/adapter")
        assert json.loads(segmentation_text(shared))["options"]["loras"] == [{"file": "…/a.safetensors", "scale": 0.5}]
        assert (shared.picture.original, shared.picture.file) == ("scene.png", FILE.file)
        assert shared.prompt == "/imagine two friends"
        assert shared.fusion == made.fusion
    assert shared_record(found()).options["model"] == "mini"
