"""Screenshots of the studio for docs/studio.md: every tab by day; all of them by night, and on a phone, on a page.

    .venv/bin/python scripts/studio_pictures.py

Needs the extra `browser` and a Chromium of the system. It starts a studio of its own in a temporary folder, fills it by
the page itself, and writes docs/images/studio-*.jpg: some three minutes of one quiet core.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from anystory.cast import Library
from anystory.studio.serve import free_port
from anystory.studio.tabs.creator import identity_from, portrait

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PATIENCE = 600_000
"""Milliseconds."""

TABS = ("cast", "scene", "story", "segment", "models")
PLAIN = {"accent": "red", "pattern": "plain", "emblem": "none", "headwear": "none", "neckwear": "none"}
PLAIN |= {"accessory": "none", "head": "1.0", "width": "1.0", "legs": "1.0"}
CAST = {
    "Mara": "kind=fox primary=orange secondary=white neckwear=scarf neckwear_colour=blue",
    "Bo": "kind=robot primary=blue secondary=yellow pattern=stripes emblem=star",
    "Hopkins": "kind=rabbit primary=white secondary=pink headwear=bow headwear_colour=purple",
    "Fern": "kind=frog primary=green secondary=white pattern=belly headwear=crown headwear_colour=yellow",
    "Captain Snow": "kind=penguin primary=purple secondary=white pattern=belly headwear=beanie headwear_colour=red",
    "Otto": "kind=bear primary=red secondary=yellow pattern=spots accessory=glasses accessory_colour=blue",
}
"""Name: what differs from `PLAIN`."""
SCENES = (
    ("Mara and Bo waving on a beach at dusk", 10),
    ("Hopkins and Fern standing in a forest", 3),
    ("Captain Snow walking in the snow at night", 7),
)


def fill_cast(folder: Path) -> None:
    """Characters whose pictures are drawn."""
    library = Library(folder)
    for name, text in CAST.items():
        chosen = dict(part.split("=") for part in text.split())
        path = folder.parent / f"{name}.png"
        path.write_bytes(portrait(identity_from({**PLAIN, **chosen})))
        library.add(name, [path], description=f"a {chosen['kind']}")
    winter = {**PLAIN, "kind": "fox", "primary": "white", "secondary": "orange", "headwear": "beanie"}
    path = folder.parent / "winter.png"
    path.write_bytes(portrait(identity_from({**winter, "headwear_colour": "blue"})))
    library.add_variant("Mara", "winter", [path], description="a white fox")


def opened(browser: Browser, url: str, language: str = "en", state: Any = None, **more: Any) -> Page:
    """The page in a browser that has the work of another one."""
    context = browser.new_context(device_scale_factor=1, reduced_motion="reduce", storage_state=state, **more)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}/{language}/")
    page.locator(".part-top[data-ready]").wait_for()
    page.locator(".part-cast[data-ready]").wait_for(state="attached")  # another tab may be open
    return page


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab").nth(TABS.index(name)).click()
    page.locator(f".part-{name}[data-ready]").wait_for()
    page.wait_for_timeout(1500)


def shot(page: Page, name: str) -> None:
    """Write a screenshot."""
    path = IMAGES / f"studio-{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=86)
    print(path, flush=True)


def sheet(shots: list[bytes], name: str, columns: int, width: int) -> None:
    """Write screenshots of one size side by side, each `width` pixels wide."""
    found = [Image.open(io.BytesIO(shot)) for shot in shots]
    height = round(found[0].height * width / found[0].width)
    gap, rows = 16, -(-len(found) // columns)
    page = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, picture in enumerate(found):
        place = (number % columns * (width + gap), number // columns * (height + gap))
        page.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), place)
    path = IMAGES / f"studio-{name}.jpg"
    page.save(path, quality=86)
    print(path, flush=True)


def draw_scenes(page: Page) -> None:
    """Fill the gallery, with a look at the first picture while it is drawn."""
    tab(page, "scene")
    settings = page.locator(".composer details summary")
    settings.click()
    for number, (prompt, seed) in enumerate(SCENES, start=1):
        page.get_by_label("What happens").fill(prompt)
        page.get_by_label("Seed").fill(str(seed))
        if number == len(SCENES):
            settings.click()
        page.get_by_role("button", name="Draw", exact=True).click()
        if number == len(SCENES):
            page.locator(".live img[src^=data]").wait_for()
            page.get_by_text(re.compile(r"Step [6-9] of")).wait_for()
            page.evaluate("window.scrollTo(0, 0)")
            shot(page, "drawing")
        page.locator(".gallery .picture").nth(number - 1).wait_for()


def day(page: Page, pictures: Path) -> None:
    """All tabs and dialogs by day; `pictures` is where the studio keeps what it draws."""
    shot(page, "cast")
    page.get_by_role("button", name="Create a character").click()
    page.locator(".creator").wait_for()
    page.wait_for_timeout(1000)
    shot(page, "creator")
    page.keyboard.press("Escape")
    draw_scenes(page)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(800)
    shot(page, "scene")
    page.locator(".gallery .picture").last.click()
    see_maps(page)
    shot(page, "maps")
    page.get_by_role("button", name="Place", exact=True).first.click()
    page.locator(".box").wait_for()
    page.wait_for_timeout(500)
    shot(page, "place")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    tell_story(page)
    find_masks(page, pictures)
    tab(page, "models")
    shot(page, "models")


def tell_story(page: Page) -> None:
    """The example, drawn, and its book."""
    tab(page, "story")
    page.get_by_role("button", name="An example").click()
    page.locator(".panel-card").first.wait_for()
    page.get_by_role("button", name="Draw what is missing").click()
    page.locator(".panel-picture img").nth(2).wait_for()
    page.wait_for_timeout(1500)
    page.evaluate("document.querySelector('.panels').scrollIntoView()")
    shot(page, "story")
    page.get_by_role("button", name="Read").click()
    page.locator(".reader .page").wait_for()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1500)
    shot(page, "reader")
    page.keyboard.press("Escape")


def see_maps(page: Page) -> None:
    """Wait for the tints over the opened picture."""
    page.wait_for_function("document.querySelector('.viewer .over')?.naturalWidth > 0")
    page.wait_for_timeout(500)


def find_masks(page: Page, pictures: Path) -> None:
    """The first scene's picture, looked at for those who are in it and for somebody who is not."""
    tab(page, "segment")
    part = page.locator(".part-segment")
    [first] = pictures.glob("*/pictures/0001.png")
    part.locator("[data-field=picture] input").set_input_files(first)
    part.locator(".given img").wait_for()
    for name in ("Mara", "Bo", "Otto"):
        part.get_by_role("button", name=f"Look for {name}").click()
    part.get_by_role("button", name="Find them").click()
    part.locator(".found .over").wait_for()
    page.wait_for_function("document.querySelector('.found .over')?.naturalWidth > 0")
    page.mouse.move(5, 5)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "studio-segment.jpg", type="jpeg", quality=86, full_page=True)


