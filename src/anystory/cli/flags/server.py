"""The options about a server. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.engine.options import ModelOptions

if TYPE_CHECKING:
    from anystory.serving.settings import ServerSettings
    from anystory.serving.work.worker import DrawingWorker

__all__ = ["ServerFlags"]


@dataclass(frozen=True, kw_only=True)
class ServerFlags:
    """What a server keeps, takes and does to pictures."""

    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder for jobs, uploads, characters and results.")] = Path(
        "anystory-server"
    )
    devices: Annotated[
        str | None, typer.Option(metavar="D,…", help="A worker for each: cuda:0,cuda:1. By default --device.")
    ] = None
    ray: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Draw with so many replicas on a Ray cluster instead of processes here."),
    ] = None
    batch: Annotated[
        int, typer.Option(min=1, max=64, help="Pictures that are drawn in one call, where requests are alike.")
    ] = 4
    queue: Annotated[int, typer.Option(min=1, max=100_000, help="Jobs that may wait or run at the same time.")] = 100
    keep_hours: Annotated[float, typer.Option(min=0.01, help="Hours for which results and uploads are kept.")] = 24
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds that running jobs have to end when the server is stopped.")
    ] = 60
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="Most sampling steps of a request.")] = 100
    max_pixels: Annotated[int, typer.Option(min=64, help="Most pixels of a picture that is drawn.")] = 2048 * 2048
    max_pictures: Annotated[int, typer.Option(min=1, max=1000, help="Most pictures of a request.")] = 10
    safety_checker: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a diffusers safety checker, which withholds pictures; by default none."),
    ] = None
    watermark: Annotated[
        bool, typer.Option("--watermark/--no-watermark", help="Write an invisible watermark into each picture.")
    ] = False

    def settings(self, model: ModelOptions, metadata: bool) -> ServerSettings:
        """What they say, for a model."""
        from anystory.serving.settings import Bounds, ServerSettings

        named = tuple(name.strip() for name in (self.devices or "").split(",") if name.strip())
        same = ("data", "batch", "queue", "keep_hours", "drain_seconds", "safety_checker", "watermark")
        return ServerSettings(
            **{name: getattr(self, name) for name in same},
            model=model,
            devices=named or (model.device,),
            bounds=Bounds(steps=self.max_steps, pixels=self.max_pixels, pictures=self.max_pictures),
            metadata=metadata,
        )

    def workers(self, settings: ServerSettings) -> list[DrawingWorker]:
        """What draws: a process for each device, or replicas on a Ray cluster."""
        from anystory.serving.run import local_workers, worker_setup

        if self.ray is None:
            return local_workers(settings)
        from anystory.serving.work.ray_worker import ray_workers

        on_gpu = settings.devices[0].startswith("cuda")
        return ray_workers(worker_setup(settings, settings.devices[0]), self.ray, gpus=1 if on_gpu else 0)
