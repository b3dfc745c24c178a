"""The studio in a real Chromium: every flow from what is given to the file that is saved. Skipped without one.

ANYSTORY_AXE names axe-core's axe.min.js; without it nothing is said about accessibility.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from anystory.cast import Library
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.segment.fusion import Fusion
from anystory.studio.serve import free_port
from anystory.studio.settings import StudioSettings
from anystory.studio.worker.tasks import DrawScene
from studio.conftest import DEMO
from studio.light_tasks import Held

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import (  # pyright: ignore[reportMissingImports] - an extra that linting does without
    Browser,
    Locator,
    Page,
    expect,
    sync_playwright,
)

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(path)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

PATIENCE = 240_000
"""Milliseconds that a step may take on a busy machine."""


class Studio:
    """A studio that runs, and what its pages asked for."""

    def __init__(self, url: str, settings: StudioSettings, worker: Any, library: Library) -> None:
        self.url, self.settings, self.worker, self.library = url, settings, worker, library


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with a tiny model that looks at a picture twice, Mara and Bo."""
    from anystory.studio.app import build_app

    folder = tmp_path_factory.mktemp("studio")
    config = shutil.copytree(tiny, folder / "tiny") / "adapter" / "config.json"
    adapter = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(adapter | {"segmentation": Fusion(draws=8).to_dict()}), encoding="utf-8")
    library = Library(folder / "cast")
    library.add("Mara", [DEMO / "fox.png"], description="a fox")
    library.add("Bo", [DEMO / "robot.png"], description="a robot")
    options = ModelOptions(model=str(folder / "tiny"), threads=1)
    settings = StudioSettings(out=folder / "out", library=library.folder, options=options)
    app = build_app(settings)
    port = free_port(None)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.05)
    # The first drawing imports torch and loads the model: no test's patience is for that.
    warm = DrawScene(job=Job(prompt="f r"), seeds=(0,), options=options, out=folder / "warm", previews=False)
    first = app.state.worker.submit(warm)
    while first.open:
        threading.Event().wait(0.1)
    assert first.state == "done", first.message
    yield Studio(f"http://127.0.0.1:{port}", settings, app.state.worker, library)
    server.should_exit = True
    server.force_exit = True
    thread.join(timeout=20)


class Hold:
    """Lets tests find tasks in the middle, however fast or slow the machine is: see `Held`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._after: int | None = None

    def wrapped(self, task: Any) -> Any:
        """The task; between `after` and `let_go` one that waits."""
        return task if self._after is None else Held(task, self._let_go, self._after)

    def after(self, step: int) -> None:
        """Tasks that begin from now on wait after a step."""
        self._after, self._count = step, self._count + 1

    def let_go(self) -> None:
        """They go on."""
        self._after = None
        self._let_go.touch()

    @property
    def _let_go(self) -> Path:
        return self._folder / f"let go {self._count}"


@pytest.fixture
def hold(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    """See `Hold`; in the end nothing waits, whatever became of the test."""
    made, submit = Hold(tmp_path), studio.worker.submit
    monkeypatch.setattr(studio.worker, "submit", lambda task, *more: submit(made.wrapped(task), *more))
    yield made
    made.let_go()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(studio: Studio, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser of its own; in the end nothing has come from elsewhere, and no script has failed."""
    opened: list[Any] = []
    wrong: list[str] = []

    def open_page(tab: str = "Cast", language: str = "en", **more: Any) -> Page:
        context = chromium.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **more}
        )
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: wrong.extend([] if _own(request.url, studio.url) else [request.url]))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{studio.url}/{language}/")
        part(page, tab, language)
        return page

    expect.set_options(timeout=PATIENCE)
    yield open_page
    for context in opened:
        context.close()
    assert not wrong


def _own(url: str, home: str) -> bool:
    return url.startswith((home, "data:", "blob:"))


NAMES = {"Figuren": "cast", "Szene": "scene", "Geschichte": "story", "Masken": "segment", "Modelle": "models"}


def part(page: Page, tab: str, language: str = "en") -> Locator:
    """A tab, opened."""
    page.locator(".part-top[data-ready]").wait_for()
    name = NAMES.get(tab, tab.lower())
    page.get_by_role("tab", name=tab).click()
    found = page.locator(f".part-{name}[data-ready]")
    found.wait_for()
    return found