def others(browser: Browser, url: str, state: Any) -> None:
    """The same work by night, in German, and on a phone."""
    page = opened(browser, url, "de", state, viewport={"width": 1240, "height": 900}, color_scheme="dark")
    phone = opened(browser, url, "en", state, viewport={"width": 390, "height": 844}, has_touch=True)
    shots: dict[Page, list[bytes]] = {page: [], phone: []}
    for here, found in shots.items():
        for name in TABS:
            tab(here, name)
            found.append(here.screenshot())
    tab(page, "scene")
    page.locator(".gallery .picture").last.click()
    see_maps(page)
    sheet([*shots[page], page.screenshot()], "dark", columns=2, width=900)
    sheet(shots[phone], "phone", columns=5, width=390)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill_cast(home / "cast")
        port = free_port(None)
        command = [sys.executable, "-m", "anystory", "studio", "--no-browser", "--port", str(port)]
        command += ["--out", str(home / "studio"), "--library", str(home / "cast")]
        studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert studio.stdout is not None
            while "is open" not in studio.stdout.readline():
                pass
            with sync_playwright() as playwright:
                flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                browser = playwright.chromium.launch(executable_path=given.chromium, headless=True, args=flags)
                page = opened(browser, f"http://127.0.0.1:{port}", viewport={"width": 1240, "height": 900})
                day(page, home / "studio")
                others(browser, f"http://127.0.0.1:{port}", page.context.storage_state())
        finally:
            studio.terminate()
            studio.wait(timeout=30)


if __name__ == "__main__":
    main()
