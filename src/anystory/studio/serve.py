"""The studio run on this machine. Gradio and what it needs are imported when that begins."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable

from anystory.extras import need
from anystory.studio.settings import StudioSettings

__all__ = ["free_port", "serve"]

HOST = "127.0.0.1"
_TRIES = 20


def free_port(wanted: int | None) -> int:
    """The port that is asked for, else the first free one from 7860 on.

    Raises:
        ValueError: it is taken, or all of them are.
    """
    for port in range(7860, 7860 + _TRIES) if wanted is None else [wanted]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    taken = f"port {wanted} is" if wanted is not None else f"ports 7860 to {7859 + _TRIES} are"
    raise ValueError(f"{taken} taken by another program: name a free one with --port")


def serve(
    settings: StudioSettings,
    port: int | None = None,
    *,
    browser: bool = False,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Run the studio until it is ended by Ctrl-C or a signal.

    Args:
        settings: See `StudioSettings`.
        port: Where; None for a free one.
        browser: Whether to open the page in the system's browser.
        on_ready: Called with the page's address when it can be opened.

    Raises:
        ValueError: the extra `studio` is not installed, or the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    need("gradio", "the studio", extra="studio")
    uvicorn = need("uvicorn", "the studio", extra="studio")
    port = free_port(port)
    from anystory.studio.app import build_app

    server = uvicorn.Server(
        uvicorn.Config(build_app(settings), host=HOST, port=port, log_level="error", timeout_graceful_shutdown=2)
    )
    url = f"http://{HOST}:{port}/"
    threading.Thread(target=_tell, args=(server, url, browser, on_ready), daemon=True).start()
    server.run()


def _tell(server: object, url: str, browser: bool, on_ready: Callable[[str], None]) -> None:
    """Say that the page is there as soon as it is."""
    while not getattr(server, "started", False):
        threading.Event().wait(0.05)
    on_ready(url)
    if browser:
        webbrowser.open(url)
