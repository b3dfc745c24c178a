"""The Dockerfile and the compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import typer
import yaml

from anystory.cli import load_verb

ROOT = Path(__file__).parents[2]


def options(words: list[str]) -> None:
    """Let the command line read what follows `anystory serve`, and run nothing."""
    context = typer.Context(load_verb("serve"))
    load_verb("serve").make_parser(context).parse_args(list(words))


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_from_files_that_are_there_and_starts_the_server():
    found = instructions()
    known = "FROM RUN ARG WORKDIR COPY USER VOLUME EXPOSE HEALTHCHECK STOPSIGNAL ENTRYPOINT CMD"
    assert {name for name, _ in found} <= set(known.split())
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    copied = [name for instruction, rest in found if instruction == "COPY" for name in rest.split()[:-1]]
    assert copied
    assert set(copied) <= set(kept)
    assert all((ROOT / name).exists() for name in copied)
    words = dict(found)
    program = json.loads(words["ENTRYPOINT"])
    assert program[:2] == ["anystory", "serve"]
    options(program[2:] + json.loads(words["CMD"]))
    extras = re.search(r'"\.\[([\w,]+)\]"', str(found))
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras[1].split(","))


def test_the_services_give_options_that_there_are():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services.keys() == {"serve", "serve-gpu"}
    for service in services.values():
        options(service["command"])
        assert service["stop_grace_period"] == "90s"
        assert any(volume.endswith(":/data") for volume in service["volumes"])
