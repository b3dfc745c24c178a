"""A record's text inside a PNG, as a text chunk of its own: what Pillow writes and any tool for PNGs shows."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

__all__ = ["KEYWORD", "is_png", "read_png_text", "text_chunk"]

KEYWORD = "anystory-record"
"""The chunk's keyword; it is an iTXt chunk, compressed."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_LARGEST_FILE = 2**30
"""Bytes of a PNG: more pixels than we read have less."""

_LARGEST_TEXT = 2**20
"""Characters of a record: those of pictures with dozens of photos have some ten thousand."""

_OTHERS = {
    "parameters": "AUTOMATIC1111, Forge or SD.Next",
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "Dream": "InvokeAI",
    "fooocus_scheme": "Fooocus",
}
"""{keyword of another program's chunk: the program}; the first that is there counts."""

_WHAT_HELPS = "give a PNG that anystory has drawn, or the .json beside it"


def is_png(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a PNG by its first bytes, whatever its name; False where there is no file."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def text_chunk(text: str) -> PngInfo:
    """What `Image.save` takes as `pnginfo` to keep a record's text."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(KEYWORD, text, zip=True)
    return info


def read_png_text(path: str | os.PathLike[str]) -> str:
    """The record's text inside a PNG.

    Raises:
        ValueError: the PNG holds no record, or another program's data; or the file is damaged, or larger than any
            picture or record.
    """
    texts = _texts(Path(path))
    if KEYWORD in texts:
        if len(texts[KEYWORD]) > _LARGEST_TEXT:
            raise ValueError(f"the record inside {path} has {len(texts[KEYWORD]):,} characters: it is none of ours")
        return texts[KEYWORD]
    program = next((name for keyword, name in _OTHERS.items() if keyword in texts), None)
    if program is not None:
        raise ValueError(f"{path} holds generation data of {program}, which anystory cannot draw again: {_WHAT_HELPS}")
    raise ValueError(
        f"{path} holds no record: it was drawn with --no-metadata or by another program, or saved again by one that"
        f" leaves such data out: {_WHAT_HELPS}"
    )


def _texts(path: Path) -> dict[str, str]:
    """All text chunks {keyword: text}, those behind the pixels included."""
    from PIL import Image

    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} is larger than {_LARGEST_FILE >> 20:,} MiB: no picture of ours is")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # many pixels are no matter here: they are not decoded
            with Image.open(path, formats=["PNG"]) as image:
                before = {name: str(text) for name, text in image.info.items() if isinstance(text, str)}
                return before if KEYWORD in before else before | dict(image.text)  # type: ignore[attr-defined]
    except Exception as error:  # Pillow's readers fail in ways of their own, and a damaged file in any of them
        raise ValueError(f"{path} is a damaged PNG, whose record cannot be read ({error}): {_WHAT_HELPS}") from None
