"""A page that shows a data set: samples, statistics, and what is wrong. One HTML file, no script."""

from __future__ import annotations

import base64
import colorsys
import io
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from anystory.data.bad_samples import BadSample
from anystory.data.inspection.census import Census, SampleFacts, facts_of
from anystory.data.inspection.charts import bar_chart, histogram
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.sources import evenly, read_ahead
from anystory.data.table import SampleSource
from anystory.files import atomic_write
from anystory.subjects.arrays import rgba_on_white

__all__ = ["write_page"]

_TARGET, _REFERENCE = 256, 96
"""Longest sides of the pictures shown."""


def write_page(
    source: SampleSource,
    folder: str | Path,
    *,
    show: int = 48,
    count: int = 2000,
    title: str = "samples",
    workers: int = 0,
    seen: Callable[[int], None] = lambda _: None,
) -> Path:
    """Write `index.html`.

    Args:
        source: A manifest or shards.
        folder: Where the page goes.
        show: Samples to show, evenly spread over the set.
        count: Most samples to read for the statistics, evenly spread, too.
        title: The page's title.
        workers: Reading processes; 0 reads in this one. The page is the same.
        seen: Called with the number of samples that were read.

    Returns:
        The page's path.

    Raises:
        ValueError: a reading process died.
    """
    indices = evenly(range(len(source)), max(count, show))
    look = partial(_look, source, frozenset(evenly(indices, show)))
    census, cards = Census(), []
    with closing(read_ahead(look, indices, source.table.keys, workers)) as looked:
        for index, found in zip(indices, looked, strict=True):
            facts, card = (found, "") if isinstance(found, BadSample) else found
            census.add(source.table, index, facts)
            cards.append(card)
            seen(census.tally.seen)
    page = Path(folder) / "index.html"
    with atomic_write(page) as temporary:
        temporary.write_text(_page(title, len(source), census, cards), encoding="utf-8")
    return page


def _look(source: SampleSource, shown: frozenset[int], index: int) -> tuple[SampleFacts, str]:
    """What is counted of a sample, and its card if it is shown."""
    sample = read_sample(*source.open_sample(index))
    return facts_of(sample), _card(sample, index) if index in shown else ""


def _page(title: str, total: int, census: Census, cards: list[str]) -> str:
    read = census.tally.seen
    which = f"all {total}" if read == total else f"{read} of {total}, evenly spread,"
    charts = {
        "subjects per sample": bar_chart(census.subjects),
        "photos per subject": bar_chart(census.photos),
        "subject's share of the picture": histogram(census.mask_shares, "{:.1%}"),
        "width, pixels": histogram(census.widths, "{:.0f}"),
        "height, pixels": histogram(census.heights, "{:.0f}"),
        "width / height": histogram([w / h for w, h in zip(census.widths, census.heights, strict=True)], "{:.2f}"),
        "words in a caption": bar_chart(Counter(census.words)),
    }
    style = files("anystory.data.inspection").joinpath("page.css").read_text(encoding="utf-8")
    facts = [("splits", census.splits), ("sources", census.sources), ("licences", census.licences)]
    rows = "".join(f"<tr><th>{name}</th><td>{_counted(found)}</td></tr>" for name, found in facts)
    rows += f"<tr><th>without mask</th><td>{census.unmasked}</td></tr>"
    rows += f"<tr><th>with a place</th><td>{census.places}</td></tr>"
    drawn = "".join(f'<div class="card"><h3>{name}</h3>{chart}</div>' for name, chart in charts.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body>'
        f'<h1>{escape(title)}</h1><p class="soft">{which} samples were read; {census.tally.bad} of them are bad.</p>'
        f'<h2>Statistics</h2><div class="grid charts">{drawn}</div>'
        f'<h2>Sources and licences</h2><div class="card"><table>{rows}</table></div>{_bad(census)}'
        f'<h2>Samples</h2><div class="grid samples">{"".join(cards)}</div></body></html>\n'
    )


def _counted(found: Counter[str]) -> str:
    """The commonest values with their counts."""
    text = ", ".join(f"{value}: {count}" for value, count in found.most_common(12))
    return escape(text + (f", and {len(found) - 12} more" if len(found) > 12 else ""))


def _bad(census: Census) -> str:
    if not census.tally.bad:
        return ""
    rows = "".join(
        f"<tr><td>{reason}</td><td>{count}</td><td>"
        + "<br>".join(escape(f"{key}: {message}") for key, message in census.tally.examples[reason])
        + "</td></tr>"
        for reason, count in census.tally.counts.most_common()
    )
    head = "<tr><th>reason</th><th>samples</th><th>for example</th></tr>"
    return f'<h2>Bad samples</h2><div class="card"><table>{head}{rows}</table></div>'


def _card(sample: LoadedSample, index: int) -> str:
    colours = [_colour(i) for i in range(len(sample.masks))]
    target = Image.fromarray(sample.image)
    pair = _img(target, _TARGET, "the target") + _img(Image.fromarray(_coloured(sample, colours)), _TARGET, "its masks")
    figures = []
    for photos, name, colour in zip(sample.references, sample.names, colours, strict=True):
        for photo in photos:
            shown = _img(Image.fromarray(rgba_on_white(photo)), _REFERENCE, "a reference", colour)
            figures.append(f"<figure>{shown}{escape(name)}</figure>")
    if sample.place is not None:
        place = _img(Image.fromarray(sample.place), _REFERENCE, "the place", (128, 128, 128))
        figures.append(f"<figure>{place}the place</figure>")
    height, width = sample.image.shape[:2]
    foot = [sample.key, f"{width}×{height}", sample.source or "source not given", sample.licence or "licence not given"]
    if not sample.masked:
        foot.append("no mask")
    return (
        f'<div class="card" id="s{index}"><div class="pair">{pair}</div><p class="caption">{escape(sample.caption)}</p>'
        f'<div class="references">{"".join(figures)}</div><p class="foot">{escape(" · ".join(foot))}</p></div>'
    )


def _coloured(sample: LoadedSample, colours: list[tuple[int, int, int]]) -> np.ndarray:
    """The target in grey with each subject's pixels tinted, (H, W, 3) uint8."""
    grey = np.asarray(Image.fromarray(sample.image).convert("L"), dtype=np.float32)[..., None]
    tinted = np.broadcast_to(grey * 0.6 + 60, sample.image.shape).copy()
    if sample.masked:
        for mask, colour in zip(sample.masks, colours, strict=True):
            tinted[mask] = 0.45 * grey[mask] + 0.55 * np.array(colour, np.float32)
    return tinted.round().clip(0, 255).astype(np.uint8)


def _colour(number: int) -> tuple[int, int, int]:
    """A colour for a subject, far from those of its neighbours: hues by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + number * 0.618) % 1, 0.75, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _img(picture: Image.Image, side: int, alternative: str, border: tuple[int, ...] | None = None) -> str:
    """An <img> that carries its picture, at most `side` pixels long; twice that where the picture has them."""
    picture.thumbnail((2 * side, 2 * side))
    data = io.BytesIO()
    tiny = max(picture.size) <= 128  # JPEG would damage such pictures, and PNG costs little
    picture.save(data, "PNG" if tiny else "JPEG", quality=85)
    kind = ' class="tiny" src="data:image/png' if tiny else ' src="data:image/jpeg'
    style = "" if border is None else f' style="border-color: rgb{border}"'
    return f'<img alt="{alternative}"{kind};base64,{base64.b64encode(data.getvalue()).decode()}"{style}>'
