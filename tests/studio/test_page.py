"""Gradio's page around the studio: in its language, of this machine alone, and not there before it is asked for."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from anystory.cli import app as program
from anystory.studio.serve import free_port
from anystory.studio.settings import StudioSettings


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory):
    """Both pages of a studio."""
    from anystory.studio.app import build_app

    folder = tmp_path_factory.mktemp("studio")
    with TestClient(
        build_app(StudioSettings(out=folder / "out", library=folder / "cast")), base_url="http://127.0.0.1"
    ) as client:
        yield {language: client.get(f"/{language}/") for language in ("en", "de")}


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_page_is_in_its_language_and_asks_nobody_else(pages: dict, language: str):
    answer = pages[language]
    assert answer.status_code == 200
    assert f'<html\n\tlang="{language}"' in answer.text
    loaded = re.findall(r"""(?:src|href|content)=["'](https?://[^"']+)""", answer.text)
    assert not [address for address in loaded if not address.startswith("http://127.0.0.1")]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert '"analytics_enabled":false' in answer.text.replace(" ", "")


def test_gradio_writes_nothing_beside_our_modules(pages: dict):
    import anystory.studio

    assert pages
    assert not list(Path(anystory.studio.__file__).parent.rglob("*.pyi"))


def test_neither_the_package_nor_help_imports_gradio():
    code = (
        "import sys, anystory, anystory.cli.studio, anystory.studio.app\n"
        "from anystory.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', *[m for m in ('gradio', 'torch') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.splitlines()[-1] == "LOADED"


def test_a_port_that_is_taken_is_said(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(program, ["studio", "--port", str(port), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert f"port {port} is taken" in result.output
    assert free_port(None) >= 7860


def test_bad_options_end_before_anything_starts(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for options in (["--out", str(tmp_path / "file")], ["--device", "tpu"]):
        assert CliRunner().invoke(program, ["studio", *options]).exit_code == 2
