"""How an adapter is written: diffusers' safetensors and configuration, then checksums and a card; never half of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from anystory.files import atomic_folder, sha256_file
from anystory.models.saved.checksums import SUMS, read_sums, write_sums

__all__ = ["CARD", "UNKNOWN_ORIGIN", "save_adapter"]

CARD = "README.md"
"""The model card: it says what people know of a model, and no hash is kept of it."""

_WEIGHTS = "diffusion_pytorch_model"
UNKNOWN_ORIGIN = "Nothing is recorded about where these weights come from: whoever saved them can say it here."


def save_adapter(
    write: Callable[[Path], None], folder: str | os.PathLike[str], *, card: str, variant: str | None
) -> None:
    """Writes an adapter's folder; see `SubjectAdapter.save_pretrained`.

    Args:
        write: writes weights and configuration into a folder.
        folder: where to.
        card: the model card, in Markdown.
        variant: of the weights, as in diffusers.

    Raises:
        ValueError: `folder` is a file.
    """
    target = Path(folder)
    if target.is_file():
        raise ValueError(f"cannot save an adapter to {target}: expected a folder, but that is a file")

    def fill(fresh: Path) -> None:
        write(fresh)
        (fresh / CARD).write_text(card, encoding="utf-8")
        write_sums(fresh, {file.name: sha256_file(file) for file in fresh.iterdir() if file.name != CARD})

    if not target.exists():
        with atomic_folder(target) as fresh:
            fill(fresh)
        return
    with TemporaryDirectory(dir=target, prefix=".saving-") as inside:
        fresh = Path(inside)
        fill(fresh)
        _move_into(fresh, target, variant)


def _move_into(fresh: Path, target: Path, variant: str | None) -> None:
    """Puts new files in place of old ones: a card that is there stays, weights of other variants too."""
    written = read_sums(fresh)
    if (target / CARD).exists():
        (fresh / CARD).unlink()
    # An old index would be read instead of the new weights, old shards beside them.
    for file in list(target.iterdir()):
        if file.name not in written and _is_weights_of(file.name, variant):
            file.unlink()
    kept = {name: digest for name, digest in read_sums(target).items() if (target / name).is_file()}
    write_sums(fresh, kept | written)
    for file in sorted(fresh.iterdir(), key=lambda file: file.name == SUMS):  # the checksums last
        os.replace(file, target / file.name)


def _is_weights_of(name: str, variant: str | None) -> bool:
    """Whether diffusers would write a file of this name for the variant: weights, a shard, or the index."""
    marked = re.escape(f".{variant}") if variant else ""
    return bool(re.fullmatch(rf"{_WEIGHTS}(-\d+-of-\d+)?{marked}\.safetensors", name)) or bool(
        re.fullmatch(rf"{_WEIGHTS}\.safetensors\.index{marked}\.json", name)
    )