def draw(page: Page, prompt: str, **settings: str) -> None:
    """Ask for a scene."""
    page.get_by_label("What happens").fill(prompt)
    if settings and not page.get_by_label("Steps").is_visible():
        page.get_by_text("Settings", exact=True).click()
    for label, value in settings.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Draw", exact=True).click()


def saved(page: Page, link: Locator) -> bytes:
    """What a link saves."""
    with page.expect_download() as download:
        link.click()
    return Path(download.value.path()).read_bytes()


def test_a_picture_becomes_a_character_that_travels(visit: Callable[..., Page], studio: Studio, tmp_path: Path):
    page = visit()
    cast = page.locator(".part-cast")
    cast.locator("input[type=file]").first.set_input_files(DEMO / "bear.png")
    dialog = page.get_by_role("dialog")
    canvas = dialog.locator("canvas")
    before = _pixels(canvas)
    dialog.get_by_role("radio", name="Does not").check()
    canvas.click(position={"x": 200, "y": 200})
    assert (_pixels(canvas) != before).any()
    dialog.get_by_label("Name", exact=True).fill("Otto")
    dialog.get_by_label("Words for prompts").fill("a bear")
    dialog.get_by_role("button", name="Add to the cast").click()
    cast.get_by_role("button", name="Otto").click()
    [photo] = studio.library["Otto"].photos
    assert photo.found_by == "mask"
    exported = saved(page, page.get_by_role("link", name="Export as .zip"))
    (tmp_path / "otto.zip").write_bytes(exported)
    assert zipfile.is_zipfile(io.BytesIO(exported))
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").last.get_by_role("button", name="Remove").click()
    expect(cast.get_by_role("button", name="Otto")).to_have_count(0)
    cast.locator("input[accept='.zip']").set_input_files(tmp_path / "otto.zip")
    expect(cast.get_by_role("button", name="Otto")).to_have_count(1)
    studio.library.remove("Otto")


def _pixels(canvas: Locator) -> np.ndarray:
    with Image.open(io.BytesIO(canvas.screenshot())) as image:
        return np.asarray(image.convert("RGB")).copy()


def test_a_pasted_picture_and_a_bad_one(visit: Callable[..., Page], studio: Studio, tmp_path: Path):
    page = visit()
    data = list((DEMO / "bear.png").read_bytes())
    page.evaluate(
        """(data) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(data)], "pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: files, bubbles: true}));
        }""",
        data,
    )
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    (tmp_path / "bad.png").write_text("no picture")
    page.locator(".part-cast input[type=file]").first.set_input_files(tmp_path / "bad.png")
    expect(page.locator(".part-cast [data-field=photo] .error")).to_contain_text("bad.png")


def test_the_creator_by_keyboard_alone(visit: Callable[..., Page], studio: Studio):
    page = visit()
    page.get_by_role("button", name="Create a character").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("Pim")
    page.get_by_role("button", name="Roll the dice", exact=True).focus()
    page.keyboard.press("Space")
    kind = page.get_by_label("Kind")
    kind.focus()
    kind.select_option("frog")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".part-cast").get_by_role("button", name="Pim")).to_have_count(1)
    assert studio.library["Pim"].description == "a frog"
    studio.library.remove("Pim")


def test_a_scene_from_prompt_to_files_and_back(visit: Callable[..., Page], studio: Studio, tmp_path: Path):
    page = visit("Scene")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("[data-field=prompt] .error")).to_have_text("Say what happens in the picture first.")
    page.get_by_role("button", name="Write Mara").click()
    page.get_by_label("What happens").press_sequentially(" and B")
    page.get_by_label("What happens").press_sequentially("o waving")
    expect(page.locator(".reads")).to_contain_text("a fox and a robot waving")
    page.get_by_role("button", name="Draw", exact=True).click()
    pictures = page.locator(".gallery .picture")
    expect(pictures).to_have_count(1)
    pictures.first.click()
    over = page.locator(".stacked .over")
    expect(over).to_be_visible()
    first = over.get_attribute("src")
    page.get_by_label("Layer", exact=True).fill("1")
    page.get_by_label("Step", exact=True).fill("0")
    page.get_by_role("radio", name="Coarse").check()
    page.get_by_role("button", name="Show Bo").click()
    changed = over.get_attribute("src") or ""
    assert changed != first
    assert "step=0&layer=1&refined=0&shown=0" in changed
    expect(over).to_have_js_property("complete", True)
    assert over.evaluate("image => image.naturalWidth") > 0
    for name, start in (
        ("Picture", b"\x89PNG"),
        ("Masks", b"PK"),
        ("Layers", b"PK"),
        ("Record", b"{"),
        ("Everything", b"PK"),
    ):
        assert saved(page, page.get_by_role("link", name=name, exact=True)).startswith(start), name
    record = saved(page, page.get_by_role("link", name="Record", exact=True))
    page.keyboard.press("Escape")
    (tmp_path / "record.json").write_bytes(record)
    page.get_by_label("What happens").fill("something else")
    page.locator(".part-scene input[type=file]").set_input_files(tmp_path / "record.json")
    expect(page.get_by_label("What happens")).to_have_value("Mara and Bo waving")
    (tmp_path / "bad.json").write_text("{}")
    page.locator(".part-scene input[type=file]").set_input_files(tmp_path / "bad.json")
    expect(page.locator("[data-field=record] .error")).to_contain_text("bad.json")


