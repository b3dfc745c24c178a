from __future__ import annotations

import re
import warnings

import pytest

from anystory.storyworld.appearance import sample_appearance
from anystory.storyworld.identity import KINDS, sample_identity
from anystory.storyworld.language.describe import describe, description_vocabulary
from anystory.storyworld.language.parse import parse_identity
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.rng import stream


def test_descriptions_use_only_the_vocabulary():
    known = set(description_vocabulary())
    for i in range(400):
        appearance = sample_appearance(stream("how", i), 3) if i % 2 else None
        text = describe(sample_identity(stream("who", i), 3), appearance, stream("text", i))
        assert set(re.findall(r"\w+", text)) <= known, text


def test_descriptions_name_kind_and_primary_colour_and_vary():
    identity = sample_identity(stream(1), 3)
    texts = {describe(identity, None, stream(i)) for i in range(30)}
    assert len(texts) > 8
    assert all(identity.kind in text and identity.primary in text for text in texts)
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", text) for text in texts)


def test_the_vocabulary_never_changes():
    """The tokenizer of the embedded model was built from it."""
    words = description_vocabulary()
    assert words == sorted(set(words))
    assert {"fox", "tophat", "none"} & set(words) == {"fox"}
    assert len(words) == 104


def test_a_full_description_is_read_back():
    for i in range(120):
        identity = sample_identity(stream("back", i), 3)
        features = f"{identity.pattern}"
        text = complete(identity)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = parse_identity(text, 5)
        for name in ("kind", "primary", "emblem", "headwear", "headwear_colour", "neckwear", "accessory_colour"):
            assert getattr(read, name) == getattr(identity, name), (text, features)


def complete(identity) -> str:
    """The longest of several descriptions: the one that leaves nothing out."""
    return max((describe(identity, None, stream(i)) for i in range(12)), key=len)


def test_the_example_of_the_command_line():
    identity = parse_identity("a striped blue fox with a red hat")
    assert (identity.kind, identity.primary, identity.pattern) == ("fox", "blue", "stripes")
    assert (identity.headwear, identity.headwear_colour) == ("tophat", "red")
    assert (identity.neckwear, identity.accessory, identity.emblem) == ("none", "none", "none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Blue and white striped bunny", {"kind": "rabbit", "primary": "blue", "secondary": "white"}),
        ("a robot with purple spots and a green star", {"pattern": "spots", "secondary": "purple", "accent": "green"}),
        ("a girl with brown skin in a yellow cape", {"complexion": "brown", "neckwear_colour": "yellow"}),
        ("GRAY KITTEN, bow tie", {"primary": "grey", "neckwear": "bowtie"}),
        ("a bear, red", {"primary": "red"}),
    ],
)
def test_words_reach_their_attributes(text, expected):
    identity = parse_identity(text)
    assert {name: getattr(identity, name) for name in expected} == expected


def test_the_seed_fills_what_is_left_open():
    drawn = {parse_identity("a red fox", seed).key() for seed in range(20)}
    assert len(drawn) > 10
    assert parse_identity("a red fox", 3) == parse_identity("a red fox", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a grumpy red fox", "'grumpy'"),
        ("a fox, waving", "'waving' .a pose"),
        ("a red green blue fox", "'blue' .one colour too many"),
        ("a fox with a scraf", "nearest: scarf"),
    ],
)
def test_words_that_are_not_understood_are_named(text, message):
    with pytest.warns(UserWarning, match=message):
        parse_identity(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no kind"),
        ("a red dragonn", "names no kind.*dragon"),
        ("a fox and a bear", "two values for kind"),
        ("a fox with a hat and a crown", "two values for headwear"),
    ],
)
def test_impossible_descriptions_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_identity(text)


def test_levels_grow():
    one, two, three = (load_level(number) for number in (1, 2, 3))
    for name in ("kinds", "colours", "patterns", "emblems", "poses", "views", "places", "held"):
        assert set(getattr(one, name)) <= set(getattr(two, name)) <= set(getattr(three, name))
    assert set(three.kinds) == set(KINDS)
    assert load_level("level1") == one


def test_a_level_can_be_a_file_and_bad_ones_are_refused(tmp_path):
    import json

    from anystory.storyworld import level as module

    data = json.loads((module.Path(module.__file__).parent / "levels" / "level1.json").read_text())
    path = tmp_path / "mine.json"

    def written(changes: dict) -> Level:
        load_level.cache_clear()
        path.write_text(json.dumps(data | changes))
        return load_level(path)

    assert written({"kinds": ["owl"]}).kinds == ("owl",)
    assert written({"character_counts": [1, 0]}).character_counts == (1, 0)
    for changes, message in (
        ({"kinds": []}, "kinds: .*at least 1 item"),
        ({"kinds": ["owl", "owl"]}, "twice"),
        ({"wear_chance": 2}, "wear_chance: .*less than or equal to 1"),
        ({"max_characters": 9}, "max_characters"),
        ({"character_counts": [1]}, "2 weights"),
        ({"character_counts": [1, -1]}, "at least 0"),
        ({"character_counts": [0, 0]}, "not all of them 0"),
        ({"colour": 1}, "colour: .*[Uu]nexpected"),
    ):
        with pytest.raises(ValueError, match=message):
            written(changes)
    path.write_text("{")
    load_level.cache_clear()
    with pytest.raises(ValueError, match="is no valid JSON"):
        load_level(path)
    with pytest.raises(ValueError, match="no level 7"):
        load_level(7)


def test_random_streams():
    rng = stream("a", 1)
    draws = [rng.integer(2, 4) for _ in range(200)]
    assert set(draws) == {2, 3, 4}
    assert [stream("a", 1).uniform(0, 1)] == [stream("a", 1).uniform(0, 1)]
    assert stream("a", 1).uniform(0, 1) != stream("a", 2).uniform(0, 1)
    assert sorted(stream(5).shuffle(range(9))) == list(range(9))
    with pytest.raises(ValueError, match="empty"):
        rng.pick([])
    with pytest.raises(ValueError, match="a <= b"):
        rng.integer(3, 1)
