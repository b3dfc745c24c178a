"""Captions: what may be said is said in known words, and who it is is never said."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.identity import HEADWEAR, NECKWEAR, PATTERNS, Identity
from anystory.storyworld.language.captions import caption, vocabulary, words
from anystory.storyworld.palette import COLOURS
from anystory.storyworld.rng import stream
from anystory.storyworld.sampling import sample_scene
from anystory.storyworld.scene import Placement, Scene

VOCABULARY = set(vocabulary())
VOCABULARY_SIZE = 200
VOCABULARY_HASH = "49a8524f8e41f7ef"


def scene_of(*kinds_and_poses: tuple[str, str], **changes: object) -> Scene:
    """A scene on a beach at dusk."""
    placements = tuple(
        Placement(
            identity=Identity(kind=kind, primary="red", secondary="blue", accent="white"),
            appearance=Appearance(pose=pose),
            x=0.2 + 0.2 * i,
            y=0.9,
            height=0.5,
            depth=0.5,
        )
        for i, (kind, pose) in enumerate(kinds_and_poses)
    )
    scene = Scene(
        seed=0, level="level1", split="train", decor="test", place="beach", light="dusk", style="flat",
        arrangement="apart" if len(placements) > 1 else "alone", placements=placements,
    )  # fmt: skip
    return replace(scene, **changes)


def captions_of(scene: Scene, count: int = 400, style_chance: float = 0.1) -> set[str]:
    return {caption(scene, stream(i), style_chance=style_chance) for i in range(count)}


def test_the_users_own_phrases_can_come_out() -> None:
    assert "a fox and a robot waving on a beach at dusk" in captions_of(
        scene_of(("fox", "waving"), ("robot", "waving"))
    )
    sitting = scene_of(("bear", "sitting"), ("frog", "walking"), place="snowfield", light="night")
    assert "a bear is sitting next to a walking frog in a snowy field at night" in captions_of(sitting, 2000)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_caption_is_short_lower_case_and_of_known_words(level: int) -> None:
    for seed in range(700):
        text = sample_scene(seed, level).caption
        assert text == text.lower()
        assert len(text.split()) < 40
        unknown = {word for word in words(text) if word != ","} - VOCABULARY
        assert not unknown, f"{text!r} has words outside the vocabulary: {unknown}"
        assert "{" not in text
        assert "  " not in text


def test_captions_name_every_kind_and_no_identity_detail() -> None:
    # Words that also belong to places, things in hands or kinds are allowed.
    secret = (set(COLOURS) | set(PATTERNS) | set(HEADWEAR) | set(NECKWEAR)) - {"none", "flower"}
    for seed in range(500):
        scene = sample_scene(seed, 3)
        said = set(words(scene.caption))
        for placement in scene.placements:
            kind = placement.identity.kind
            assert said & {kind, f"{kind}s", f"{kind}es", "mice", "children", "snowmen"}, scene.caption
        allowed = set(words(" ".join(phrase for phrase in _place_phrases(scene.place))))
        assert not (said & secret) - allowed, scene.caption


def _place_phrases(place: str) -> tuple[str, ...]:
    from anystory.storyworld.places import PLACES

    return PLACES[place].phrases


def test_two_of_a_kind() -> None:
    found = captions_of(scene_of(("fox", "waving"), ("fox", "waving")))
    assert any("two foxes" in text for text in found)
    assert any("a fox and another fox" in text for text in found)


def test_articles_fit_the_next_word() -> None:
    found = captions_of(scene_of(("owl", "standing"), ("elephant", "standing")))
    assert any("an owl" in text for text in found)
    assert not any("a owl" in text or "a elephant" in text for text in found)


def test_sides_on_the_page_are_told_right() -> None:
    found = captions_of(scene_of(("fox", "waving"), ("bear", "sitting")), 1500)
    left = [text for text in found if "on the left" in text and "right" in text]
    assert left
    for text in left:
        assert text.index("fox") < text.index("bear"), text


def test_who_is_named_first_is_mostly_but_not_always_on_the_left() -> None:
    scene = scene_of(("fox", "waving"), ("bear", "sitting"))
    texts = [caption(scene, stream(i)) for i in range(600)]
    share = sum(text.index("fox") < text.index("bear") for text in texts) / len(texts)
    assert 0.75 < share < 0.98


def test_in_front_names_the_nearer_one_first() -> None:
    scene = scene_of(("fox", "waving"), ("bear", "sitting"), arrangement="in_front")
    far, near = scene.placements
    scene = replace(scene, placements=(replace(far, depth=0.1), replace(near, depth=0.9)))
    found = [text for text in captions_of(scene) if "in front of" in text]
    assert found
    assert all(text.index("bear") < text.index("fox") for text in found)


def test_the_style_is_named_when_asked() -> None:
    scene = scene_of(("fox", "waving"), style="papercut")
    assert all("paper" in text for text in captions_of(scene, style_chance=1.0))
    assert not any("paper" in text for text in captions_of(scene, style_chance=0.0))


def test_night_is_almost_always_said_and_never_in_daylight() -> None:
    night = [caption(scene_of(("fox", "waving"), light="night"), stream(i)) for i in range(300)]
    assert sum("night" in text for text in night) > 260
    day = [caption(scene_of(("fox", "waving"), light="day"), stream(i)) for i in range(300)]
    assert not any("night" in text or "dusk" in text for text in day)


def test_the_vocabulary_of_the_shipped_model_is_frozen() -> None:
    """Words may be added when the model is trained anew; none may be lost, or it has tokens that nobody uses."""
    assert len(vocabulary()) == VOCABULARY_SIZE
    assert hashlib.sha256(" ".join(vocabulary()).encode()).hexdigest()[:16] == VOCABULARY_HASH


def test_vocabulary_is_sorted_unique_and_plain() -> None:
    listed = vocabulary()
    assert listed == sorted(set(listed))
    assert all(word == word.lower() and "," not in word and " " not in word for word in listed)
    assert set(words("a fox and a robot waving on a beach at dusk")) <= VOCABULARY
