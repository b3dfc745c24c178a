"""A library of characters: a folder with a folder for each. Every change is whole or not at all.

    LIBRARY/mara/character.json     names, words, and which files belong to which photo
    LIBRARY/mara/photos/            the photos as they were given
    LIBRARY/mara/masks/             the masks that were given
    LIBRARY/mara/cutouts/           what pictures are drawn from
    LIBRARY/.cast/                  the lock, and what is not finished

A file's name ends with its hash, and files never change: a change writes new ones, then replaces `character.json` in
one step. A new character is made in `.cast` and moved to its place in one step; one that goes is moved there first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from anystory.cast.archive import check_archive, export_character, unpack
from anystory.cast.character import Character
from anystory.cast.editing import Change, check_new_variant, check_photos, without_aliases
from anystory.cast.keeping import check_removable, check_size, cut_photos, sweep, write_photo
from anystory.cast.names import folder_name, name_key, split_reference
from anystory.cast.schema import CHARACTER_FILE, COLOURS, CastVariant, CharacterFile, as_text, entries
from anystory.cast.shelf import Shelf, default_folder, is_named, read_shelf
from anystory.files import atomic_folder, atomic_write, flush_folder, only_writer
from anystory.subjects.pictures import Source

__all__ = ["Library"]

_WORKSHOP = ".cast"
_PATIENCE = 60.0
"""Seconds to wait for another program's change."""


