"""Libraries of the `data` extra, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["need"]


def need(module: str, what: str) -> Any:
    """Import a module of the `data` extra.

    Raises:
        ValueError: it is not installed; the message says how to get it.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ValueError(f"{what} needs {package}, which is not installed: pip install 'anystory[data]'") from None
