"""Who a character is: everything that a reference picture must carry and a prompt does not say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from anystory.storyworld.level import Level, check_words, load_level
from anystory.storyworld.palette import COLOURS, SKIN, contrasting
from anystory.storyworld.rng import Rng

KINDS = (
    "fox", "bear", "rabbit", "robot", "penguin", "frog", "cat", "mouse", "owl", "dragon", "elephant", "snowman",
    "child", "lion",
)  # fmt: skip
PATTERNS = ("plain", "stripes", "spots", "patches", "belly", "checks", "chevrons", "halves")
EMBLEMS = ("none", "star", "heart", "moon", "flower", "sun", "bolt", "drop", "leaf", "diamond")
HEADWEAR = ("none", "tophat", "crown", "beanie", "bow", "cap", "partyhat", "flower")
NECKWEAR = ("none", "scarf", "bowtie", "cape", "necklace")
ACCESSORIES = ("none", "glasses", "boots", "belt", "backpack", "apron")

HEAD_SIZES = (0.92, 1.0, 1.08)
WIDTHS = (0.88, 1.0, 1.14)
LEG_LENGTHS = (0.84, 1.0, 1.16)

_HELDOUT_SHARE = 16
"""One identity in so many is kept away from training."""
_EMBLEM_CHANCE = 0.8


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """Build of the body, as factors of the usual size. Three steps each, so that shapes can be cached."""

    head: float = 1.0
    width: float = 1.0
    legs: float = 1.0

    def __post_init__(self) -> None:
        for name, known in (("head", HEAD_SIZES), ("width", WIDTHS), ("legs", LEG_LENGTHS)):
            if getattr(self, name) not in known:
                raise ValueError(f"proportion {name} must be one of {known}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One character. Colours are names from `palette.COLOURS`.

    The primary colour covers most of body and head, the secondary one is the pattern and the muzzle, the accent the
    emblem. The colour of something that is not worn is the empty string.

    Raises:
        ValueError: an unknown word, or a colour for something that is not worn (and the other way round).
    """

    kind: str
    primary: str
    secondary: str
    accent: str
    pattern: str = "plain"
    emblem: str = "none"
    headwear: str = "none"
    headwear_colour: str = ""
    neckwear: str = "none"
    neckwear_colour: str = ""
    accessory: str = "none"
    accessory_colour: str = ""
    complexion: str = ""
    """Skin of the child ("light", "tan", "brown" or "dark"); empty for every other kind."""
    proportions: Proportions = Proportions()

    def __post_init__(self) -> None:
        check_words(self, kind=KINDS, primary=COLOURS, secondary=COLOURS, accent=COLOURS, pattern=PATTERNS)
        check_words(self, emblem=EMBLEMS, headwear=HEADWEAR, neckwear=NECKWEAR, accessory=ACCESSORIES)
        for worn in ("headwear", "neckwear", "accessory"):
            item, colour = getattr(self, worn), getattr(self, f"{worn}_colour")
            if (item == "none") != (colour == "") or (colour and colour not in COLOURS):
                raise ValueError(
                    f"{worn} {item!r} with {worn}_colour {colour!r}: something worn needs one of "
                    f"{', '.join(COLOURS)}, and 'none' needs an empty colour"
                )
        if (self.kind == "child") != (self.complexion in SKIN) or (self.kind != "child" and self.complexion):
            raise ValueError(
                f"a child needs a complexion ({', '.join(SKIN)}) and other kinds need '', "
                f"got kind {self.kind!r} with complexion {self.complexion!r}"
            )

    def key(self) -> str:
        """A stable text of all attributes: equal for equal identities, on every machine."""
        build = self.proportions
        names = [field.name for field in fields(self) if field.name != "proportions"]
        parts = [f"{name}={getattr(self, name)}" for name in names]
        parts += [f"{name}={getattr(build, name):.2f}" for name in ("head", "width", "legs")]
        return ";".join(parts)


def is_heldout(identity: Identity) -> bool:
    """Whether this identity is kept for evaluation: about one in sixteen, decided by a hash of its key."""
    return hashlib.sha256(identity.key().encode()).digest()[0] % _HELDOUT_SHARE == 0


def sample_identity(
    rng: Rng, level: Level | str | int, *, heldout: bool | None = None, kind: str | None = None
) -> Identity:
    """A random identity within a level.

    Args:
        rng: stream that the draws come from.
        level: what may appear.
        heldout: True: only held-out identities; False: only the others; None: any.
        kind: fixes the kind (it need not be in the level).
    """
    level = level if isinstance(level, Level) else load_level(level)
    while True:
        identity = _sample(rng, level, kind)
        if heldout is None or is_heldout(identity) == heldout:
            return identity


def _sample(rng: Rng, level: Level, kind: str | None) -> Identity:
    kind = kind or rng.pick(level.kinds)
    primary = rng.pick(level.colours)
    secondary = rng.pick(contrasting(level.colours, primary))
    accent = rng.pick(contrasting(level.colours, primary, secondary))

    def wear(items: tuple[str, ...]) -> tuple[str, str]:
        if not rng.chance(level.wear_chance):
            return "none", ""
        return rng.pick(items), rng.pick(contrasting(level.colours, primary))

    headwear, headwear_colour = wear(level.headwear)
    neckwear, neckwear_colour = wear(level.neckwear)
    accessory, accessory_colour = wear(level.accessories)
    return Identity(
        kind=kind,
        primary=primary,
        secondary=secondary,
        accent=accent,
        pattern=rng.pick(level.patterns),
        emblem=rng.pick(level.emblems) if rng.chance(_EMBLEM_CHANCE) else "none",
        headwear=headwear,
        headwear_colour=headwear_colour,
        neckwear=neckwear,
        neckwear_colour=neckwear_colour,
        accessory=accessory,
        accessory_colour=accessory_colour,
        complexion=rng.pick(tuple(SKIN)) if kind == "child" else "",
        proportions=Proportions(head=rng.pick(HEAD_SIZES), width=rng.pick(WIDTHS), legs=rng.pick(LEG_LENGTHS)),
    )
