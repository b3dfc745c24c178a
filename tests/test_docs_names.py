"""Files and modules that the documentation names exist: what moves, moves there, too."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "anystory"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *PACKAGE.glob("assets/*/README.md"),
]
PAGES += [ROOT / folder / "README.md" for folder in ("scripts/gpu", "integrations/comfyui")]

HOMES = (
    ROOT,
    PACKAGE,
    ROOT / "docs",
    ROOT / "tests",
    ROOT / "src",
    ROOT / "scripts" / "gpu",
    ROOT / "configs" / "accelerate",
)
"""Where a name with an ending may begin."""

PLACEHOLDERS = ("src/anystory/cli/VERB.py",)
ENDINGS = r"(?:py|ya?ml|sh|toml)"


def named(text: str, pattern: str) -> set[str]:
    """What stands in code (`…`, or a fenced or indented block) and matches the whole pattern."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, flags=re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {word for code in (*blocks, *spans) for word in re.findall(rf"(?<![\w/.-]){pattern}(?![\w/-])", code)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = named(text, rf"(?:[\w-]+/)+[\w-]+\.{ENDINGS}") - set(PLACEHOLDERS)
    assert not [file for file in sorted(files) if not any((home / file).is_file() for home in HOMES)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_exist(page: Path) -> None:
    """The last parts of a dotted name may be a class and its method: then the file must hold that word."""
    lost = []
    for name in sorted(named(page.read_text(encoding="utf-8"), r"(?:anystory\.)(?:\w+\.)*\w+")):
        module, rest = name, []
        while not _is_module(module):
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
        spec = find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        if (module == "anystory" and len(rest) > 1) or any(not re.search(rf"\b{word}\b", source) for word in rest[:1]):
            lost.append(name)
    assert not lost


def _is_module(name: str) -> bool:
    file = PACKAGE.parent / Path(*name.split("."))
    return file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()
