"""The character library: people and things that you draw again and again, each with photos, cut-outs and words."""

from anystory.cast.character import Character
from anystory.cast.library import Library
from anystory.cast.names import UnknownNameError

__all__ = ["Character", "Library", "UnknownNameError"]
