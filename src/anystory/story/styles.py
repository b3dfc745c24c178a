"""Styles that every story has, besides its own."""

from __future__ import annotations

from anystory.story.schema import Story, Style

__all__ = ["PRESETS", "style_named"]

PRESETS: dict[str, Style] = {
    "plain": Style(),
    # The words that the embedded model has learned:
    "flat": Style(after="in flat colours"),
    "outlined": Style(after="drawn with outlines"),
    "papercut": Style(after="cut from paper"),
    # For large models:
    "watercolour": Style(before="a watercolour painting of", after="soft edges, paper texture", negative="photo"),
    "ink": Style(before="an ink drawing of", after="fine hatching, black and white", negative="photo, colour"),
    "comic": Style(before="a comic book panel of", after="bold outlines, flat colours", negative="photo"),
    "pencil": Style(before="a coloured pencil drawing of", after="visible strokes", negative="photo"),
    "clay": Style(before="a stop motion scene of", after="clay figures, soft studio light"),
    "photo": Style(before="a photo of", after="natural light, sharp focus", negative="drawing, painting"),
    "noir": Style(before="a film still of", after="black and white film noir, hard shadows", negative="colour"),
}
"""By name."""


def style_named(story: Story, name: str | None) -> Style:
    """A style of the story, or else a preset; None for no style.

    Raises:
        KeyError: there is none of that name.
    """
    return PRESETS["plain"] if name is None else story.styles.get(name) or PRESETS[name]
