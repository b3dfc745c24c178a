"""What the engine says, in the page's language: each sentence as the engine itself says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anystory.cast import Library
from anystory.cast.names import check_name
from anystory.engine.options import ModelOptions
from anystory.engine.record.reading import load_record
from anystory.studio.texts import in_language, sentence
from anystory.subjects import Subject
from anystory.subjects.pictures import load_picture
from studio.conftest import Browser

Wrong = Callable[[Path, Library], Any]


def _text(folder: Path, name: str, data: bytes = b"no picture") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def _saved(folder: Path, image: Image.Image) -> Path:
    image.save(folder / "x.png")
    return folder / "x.png"


WRONG: dict[str, Wrong] = {
    "nimm PNG, JPEG, WebP oder Ähnliches": lambda folder, _: load_picture(_text(folder, "x.png"), "the picture"),
    "es ist HEIF": lambda folder, _: load_picture(_text(folder, "x.heic", b"\0\0\0\x18ftypheic" + bytes(16))),
    "x.png ist beschädigt": lambda folder, _: load_picture(
        _text(folder, "x.png", _saved(folder, Image.effect_noise((64, 64), 99)).read_bytes()[:900])
    ),
    "alles darin ist durchsichtig": lambda folder, _: Subject(_saved(folder, Image.new("RGBA", (9, 9)))).whole(),
    "nichts vom Hintergrund ab": lambda folder, _: Subject(_saved(folder, Image.new("RGB", (64, 64)))).whole(),
    "Der Name darf nicht leer sein": lambda _, __: check_name("  "),
    "höchstens": lambda _, __: check_name("x" * 999),
    "darf @ nicht enthalten": lambda _, __: check_name("ma@ra"),
    "braucht einen Buchstaben": lambda _, __: check_name("!!"),
    "darf keine Zahl sein": lambda _, __: check_name("7"),
    "Den Namen 'Marie' hat schon 'Mara'": lambda folder, library: library.add(
        "Marie", [_saved(folder, Image.new("RGBA", (9, 9), "red"))]
    ),
    "hat schon ein Aussehen 'winter'": lambda folder, library: library.add_variant(
        "Mara", "winter", [_saved(folder, Image.new("RGBA", (9, 9), "red"))]
    ),
    "mindestens ein Bild": lambda _, library: library.edit("Mara", drop_photos=[1]),
    "Eine Figur 'Zoe' gibt es nicht mehr": lambda _, library: library["Zoe"],
    "hat kein Aussehen 'summer' mehr": lambda _, library: library["Mara"].cutouts("summer"),
    "ist keine .zip": lambda folder, library: library.import_zip(_text(folder, "x.zip")),
    "keine Aufzeichnung dieser Version": lambda folder, _: load_record(_text(folder, "x.json", b"{}")),
    "kein gültiges JSON": lambda folder, _: load_record(_text(folder, "x.json", b"{")),
    "steht keine Aufzeichnung": lambda folder, _: load_record(_saved(folder, Image.new("RGB", (9, 9)))),
    "Möglich sind 1 bis": lambda _, __: ModelOptions(threads=0),
}


@pytest.mark.parametrize("german", WRONG)
def test_what_the_engine_says_is_german(german: str, tmp_path: Path, library: Library):
    with pytest.raises((ValueError, OSError)) as caught:
        WRONG[german](tmp_path, library)
    said, _ = sentence(caught.value, "de")
    assert german in said
    assert sentence(caught.value, "en")[0] != said


def test_what_nobody_has_translated_says_that_it_is_english():
    assert in_language("something new", "de") == "something new (Diese Meldung gibt es nur auf Englisch.)"
    assert in_language("something new", "en") == "something new"
    assert in_language("", "de") == ""


@pytest.mark.parametrize(
    ("prompt", "german"),
    [
        ("", "Sag, was zu sehen ist."),
        ("{zoe} waving", "{zoe} gehört nicht zur Geschichte"),
        ("Mara {waving", "Eine Klammer ist ohne ihre andere Hälfte: Namen stehen in {…}"),
    ],
)
def test_what_is_wrong_with_a_panel_is_german(browser: Browser, prompt: str, german: str):
    story = {"title": "x", "cast": {"mara": {"library": "@Mara"}}, "panels": [{"prompt": prompt, "place": "moon"}]}
    headers = {"x-studio-language": "de"}
    told = browser.post("/api/story.save", json={"story": story}, headers=headers).json()["problems"]
    assert {"panel": 0, "text": german} in told
    assert {"panel": 0, "text": "Einen Ort 'moon' gibt es nicht"} in told


@pytest.mark.parametrize(
    ("scene", "german"),
    [
        ({"pictures": 99}, "Höchstens 16."),
        ({"steps": 0}, "Mindestens 1."),
        ({"seed": "x"}, "Das muss eine Zahl sein."),
        ({"prompt": "x" * 4001}, "Höchstens 4000 Zeichen."),
    ],
)
def test_numbers_out_of_range_are_german(browser: Browser, scene: dict[str, Any], german: str):
    headers = {"x-studio-language": "de"}
    payload = {"what": "scene", "scene": {"prompt": "Mara", **scene}}
    told = browser.post("/api/draw", json=payload, headers=headers).json()
    assert told == {"field": next(iter(scene)), "message": german}


def test_models_are_described_in_german(browser: Browser):
    told = browser.post("/api/models", json={}, headers={"x-studio-language": "de"}).json()
    [mini] = [one for one in told["models"] if one["name"] == "mini"]
    assert (mini["kind"], mini["fits"]) == ("eine AnyStory-Pipeline", "vollständig, mit eigenem Adapter")
