"""What takes long says so before it begins: no heavy module is imported until then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anystory.cli.terminal.announce import announce
from cli.test_app import HEAVY

FIRST_LINE = f"""
import os, sys

class Ends:
    encoding = "utf-8"
    def write(self, text):
        if text.strip():
            os.write(1, f"{{text.strip()}}|{{[name for name in {HEAVY} if name in sys.modules]}}".encode())
            os._exit(0)
    def flush(self): pass
    def isatty(self): return False

sys.stderr = Ends()
from anystory.cli import main
main()
"""
"""Ends with the first thing that is printed to standard error."""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("generate x", "loading mini …"),
        ("replay r.json", "reading r.json …"),
        ("demo", "loading mini …"),
        ("train mini --out run", "loading the libraries …"),
        ("train mini --out run --prerender 8 --prerender-minutes 1", "loading the libraries …"),
        ("train vae --out run --pack-to packed --minutes vae=1", "loading the libraries …"),
        ("train resume run", "loading the libraries …"),
        ("train plan sdxl_encoder", "loading the libraries …"),
        ("train export run --out model", "loading the libraries …"),
        ("models verify mini", "loading the libraries …"),
        ("judge report", "loading the libraries …"),
        ("bench flops", "loading the libraries …"),
        ("bench speed --model small", "loading the libraries …"),
    ],
)
def test_the_first_line_comes_before_anything_heavy(tmp_path, arguments, line):
    command = [sys.executable, "-c", FIRST_LINE, *arguments.split()]
    ended = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert ended.stdout == f"{line}|[]"


def test_of_several_processes_one_speaks(monkeypatch, capsys):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        announce(f"rank {rank}")
    assert capsys.readouterr().err == "rank 0 …\n"
