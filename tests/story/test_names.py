"""Names in texts: whole words in any script, and what prompts make of them."""

from __future__ import annotations

import unicodedata

import pytest

from anystory.story.names import NameFinder
from anystory.story.prompts import Wording, panel_prompt, wording_of
from anystory.story.schema import Story


def story(cast: dict, panel: object = "p", **more: object) -> Story:
    return Story.model_validate({"title": "t", "cast": cast, "panels": [panel], **more})


def found(names: dict[str, list[str]], text: str) -> list[tuple[str | None, str]]:
    """(id, the text that the mention takes) of a cast whose members have these names."""
    cast = {member: {"name": own[0], "aliases": own[1:], "photos": "x.png"} for member, own in names.items()}
    return [(mention.member, text[mention.start : mention.end]) for mention in NameFinder(story(cast)).find(text)]


ANN = {"ann": ["Ann"], "anna": ["Anna"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann and Anna", [("ann", "Ann"), ("anna", "Anna")]),
        ("Annabel, Joann, Anna-Lena, pre-Ann, Ann_1, Ann2, O'Ann, ann", []),
        ("Ann's hat, Anna’s hat", [("ann", "Ann's"), ("anna", "Anna’s")]),
        ('(Ann), "Anna"! Ann.', [("ann", "Ann"), ("anna", "Anna"), ("ann", "Ann")]),
        ("le chapeau d'Anna, l’Ann", [("anna", "Anna"), ("ann", "Ann")]),
        ("ANN shouts", [("ann", "ANN")]),
        ("Ann'll sing", [("ann", "Ann")]),
        ("Ann—Anna", [("ann", "Ann"), ("anna", "Anna")]),
        ("'Ann' said", [("ann", "Ann")]),
        ("Anń", []),  # another letter, written with a mark of its own
    ],
)
def test_whole_words_only(text, expected):
    assert found(ANN, text) == expected


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["James"], "James' hat and James", ["James'", "James"]),
        (["Old Tom"], "Old  Tom and Tom", ["Old  Tom"]),
        (["Mara", "Granny", "old Mara"], "Granny sees old Mara", ["Granny", "old Mara"]),
        (["Анна"], "Анна и Аннабель", ["Анна"]),
        (["Νίκος"], "ο Νίκος, Νίκοςα", ["Νίκος"]),
        (["José"], unicodedata.normalize("NFD", "x") + " José Josés", ["José"]),
        (["小明"], "小明走在海边，大小明", ["小明", "小明"]),
        (["小明", "小明明"], "小明明和小明", ["小明明", "小明"]),
        (["明"], "明天和{明}", ["{明}"]),
        (["さくら"], "さくらは森にいる", ["さくら"]),
        (["アン"], "アンとアンナ、アンー", ["アン"]),
        (["สมชาย"], "วันนี้สมชายเดินเล่น", ["สมชาย"]),
        (["राम"], "राम और रामायण", ["राम"]),
        (["रम"], "रमा", []),
        (["마라"], "마라는 마라와 마라톤", ["마라", "마라"]),
        (["דוד"], "דוד הולך, דודי", ["דוד"]),
        (["محمد"], "محمد في الحديقة", ["محمد"]),
    ],
)
def test_any_script(names, text, expected):
    assert [mention for _, mention in found({"x": names}, text)] == expected


def test_braces_are_names_for_certain():
    finder = NameFinder(story({"ann": {"name": "Ann Lee", "photos": "x.png", "aliases": ["Annie"]}}))
    text = "{ann}'s dog, { Annie }, {ANN LEE@winter}, {bob}, ann, {}"
    assert [(m.member, m.name, m.variant, m.possessive) for m in finder.find(text)] == [
        ("ann", "ann", None, True),
        ("ann", "Annie", None, False),
        ("ann", "ANN LEE", "winter", False),
        (None, "bob", None, False),
        (None, "", None, False),
    ]


def test_an_id_is_a_name_only_where_there_is_no_other():
    assert found({"will": ["Will"]}, "they will see Will") == [("will", "Will")]
    cast = story({"mara": "m.png"})
    assert [mention.name for mention in NameFinder(cast).find("mara and Mara and marA")] == ["mara", "Mara"]


# --- prompts ---

WORDS = {
    ("mara", None): wording_of("a fox in a red coat"),
    ("mara", "winter"): wording_of("a fox in white", "the white fox"),
    ("bo", None): wording_of("a robot"),
    ("ed", None): wording_of("a robot"),
}
CAST = {
    "mara": {"photos": "m.png", "variants": {"winter": "w.png"}},
    "bo": "b.png",
    "ed": "e.png",
}


def prompt(panel: object, **more: object) -> str:
    whole = story(CAST, panel, **more)
    return panel_prompt(whole, whole.panels[0], WORDS).text


def test_the_short_form_follows_from_the_description():
    assert wording_of("an old man with a beard, tired").short == "the old man"
    assert wording_of("Ada Lovelace").short == "the Ada Lovelace"
    assert wording_of("a fox", "she") == Wording("a fox", "she")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mara waves", "a fox in a red coat waves"),
        ("Mara waves. Mara sings.", "a fox in a red coat waves. the fox sings"),
        ("Mara's dog and Mara", "a fox's dog and a fox in a red coat"),
        ("Bo's dog and Bo", "a robot's dog and the robot"),
        ("Mara and Mara's dog", "a fox in a red coat and the fox's dog"),
        ("the Mara of old", "the fox in a red coat of old"),
        ("An {bo}", "A robot"),
        ("Bo and Ed", "a robot and another robot"),
        ("{mara@winter} and Mara", "a fox in white and the white fox"),
    ],
)
def test_names_become_words(text, expected):
    assert prompt(text) == expected


def test_who_is_not_named_is_appended_and_places_and_styles_follow():
    panel = {"prompt": "Mara waves.", "cast": ["bo", {"mara": {"variant": "winter"}}], "place": "sea"}
    more = {"style": "mine", "styles": {"mine": {"before": "a drawing of", "after": "in ink", "negative": "mud"}}}
    assert (
        prompt(panel, places={"sea": "on a beach"}, **more)
        == "a drawing of a fox in white waves, with a robot on a beach, in ink"
    )
    assert prompt({**panel, "cast": []}, places={"sea": "a stormy sea"}) == "a fox in a red coat waves, a stormy sea"
    assert prompt({"prompt": "rain", "cast": ["mara", "bo", "ed"]}) == (
        "rain, with a fox in a red coat, a robot and another robot"
    )
    whole = story(CAST, {**panel, "negative": "rain"}, places={"sea": "x"}, **more)
    assert panel_prompt(whole, whole.panels[0], WORDS).negative == "rain, mud"


def test_who_is_there():
    panel = {"prompt": "Bo thinks of Mara", "cast": {"ed": {"scale": 0.5}}, "absent": ["Mara"]}
    whole = story(CAST, panel)
    subjects = panel_prompt(whole, whole.panels[0], WORDS).subjects
    assert list(subjects) == ["bo", "ed"]
    assert subjects["ed"].scale == 0.5
