"""Characters: bodies, heads, patterns, emblems and wear, drawn by kind, pose and view."""

from anystory.storyworld.characters.draw import draw_character, hand_positions
from anystory.storyworld.characters.extent import character_extent

__all__ = ["character_extent", "draw_character", "hand_positions"]
