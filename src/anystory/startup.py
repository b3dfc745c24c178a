"""Starting quickly: Python's garbage collector waits while libraries are imported and a model is loaded.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

__all__ = ["collections_paused", "import_libraries", "use_threads"]


@contextmanager
def collections_paused(*, keep_all: bool = False) -> Iterator[None]:
    """Let the garbage collector wait while the block runs.

    torch, diffusers and transformers make more than a million objects as they are imported, all of which stay. The
    collector goes through them again and again and finds nothing: a quarter of the time. When the block ends they count
    as old, which the collector looks at rarely.

    Args:
        keep_all: What is there when the block ends is never looked at again (`gc.freeze`). For a program that has just
            started; not for a library, whose user may have made objects before that should be freed one day.
    """
    if not gc.isenabled():  # somebody's wish, or a block around this one
        yield
        return
    gc.disable()
    try:
        yield
        if keep_all or gc.get_freeze_count() == 0:
            gc.freeze()
            if not keep_all:
                gc.unfreeze()  # into the oldest generation, without being gone through
    finally:
        gc.enable()


def import_libraries(modules: Sequence[str] = ()) -> None:
    """Import transformers and diffusers for a program: only what a user can act on is printed, and no bar but ours.

    Args:
        modules: What else is imported now, while the garbage collector waits.
    """
    from anystory.quiet import hush_libraries

    with collections_paused(keep_all="diffusers" not in sys.modules):
        hush_libraries()
        for module in modules:
            import_module(module)


def use_threads(count: int) -> None:
    """Let torch compute with this many threads; 0 leaves it torch's own choice."""
    import torch

    if count:
        torch.set_num_threads(count)
