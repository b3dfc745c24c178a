"""`anystory serve`: pictures over HTTP, in the shape of OpenAI's Images API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.outputs import Metadata, check_out_folder
from anystory.cli.flags.server import ServerFlags
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce

__all__ = ["serve"]


@spread
def serve(
    server: ServerFlags,
    model: ModelFlags,
    host: Annotated[str, typer.Option(help="Address to listen on. Any but this machine's own needs --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file with the API keys' hashes.")] = None,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make an API key, add it to --keys, print it, and end.")
    ] = None,
    metadata: Metadata = True,
) -> None:
    """Draw pictures over HTTP, in the shape of OpenAI's Images API, with characters and stories.

    Jobs are kept on disk: what was accepted is drawn even if the server is killed and started again.
    """
    from anystory.extras import need

    for module in ("fastapi", "uvicorn", "sse_starlette", "prometheus_client", "python_multipart"):
        need(module, "the server", extra="serve")
    from anystory.serving.keys import KeyRing, add_key

    if new_key is not None:
        if keys is None:
            raise ValueError("--new-key adds to a file of keys: name it with --keys FILE")
        print(add_key(keys, new_key))
        return
    check_out_folder(server.data, "--data")
    settings = server.settings(model.options(), metadata)
    ring = KeyRing() if keys is None else KeyRing.read(keys)
    from anystory.serving.run import serve as run

    announce(f"starting with {settings.model.model}")
    run(settings, ring, host, port, server.workers(settings))
