"""Characters of the library in stories."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.cast import Library
from anystory.story.check import check_story
from anystory.story.library import with_library
from anystory.story.looks import story_wordings
from anystory.story.positions import StoryProblems


@pytest.fixture
def library(write, tmp_path: Path) -> Path:
    """A library with Mara and her winter look."""
    pictures = write().folder
    kept = Library(tmp_path / "library")
    kept.add("Mara", [str(pictures / "red.png")], description="a fox in a red coat", aliases=["Granny"])
    kept.add_variant("Mara", "winter", [str(pictures / "blue.png")], [str(pictures / "blue-mask.png")])
    return tmp_path / "library"


def test_a_library_gives_pictures_words_names_and_variants(write, library):
    text = """\
        title: t
        cast: {m: "@mara", white: {library: "@Mara@winter", name: White, looks: a white fox}}
        panels: ["Granny and White", "{m@winter} waving"]
    """
    file = with_library(write(text), library)
    assert check_story(file).errors == []
    mara, white = file.story.cast.values()
    assert (mara.name, mara.aliases, mara.sources) == ("Mara", ("Granny",), ("photos",))
    assert (white.name, white.looks) == ("White", "a white fox")
    words = story_wordings(file.story)
    assert words["m", None].full == words["m", "winter"].full == "a fox in a red coat"
    assert white.photos == mara.variants["winter"].photos != mara.photos
    assert all(Path(photo.image).is_file() for photo in (*mara.photos, *white.photos))


def test_nobody_of_that_name_is_told_with_its_place(write, library):
    text = """\
        title: t
        cast:
          m: {library: "@maro", variants: {x: "@mara@summer"}}
        panels: [m]
    """
    with pytest.raises(StoryProblems) as caught:
        with_library(write(text), library)
    [first, second] = caught.value.problems
    assert first.mark == (3, 16)
    assert "no character 'maro'" in first.text
    assert second.mark == (3, 39)
    assert "no variant 'summer'" in second.text