def test_somebody_is_moved_by_keys_and_drawn_again(visit: Callable[..., Page], studio: Studio):
    page = visit("Scene")
    draw(page, "Mara and Bo waving")
    page.locator(".gallery .picture").first.click()
    page.get_by_role("button", name="Place", exact=True).last.click()
    box = page.locator(".box")
    box.focus()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Take this place").click()
    page.get_by_role("button", name="Draw again with these places").click()
    expect(page.locator(".gallery .picture")).to_have_count(2)
    records = sorted(studio.settings.out.glob("*/pictures/*.json"), key=os.path.getmtime)
    [bo] = [one for one in json.loads(records[-1].read_text())["subjects"] if one["name"] == "Bo"]
    assert bo["region"][0] == 0
    page.locator(".gallery .picture").first.click()
    share = {name: page.locator(".viewer .present li", has_text=name).inner_text() for name in ("Mara", "Bo")}
    name = max(share, key=lambda one: int(re.findall(r"(\d+) %", share[one])[0]))
    page.get_by_role("button", name=f"Only redraw {name}").click()
    expect(page.locator(".gallery .picture")).to_have_count(3)
    expect(page.locator(".gallery .picture").first).to_contain_text(f"{name} drawn again")


def test_a_painted_place(visit: Callable[..., Page], studio: Studio):
    page = visit("Scene")
    page.get_by_label("What happens").fill("Mara waving")
    page.get_by_role("button", name="Choose a place").click()
    page.get_by_role("radio", name="Paint").check()
    page.get_by_role("button", name="Take this place").click()
    expect(page.get_by_role("dialog").locator(".error")).to_contain_text("Nothing is painted yet")
    page.get_by_role("dialog").locator("canvas").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Take this place").click()
    expect(page.get_by_role("button", name="Has a place")).to_be_visible()
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".gallery .picture")).to_have_count(1)


def test_previews_a_reload_in_the_middle_another_browser_and_cancelling(visit: Callable[..., Page], hold: Hold):
    page, other = visit("Scene"), visit("Scene")
    hold.after(2)
    draw(page, "Mara waving", Steps="5")
    expect(page.locator(".live img")).to_have_attribute("src", re.compile("^data:image/png"))
    expect(page.locator(".job-line")).to_contain_text("left")
    page.reload()
    scene = part(page, "Scene")
    expect(page.get_by_label("What happens")).to_have_value("Mara waving")
    expect(scene.locator(".job-line")).to_contain_text("Step 2 of 5")
    expect(other.get_by_label("What happens")).to_have_value("")
    assert not other.locator(".job").first.is_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(scene.locator(".job-line")).to_contain_text("Cancelled")
    expect(page.locator(".gallery .picture")).to_have_count(0)


def test_a_crash_is_a_sentence_and_the_page_lives_on(visit: Callable[..., Page], studio: Studio, hold: Hold):
    page = visit("Scene")
    hold.after(2)
    draw(page, "Mara waving", Steps="5")
    expect(page.locator(".live img")).to_have_attribute("src", re.compile("^data:image/png"))
    os.kill(studio.worker.pid, signal.SIGKILL)
    expect(page.locator(".part-scene .job-line")).to_contain_text("ended unexpectedly")
    hold.let_go()
    draw(page, "Mara waving", Steps="2")
    expect(page.locator(".gallery .picture")).to_have_count(1)


