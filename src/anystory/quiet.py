"""Messages of libraries while they are imported and while a model is loaded, held back if you cannot act on them.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["hush_libraries", "quiet_loading"]

_KEPT = ("Keyword arguments", "LOAD REPORT")
"""Parts of warnings that are never held back: an argument that is not read (a misspelt name), weights that are missing
or left over."""


class _Hushed(logging.Filter):
    """Lets errors pass, and the warnings that a user can act on."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or any(part in record.getMessage() for part in _KEPT)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hush transformers and diffusers while the block runs; their logging and bars are as before afterwards.

    Bars of downloads stay. If you have set the verbosity to "info" or "debug", messages stay, too.
    """
    undo = hush_libraries()
    try:
        yield
    finally:
        undo()


def hush_libraries() -> Callable[[], None]:
    """Hush transformers and diffusers from now on.

    Returns:
        A function that undoes it.
    """
    # diffusers imports bitsandbytes if it is installed; on a CPU that warns about what it needs for 4-bit weights. With
    # 8-bit weights it says at every layer that it computes in float16.
    names = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions")
    undo = [_hush_logger(logging.getLogger(name)) for name in names]
    # transformers first: importing diffusers already makes it warn about what is not installed.
    from transformers.utils import logging as transformers_logging

    undo.append(_hush_handlers(logging.getLogger("transformers")))
    undo.append(_hush_transformers_bars(transformers_logging))
    from diffusers.utils import logging as diffusers_logging

    undo.append(_hush_handlers(logging.getLogger("diffusers")))
    if diffusers_logging.is_progress_bar_enabled():
        diffusers_logging.disable_progress_bar()
        undo.append(diffusers_logging.enable_progress_bar)

    def restore() -> None:
        for step in reversed(undo):
            step()

    return restore


def _hush_logger(logger: logging.Logger) -> Callable[[], None]:
    hushed = _Hushed()
    logger.addFilter(hushed)
    return lambda: logger.removeFilter(hushed)


def _hush_handlers(logger: logging.Logger) -> Callable[[], None]:
    """Of a library's own handlers only: what a user has attached elsewhere gets everything."""
    if logger.level < logging.WARNING:
        return lambda: None
    hushed, handlers = _Hushed(), list(logger.handlers)
    for handler in handlers:
        handler.addFilter(hushed)

    def restore() -> None:
        for handler in handlers:
            handler.removeFilter(hushed)

    return restore


def _hush_transformers_bars(module: Any) -> Callable[[], None]:
    """transformers switches the hub's bars, of downloads, together with its own: those are put back at once."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    def without_touching_downloads(switch: Callable[[], None]) -> None:
        disabled = are_progress_bars_disabled()
        switch()
        if disabled != are_progress_bars_disabled():
            (disable_progress_bars if disabled else enable_progress_bars)()

    if not module.is_progress_bar_enabled():
        return lambda: None
    without_touching_downloads(module.disable_progress_bar)
    return lambda: without_touching_downloads(module.enable_progress_bar)
