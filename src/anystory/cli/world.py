"""`anystory world`: draw StoryWorld scenes, characters and contact sheets to PNG."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.files import atomic_write

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(help="Draw StoryWorld scenes, characters and sheets.", no_args_is_help=True, add_completion=False)

Level = Annotated[str, typer.Option(help="1, 2, 3 or a level's JSON file.")]
Seed = Annotated[int, typer.Option(help="Number of the scene.")]
Size = Annotated[int, typer.Option(min=8, max=4096, help="Height and width of a picture in pixels.")]
Split = Annotated[str, typer.Option(help="train or heldout: which identities appear.")]


@app.command()
def sheet(
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    level: Level = "1",
    seed: Seed = 0,
    rows: Annotated[int, typer.Option(min=1, max=100)] = 4,
    cols: Annotated[int, typer.Option(min=1, max=100)] = 6,
    size: Size = 128,
    split: Split = "train",
) -> None:
    """Draw many scenes on one page and print their captions."""
    from anystory.storyworld.sheets import world_sheet

    picture, captions = world_sheet(seed, level=_level(level), split=split, rows=rows, columns=cols, size=size)
    _save(picture, out)
    for i, text in enumerate(captions):
        print(f"{seed + i}: {text}")
    print(f"wrote {out}")


@app.command()
def scene(
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("scene.png"),
    level: Level = "1",
    seed: Seed = 0,
    size: Size = 512,
    split: Split = "train",
    mask: Annotated[bool, typer.Option("--mask", help="Also write OUT with -mask: a colour per character.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Also write OUT with .json: the scene as data.")] = False,
) -> None:
    """Draw one scene and print its caption."""
    from anystory.storyworld.render import render_scene
    from anystory.storyworld.scene import sample_scene
    from anystory.storyworld.sheets import mask_picture

    found = sample_scene(seed, _level(level), split)
    drawn = render_scene(found, size)
    _save(drawn.image, out)
    print(found.caption)
    print(f"wrote {out}")
    if mask:
        path = out.with_name(f"{out.stem}-mask{out.suffix}")
        _save(mask_picture(drawn.instances), path)
        print(f"wrote {path}")
    if record:
        path = out.with_suffix(".json")
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        print(f"wrote {path}")


@app.command()
def character(
    description: Annotated[str, typer.Argument(help='For example "a striped blue fox with a red hat".')],
    out: Annotated[Path, typer.Option(help="PNG to write, with a transparent background.")] = Path("character.png"),
    pose: Annotated[str, typer.Option(help="standing, waving, walking, sitting, …")] = "standing",
    view: Annotated[str, typer.Option(help="front, left, right or back.")] = "front",
    expression: Annotated[str, typer.Option(help="happy, surprised, sad, …")] = "happy",
    style: Annotated[str, typer.Option(help="flat, outlined or papercut.")] = "flat",
    seed: Annotated[int, typer.Option(help="Chooses what the description leaves open.")] = 0,
    size: Size = 512,
) -> None:
    """Draw the character that DESCRIPTION tells: a reference picture of your own."""
    from anystory.storyworld.appearance import Appearance
    from anystory.storyworld.describe import parse_identity
    from anystory.storyworld.reference import render_reference

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        identity = parse_identity(description, seed=seed)
    for warning in caught:
        print(warning.message, file=sys.stderr)
    appearance = Appearance(pose=pose, view=view, expression=expression)
    _save(render_reference(identity, appearance, size, style), out)
    print(f"wrote {out}")


def _level(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _save(picture: np.ndarray, path: Path) -> None:
    """Write an (H, W, 3 or 4) uint8 picture as PNG."""
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures are written as PNG, so the name must end in .png")
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary)
