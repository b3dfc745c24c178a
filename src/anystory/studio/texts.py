"""The page's texts: one JSON file for each language, all with the same entries; and the engine's sentences in it.

What the engine says is English. `languages/engine.de.json` has German for what a page's user may meet, by templates:
what stands in braces is taken over, and itself translated if it is one of the templates.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from anystory.studio.told import FieldError, told

__all__ = ["LANGUAGES", "answer_in_language", "in_language", "sentence", "texts"]

LANGUAGES = ("en", "de")
"""The first stands in for all others."""


@cache
def texts(language: str) -> dict[str, Any]:
    """The texts of one of `LANGUAGES`."""
    path = files("anystory.studio") / "languages" / f"{language}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def sentence(error: Exception, language: str) -> tuple[str, str | None]:
    """What a page says of an error, and the field that it belongs to; "" for a bug."""
    if isinstance(error, FieldError):
        said = texts(language)["errors"][error.key].format(**error.values)
        return (in_language(said, language) if error.key == "plain" else said), error.field
    said, field = told(error)
    return in_language(said, language), field


def in_language(said: str, language: str) -> str:
    """A sentence of the engine in a page's language; one that nobody has translated says that it is English."""
    if not said or language == LANGUAGES[0]:
        return said
    return _translated(said, language) or f"{said} ({texts(language)['errors']['english_only']})"


def answer_in_language(answer: dict[str, Any], language: str) -> dict[str, Any]:
    """What the page asked for, with the engine's words in it in the page's language: on stories and on models."""
    if language == LANGUAGES[0]:
        return answer
    problems = [{**one, "text": in_language(one["text"], language)} for one in answer.get("problems", ())]
    models = [
        {**one, **{key: _translated(one[key], language) or one[key] for key in ("kind", "fits")}}
        for one in answer.get("models", ())
    ]
    return {**answer, **({"problems": problems} if problems else {}), **({"models": models} if models else {})}


def _translated(said: str, language: str) -> str | None:
    for pattern, template in _templates(language):
        if found := pattern.fullmatch(said):
            inside = {name: _translated(part, language) or part for name, part in found.groupdict().items()}
            return template.format(**inside)
    return None


@cache
def _templates(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """(what the engine says, as a pattern; the same in the language)."""
    path = files("anystory.studio") / "languages" / f"engine.{language}.json"
    return tuple((_pattern(said), told) for said, told in json.loads(path.read_text(encoding="utf-8")).items())


def _pattern(template: str) -> re.Pattern[str]:
    parts = Formatter().parse(template)
    text = "".join(re.escape(plain) + (f"(?P<{name}>.*?)" if name else "") for plain, name, _, _ in parts)
    return re.compile(text, re.DOTALL)
