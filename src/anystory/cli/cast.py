"""`anystory cast`: your characters, kept with their photos, cut-outs and words, to be drawn by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anystory.cli.cast_zips import DropAliases, export, import_zips
from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.outputs import Overwrite, check_out_file, free_path
from anystory.cli.flags.photos import split_mask
from anystory.cli.terminal.characters import as_json, character_lines, count, photo_line, reference
from anystory.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

    from anystory.cast import Character, Library
    from anystory.engine.job import PhotoFiles

app = typer.Typer(
    help="Keep your characters, to draw them by name: --subject @NAME.", no_args_is_help=True, add_completion=False
)

Who = Annotated[str, typer.Argument(metavar="NAME[@VARIANT]", help="A name or an alias, and a variant's name.")]
Photos = Annotated[
    list[str] | None, typer.Argument(metavar="PHOTO[:MASK]...", help="Pictures of one subject each, with masks.")
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", help="White where the subject is: one for each photo, in order, or after a colon."),
]
Segmenter = Annotated[
    str, typer.Option(help="How to cut out photos without mask or alpha: auto, u2netp, … (see `anystory cutout`).")
]
Description = Annotated[
    str | None, typer.Option(help='What a prompt says in its place: "a striped blue fox with a red hat".')
]
Aliases = Annotated[list[str] | None, typer.Option("--alias", help="Another name that means it. Repeatable.")]
Colour = Annotated[str | None, typer.Option(help="For overlays: #rrggbb. By default one that no other has.")]
Notes = Annotated[str | None, typer.Option(help="For people; nothing reads them.")]
Licence = Annotated[str | None, typer.Option(help="What others may do with it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="In any script; no other character may have it.")],
    photos: Photos = None,
    mask: Masks = None,
    segmenter: Segmenter = "auto",
    draw: Annotated[
        str | None,
        typer.Option(help='Draw its picture from a StoryWorld description, for mini: "a blue fox with a red hat".'),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for what --draw leaves open.")] = 0,
    variant: Annotated[
        str | None, typer.Option(help="Add this variant (other clothes, another age) to a character you have.")
    ] = None,
    alias: Aliases = None,
    description: Description = None,
    colour: Colour = None,
    notes: Notes = None,
    licence: Licence = None,
    library: LibraryFolder = None,
) -> None:
    """Add a character from its photos, or a variant of one.

    The library keeps copies of the photos and cuts the character out of each. Look at the cut-outs with `anystory cast
    show NAME --card card.png`.
    """
    given = _photo_files(photos or [], mask or [])
    if bool(given) == (draw is not None):
        raise ValueError("give pictures of the character, or --draw with a description of it: one of the two")
    cast = _library(library)
    pictures: Sequence[Any] = [photo.image for photo in given]
    if draw is not None:
        pictures = [_drawn(draw, seed)]
    masks = [photo.mask for photo in given] if given else None
    words = description if description is not None else draw or ""
    if variant is None:
        own = {"aliases": alias or (), "colour": colour, "notes": notes or "", "licence": licence or ""}
        character = cast.add(name, pictures, masks, segmenter=segmenter, description=words, **own)
    else:
        _refuse_with_variant({"alias": alias, "colour": colour, "notes": notes, "licence": licence})
        character = cast.add_variant(name, variant, pictures, masks, segmenter=segmenter, description=words)
        variant = character.variant(variant).name
    added = character.photos_of(variant)
    print(f"added {reference(character, variant)} with {count(len(added), 'photo')} to {character.folder}")
    for number, photo in enumerate(added, 1):
        print(f"  {photo_line(number, photo)}")


@app.command(name="list")
def list_characters(to_json: Json = False, library: LibraryFolder = None) -> None:
    """List the characters of the library."""
    shelf = _library(library).read()
    if to_json:
        found = [as_json(character) for character in shelf.characters]
        print(json.dumps({"library": str(shelf.folder), "characters": found, "damaged": shelf.damaged}, indent=2))
        return
    for character in shelf.characters:
        names = "".join(f", {alias}" for alias in character.aliases)
        variants = "".join(f"  @{variant.name}" for variant in character.variants)
        print(f"{character.name}{names}  ({count(len(character.photos), 'photo')}){variants}")
        if character.description:
            print(f"    {character.description}")
    if not shelf.characters:
        print(f"no characters in {shelf.folder}: add one with `anystory cast add NAME PHOTO`")
    for problem in shelf.damaged:
        print(f"warning: {problem}", file=sys.stderr)


@app.command()
def show(
    who: Who,
    card: Annotated[Path | None, typer.Option(help="Write a picture of it, with all cut-outs, to this PNG.")] = None,
    overwrite: Overwrite = False,
    to_json: Json = False,
    library: LibraryFolder = None,
) -> None:
    """Show a character: its words, its photos and where they lie."""
    _check_png(card, "--card", overwrite)
    character, variant = _library(library).find(who)
    if card is not None:
        from anystory.cast.pages import character_card

        _save_png(character_card(character), card, overwrite)
    if to_json:
        print(json.dumps(as_json(character), indent=2))
        return
    for line in character_lines(character, variant):
        print(line)
    if card is not None:
        _warn_of_letters([character])
        print(f"wrote {card}")


@app.command()
def edit(
    who: Who,
    name: Annotated[str | None, typer.Option(help="A new name for the character, or for the variant.")] = None,
    alias: Aliases = None,
    drop_alias: DropAliases = None,
    description: Description = None,
    colour: Annotated[str | None, typer.Option(help="For overlays: #rrggbb.")] = None,
    notes: Notes = None,
    licence: Licence = None,
    add_photo: Annotated[
        list[str] | None, typer.Option(metavar="PHOTO[:MASK]", help="A further photo of the same look. Repeatable.")
    ] = None,
    mask: Masks = None,
    segmenter: Segmenter = "auto",
    drop_photo: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A photo that goes, by its number in `show`. Repeatable.")
    ] = None,
    library: LibraryFolder = None,
) -> None:
    """Change a character or one of its variants. An empty text ("") clears an entry; what you do not name stays."""
    given = _photo_files(add_photo or [], mask or [])
    texts = {"new_name": name, "description": description, "colour": colour, "notes": notes, "licence": licence}
    if not (given or alias or drop_alias or drop_photo or any(text is not None for text in texts.values())):
        raise ValueError("nothing is to be changed: name what is, such as --description TEXT")
    cast = _library(library)
    character, variant = cast.find(who)
    changed = cast.edit(
        character.name,
        variant,
        **texts,
        add_aliases=alias or (),
        drop_aliases=drop_alias or (),
        add_photos=[photo.image for photo in given],
        masks=[photo.mask for photo in given],
        segmenter=segmenter,
        drop_photos=drop_photo or (),
    )
    look = name.strip() if variant is not None and name is not None else variant
    for line in character_lines(changed, None if look is None else changed.variant(look).name):
        print(line)


@app.command()
def remove(
    who: Annotated[list[str], typer.Argument(metavar="NAME[@VARIANT]...", help="Characters, or variants of one.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    library: LibraryFolder = None,
) -> None:
    """Remove characters, or variants, with the library's copies of their photos. Your own files stay."""
    cast = _library(library)
    found = list(dict.fromkeys((character.name, variant) for character, variant in map(cast.find, who)))
    names = [name if variant is None else f"{name}@{variant}" for name, variant in found]
    if not yes:
        if not _asks():
            raise ValueError(f"{', '.join(names)} would be removed from {cast.folder} for good: say so with --yes")
        typer.confirm(f"Remove {', '.join(names)} from {cast.folder} for good?", abort=True)
    whole = {name for name, variant in found if variant is None}
    for (name, variant), shown in zip(found, names, strict=True):
        if variant is not None and name in whole:
            continue  # it goes with its character
        cast.remove(name, variant)
        print(f"removed {shown}")


