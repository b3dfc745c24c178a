"""The libraries that a verb needs, imported without noise. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from anystory.cli.terminal.announce import announce

__all__ = ["clean_stdout", "quiet_libraries"]


@contextmanager
def clean_stdout() -> Iterator[None]:
    """Let what libraries print while the block runs go to standard error: standard output is for our results alone.

    A library that is imported meanwhile and logs to what was standard output then keeps logging to standard error.
    """
    with redirect_stdout(sys.stderr):
        yield


def quiet_libraries(threads: int = 0) -> None:
    """Say what takes seconds, then import transformers and diffusers quietly (see `import_libraries`).

    Args:
        threads: of torch's computation; 0 is its own choice.
    """
    from anystory.startup import import_libraries, use_threads

    announce("loading the libraries")
    with clean_stdout():
        import_libraries()
        use_threads(threads)
