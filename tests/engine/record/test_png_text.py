"""Records inside PNGs: what Pillow writes is read again; what others or damage leave is refused in a sentence."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image

from anystory.engine.record.png_text import KEYWORD, is_png, read_png_text, text_chunk
from anystory.engine.record.reading import load_record, record_text
from anystory.engine.record.schema import FileRecord, LoraRecord
from anystory.engine.record.shared import hidden_places, shared_record
from engine.record.records import record
from pipelines.png_files import SIGNATURE, chunk, png


def itxt(text: str, keyword: str = KEYWORD) -> bytes:
    return chunk("iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode())


def test_a_record_comes_back_from_a_picture(tmp_path):
    made, path = record(), tmp_path / "picture.jpg"  # what counts is what is in it, not its name
    Image.new("RGB", (8, 8)).save(path, format="PNG", pnginfo=text_chunk(record_text(made)))
    assert is_png(path)
    assert load_record(path) == made


@pytest.mark.parametrize("place", ["text", "behind"])
def test_chunks_of_other_tools_before_and_behind_the_pixels(tmp_path, place):
    path = tmp_path / "p.png"
    others = [chunk("tEXt", b"Software\0x"), itxt("5 steps", "parameters")]
    path.write_bytes(png(**{place: [*others, itxt(record_text(record()))]}))
    assert load_record(path) == record()


BOMB = KEYWORD.encode() + b"\0\1\0\0\0" + zlib.compress(b"[" * 70_000_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(), "holds no record: it was drawn with --no-metadata or by another program"),
        (png([chunk("tEXt", b"parameters\0a fox, Steps: 20")]), "generation data of AUTOMATIC1111"),
        (png([chunk("tEXt", b"prompt\0{}"), chunk("tEXt", b"workflow\0{}")]), "generation data of ComfyUI"),
        (png([itxt("{}", "invokeai_metadata")]), "generation data of InvokeAI"),
        (png([itxt("no json")]), "is no valid JSON"),
        (png([itxt("[]")]), "must hold a JSON object, got list"),
        (png([itxt('{"format": "anystory-record/1"}')]), "is damaged"),
        (png([itxt("[" * 100_000)]), "nested too deeply|is damaged"),
        (png([itxt(" " * 1_100_000)]), "1,100,000 characters: it is none of ours"),
        (png([chunk("iTXt", BOMB)]), "is a damaged PNG, whose record cannot be read"),
        (png([chunk("iTXt", b"anystory-record")]), "holds no record|is a damaged PNG"),
        (png([chunk("iTXt", KEYWORD.encode() + b"\0\0\0\0\0{}", crc=1)]), "is a damaged PNG"),
        (png([b"\xff\xff\xff\x7fiTXt"]), "is a damaged PNG"),
        (png([itxt(record_text(record()))])[:60], "is a damaged PNG"),
        (png()[:30], "is a damaged PNG"),
        (SIGNATURE, "is a damaged PNG"),
    ],
)
def test_what_is_no_record_inside(tmp_path, data, message):
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        load_record(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_other_pictures_are_no_records(tmp_path):
    path = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(path, format="JPEG")
    with pytest.raises(ValueError, match="a PNG that anystory has drawn, or the .json beside"):
        load_record(path)


def test_a_file_of_a_size_that_no_picture_has(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(SIGNATURE)
    os.truncate(path, 2**31)  # sparse: it takes no room
    with pytest.raises(ValueError, match="is larger than 1,024 MiB"):
        read_png_text(path)


def test_what_is_no_file_is_no_png(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [is_png(tmp_path / name) for name in ("pipe", "gone", ".")] == [False] * 3


def test_a_shared_record_holds_names_and_no_folders():
    given = FileRecord(file="references/fox.png", sha256="ab", original="/home/ann/pets/fox.png")
    made = record(
        prompt="/imagine a fox",
        model="/home/ann/models/sdxl",
        adapter="/home/ann/adapter/",
        config="owner/sdxl",
        loras=(LoraRecord(file="/home/ann/loras/a.safetensors", scale=0.5),),
        image=given,
        mask=given,
        replay_of="/home/ann/out/0001.json",
    )
    cut = {"segmenter": "/home/ann/u2netp.onnx", "cutout": "/home/ann/u2netp.onnx"}
    made = replace(made, subjects=tuple(replace(subject, image=given, **cut) for subject in made.subjects))
    shared = shared_record(made)
    text = record_text(shared)
    assert "ann" not in text
    assert "/somewhere" not in text
    assert (shared.prompt, shared.replay_of) == ("/imagine a fox", "0001.json")
    assert (shared.model, shared.adapter, shared.config) == ("…/sdxl", "…/adapter", "owner/sdxl")
    assert shared.image == replace(given, original="fox.png")
    assert (shared.loras[0].file, shared.loras[0].scale) == ("…/a.safetensors", 0.5)
    assert shared.subjects[0].cutout == "…/u2netp.onnx"
    named = {"model": "sdxl", "adapter": "adapter", "lora": "a.safetensors", "segmenter": "u2netp.onnx"}
    assert hidden_places(shared) == named
    kept = asdict(shared_record(record()))
    assert json.loads(json.dumps(kept))["model"] == "mini"
    assert hidden_places(record()) == {}


def test_pictures_with_records_are_pictures(tmp_path):
    made = Image.new("RGB", (8, 8), "red")
    made.save(tmp_path / "p.png", pnginfo=text_chunk("{}"))
    assert Path(tmp_path / "p.png").read_bytes().startswith(SIGNATURE)
    with Image.open(tmp_path / "p.png") as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
