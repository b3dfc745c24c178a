"""Characters over HTTP: kept, changed, drawn by name and id, shared as a zip."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..conftest import LiveServer, png


def add(live: LiveServer, references: Path, name: str, **given: Any) -> dict[str, Any]:
    red = live.upload((references / "red.png").read_bytes())
    answer = live.http.post("/v1/characters", json={"name": name, "uploads": [red]} | given)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.slow
def test_a_character_from_its_photos_to_a_picture(live, references):
    mara = add(live, references, "Mara", description="a red disc", aliases=["Marie"])
    assert (mara["id"], mara["name"], mara["aliases"], mara["description"]) == ("mara", "Mara", ["Marie"], "a red disc")
    [photo] = mara["photos"]
    assert (photo["found_by"], photo["confidence"]) == ("alpha", 1.0)
    assert Image.open(io.BytesIO(live.http.get(photo["url"]).content)).mode == "RGBA"
    blue = [live.upload((references / name).read_bytes()) for name in ("blue.png", "blue-mask.png")]
    variant = {"name": "winter", "uploads": blue[:1], "masks": blue[1:], "description": "a blue square"}
    looks = live.http.post("/v1/characters/marie/variants", json=variant).json()["variants"]
    assert looks["winter"]["description"] == "a blue square"
    assert live.http.get(looks["winter"]["photos"][0]["url"]).status_code == 200
    changed = live.http.patch("/v1/characters/mara", json={"name": "Anna", "drop_aliases": ["Marie"]}).json()
    assert (changed["id"], changed["name"], changed["aliases"]) == ("mara", "Anna", [])
    pictures = []
    for reference in ("mara", "@anna", "Anna", "@anna@winter"):
        body = {"prompt": "f", "seed": 1, "subjects": [{"character": reference}]}
        answer = live.http.post("/v1/images/generations", json=body).json()
        assert answer["data"][0]["subjects"] == ["Anna"]
        pictures.append(Image.open(io.BytesIO(live.http.get(f"/v1/jobs/{answer['job']}/pictures/1").content)).tobytes())
    assert pictures[0] == pictures[1] == pictures[2] != pictures[3]
    zipped = live.http.get("/v1/characters/mara/export", params={"photos": False})
    assert zipped.headers["content-type"] == "application/zip"
    sent = {"file": ("a.zip", zipped.content)}
    assert live.http.post("/v1/characters/import", files=sent).status_code == 400
    again = live.http.post("/v1/characters/import", files=sent, data={"rename": "Berta"}).json()
    assert again["variants"].keys() == {"winter"}
    assert [one["name"] for one in live.http.get("/v1/characters").json()] == ["Anna", "Berta"]
    for one in ("mara", "berta"):
        assert live.http.delete(f"/v1/characters/{one}").status_code == 204
        assert live.http.get(f"/v1/characters/{one}").status_code == 404


def test_a_job_keeps_the_pictures_of_a_character_that_is_removed(live, references):
    add(live, references, "Tom")
    body = {"prompt": "f", "subjects": [{"character": "tom"}]}
    first = live.http.post(
        "/v1/images/generations", json={"prompt": "f", "steps": 30}, headers={"Prefer": "respond-async"}
    )
    job = live.http.post("/v1/images/generations", json=body, headers={"Prefer": "respond-async"}).json()["id"]
    assert live.http.delete("/v1/characters/tom").status_code == 204
    assert live.ended(first.json()["id"])["state"] == live.ended(job)["state"] == "done"


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"name": "a/b"}, 400, "name"),
        ({"name": ".."}, 400, "name"),
        ({"name": ""}, 400, "at least 1"),
        ({"name": "X", "uploads": ["upl_0"]}, 404, "no upload 'upl_0'"),
        ({"name": "X", "uploads": []}, 400, "at least 1"),
        ({"name": "X", "masks": []}, 400, "an entry, or null, for each"),
        ({"name": "X", "segmenter": "hub/model"}, 400, "segmenter"),
        ({"name": "X", "colour": "red"}, 400, "colour"),
        ({"name": "X", "notes": "n" * 10_001}, 400, "notes"),
        ({"name": "X", "folder": "/etc"}, 400, "Extra inputs"),
    ],
)
def test_bad_characters(live, references, given, status, message):
    red = live.upload((references / "red.png").read_bytes())
    answer = live.http.post("/v1/characters", json={"uploads": [red]} | given)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text
    assert str(live.service.data.root) not in answer.text
    assert live.http.get("/v1/characters").json() == []


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), png()])
def test_bad_zips(live, content):
    answer = live.http.post("/v1/characters/import", files={"file": ("a.zip", content)})
    assert answer.status_code == 400
    assert str(live.service.data.root) not in answer.text
