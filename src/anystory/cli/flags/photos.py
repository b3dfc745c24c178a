"""`PATH[:MASK]` and `@NAME[@VARIANT]`, one or several with a + between them, as the files of photos.

Nothing heavy is imported before a name is looked up.
"""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from pathlib import Path

from anystory.cli.flags.cast import find_character
from anystory.engine.job import PhotoFiles
from anystory.files import without_surrogates

__all__ = ["is_found", "split_mask", "split_photos", "usual_name"]


def split_photos(text: str, library: Path | None = None) -> list[PhotoFiles]:
    """`PATH[:MASK]`, `@NAME[@VARIANT]`, or several of these with a + between them. A + may also be part of a file's
    name.

    Raises:
        FileNotFoundError: a picture or a mask does not exist.
        KeyError, ValueError: a character or variant does not exist (one error that is both).
    """
    pluses = [match.start() for match in re.finditer(r"\+", text)]

    @functools.cache  # else a missing file among many would be looked for in every way to cut the rest
    def photos_from(start: int) -> list[PhotoFiles] | FileNotFoundError | KeyError:
        try:
            return _photos(text[start:], library)
        except (FileNotFoundError, KeyError) as error:
            missing: FileNotFoundError | KeyError = error
        for plus in (plus for plus in pluses if plus >= start):
            try:
                first = _photos(text[start:plus], library)
            except FileNotFoundError:
                continue
            except KeyError as error:  # a name has no + in it: the first piece is what was meant
                missing = error if "+" not in text[start:plus] else missing
                continue
            rest = photos_from(plus + 1)
            if isinstance(rest, list):
                return [*first, *rest]
            missing = rest  # the text up to there is right
        return missing

    found = photos_from(0)
    if not isinstance(found, list):
        raise found
    return found


def _photos(text: str, library: Path | None) -> list[PhotoFiles]:
    """`PATH[:MASK]` as one photo, `@NAME[@VARIANT]` as its cut-outs; a file may have such a name, too."""
    if not text.startswith("@"):
        return [split_mask(text)]
    try:
        file = split_mask(text)
    except FileNotFoundError:
        character, variant = find_character(text, library)
        return [PhotoFiles(cutout) for cutout in character.cutouts(variant)]
    try:
        character, _ = find_character(text, library)
    except ValueError:
        return [file]
    raise ValueError(
        f"--subject {text}: this may be the file {text!r} as well as {character.name} from {character.folder}: write "
        f"./{text} for the file, or move it away"
    )


def split_mask(text: str, option: str = "--subject") -> PhotoFiles:
    """`PATH` or `PATH:MASK` as paths; a colon may also be part of a name ("C:\\fox.png").

    Args:
        text: What was given.
        option: What messages call it.

    Raises:
        FileNotFoundError: the picture or the mask does not exist.
    """
    if _is_file(text):
        return PhotoFiles(Path(text))
    for colon in reversed([match.start() for match in re.finditer(":", text)]):
        image, mask = Path(text[:colon]), Path(text[colon + 1 :])
        if _is_file(image):
            if not _is_file(mask):
                raise FileNotFoundError(f"{option} {text}: there is no mask {str(mask)!r}")
            return PhotoFiles(image, mask)
    raise FileNotFoundError(f"{option} {text}: no such file")


def usual_name(text: str, first: PhotoFiles, library: Path | None) -> str:
    """What a subject without a name of its own is called: as its character, else as the file of its first photo."""
    if text.startswith("@"):
        with suppress(ValueError):  # a file has such a name
            character, variant = find_character(text.partition("+")[0], library)
            if first.image in character.cutouts(variant):
                return character.name
    return without_surrogates(first.image.stem)


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # many photos together are no name that a file can have: too long
        return False


def is_found(text: str, library: Path | None) -> bool:
    """Whether `split_photos` finds everything."""
    try:
        split_photos(text, library)
    except (FileNotFoundError, KeyError):
        return False
    return True
