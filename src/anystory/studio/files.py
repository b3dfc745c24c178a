"""The files that the page shows and gives away: each by a name of its own, none by a path."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from anystory.studio.session import Session
from anystory.studio.tabs import cast, creator, gallery, segment, story
from anystory.studio.texts import sentence
from anystory.studio.worker.maps import tint

__all__ = ["add_file_routes"]

_STAYS = {"cache-control": "private, max-age=3600"}


def add_file_routes(app: FastAPI) -> None:
    """Add the routes below /files."""
    _add_pictures(app)
    _add_results(app)
    _add_downloads(app)


def _add_pictures(app: FastAPI) -> None:
    """What was given, and characters."""

    @app.get("/files/cast/{folder}/{file:path}")
    def cast_file(request: Request, folder: str, file: str) -> Response:
        return _shown(lambda: cast.card_file(_session(request), folder, file).read_bytes())

    @app.get("/files/cutout/{layer}")
    def cutout(request: Request, layer: str) -> Response:
        payload = dict(request.query_params)
        return _shown(lambda: cast.cutout_layer(_session(request), payload, layer))

    @app.get("/files/upload/{key}.png")
    def upload(request: Request, key: str) -> Response:
        return _shown(lambda: segment.given_picture(_session(request), key))

    @app.get("/files/portrait.png")
    def portrait(request: Request) -> Response:
        return _shown(lambda: creator.portrait(creator.identity_from(_chosen(request.query_params))))


def _add_results(app: FastAPI) -> None:
    """What was drawn, and masks that were found."""

    @app.get("/files/picture/{stem}.png")
    def picture(request: Request, stem: str) -> Response:
        return _shown(lambda: _session(request).picture(stem).read_bytes())

    @app.get("/files/maps/{stem}.png")
    def maps(
        request: Request, stem: str, step: int = 0, layer: int = -1, refined: int = 1, shown: str = ""
    ) -> Response:
        return _shown(lambda: _tinted(_session(request), stem, step, layer, refined, shown))

    @app.get("/files/panel/{key}/{number}.png")
    def panel(request: Request, key: str, number: int) -> Response:
        return _shown(lambda: story.panel_picture(_session(request), key, number).read_bytes())

    @app.get("/files/page/{name}")
    def page(request: Request, name: str) -> Response:
        return _shown(lambda: story.page_file(_session(request), name).read_bytes())

    @app.get("/files/segment/{folder}/picture.png")
    def segmented(request: Request, folder: str) -> Response:
        return _shown(lambda: segment.base_picture(_session(request), folder))

    @app.get("/files/segment/{folder}/overlay.png")
    def overlay(request: Request, folder: str, shown: str = "") -> Response:
        return _shown(lambda: segment.overlay(_session(request), folder, _numbers(shown)))


def _add_downloads(app: FastAPI) -> None:
    """What is to be saved."""

    @app.get("/files/segment/{folder}/masks/{number}")
    def mask(request: Request, folder: str, number: int) -> Response:
        return _given(lambda: segment.mask_file(_session(request), folder, number))

    @app.get("/files/segment/{folder}/all")
    def masks(request: Request, folder: str) -> Response:
        return _given(lambda: segment.whole_folder(_session(request), folder))

    @app.get("/files/download/{stem}/{what}")
    def download(request: Request, stem: str, what: str) -> Response:
        return _given(lambda: gallery.download(_session(request), stem, what))

    @app.get("/files/export/{form}")
    def export(request: Request, form: str) -> Response:
        return _given(lambda: story.exported_file(_session(request), form))

    @app.get("/files/character/{name}")
    def character(request: Request, name: str) -> Response:
        return _given(lambda: cast.exported_zip(_session(request), name))

    @app.get("/files/story.yaml")
    def story_file(request: Request) -> Response:
        return _given(lambda: ("story.yaml", _session(request).story.read_bytes()))


def _session(request: Request) -> Session:
    return request.state.session


def _chosen(query: Mapping[str, str]) -> dict[str, str]:
    return {name: query.get(name, "") for name in creator.attributes()}


def _tinted(session: Session, stem: str, step: int, layer: int, refined: int, shown: str) -> bytes:
    """Routing maps in the subjects' colours; `shown` is "0,2" for the first and the third."""
    found = gallery.maps_of(session, stem)
    if found is None:
        raise ValueError("this picture has no routing maps: it shows nobody")
    probabilities = found.probabilities(step, None if layer < 0 else layer, refined=bool(refined))
    return tint(probabilities, session.entry(stem).colours, _numbers(shown))


def _numbers(text: str) -> list[int] | None:
    """ "0,2" as numbers; None for no text."""
    return None if not text else [int(one) for one in text.split(",") if one.isdecimal()]


def _shown(read: Callable[[], bytes]) -> Response:
    """A picture, or why it cannot be shown."""
    try:
        return Response(read(), media_type="image/png", headers=_STAYS)
    except (ValueError, OSError, KeyError) as error:
        return JSONResponse({"message": sentence(error, "en")[0] or str(error)}, status_code=404)


def _given(read: Callable[[], tuple[str, bytes]]) -> Response:
    """A file to be saved, or why there is none."""
    try:
        name, data = read()
    except (ValueError, OSError, KeyError) as error:
        return JSONResponse({"message": sentence(error, "en")[0] or str(error)}, status_code=404)
    kind = mimetypes.guess_type(Path(name).name)[0] or "application/octet-stream"
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(data, media_type=kind, headers=headers)
