"""Books judged: who is alike, missing or doubled, and what the prompts did not bring about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.story.book_folder import (
    BOOK_FORMAT,
    Book,
    BookIndex,
    CandidateFacts,
    IndexEntry,
    panel_folder,
    read_book,
    read_scores,
    save_index,
)
from anystory.story.consistency.clip_judge import ClipJudge
from anystory.story.consistency.judging import Role, Shot
from anystory.story.consistency.page import write_page
from anystory.story.consistency.report import judge_of, report_of
from anystory.story.consistency.scoring import score_book, score_of
from anystory.story.consistency.storyworld_judge import StoryWorldJudge
from anystory.story.schema import Story
from anystory.storyworld.appearance import Appearance
from anystory.storyworld.identity import Identity
from anystory.storyworld.language.parse import parse_identity
from anystory.storyworld.render import render_scene
from anystory.storyworld.scene import Placement, Scene
from anystory.version import ASSETS

FOX = "a plain blue fox with a red star"
BEAR = "a plain yellow bear with a green heart"
OTHER = "a striped red fox with a green top hat and yellow boots"

Drawn = tuple[np.ndarray, np.ndarray]


def drawn(who: Sequence[str], place: str = "beach", light: str = "day") -> Drawn:
    """A StoryWorld picture (64, 64, 3) of characters side by side, and its instances (64, 64)."""
    placements = tuple(
        Placement(identity=parse_identity(text), appearance=Appearance(), x=(i + 0.5) / len(who), y=0.9, height=0.55,
                  depth=0.5)
        for i, text in enumerate(who)
    )  # fmt: skip
    scene = Scene(
        seed=3, level="1", split="train", decor="x", place=place, light=light, style="flat",
        arrangement="alone" if len(who) == 1 else "apart", placements=placements,
    )  # fmt: skip
    found = render_scene(scene, 64)
    return found.image, found.instances


def _worded(prompt: str) -> str:
    return prompt.replace("Mara", "a fox").replace("Bo", "a bear")


@pytest.fixture
def book(tmp_path: Path) -> Callable[[list[tuple[str, tuple[str, ...], list[Drawn]]]], Book]:
    """Makes a book of Mara, a fox, and Bo, a bear: (prompt, subjects, pictures) of each panel."""

    def made(panels: list[tuple[str, tuple[str, ...], list[Drawn]]]) -> Book:
        story = Story.model_validate(
            {
                "title": "T",
                "cast": {"mara": {"storyworld": FOX}, "bo": {"storyworld": BEAR}},
                "panels": [
                    {"prompt": prompt, "cast": [one for one in subjects if one.title() not in prompt]}
                    for prompt, subjects, _ in panels
                ],
            }
        )
        entries = tuple(
            IndexEntry(
                key=f"p{number}", prompt=prompt.replace("Mara", "a fox").replace("Bo", "a bear"), subjects=subjects
            )
            for number, (prompt, subjects, _) in enumerate(panels)
        )
        model = {"model": "mini", "adapter": None}
        save_index(tmp_path, BookIndex(format=BOOK_FORMAT, source="x", story=story, model=model, panels=entries))
        for entry, (_, subjects, pictures) in zip(entries, panels, strict=True):
            for number, (pixels, instances) in enumerate(pictures, start=1):
                folder = panel_folder(tmp_path, entry.key) / str(number)
                folder.mkdir(parents=True)
                Image.fromarray(pixels).save(folder / "0001.png")
                owners = np.where(instances <= len(subjects), instances, 0).astype(np.uint8)
                Image.fromarray(owners).save(folder / "owners.png")
                facts = CandidateFacts(seed=number, origin="render", subjects=subjects)
                (folder / "candidate.json").write_text(facts.model_dump_json())
        return read_book(tmp_path)

    return made


def test_who_is_itself_who_is_not_who_is_missing_and_who_is_doubled(book):
    whole = book(
        [
            ("Mara on a beach", ("mara",), [drawn([FOX])]),
            ("Mara and Bo at night", ("mara", "bo"), [drawn([FOX, BEAR])]),
            ("Mara in a forest", ("mara",), [drawn([OTHER], "forest")]),
            ("Bo and Mara on a beach", ("bo", "mara"), [drawn([BEAR])]),
            ("Mara on a beach", ("mara",), [drawn([FOX, FOX])]),
            ("Bo", ("bo",), []),
        ]
    )
    report = report_of(whole, judge_of(whole))
    mara, bo = report.characters
    assert (mara.name, mara.panels, bo.panels) == ("Mara", (1, 2, 3, 4, 5), (2, 4))
    assert mara.broken.keys() == {3, 4, 5}
    assert mara.broken[3].startswith("unlike the others")
    assert (mara.broken[4], mara.broken[5]) == ("missing", "doubled")
    assert bo.broken == {}
    assert mara.likeness.shape == (6, 6)
    np.testing.assert_array_equal(mara.likeness, mara.likeness.T)
    assert mara.likeness[0, 1] > 0.85
    assert mara.likeness[0, 2] < 0.6
    assert np.isnan(mara.likeness[3]).all()
    assert math.isnan(mara.means[3])
    assert report.without_effect == {2: ["the prompt's light is night, the picture shows day"]}
    assert report.undrawn == (6,)


def test_the_page_shows_every_panel_and_marks_what_breaks(book, tmp_path):
    whole = book([("Mara", ("mara",), [drawn([FOX])]), ("Mara & Bo", ("mara", "bo"), [drawn([FOX])])])
    page = tmp_path / "page.html"
    write_page(whole, report_of(whole, judge_of(whole)), page)
    text = page.read_text()
    assert text.count("<img") == 5
    assert text.count('<figure class="broken">') == 2
    assert "a fox &amp; a bear" in text
    assert "http" not in text


def test_words_that_the_model_does_not_read_or_know(book):
    whole = book([("Mara tangoing", ("mara",), [drawn([FOX])]), ("Mara " + "waving " * 60, ("mara",), [drawn([FOX])])])
    found = report_of(whole, judge_of(whole)).without_effect
    assert found[1] == ["the model does not know 'tangoing'"]
    assert found[2][0].startswith("the model does not read the prompt's end: 'waving")


def test_a_book_shows_the_best_of_its_candidates(book):
    whole = book([("Mara", ("mara",), [drawn([OTHER]), drawn([FOX])]), ("Bo", ("bo",), [drawn([BEAR])])])
    assert score_book(whole) == 2
    assert score_book(whole) == 0, "scored once"
    scores = read_scores(whole.folder)
    assert scores["p0"][2] > scores["p0"][1] + 0.3
    chosen = read_book(whole.folder).panel(1).chosen
    assert chosen is not None
    assert chosen.number == 2


def test_a_picture_without_its_characters_scores_nothing():
    identities: dict[Role, Identity] = {Role("mara", None): parse_identity(FOX)}
    judge = StoryWorldJudge(identities)
    pixels, _ = drawn([BEAR])
    empty = Shot(picture=pixels, masks={Role("mara", None): np.zeros((64, 64), bool)}, prompt="")
    assert score_of(empty, judge) == 0
    assert score_of(Shot(picture=pixels, masks={}, prompt=""), judge) == 1


def test_an_empty_book_is_refused(book):
    whole = book([("Mara", ("mara",), [])])
    with pytest.raises(ValueError, match="no pictures yet"):
        report_of(whole, judge_of(whole))


def test_clip_compares_what_routing_masks_cut_out():
    mara, bo = Role("mara", None), Role("bo", None)
    mini = ASSETS / "mini"
    pixels, instances = drawn([FOX, BEAR])
    reference = Image.fromarray(np.where((instances == 1)[..., None], pixels, np.uint8(255)))
    judge = ClipJudge(mini / "image_encoder", mini / "feature_extractor", {mara: reference})
    double = (instances == 1) | (instances == 2)
    shot = Shot(picture=pixels, masks={mara: instances == 1, bo: double}, prompt="")
    sights = judge.sights(shot)
    assert not sights[mara].missing
    assert not sights[mara].doubled
    assert sights[bo].doubled
    bear = judge.sights(Shot(picture=pixels, masks={mara: instances == 2}, prompt=""))[mara]
    alike, other = (judge.likeness(sight.features, judge.reference(mara)) for sight in (sights[mara], bear))
    assert alike > max(0.5, other + 0.2)
    assert judge.reference(bo) is None
    gone = judge.sights(Shot(picture=pixels, masks={mara: np.zeros((64, 64), bool)}, prompt=""))
    assert gone[mara].missing
    with pytest.raises(ValueError, match=r"CLIP model .*vae' cannot be loaded .* --clip"):
        ClipJudge(mini / "vae", mini / "vae", {})
