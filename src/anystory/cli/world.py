"""`anystory world`: draw StoryWorld scenes, characters and contact sheets to PNG."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.outputs import Overwrite, check_out_file, free_path
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
    out: Annotated[Path | None, typer.Option(help="PNG to write. Default: sheet.png, or the next free name.")] = None,
    level: Level = "1",
    seed: Seed = 0,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Rows of scenes on the page.")] = 4,
    cols: Annotated[int, typer.Option(min=1, max=100, help="Scenes in a row.")] = 6,
    size: Size = 128,
    split: Split = "train",
    overwrite: Overwrite = False,
) -> None:
    """Draw many scenes on one page and print their captions."""
    out = _checked(out, "sheet.png", overwrite)
    from anystory.storyworld.sheets import world_sheet

    picture, captions = world_sheet(seed, level=level, split=split, rows=rows, columns=cols, size=size)
    _save(picture, out, overwrite)
    for i, text in enumerate(captions):
        print(f"{seed + i}: {text}")
    print(f"wrote {out}")


@app.command()
def scene(
    out: Annotated[Path | None, typer.Option(help="PNG to write. Default: scene.png, or the next free name.")] = None,
    level: Level = "1",
    seed: Seed = 0,
    size: Size = 512,
    split: Split = "train",
    mask: Annotated[
        bool, typer.Option("--mask", help="Also write a mask with a colour per character, as OUT with -mask.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="Also write the scene as data, as OUT with .json.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw one scene and print its caption."""
    out = _checked(out, "scene.png", overwrite)
    mask_path, record_path = out.with_name(f"{out.stem}-mask{out.suffix}"), out.with_suffix(".json")
    check_out_file(mask_path if mask else None, "--mask", overwrite=overwrite)
    check_out_file(record_path if record else None, "--record", overwrite=overwrite)
    from anystory.storyworld.render import render_scene
    from anystory.storyworld.sampling import sample_scene
    from anystory.storyworld.sheets import mask_picture

    found = sample_scene(seed, level, split)
    drawn = render_scene(found, size)
    _save(drawn.image, out, overwrite)
    print(found.caption)
    print(f"wrote {out}")
    if mask:
        _save(mask_picture(drawn.instances), mask_path, overwrite)
        print(f"wrote {mask_path}")
    if record:
        with atomic_write(record_path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        print(f"wrote {record_path}")


@app.command()
def character(
    description: Annotated[str, typer.Argument(help='For example "a striped blue fox with a red hat".')],
    out: Annotated[
        Path | None,
        typer.Option(help="PNG to write, with a transparent background. Default: character.png, or a free name."),
    ] = None,
    pose: Annotated[str, typer.Option(help="standing, waving, walking, sitting, …")] = "standing",
    view: Annotated[str, typer.Option(help="front, left, right or back.")] = "front",
    expression: Annotated[str, typer.Option(help="happy, surprised, sad, …")] = "happy",
    style: Annotated[str, typer.Option(help="flat, outlined or papercut.")] = "flat",
    seed: Annotated[int, typer.Option(help="Seed for what the description leaves open.")] = 0,
    size: Size = 512,
    overwrite: Overwrite = False,
) -> None:
    """Draw the character that DESCRIPTION describes: a reference picture of your own."""
    out = _checked(out, "character.png", overwrite)
    from anystory.storyworld.appearance import Appearance
    from anystory.storyworld.language.parse import parse_identity
    from anystory.storyworld.reference import render_reference

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        identity = parse_identity(description, seed=seed)
    for warning in caught:
        print(warning.message, file=sys.stderr)
    appearance = Appearance(pose=pose, view=view, expression=expression)
    _save(render_reference(identity, appearance, size, style), out, overwrite)
    print(f"wrote {out}")


def _checked(out: Path | None, name: str, overwrite: bool) -> Path:
    """Where a picture goes: what was asked for, or a name that is free."""
    if out is None:
        return free_path(Path(name))
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: pictures are written as PNG, so the name must end in .png")
    check_out_file(out, overwrite=overwrite)
    return out


def _save(picture: np.ndarray, path: Path, overwrite: bool) -> None:
    """Write an (H, W, 3 or 4) uint8 picture as PNG."""
    from PIL import Image

    with atomic_write(path, overwrite=overwrite) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
