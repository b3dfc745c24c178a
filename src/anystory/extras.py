"""Optional dependencies, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["need"]


def need(module: str, what: str, extra: str = "data") -> Any:
    """Import a module of an extra.

    Args:
        module: Its full name.
        what: What needs it, for the message.
        extra: The extra's name.

    Raises:
        ValueError: it is not installed; the message says how to get it.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ValueError(f"{what} needs {package}, which is not installed: pip install 'anystory[{extra}]'") from None
