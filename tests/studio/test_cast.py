"""The library through the page: pictures given, cut out and corrected; words, variants, zips; the creator."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library
from anystory.storyworld.identity import Identity
from anystory.studio.tabs.creator import attributes, chosen_from, identity_from
from studio.conftest import DEMO, Browser


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    """A mask as the brush gives it."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def names(told: dict) -> list[str]:
    return [one["name"] for one in told["characters"]]


def test_a_picture_is_given_cut_out_and_added(browser: Browser, library: Library):
    key = browser.give(DEMO / "bear.png")
    told = browser.ask("cast.cut", upload=key)
    assert told["method"] == "alpha"
    assert not told["uncertain"]
    for layer, mode in (("picture", "RGB"), ("matte", "L")):
        data = browser.get(f"/files/cutout/{layer}?upload={key}").content
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == mode
    told = browser.ask("cast.add", upload=key, name="Otto", description="a bear")
    assert told["added"] == "Otto"
    assert names(told) == ["Bo", "Mara", "Otto"]
    assert library["Otto"].description == "a bear"
    [otto] = [one for one in told["characters"] if one["name"] == "Otto"]
    picture = browser.get(f"/files/cast/{otto['folder']}/{otto['photos'][0]['cutout']}")
    assert picture.content.startswith(b"\x89PNG")


def test_what_the_brush_painted_is_the_cutout(browser: Browser, library: Library, tmp_path: Path):
    Image.new("RGB", (200, 100), "white").save(tmp_path / "plain.png")
    key = browser.give(tmp_path / "plain.png")
    assert browser.ask("cast.cut", upload=key)["uncertain"]
    mask = browser.ask("mask", image=painted((400, 200), (100, 50, 200, 150)))["upload"]  # the brush's size is its own
    browser.ask("cast.add", upload=key, name="Box", mask=mask)
    with Image.open(library["Box"].cutouts()[0]) as cutout:
        assert cutout.size == pytest.approx((52, 52), abs=3)


def test_a_cutout_is_corrected_in_its_place(browser: Browser, library: Library):
    with Image.open(DEMO / "fox.png") as picture:
        size = picture.size
    mask = browser.ask("mask", image=painted(size, (0, 0, size[0], size[1] // 2)))["upload"]
    told = browser.ask("cast.photo", name="Mara", photo=1, mask=mask)
    [mara] = [one for one in told["characters"] if one["name"] == "Mara"]
    assert [one["found_by"] for one in mara["photos"]] == ["mask"]
    with Image.open(library["Mara"].cutouts()[0]) as cutout:
        assert cutout.height <= size[1] // 2 + 4
    again = browser.ask("cast.cut", name="Mara", photo=1)
    assert again["method"] == "mask"


@pytest.mark.parametrize(("image", "status"), [("data:image/png;base64,AAAA", 422), ("nothing", 422)])
def test_a_mask_that_is_no_picture_is_refused(browser: Browser, image: str, status: int):
    assert "paint" in browser.ask("mask", status=status, image=image)["message"]


def test_an_empty_mask_is_refused_beside_the_picture(browser: Browser):
    told = browser.ask("mask", status=422, image=painted((8, 8), (0, 0, 0, 0)))
    assert told["field"] == "photo"
    assert told["message"].startswith("Nothing is painted yet")


def test_bad_pictures_are_sentences_beside_the_picture(browser: Browser, tmp_path: Path):
    (tmp_path / "text.png").write_text("not a picture")
    key = browser.give(tmp_path / "text.png")
    told = browser.ask("cast.cut", status=422, upload=key)
    assert told["field"] == "photo"
    assert "text.png" in told["message"]
    assert "Traceback" not in told["message"]
    assert browser.ask("cast.add", status=422, upload="gone", name="X")["message"].startswith("the file is not here")


def test_names_that_are_taken_or_cannot_be_stand_beside_the_name(browser: Browser):
    key = browser.give(DEMO / "bear.png")
    for name, said in (("mara", "taken"), ("", "empty"), ("a@b", "@"), ("12", "number")):
        told = browser.ask("cast.add", status=422, upload=key, name=name)
        assert (told["field"], said in told["message"]) == ("name", True), told


def test_words_aliases_variants_photos_and_removal(browser: Browser, library: Library):
    told = browser.ask("cast.edit", name="Mara", new_name="Mia", description="a vixen", aliases=["Marie", "Red"])
    assert told["name"] == "Mia"
    assert library["red"].description == "a vixen"
    browser.ask("cast.add", upload=browser.give(DEMO / "robot.png"), name="steel", variant_of="Mia")
    browser.ask("cast.photo", name="Mia", upload=browser.give(DEMO / "bear.png"))
    assert len(library["Mia"].photos) == 2
    browser.ask("cast.drop_photo", name="Mia", photo=1)
    last = browser.ask("cast.drop_photo", status=422, name="Mia", photo=1)
    assert last["field"] == "photo"
    browser.ask("cast.remove", name="Mia", variant="steel")
    assert [one.name for one in library["Mia"].variants] == ["winter"]
    assert names(browser.ask("cast.remove", name="Mia")) == ["Bo"]


def test_a_character_travels_as_a_zip(browser: Browser, library: Library, tmp_path: Path):
    answer = browser.get("/files/character/Mara")
    assert "mara.zip" in answer.headers["content-disposition"]
    (tmp_path / "mara.zip").write_bytes(answer.content)
    key = browser.give(tmp_path / "mara.zip")
    taken = browser.ask("cast.import", status=422, upload=key)
    assert taken["field"] == "import"
    assert str(tmp_path) not in taken["message"].replace(str(library.folder), "")
    library.remove("Mara")
    assert browser.ask("cast.import", upload=key)["added"] == "Mara"


def test_nothing_but_the_librarys_own_files_is_shown(browser: Browser, library: Library):
    folder = library["Mara"].folder.name
    for path in (f"{folder}/character.json", f"{folder}/../bo/character.json", "..%2F..%2Fetc/passwd"):
        assert browser.get(f"/files/cast/{path}").status_code == 404


def test_the_dice_gives_what_can_be_chosen_and_drawn(browser: Browser):
    told = browser.ask("creator")
    for _ in range(20):
        chosen = browser.ask("creator.dice", all=True)["chosen"]
        assert chosen_from(identity_from(chosen)) == chosen
    assert set(told["chosen"]) == set(told["attributes"])
    for name, entry in attributes().items():
        assert set(entry["seen"]) <= set(entry["values"]), name


def test_what_is_not_worn_has_no_colour_and_only_a_child_has_a_skin():
    chosen = chosen_from(Identity(kind="fox", primary="blue", secondary="white", accent="red"))
    told = identity_from({**chosen, "headwear_colour": "red", "complexion": "dark"})
    assert (told.headwear_colour, told.complexion) == ("", "")
    child = identity_from({**chosen, "kind": "child", "headwear": "cap", "headwear_colour": "", "complexion": ""})
    assert child.complexion
    assert child.headwear_colour


def test_a_created_character_is_what_was_shown(browser: Browser, library: Library):
    chosen = browser.ask("creator")["chosen"]
    shown = browser.get("/files/portrait.png", params=chosen).content
    assert browser.ask("creator.add", name="Pim", chosen=chosen)["added"] == "Pim"
    with Image.open(io.BytesIO(shown)) as portrait, Image.open(library["Pim"].originals()[0]) as kept:
        assert np.array_equal(np.asarray(portrait), np.asarray(kept))
    assert library["Pim"].description.split()[-1] == chosen["kind"]
    assert browser.ask("creator.add", status=422, name="Pim", chosen=chosen)["field"] == "name"
