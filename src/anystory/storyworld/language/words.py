"""How the attributes of identities and appearances are called in English."""

from __future__ import annotations

PATTERN_WORDS: dict[str, tuple[str, str]] = {
    "plain": ("plain", ""),
    "stripes": ("striped", "stripes"),
    "spots": ("spotted", "spots"),
    "patches": ("patched", "patches"),
    "belly": ("", "belly"),
    "checks": ("checked", "checks"),
    "chevrons": ("", "chevrons"),
    "halves": ("", "half"),
}
"""Pattern -> adjective and noun; either may be missing."""
EMBLEM_WORDS: dict[str, str] = {
    "star": "star", "heart": "heart", "moon": "moon", "flower": "flower", "sun": "sun", "bolt": "lightning bolt",
    "drop": "drop", "leaf": "leaf", "diamond": "diamond",
}  # fmt: skip
HEADWEAR_WORDS: dict[str, str] = {
    "tophat": "top hat", "crown": "crown", "beanie": "beanie", "bow": "hair bow", "cap": "cap",
    "partyhat": "party hat", "flower": "hair flower",
}  # fmt: skip
NECKWEAR_WORDS: dict[str, str] = {
    "scarf": "scarf", "bowtie": "bow tie", "cape": "cape", "necklace": "necklace",
}  # fmt: skip
ACCESSORY_WORDS: dict[str, str] = {
    "glasses": "glasses", "boots": "boots", "belt": "belt", "backpack": "backpack", "apron": "apron",
}  # fmt: skip
VIEW_WORDS: dict[str, str] = {
    "front": "seen from the front", "left": "looking to the left", "right": "looking to the right",
    "back": "seen from behind",
}  # fmt: skip
