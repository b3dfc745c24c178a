"""The words of the HTML reader's own buttons, in the book's language where we have it, else in English."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ReaderWords", "reader_words"]


class ReaderWords(NamedTuple):
    """What the reader says itself."""

    reading: str
    """Of the bar."""
    earlier: str
    later: str
    panels: str
    panel_by_panel: str
    text: str
    show_text: str
    cover: str
    page: str


_WORDS = {
    "en": ReaderWords(
        "Reading", "Earlier", "Later", "Panels", "Panel by panel", "Text", "Show the words", "Cover", "Page"
    ),
    "de": ReaderWords(
        "Lesen", "Zurück", "Weiter", "Bilder", "Bild für Bild", "Text", "Die Worte zeigen", "Umschlag", "Seite"
    ),
    "fr": ReaderWords(
        "Lecture", "Précédent", "Suivant", "Cases", "Case par case", "Texte", "Afficher les paroles", "Couverture",
        "Page",
    ),
    "es": ReaderWords(
        "Lectura", "Anterior", "Siguiente", "Viñetas", "Viñeta a viñeta", "Texto", "Mostrar las palabras", "Portada",
        "Página",
    ),
}  # fmt: skip


def reader_words(language: str) -> tuple[str, ReaderWords]:
    """The language of the words (ISO 639), and the words.

    Args:
        language: Of the book, BCP 47.
    """
    code = language.lower().replace("_", "-").partition("-")[0]
    code = code if code in _WORDS else "en"
    return code, _WORDS[code]
