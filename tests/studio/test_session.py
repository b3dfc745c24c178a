"""What a browser has is kept for it alone, and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.studio.session import PictureEntry, SceneDraft, Sessions
from anystory.studio.settings import StudioSettings


def test_a_token_finds_its_session_again_after_a_restart(settings: StudioSettings):
    token, session = Sessions(settings).get(None)
    session.state.scene = SceneDraft(prompt="a fox")
    session.save()
    again, found = Sessions(settings).get(token)
    assert (again, found.state.scene.prompt) == (token, "a fox")


def test_two_browsers_have_nothing_in_common(settings: StudioSettings):
    sessions = Sessions(settings)
    (one, first), (other, second) = sessions.get(None), sessions.get(None)
    assert one != other
    assert first.folder != second.folder
    assert sessions.get(one)[1] is first


@pytest.mark.parametrize("token", ["", "short", "../../etc", "A" * 43, "x" * 10_000])
def test_a_token_that_nobody_gave_out_opens_nothing(settings: StudioSettings, token: str):
    given, session = Sessions(settings).get(token)
    assert given != token
    assert not session.folder.exists()


def test_a_damaged_file_is_put_aside_and_pictures_stay(settings: StudioSettings):
    token, session = Sessions(settings).get(None)
    session.save()
    (session.folder / "session.json").write_text("{")
    again, found = Sessions(settings).get(token)
    assert again == token
    assert found.state.pictures == []
    assert (session.folder / "session-damaged.json").read_text() == "{"


def test_an_upload_keeps_its_name_and_leads_nowhere_else(settings: StudioSettings, tmp_path: Path):
    _, session = Sessions(settings).get(None)
    key = session.keep_upload("../../my fox.png", b"pixels")
    assert session.upload(key).name == "my-fox.png"
    assert session.upload(key).read_bytes() == b"pixels"
    for wrong in ("", "..", "../uploads", "nobody", f"{key}/../{key}"):
        with pytest.raises(ValueError, match="not here any more"):
            session.upload(wrong)


def test_a_picture_that_is_not_in_the_gallery_has_no_path(settings: StudioSettings):
    _, session = Sessions(settings).get(None)
    entry = PictureEntry(stem="0001", seed=1, sha256="", prompt="", names=[], colours=[], draft=SceneDraft())
    session.state.pictures = [entry]
    assert session.picture("0001") == session.pictures / "0001.png"
    with pytest.raises(ValueError, match="no picture"):
        session.picture("../session")
