"""`/healthz`, `/readyz` and `/metrics`, for whatever watches the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from anystory.serving.api.common import Caller, Served
from anystory.version import __version__

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", responses={503: {"description": "No worker is ready, or the server is about to end."}})
def readyz(service: Served) -> Response:
    """Whether it draws: a worker has loaded the model, and the server is not about to end."""
    ready = service.dispatcher.ready
    if service.draining or ready is None:
        why = "the server is about to end" if service.draining else "no worker has loaded the model yet"
        return JSONResponse({"status": "not ready", "reason": why}, status_code=503, headers={"Retry-After": "5"})
    shown: dict[str, Any] = {"status": "ready", "size_multiple": ready.size_multiple, "native_size": ready.native_size}
    return JSONResponse(shown | {"max_subjects": ready.max_subjects})


@router.get("/metrics", response_class=Response)
def metrics(service: Served, key: Caller) -> Response:
    """Numbers for Prometheus; with keys, any key may read them."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