@app.command()
def sheet(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Whom; by default everybody.")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write. Default: cast.png, or the next free name.")] = None,
    overwrite: Overwrite = False,
    library: LibraryFolder = None,
) -> None:
    """Write a contact sheet: everybody in the library on one page."""
    _check_png(out, "--out", overwrite)
    cast = _library(library)
    shelf = cast.read()
    characters = [cast.find(name)[0] for name in names] if names else list(shelf.characters)
    if not characters:
        raise ValueError(f"no characters in {shelf.folder}: add one with `anystory cast add NAME PHOTO`")
    from anystory.cast.pages import cast_sheet

    path = free_path(Path("cast.png")) if out is None else out
    _save_png(cast_sheet(characters), path, overwrite)
    for problem in () if names else shelf.damaged:
        print(f"warning: {problem}", file=sys.stderr)
    _warn_of_letters(characters)
    print(f"wrote {path} with {count(len(characters), 'character')}")


app.command()(export)
app.command(name="import")(import_zips)


def _asks() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _library(folder: Path | None) -> Library:
    from anystory.cast import Library

    return Library(folder)


def _photo_files(photos: Sequence[str], masks: Sequence[str]) -> list[PhotoFiles]:
    """Photos and their masks, given one by one or behind colons."""
    found = [split_mask(text, "PHOTO") for text in photos]
    if not masks:
        return found
    if len(masks) != len(found) or any(photo.mask is not None for photo in found):
        raise ValueError(
            f"--mask must be given once for each of {count(len(found), 'photo')}, in order, and not beside PHOTO:MASK; "
            f"got {len(masks)}"
        )
    return [photo._replace(mask=Path(mask)) for photo, mask in zip(found, masks, strict=True)]


def _drawn(description: str, seed: int) -> Image.Image:
    """A StoryWorld character, on a transparent background."""
    from PIL import Image

    from anystory.storyworld.language.parse import parse_identity
    from anystory.storyworld.reference import render_reference

    return Image.fromarray(render_reference(parse_identity(description, seed=seed), size=512))


def _refuse_with_variant(given: dict[str, Any]) -> None:
    """What belongs to a character is not said of a variant."""
    if wrong := [f"--{option}" for option, value in given.items() if value]:
        raise ValueError(
            f"{' and '.join(wrong)} with --variant: a variant has photos and a description of its own; change the rest "
            "with `anystory cast edit`"
        )


def _check_png(path: Path | None, option: str, overwrite: bool) -> None:
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"{option} {path}: pictures are written as PNG, so the name must end in .png")
    check_out_file(path, option, overwrite=overwrite)


def _save_png(picture: Image.Image, path: Path, overwrite: bool) -> None:
    with atomic_write(path, overwrite=overwrite) as temporary:
        picture.save(temporary, format="PNG")


def _warn_of_letters(characters: Sequence[Character]) -> None:
    """Say which letters are boxes in a picture."""
    from anystory.page_layout import unwritable

    words = "".join(
        "".join(
            (*one.names, one.description, one.licence, *(f"{look.name}{look.description}" for look in one.variants))
        )
        for one in characters
    )
    if missing := unwritable(words):
        print(f"warning: no font here has letters for {missing!r}, which are boxes in the picture", file=sys.stderr)
