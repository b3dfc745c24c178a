"""What every refusal has in common: one line, no traceback, and nothing on the disk that was not there before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from anystory.cli import app

__all__ = ["DAMAGE", "refused", "spoil", "tree"]

DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b'{"step": 1,\n',
    "a list": b"[]\n",
    "other entries": b'{"step": "one", "samples": [], "vae": 3, "files": [1], "stages": 0}\n',
    "missing entries": b"{}\n",
    "nested": b"[" * 20_000 + b"\n",
    "binary": b"\xff\xfe\x00\n",
    "pipe": b"",
    "endless": b"",
}
"""What a file of JSON may have become."""


def spoil(path: Path, kind: str) -> None:
    """Put damage of a kind in a file's place."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse: it takes no room on the disk
    else:
        path.write_bytes(DAMAGE[kind])


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: {path: what it is}; links, pipes and devices are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            with path.open("rb") as file:
                found[name] = f"{path.stat().st_size} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found


def refused(folder: Path, *arguments: Any, code: int = 2) -> str:
    """Run the command line, which must refuse in one line and leave `folder` as it is; the line.

    Notes and warnings before it are allowed.
    """
    before = tree(folder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("anystory: ")]
    assert len(said) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == said[0], result.stderr
    assert "Traceback" not in result.output
    after = tree(folder)
    assert after == before, {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return said[0]