def test_a_story_from_its_first_panel_to_the_book(visit: Callable[..., Page]):
    page = visit("Story")
    page.get_by_role("button", name="An empty story").click()
    page.get_by_label("Title").fill("Two friends")
    page.get_by_label("Add a character …").select_option("Mara")
    page.get_by_label("Add a character …").select_option("Bo")
    page.get_by_label("Words for a new place").fill("on a beach")
    page.get_by_role("button", name="Add", exact=True).click()
    first = page.locator(".panel-card").first
    first.get_by_label("What is seen").fill("{zoe} waving")
    expect(first.locator(".problems")).to_contain_text("zoe")
    first.get_by_label("What is seen").fill("Mara waving")
    expect(first.locator(".problems li")).to_have_count(0)
    first.get_by_label("Narration").fill("One morning")
    first.get_by_role("button", name="Add a line").click()
    first.get_by_label("Text of line 1").fill("Hello!")
    page.get_by_role("button", name="Add a panel").click()
    page.locator(".panel-card").nth(1).get_by_label("What is seen").fill("Mara and Bo standing")
    page.get_by_role("button", name="Draw what is missing").click()
    expect(page.locator(".panel-picture img")).to_have_count(2)
    expect(page.locator(".drawn-line")).to_have_text("2 of 2 panels drawn")
    first.get_by_role("button", name="Draw again").click()
    expect(first.locator(".strip button")).to_have_count(2)
    first.get_by_role("button", name="Show drawing 1").click()
    expect(first.get_by_role("button", name="Show drawing 1")).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button", name="Move panel 1 down").click()
    expect(page.locator(".panel-card").nth(1).get_by_label("What is seen")).to_have_value("Mara waving")
    expect(page.locator(".panel-picture img")).to_have_count(2)
    page.reload()
    part(page, "Story")
    expect(page.locator(".panel-card").nth(1).get_by_label("Text of line 1")).to_have_value("Hello!")
    page.get_by_role("button", name="Read").click()
    expect(page.locator(".reader .page")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".reader .hint")).to_contain_text("Page 2")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("dialog").get_by_role("button", name="Export").click()
    assert saved(page, page.get_by_role("link", name="Save book.pdf")).startswith(b"%PDF")


def test_a_picture_and_references_become_masks(visit: Callable[..., Page], tmp_path: Path):
    page = visit("Segment")
    segment = page.locator(".part-segment")
    find = segment.get_by_role("button", name="Find them")
    picture, error = (segment.locator(f"[data-field=picture] {what}") for what in ("input", ".error"))
    find.click()
    expect(error).to_have_text("Give the picture to look at first.")
    (tmp_path / "bad.png").write_text("no picture")
    picture.set_input_files(tmp_path / "bad.png")
    expect(error).to_contain_text("'bad.png' is not a picture")
    scene = Image.new("RGB", (96, 64), "white")
    for place, name in enumerate(("fox", "robot")):
        with Image.open(DEMO / f"{name}.png") as one:
            scene.paste(one.convert("RGB").resize((48, 64)), (48 * place, 0))
    scene.save(tmp_path / "two friends.png")
    picture.set_input_files(tmp_path / "two friends.png")
    expect(segment.get_by_alt_text("The picture to look at")).to_be_visible()
    segment.get_by_role("button", name="Look for Mara").click()
    segment.locator("[data-field=references] input").set_input_files(DEMO / "robot.png")
    segment.get_by_label("Name of reference 2").fill("Mara")
    find.click()
    expect(segment.locator("[data-field=references] .error")).to_contain_text("Two are called Mara")
    segment.get_by_label("Name of reference 2").fill("the robot")
    find.click()
    found = segment.locator(".found .present li")
    expect(found).to_have_count(2)
    for place, name in enumerate(("Mara", "the robot")):
        expect(found.nth(place)).to_contain_text(re.compile(f"{name}.*(% of the picture|not in the picture)", re.S))
    assert segment.locator(".found .over").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    page.reload()
    part(page, "Segment")
    expect(found).to_have_count(2)
    expect(segment.get_by_label("Name of reference 2")).to_have_value("the robot")
    with zipfile.ZipFile(io.BytesIO(saved(page, segment.get_by_role("link", name="Everything")))) as archive:
        [mask] = [name for name in archive.namelist() if name.endswith("2-the_robot-mask.png")]
        with archive.open(mask) as file, Image.open(file) as image:
            assert image.size == (96, 64)