class Library:
    """The characters of a folder, by name. Names and aliases are found in any spelling: case does not count.

        library = Library()
        library.add("Mara", ["mara.png"], description="a striped blue fox with a red hat")
        pipe("a striped blue fox on a beach", subjects=[library["mara"].subject()])

    Several programs may use one library at once.

    Args:
        folder: Where it lies; None for $ANYSTORY_CAST, else `anystory/cast` in $XDG_DATA_HOME or in `~/.local/share`.
            It need not exist.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder).expanduser()

    def __repr__(self) -> str:
        return f"Library({str(self.folder)!r})"

    def read(self) -> Shelf:
        """All characters, and what cannot be read.

        Raises:
            NotADirectoryError: the library is a file.
        """
        return read_shelf(self.folder)

    def __iter__(self) -> Iterator[Character]:
        return iter(self.read().characters)

    def __len__(self) -> int:
        return len(self.read().characters)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(is_named(one, name) for one in self)

    def __getitem__(self, name: str) -> Character:
        """The character of a name or an alias.

        Raises:
            UnknownNameError: there is none; the message names the nearest. It is a KeyError and a ValueError.
        """
        return self.read().find(name)

    def find(self, reference: str) -> tuple[Character, str | None]:
        """What `mara`, `@mara` or `@mara@winter` means: the character, and the variant's name if one was given.

        Raises:
            UnknownNameError: there is no such character or variant.
            ValueError: no reference.
        """
        name, variant = split_reference(reference)
        character = self[name]
        return character, None if variant is None else character.variant(variant).name

    def add(
        self,
        name: str,
        photos: Sequence[Source],
        masks: Sequence[Source | None] | None = None,
        *,
        segmenter: str = "auto",
        aliases: Sequence[str] = (),
        description: str = "",
        colour: str | None = None,
        notes: str = "",
        licence: str = "",
    ) -> Character:
        """Add a character. Warns of cut-outs that are uncertain.

        Args:
            name: In any script; no other character may have it, as name or alias.
            photos: One or more: paths, or pictures of any kind.
            masks: None, or for each photo a mask (white where the subject is) or None.
            segmenter: How to cut out photos with neither mask nor alpha; see `Subject.segmenter`.
            aliases: Other names that mean it.
            description: What a prompt says in its place.
            colour: For overlays, #rrggbb; None for one that no other has.
            notes: For people.
            licence: What others may do with it.

        Raises:
            ValueError: a name that is taken or that cannot be, a picture that cannot be used.
            FileNotFoundError: no such picture.
        """
        draft = CharacterFile(
            name=name,
            photos=(),
            aliases=tuple(aliases),
            description=description,
            colour=colour or COLOURS[0],
            notes=notes,
            licence=licence,
        )
        self._check_free(draft)
        cut = cut_photos(photos, masks, segmenter)
        with self._writing():
            self._check_free(draft)
            shown = draft.colour if colour else self._free_colour()
            return self._new(
                draft.name,
                lambda folder: replace(draft, photos=tuple(write_photo(one, folder) for one in cut), colour=shown),
            )

    def add_variant(
        self,
        name: str,
        variant: str,
        photos: Sequence[Source],
        masks: Sequence[Source | None] | None = None,
        *,
        segmenter: str = "auto",
        description: str = "",
    ) -> Character:
        """Add a variant to a character: other clothes, another age. The arguments are those of `add`.

        Raises:
            UnknownNameError: no such character.
            ValueError, FileNotFoundError: as for `add`; or the character has such a variant.
        """
        draft = CastVariant(name=variant, description=description, photos=())
        check_new_variant(self[name], draft.name)
        cut = cut_photos(photos, masks, segmenter)
        with self._changing(name) as character:
            check_new_variant(character, draft.name)
            new = replace(draft, photos=tuple(write_photo(one, character.folder) for one in cut))
            return self._save(character, replace(character, variants=(*character.variants, new)))

    def edit(
        self,
        name: str,
        variant: str | None = None,
        *,
        new_name: str | None = None,
        add_aliases: Sequence[str] = (),
        drop_aliases: Sequence[str] = (),
        description: str | None = None,
        colour: str | None = None,
        notes: str | None = None,
        licence: str | None = None,
        add_photos: Sequence[Source] = (),
        masks: Sequence[Source | None] | None = None,
        segmenter: str = "auto",
        drop_photos: Sequence[int] = (),
    ) -> Character:
        """Change a character or one of its variants; None and () leave a thing as it is, "" empties a text.

        Args:
            name: Whom.
            variant: Which look; None for the character itself. A variant has a name, a description and photos.
            new_name: Its new name. Its folder keeps the old one.
            add_aliases, drop_aliases: Names that mean it, or no longer.
            description, colour, notes, licence: See `add`.
            add_photos, masks, segmenter: Further photos; see `add`.
            drop_photos: Numbers of photos that go, from 1.

        Raises:
            UnknownNameError: no such character or variant.
            ValueError, FileNotFoundError: as for `add`; or no photo would be left.
        """
        change = Change(
            variant=variant,
            words={"name": new_name, "description": description, "colour": colour, "notes": notes, "licence": licence},
            add_aliases=add_aliases,
            drop_aliases=drop_aliases,
            drop_photos=drop_photos,
        )
        character = self[name]
        self._check_free(change.of(character), character.folder)
        cut = cut_photos(add_photos, masks, segmenter) if add_photos else []
        if not cut:
            check_photos(change.of(character))
        with self._changing(name) as character:
            self._check_free(change.of(character), character.folder)
            more = [write_photo(one, character.folder) for one in cut]
            return self._save(character, change.of(character, more))

    def remove(self, name: str, variant: str | None = None) -> None:
        """Remove a character, or one of its variants, with its files.

        Raises:
            UnknownNameError: no such character or variant.
            ValueError: its folder holds files that the library did not write.
        """
        check_removable(self[name], variant)
        with self._writing():
            character = self[name]
            check_removable(character, variant)
            if variant is not None:
                old = character.variant(variant)
                kept = tuple(one for one in character.variants if one is not old)
                self._save(character, replace(character, variants=kept))
            elif character.folder.is_symlink():
                character.folder.unlink()
            else:
                gone = self.folder / _WORKSHOP / f"{character.folder.name}.removed"
                os.rename(character.folder, gone)
                flush_folder(self.folder)
                shutil.rmtree(gone)

    def export(
        self, name: str, path: str | os.PathLike[str], *, photos: bool = True, overwrite: bool = False
    ) -> Character:
        """Write a character as a zip that others can import.

        Args:
            name: Whom.
            path: The zip.
            photos: Whether the photos and masks as they were given go with it. The cut-outs suffice to draw.
            overwrite: Whether an existing file may be replaced.

        Raises:
            UnknownNameError: no such character.
            FileExistsError: `path` exists.
            ValueError: a file of the character is not what it was.
        """
        character = self[name]
        export_character(character, character.folder, Path(path), photos=photos, overwrite=overwrite)
        return character

    def import_zip(
        self, path: str | os.PathLike[str], *, rename: str | None = None, drop_aliases: Sequence[str] = ()
    ) -> Character:
        """Add the character of a zip that `export` wrote. It may come from anybody: all of it is checked.

        Args:
            path: The zip.
            rename: Its name here; None for its own.
            drop_aliases: Aliases that it does not get here.

        Raises:
            ValueError: no such zip, a damaged one, one that would fill the disk or lead out of its folder; or a name
                that is taken.
            FileNotFoundError: no such file.
        """
        path = Path(path)
        found = check_archive(path)
        draft = replace(
            found, name=found.name if rename is None else rename, aliases=without_aliases(found, drop_aliases)
        )
        hint = "give it another name here (--rename), or leave the alias out (--drop-alias)"
        self._check_free(draft, hint=hint)
        with self._writing():
            self._check_free(draft, hint=hint)
            return self._new(draft.name, lambda folder: unpack(path, draft, folder))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Nobody else writes while the block runs. What a killed program left unfinished is removed."""
        workshop = self.folder / _WORKSHOP
        with only_writer(workshop, wait=_PATIENCE):
            for path in workshop.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
            yield

    @contextmanager
    def _changing(self, name: str) -> Iterator[Character]:
        """The same for one character; if the block raises, what it wrote for it is removed."""
        with self._writing():
            character = self[name]
            try:
                yield character
            except BaseException:
                sweep(character.folder, character)
                raise

    def _new(self, name: str, fill: Callable[[Path], CharacterFile]) -> Character:
        """Make a character's folder; `fill` writes the files into it and says what they are."""
        folder = self.folder / folder_name(name, [path.name for path in self.folder.iterdir()])
        made = self.folder / _WORKSHOP / folder.name
        with atomic_folder(made) as fresh:
            character = fill(fresh)
            check_size(fresh, character)
            (fresh / CHARACTER_FILE).write_text(as_text(character), encoding="utf-8")
        os.rename(made, folder)
        flush_folder(self.folder)
        return Character(**entries(character), folder=folder)

    def _save(self, character: Character, new: CharacterFile) -> Character:
        """Replace what a character's file says; its new files are written already."""
        check_photos(new)
        check_size(character.folder, new)
        with atomic_write(character.folder / CHARACTER_FILE) as temporary:
            temporary.write_text(as_text(new), encoding="utf-8")
        sweep(character.folder, new)
        return Character(**entries(new), folder=character.folder)

    def _check_free(self, draft: CharacterFile, mine: Path | None = None, hint: str = "choose another name") -> None:
        """Refuse names that another character has; `mine` is the folder of the one that is being changed."""
        wanted = {name_key(name): name for name in (*draft.aliases, draft.name)}
        taken = [(known, other) for other in self if other.folder != mine for known in other.names]
        for known, other in taken:
            if (name := wanted.get(name_key(known))) is not None:
                which = "the name" if name == draft.name else "the alias"
                whose = "the name" if known == other.name else "an alias"
                raise ValueError(f"{which} {name!r} is taken in {self.folder}: it is {whose} of {other.name!r}; {hint}")

    def _free_colour(self) -> str:
        """The first colour that fewest characters have."""
        used = [one.colour for one in self]
        return min(COLOURS, key=used.count)
