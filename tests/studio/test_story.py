"""A story on the page: written, what is wrong beside its panel, drawn, drawn again, read and exported."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from anystory.studio.session import Session
from anystory.studio.tabs import story
from anystory.studio.told import FieldError
from anystory.studio.worker.events import PanelKept
from studio.conftest import Browser, Desk


def a_story(**more: Any) -> dict[str, Any]:
    return {
        "title": "Two friends",
        "cast": {"mara": {"library": "@Mara"}, "bo": {"library": "@Bo"}},
        "places": {"beach": {"prompt": "on a beach"}},
        "panels": [
            {
                "prompt": "Mara waving",
                "place": "beach",
                "narration": "Once",
                "dialogue": [{"speaker": "mara", "text": "Hi"}],
            },
            {"prompt": "Mara and Bo standing"},
        ],
        **more,
    }


def test_nothing_then_the_starter_then_another_and_the_first_is_kept(browser: Browser, session: Session):
    told = browser.ask("story")
    assert told["story"] is None
    assert {"pdf", "mp4"} <= set(told["formats"])
    told = browser.ask("story.begin", starter=True)
    assert told["story"]["title"] == "The lost balloon"
    assert told["problems"] == []
    assert [len(panel["candidates"]) for panel in told["panels"]] == [0, 0, 0]
    told = browser.ask("story.begin", title="Mine")
    assert told["story"]["title"] == "Mine"
    [folder] = {path.parent for path in session.settings.out.rglob("story-1/story.yaml")}
    assert "The lost balloon" in (folder / "story.yaml").read_text()


def test_what_is_wrong_stands_beside_its_panel(browser: Browser):
    wrong = a_story()
    wrong["panels"][0]["place"] = "moon"
    wrong["panels"][1] = {"prompt": "Mara", "dialogue": [{"speaker": "mara", "text": "Hi", "kind": "sings"}]}
    wrong["cast"]["zoe"] = {"library": "@Zoe"}
    told = browser.ask("story.save", story=wrong)
    assert [one["panel"] for one in told["problems"]] == [1]  # the schema comes first
    wrong["panels"][1] = {"prompt": "Mara"}
    told = browser.ask("story.save", story=wrong)
    assert [one["panel"] for one in told["problems"]] == [None]
    assert "Zoe" in told["problems"][0]["text"]
    del wrong["cast"]["zoe"]
    told = browser.ask("story.save", story=wrong)
    assert [one["panel"] for one in told["problems"]] == [0]
    assert "moon" in told["problems"][0]["text"]
    assert told["story"]["panels"][0]["place"] == "moon"
    assert told["panels"] == []


def test_an_incomplete_story_is_kept_as_it_is(browser: Browser):
    told = browser.ask("story.save", story={"title": "", "panels": []})
    assert told["problems"]
    assert browser.ask("story")["story"]["panels"] == []


@pytest.mark.parametrize(
    ("name", "text", "panels"),
    [
        ("mine.yaml", "title: X\npanels: [a dog, a cat]\n", ["a dog", "a cat"]),
        ("script.md", "# X\n\n## Panel 1\n\nA dog runs.\n", ["A dog runs."]),
    ],
)
def test_stories_and_scripts_are_opened(browser: Browser, tmp_path: Any, name: str, text: str, panels: list[str]):
    (tmp_path / name).write_text(text)
    told = browser.ask("story.open", upload=browser.give(tmp_path / name))
    prompts = [one if isinstance(one, str) else one["prompt"] for one in told["story"]["panels"]]
    assert prompts == panels


@pytest.mark.parametrize(
    ("name", "data"), [("a.yaml", b"title: ["), ("b.json", b"\xff"), ("c.pdf", b"%PDF"), ("d.yaml", b"title: X")]
)
def test_files_that_are_no_story_are_refused_and_the_story_stays(
    browser: Browser, tmp_path: Any, name: str, data: bytes
):
    browser.ask("story.save", story=a_story())
    (tmp_path / name).write_bytes(data)
    told = browser.ask("story.open", status=422, upload=browser.give(tmp_path / name))
    assert told["field"] == "story_file"
    assert name in told["message"]
    assert "uploads" not in told["message"]
    assert browser.ask("story")["story"]["title"] == "Two friends"


@pytest.fixture
def rendered(session: Session, desk: Desk) -> Session:
    """A story whose panels are drawn."""
    story.ACTIONS["story.save"](session, {"story": a_story()})
    story.render_task(session, {}).run(desk)
    return session


def test_panels_are_drawn_chosen_and_drawn_again(rendered: Session, desk: Desk):
    kept = [event.number for event in desk.told if isinstance(event, PanelKept)]
    assert kept == [1, 2]
    told = story.shown(rendered)
    assert [[one["chosen"] for one in panel["candidates"]] for panel in told["panels"]] == [[True], [True]]
    assert told["panels"][1]["subjects"] == [["mara", "Mara"], ["bo", "Bo"]]
    story.reroll_task(rendered, {"panel": 2}).run(desk)
    told = story.shown(rendered)
    assert [one["chosen"] for one in told["panels"][1]["candidates"]] == [False, True]
    told = story.choose(rendered, {"panel": 2, "candidate": 1})
    assert [one["chosen"] for one in told["panels"][1]["candidates"]] == [True, False]
    url = told["panels"][1]["candidates"][0]["url"].split("/")
    assert story.panel_picture(rendered, url[-2], 1).is_file()
    with pytest.raises(ValueError, match="not in the book"):
        story.panel_picture(rendered, "../../session", 1)


def test_a_moved_panel_keeps_its_picture_and_a_changed_one_loses_it(rendered: Session):
    moved = a_story()
    moved["panels"].reverse()
    told = story.ACTIONS["story.save"](rendered, {"story": moved})
    assert [len(panel["candidates"]) for panel in told["panels"]] == [1, 1]
    moved["panels"][0]["prompt"] = "Bo sitting"
    told = story.ACTIONS["story.save"](rendered, {"story": moved})
    assert [len(panel["candidates"]) for panel in told["panels"]] == [0, 1]
    with pytest.raises(FieldError) as caught:
        story.pages(rendered, {})
    assert caught.value.values == {"panels": "1"}


def test_pages_are_read_and_every_format_is_exported(rendered: Session):
    told = story.pages(rendered, {})
    words = [entry for page in told["pages"] for entry in page["words"]]
    assert ["speech", "Mara", "Hi"] in words
    name = told["pages"][0]["url"].split("/")[-1].split("?")[0]
    assert story.page_file(rendered, name).read_bytes().startswith(b"\x89PNG")
    made = story.export(rendered, {"formats": ["pdf", "png", "html"], "dpi": 40})
    starts = {"pdf": b"%PDF", "html": b"<!"}
    for file in made["files"]:
        name, data = story.exported_file(rendered, file["format"])
        assert data.startswith(starts.get(file["format"], b"PK")), name
    with zipfile.ZipFile(io.BytesIO(story.exported_file(rendered, "png")[1])) as pages:
        assert len(pages.namelist()) == len(told["pages"])


@pytest.mark.parametrize(("formats", "field"), [([], "formats"), (["pdf", "tex"], "formats"), (["pdf"], "book")])
def test_what_cannot_be_exported_says_why(session: Session, formats: list[str], field: str):
    story.ACTIONS["story.save"](session, {"story": a_story()})
    with pytest.raises(FieldError) as caught:
        story.export(session, {"formats": formats})
    assert caught.value.field == field
