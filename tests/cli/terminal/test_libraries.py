"""Standard output is for results: what libraries print while they are imported goes to standard error."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from anystory.cli.terminal.libraries import clean_stdout

NOISY = """
import logging, sys
print("noise of an import")
logging.getLogger("noisy").addHandler(logging.StreamHandler(sys.stdout))
"""

LOUD = """
import importlib.abc, importlib.machinery, logging, sys

class Loud(importlib.abc.MetaPathFinder):
    '''Makes a module print, and log to standard output from then on, as some libraries do.'''
    def find_spec(self, name, path, target=None):
        if name == LIBRARY:
            print("noise of an import")
            logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
            sys.meta_path.remove(self)
        if name == "anystory.models.saved.families":
            logging.getLogger().warning("noise of a logger")
        return None

LIBRARY = sys.argv.pop(1)
sys.meta_path.insert(0, Loud())
from anystory.cli import main
main()
"""


def test_noise_goes_to_standard_error_even_later(tmp_path, monkeypatch, capsys):
    (tmp_path / "noisy_library.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    with clean_stdout():
        import noisy_library  # noqa: F401  # pyright: ignore[reportMissingImports]
    print("a result")
    logging.getLogger("noisy").warning("noise of a logger")
    said = capsys.readouterr()
    assert said.out == "a result\n"
    assert said.err == "noise of an import\nnoise of a logger\n"


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("anystory.engine.inventory.describe", ["models", "list", "--json"]),
        ("anystory.engine.inventory.describe", ["models", "info", "mini", "--json"]),
        ("anystory.subjects.onnx_models", ["models", "get", "u2netp", "--json"]),
        ("diffusers", ["models", "verify", "mini", "--json"]),
    ],
)
def test_json_on_standard_output_can_be_parsed_whatever_a_library_prints(tmp_path: Path, library, arguments):
    command = [sys.executable, "-c", LOUD, library, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)
    assert "noise of an import" in ended.stderr
