"""Puts the pages of a book into one picture, two in a row: see `anystory story export BOOK --to png`.

python scripts/story_picture.py PAGES OUT.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

GAP = 12
"""Pixels around the pages."""
COLOURS = 256


def main(folder: Path, out: Path) -> None:
    """Write the picture; few colours keep it small."""
    pages = [Image.open(path).convert("RGB") for path in sorted(folder.glob("page-*.png"))]
    width, height = pages[0].size
    rows = -(-len(pages) // 2)
    picture = Image.new("RGB", (2 * (width + GAP) + GAP, rows * (height + GAP) + GAP), "#808080")
    for index, page in enumerate(pages):
        row, column = divmod(index, 2)
        picture.paste(page, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    picture.quantize(palette=picture.quantize(COLOURS), dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
