"""Every language has every text, with the same names to be filled in, and every text that is asked for is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anystory import studio
from anystory.engine.errors import OptionError
from anystory.story.book.exports.formats import FORMATS
from anystory.story.book.pages.templates import template_names
from anystory.story.styles import PRESETS
from anystory.studio.tabs import creator, models
from anystory.studio.texts import LANGUAGES, sentence, texts
from anystory.studio.told import FieldError

FOLDER = Path(studio.__file__).parent


def entries(told: dict[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of all texts."""
    for key, value in told.items():
        if isinstance(value, dict):
            yield from entries(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


EVERY = {language: dict(entries(texts(language))) for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_languages_have_the_same_texts(language: str):
    assert EVERY[language].keys() == EVERY[LANGUAGES[0]].keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_and_all_name_the_same_things(language: str):
    for path, text in EVERY[language].items():
        assert text.strip(), path
        names = sorted(set(re.findall(r"\{(\w+)\}", EVERY["en"][path])))
        assert sorted(set(re.findall(r"\{(\w+)\}", text))) == names, path


def test_german_is_german():
    """What is the same in both is a name or a word of both languages."""
    same = {text for path, text in EVERY["de"].items() if text == EVERY["en"][path] and " " in text}
    assert same <= {
        "AnyStory Studio",
        "Mara and Bo waving on a beach at dusk",
        "on a beach at dusk",
        "Mara waving",
        "a striped blue fox with a red hat",
        "{count} s",
        "{count} min",
    }


def test_every_text_that_the_page_asks_for_is_there():
    scripts = "".join(path.read_text() for path in (FOLDER / "static").glob("*.js"))
    asked = set(re.findall(r"""\bt\(\s*["']([\w.]+)["']""", scripts))
    assert len(asked) > 150
    assert not {path for path in asked if path not in EVERY["en"]}


def test_every_text_is_asked_for():
    """But for those whose path is put together: words for values, names of formats and the like."""
    source = "".join(path.read_text() for path in (*(FOLDER / "static").glob("*.js"), *FOLDER.rglob("*.py")))
    asked = set(re.findall(r"""["'`]([\w.]+)["'`]""", source))
    put_together = set(re.findall(r"`([\w.]+?)\$\{", source)) | {"values_"}
    words = {"style_names", "template_names", "devices"}
    for path in EVERY["en"]:
        known = path in asked or any(path.startswith(start) for start in put_together) or path.split(".")[0] in words
        assert known or (path.startswith("errors.") and path.removeprefix("errors.") in asked), path


def test_what_is_put_together_is_complete():
    told = texts("en")
    scripts = {path.stem for path in (FOLDER / "static").glob("*.js")}
    assert set(told["tabs"]) <= scripts
    assert set(creator.attributes()) == set(told["attributes"])
    for name, entry in creator.attributes().items():
        group = "colours" if re.search("colour|primary|secondary|accent", name) else name
        assert set(entry["values"]) <= set(told[f"values_{group}"]), name
    assert set(FORMATS) <= set(told["export"])
    assert {"auto", *template_names()} == set(told["template_names"])
    assert set(PRESETS) == set(told["style_names"])
    assert set(models._EXTRAS.values()) == set(told["extras"])


def test_an_error_of_the_page_is_told_in_its_language():
    missing = FieldError("book", "panels_missing", panels="1, 3")
    assert sentence(missing, "de") == (
        "Diese Bilder sind noch nicht gezeichnet: 1, 3. Zeichne sie zuerst.",
        "book",
    )
    assert sentence(OptionError("steps", "must be 1"), "en") == ("steps must be 1", "steps")
    assert sentence(KeyError("bug"), "de") == ("", None)
    assert sentence(FileNotFoundError(2, "No such file", "x.png"), "en") == ("x.png: No such file", None)
