"""Stories rendered: each panel once, again only what has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.events import StepDone
from anystory.engine.record.reading import load_record
from anystory.engine.replay import restore
from anystory.story.book_folder import BookPanel, read_book
from anystory.story.positions import StoryProblems
from anystory.story.reading import StoryFile
from anystory.story.runner.drawing import PanelDrawn
from anystory.story.runner.keeping import book_writer
from anystory.story.runner.parallel import TaskDrawer, devices
from anystory.story.runner.plan import plan_panels
from anystory.story.runner.render import Rendered, prepare_book, render_story
from anystory.story.runner.reroll import reroll_panel
from anystory.story.runner.tasks import open_tasks
from story.conftest import STORY

Render = Any
"""See the fixture."""


@pytest.fixture
def render(model, options, tmp_path) -> Render:
    """Renders into the folder `book` with the tiny model, and counts how often it is loaded."""

    def rendered(file: StoryFile, **more: Any) -> Rendered:
        def load(_: object) -> Any:
            rendered.loads += 1
            return model

        return render_story(file, tmp_path / "book", options, load=load, **more)

    rendered.loads = 0
    rendered.model = model
    return rendered


def pictures(book: Path) -> list[bytes | None]:
    return [None if panel.chosen is None else panel.chosen.picture.read_bytes() for panel in read_book(book).panels]


def test_every_panel_is_drawn_with_its_record_masks_and_progress(render, write, tmp_path, model):
    told: list[object] = []

    def listen(event: object) -> None:
        told.append(event)
        if isinstance(event, PanelDrawn):
            assert read_book(tmp_path / "book").panel(event.task.plan.number).chosen == event.candidate

    done = render(write(), on_event=listen)
    assert (len(done.drawn), done.kept) == (3, 0)
    steps = [(event.picture, event.pictures, event.step) for event in told if isinstance(event, StepDone)]
    # The second panel has a place: a step more finds who is where.
    assert steps == [(picture, 3, step) for picture, count in ((1, 2), (2, 3), (3, 2)) for step in range(1, count + 1)]
    left = [event.seconds_left for event in told if isinstance(event, StepDone)]
    assert left[0] is None
    assert left[-1] == 0
    assert all(seconds is not None and seconds > 0 for seconds in left[1:-1])
    book = read_book(tmp_path / "book")
    second = book.panel(2).chosen
    assert second is not None
    record = load_record(second.record)
    assert record.prompt == book.panel(2).entry.prompt == "a fox and a robot on a beach"
    assert [subject.name for subject in record.subjects] == ["Red", "Blue"]
    masks = second.masks()
    with Image.open(second.picture) as picture:
        assert {mask.shape for mask in masks.values()} == {picture.size[::-1]}
    assert list(masks) == ["red", "blue"]
    assert not (masks["red"] & masks["blue"]).any()
    assert second.sheet is not None
    bare = book.panel(3).chosen
    assert bare is not None
    assert (bare.masks(), bare.sheet) == ({}, None)


def test_a_panels_record_draws_it_again(render, write, tmp_path, model):
    render(write())
    for panel in read_book(tmp_path / "book").panels:
        assert panel.chosen is not None
        replay = restore(panel.chosen.record, trust_paths=True)
        call = model.start(replay.job, [subject.subject() for subject in replay.job.subjects])
        again = call.draw(replay.record.seed, routing=False, on_step=lambda step: None)
        with Image.open(panel.chosen.picture) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(again.image))


def test_references_are_encoded_once_for_the_book_and_shared_on_disk(render, write, tmp_path, model, monkeypatch):
    encoded: list[object] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda subject: encoded.append(subject) or encode(subject))
    render(write())
    assert len(encoded) == 2
    copies = list((tmp_path / "book").rglob("red-*.png"))
    assert len(copies) == 3
    assert len({copy.stat().st_ino for copy in copies}) == 1


def test_a_rerun_draws_only_what_its_picture_depends_on(render, write, tmp_path):
    render(write())
    before = pictures(tmp_path / "book")
    loads = render.loads
    texts = (
        STORY.replace("narration: Then", "narration: Later, transition: fade, alt: Two") + "layout: four\nauthor: me\n"
    )
    assert len(render(write(texts.replace("title: Two", "title: Three"))).drawn) == 0
    assert render.loads == loads, "nothing to draw, nothing to load"
    assert pictures(tmp_path / "book") == before
    assert read_book(tmp_path / "book").panel(2).lines[0].text == "Later"
    for number, change in enumerate(
        [
            ("on a beach", "on the moon"),
            ("photos: {image: blue.png, mask: blue-mask.png}", "photos: blue.png"),
            ("place: sea", "place: sea, cast: {blue: {scale: 0.5}}"),
            ("place: sea", "place: sea, guidance: 2"),
            ("place: sea", "place: sea, seed: 4"),
        ]
    ):
        done = render(write(STORY.replace(*change)))
        assert (len(done.drawn), done.kept) == (1, 2), (number, change)
    assert len(render(write()).drawn) == 0, "what was drawn before is still there"
    assert len(render(write(), steps=1).drawn) == 3


def test_a_changed_reference_is_drawn_again_and_a_moved_story_is_not(render, write, tmp_path, options, model):
    file = write()
    render(file)
    moved = tmp_path / "elsewhere"
    file.folder.rename(moved)
    from anystory.story.reading import read_story

    file = read_story(moved / "story.yaml")
    assert len(render(file).drawn) == 0
    Image.new("RGBA", (48, 48), (9, 200, 9, 255)).save(moved / "blue.png")
    Image.new("L", (48, 48), 255).save(moved / "blue-mask.png")
    assert [event.number for event in render(file).drawn] == [1]


def test_an_inserted_panel_leaves_the_others_as_they_are(render, write):
    render(write())
    assert len(render(write(STORY.replace("  - Red waving\n", "  - Blue alone\n  - Red waving\n"))).drawn) == 1


def test_equal_panels_are_two_pictures_unless_their_seeds_say_otherwise(render, write, tmp_path):
    twice = "title: t\nsteps: 1\npanels: [night, night, {prompt: night, seed: 3}, {prompt: night, seed: 3}]\n"
    assert len(render(write(twice)).drawn) == 3
    found = pictures(tmp_path / "book")
    assert found[0] != found[1]
    assert found[2] == found[3]


def test_the_seed_of_a_candidate_written_into_the_story_is_not_drawn_again(render, write, tmp_path):
    first = read_after(render(write(), panels={2}, best_of=3), tmp_path)
    chosen = first.candidates[1]
    seeded = STORY.replace("place: sea", f"place: sea, seed: {chosen.facts.seed}")
    loads = render.loads
    done = render(write(seeded), panels={2})
    assert (len(done.drawn), done.kept, render.loads) == (0, 1, loads)
    again = read_book(tmp_path / "book").panel(2)
    assert again.entry.key != first.entry.key
    assert again.chosen is not None
    assert again.chosen.picture.read_bytes() == chosen.picture.read_bytes()
    assert again.chosen.masks().keys() == chosen.masks().keys()
    rerolled = reroll_panel(read_book(tmp_path / "book"), 2, seed=77, load=lambda _: render.model)
    assert render(write(STORY.replace("place: sea", "place: sea, seed: 77")), panels={2}).kept == 1
    assert read_book(tmp_path / "book").panel(2).chosen.facts == rerolled.facts  # type: ignore[union-attr]
    assert len(render(write(seeded.replace("on a beach", "on the moon")), panels={2}).drawn) == 1


def read_after(done: Rendered, tmp_path: Path) -> BookPanel:
    assert len(done.drawn) == 3
    return read_book(tmp_path / "book").panel(2)


def test_a_seed_for_one_panel_does_not_change_the_others(write, tmp_path):
    panels = ("night, day, night, night", "{prompt: night, seed: 3}, day, {prompt: night, seed: 4}, night")
    free, given = (
        [plan.seed for plan in plan_panels(write(f"title: t\npanels: [{text}]\n"), tmp_path / "book", "")]
        for text in panels
    )
    assert given == [3, free[1], 4, free[3]]


def test_panels_of_a_place_share_their_background(render, write, tmp_path):
    text = """\
        title: t
        steps: 2
        places:
          sea: {prompt: on a beach, seed: 5}
          wood: in a wood
          hill: {prompt: on a hill, picture: blue.png, strength: 0.5}
        panels:
          - {prompt: day, place: sea}
          - {prompt: night, place: sea, seed: 6}
          - {prompt: day, place: wood}
          - {prompt: night, place: wood}
          - {prompt: day, place: hill}
          - day
    """
    render(write(text))
    records = [load_record(panel.chosen.record) for panel in read_book(tmp_path / "book").panels if panel.chosen]
    backgrounds = [record.background_seed for record in records]
    assert backgrounds[:2] == [5, 5]
    assert backgrounds[2] == backgrounds[3] is not None
    assert backgrounds[2] != 5
    assert backgrounds[4:] == [None, None]
    assert records[1].seed == 6
    assert len({record.seed for record in records}) == 6
    assert records[4].image is not None
    assert records[4].strength == 0.5
    render(write(text.replace("seed: 5", "seed: 7")))
    assert sum(event.number == 1 for event in render(write(text.replace("seed: 5", "seed: 7"))).drawn) == 0
    changed = [load_record(panel.chosen.record) for panel in read_book(tmp_path / "book").panels if panel.chosen]
    assert [record.background_seed for record in changed[:2]] == [7, 7]
    assert changed[2] == records[2]


def test_chosen_panels_and_candidates(render, write, tmp_path):
    assert len(render(write(), panels={2, 3}).drawn) == 2
    assert [picture is None for picture in pictures(tmp_path / "book")] == [True, False, False]
    assert [candidate.number for candidate in render(write(), best_of=2).drawn] == [1, 2, 2, 2]
    seeds = [candidate.facts.seed for candidate in read_book(tmp_path / "book").panel(1).candidates]
    assert seeds[1] == seeds[0] + 1
    with pytest.raises(ValueError, match="panels 1 to 3, there is no panel 4"):
        render(write(), panels={1, 4})


def test_bad_stories_and_pictures_are_refused_before_a_model_is_loaded(render, write, tmp_path):
    with pytest.raises(StoryProblems, match=r"story.yaml:9:5: \{nobody\}"):
        render(write(STORY.replace("Red waving", '"{nobody} waving"')))
    file = write()
    (file.folder / "red.png").write_bytes(b"no picture")
    with pytest.raises(StoryProblems, match=r"story.yaml:4:31: .*red.png"):
        render(file)
    assert render.loads == 0
    assert not list((tmp_path / "book").glob("panels/*/*"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_sizes_that_the_model_cannot_draw_are_refused_before_it_is_loaded(render, write, tmp_path, jobs):
    with pytest.raises(StoryProblems) as caught:
        render(write(STORY.replace("place: sea", "place: sea, size: 33x32")), jobs=jobs)
    assert [problem.mark for problem in caught.value.problems] == [(10, 46)]
    assert render.loads == 0
    assert not (tmp_path / "book").exists()


def test_cancelled_what_is_done_stays_and_the_next_render_goes_on(render, write, tmp_path):
    token = CancelToken()

    def listen(event: object) -> None:
        if isinstance(event, PanelDrawn) and event.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        render(write(), on_event=listen, cancel=token)
    assert [picture is None for picture in pictures(tmp_path / "book")] == [False, False, True]
    done = render(write())
    assert (len(done.drawn), done.kept) == (1, 2)


def test_one_program_at_a_time_and_leftovers_of_a_killed_one_go(render, write, tmp_path):
    book = tmp_path / "book"
    with book_writer(book), pytest.raises(ValueError, match="another program is writing"):
        render(write())
    (book / ".drawing-x" / "candidate").mkdir(parents=True)
    (book / ".book.0123abcd.json").write_text("{")
    (book / ".hidden.json").write_text("mine")
    render(write())
    assert sorted(path.name for path in book.iterdir()) == [".hidden.json", "book.json", "panels", "references"]


def test_descriptions_are_drawn_once_and_stay(render, write, tmp_path):
    text = "title: t\nsteps: 1\ncast: {mara: {storyworld: a blue fox}}\npanels: [Mara]\n"
    render(write(text))
    [reference] = [path for path in (tmp_path / "book" / "references").glob("mara-*.png") if path.name.count("-") == 1]
    other = Image.new("RGBA", (64, 64))
    other.paste((1, 2, 3, 255), (10, 10, 50, 50))
    other.save(reference)
    assert len(render(write(text)).drawn) == 1, "the book's own picture counts"
    [entry] = json.loads((tmp_path / "book" / "book.json").read_text())["panels"]
    assert (entry["prompt"], entry["subjects"]) == ("a fox", ["mara"])


def hashes(book: Path) -> list[str]:
    return [load_record(panel.chosen.record).picture_sha256 for panel in read_book(book).panels if panel.chosen]


def test_a_process_of_several_draws_what_one_draws(write, options, render, tmp_path):
    """What each of them runs, without the processes."""
    file = write()
    render(file)
    other = tmp_path / "other"
    with book_writer(other):
        draw = TaskDrawer(other, options, sheet=True)
        for task in open_tasks(other, prepare_book(file, other, options)):
            assert draw(task).number == 1
    assert hashes(other) == hashes(tmp_path / "book")


def test_each_process_has_a_gpu_of_its_own_where_there_are_several():
    assert devices("cuda", 3, 2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices("cuda", 2, 1) == ["cuda", "cuda"]
    assert devices("cuda:1", 2, 4) == ["cuda:1", "cuda:1"]
    assert devices("cpu", 2, 4) == ["cpu", "cpu"]


@pytest.mark.slow
def test_several_processes_draw_what_one_draws(write, options, render, tmp_path):
    file, told = write(), []
    render(file)
    done = render_story(file, tmp_path / "other", options, jobs=2, on_event=told.append)
    assert len(done.drawn) == 3
    assert sorted(event.task.plan.number for event in told if isinstance(event, PanelDrawn)) == [1, 2, 3]
    assert hashes(tmp_path / "other") == hashes(tmp_path / "book")
    assert render_story(file, tmp_path / "other", options, jobs=2).kept == 3