def test_a_search_shows_its_looks_is_cancelled_between_them_and_begun_again(visit: Callable[..., Page], hold: Hold):
    page = visit("Masken", "de")
    segment = page.locator(".part-segment")
    segment.locator("[data-field=picture] input").set_input_files(DEMO / "fox.png")
    segment.get_by_role("button", name="Mara suchen").click()
    hold.after(1)
    segment.get_by_role("button", name="Suchen", exact=True).click()
    line, cancel = segment.locator(".job-line"), segment.get_by_role("button", name="Abbrechen")
    expect(line).to_have_text("Sieht das Bild an: 1 von 2")
    page.reload()
    part(page, "Masken", "de")
    expect(line).to_have_text("Sieht das Bild an: 1 von 2")
    expect(segment.get_by_role("progressbar")).to_have_js_property("value", 0.5)
    cancel.click()
    expect(line).to_contain_text("Abgebrochen")
    expect(cancel).to_be_hidden()
    expect(segment.locator(".found .present li")).to_have_count(0)
    hold.let_go()
    segment.get_by_role("button", name="Suchen", exact=True).click()
    expect(segment.locator(".found .present li")).to_have_count(1)
    expect(line).to_be_hidden()


def test_models_are_chosen_and_errors_stand_beside_their_field(visit: Callable[..., Page], studio: Studio):
    page = visit("Models")
    page.get_by_label("Model", exact=True).fill("no-such-model")
    page.get_by_role("button", name="Use from now on").click()
    expect(page.locator("[data-field=model] .error")).to_contain_text("no-such-model")
    page.get_by_label("Model", exact=True).fill(studio.settings.options.model)
    page.get_by_label("Threads").fill("1")
    page.get_by_role("button", name="Use from now on").click()
    expect(page.get_by_role("status").filter(has_text="draws from now on")).to_be_visible()


def test_german_dark_and_on_a_phone(visit: Callable[..., Page]):
    page = visit("Figuren", "de", viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert page.evaluate("document.documentElement.lang") == "de"
    assert page.evaluate("document.body.classList.contains('dark')")
    for tab in NAMES:
        part(page, tab, "de")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    page.get_by_role("link", name="English").click()
    page.locator(".part-top[data-ready]").wait_for()
    assert page.get_by_role("tab", name="Scene").is_visible()


AXE = os.environ.get("ANYSTORY_AXE", "")


@pytest.mark.skipif(not os.path.isfile(AXE), reason="needs axe-core: ANYSTORY_AXE=…/axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Callable[..., Page], hold: Hold, scheme: str):
    page = visit("Scene", color_scheme=scheme)
    draw(page, "Mara and Bo waving")
    expect(page.locator(".gallery .picture")).to_have_count(1)
    _look(page, "scene")
    page.locator(".gallery .picture").first.click()
    _look(page, "viewer")
    page.get_by_role("button", name="Place", exact=True).first.click()
    _look(page, "place")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    part(page, "Cast")
    _look(page, "cast")
    page.get_by_role("button", name="Create a character").click()
    page.locator(".creator").wait_for()
    _look(page, "creator")
    page.keyboard.press("Escape")
    page.locator(".part-cast").get_by_role("button", name="Mara").click()
    page.locator(".character").wait_for()
    _look(page, "character")
    page.keyboard.press("Escape")
    part(page, "Models")
    _look(page, "models")
    segment = part(page, "Segment")
    _look(page, "segment, empty")
    find = segment.get_by_role("button", name="Find them")
    find.click()
    expect(segment.locator("[data-field=picture] .error")).to_be_visible()
    _look(page, "segment, an error")
    segment.locator("[data-field=picture] input").set_input_files(DEMO / "fox.png")
    expect(segment.get_by_alt_text("The picture to look at")).to_be_visible()
    segment.get_by_role("button", name="Look for Mara").click()
    segment.locator("[data-field=references] input").set_input_files(DEMO / "robot.png")
    expect(segment.get_by_label("Name of reference 2")).to_be_visible()
    hold.after(1)
    find.click()
    expect(segment.locator(".job-line")).to_contain_text("1 of 2")
    _look(page, "segment, while it looks")
    hold.let_go()
    expect(segment.locator(".found .present li")).to_have_count(2)
    _look(page, "segment, found")
    part(page, "Story")
    _look(page, "beginning")
    page.get_by_role("button", name="An example").click()
    page.locator(".panel-card").first.wait_for()
    _look(page, "story")


def _look(page: Page, where: str) -> None:
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    told = [f"{one['id']}: {node['html'][:200]} ({node['failureSummary']})" for one in bad for node in one["nodes"][:3]]
    assert not told, f"{where}:\n" + "\n".join(told)
