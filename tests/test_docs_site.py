"""The hook that makes the documentation's site. `make docs` builds the site, and checks every link and anchor."""

from __future__ import annotations

import re
from pathlib import Path

import docs_site
import pytest
import yaml

import anystory
from anystory.cli import VERBS

ROOT = Path(__file__).parents[1]


def navigation() -> list[str]:
    """Every page that mkdocs.yml names, in its order."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages: list[str] = []
    todo = [yaml.safe_load(text)["nav"]]
    while todo:
        entry = todo.pop(0)
        if isinstance(entry, str):
            pages.append(entry)
        else:
            todo[:0] = list(entry.values()) if isinstance(entry, dict) else entry
    return pages


def test_the_navigation_names_every_page_and_no_other():
    ours = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(navigation()) == sorted(ours | set(docs_site.PAGES.values()) | docs_site.cli_pages().keys())


def test_the_python_page_names_every_public_name():
    named = re.findall(r"(?m)^::: anystory\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    assert sorted([*named, "__version__"]) == sorted(anystory.__all__)


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("index.md", "[a](docs/data.md)", "[a](data.md)"),
        ("index.md", "![a](docs/images/demo.png)", "![a](images/demo.png)"),
        ("index.md", "[a](docs/cost.md#starting)", "[a](cost.md#starting)"),
        ("index.md", "[a](CHANGELOG.md)", "[a](changelog.md)"),
        ("training.md", "[a](../scripts/gpu/README.md)", "[a](gpu.md)"),
        ("training.md", "[a](data.md) and [b](#here)", "[a](data.md) and [b](#here)"),
        ("mini.md", "[`x`](../src/anystory/assets/mini/README.md)", "[`x`](cards/mini.md)"),
        ("cards/mini.md", "[a](../../../../docs/mini.md)", "[a](../mini.md)"),
        ("index.md", "[a](https://example.org/docs/b.md)", "[a](https://example.org/docs/b.md)"),
    ],
)
def test_links_lead_to_the_sites_pages(page, text, expected):
    assert docs_site.site_links(text, page) == expected


def test_the_command_line_reference_has_every_command_and_option():
    pages = docs_site.cli_pages()
    assert [page for page in pages if page != "cli/index.md"] == [f"cli/{verb}.md" for verb in VERBS]
    assert "* `--overwrite`: " in pages["cli/world.md"]
    assert "## `anystory data storyworld`" in pages["cli/data.md"]
    assert "`--version`" in pages["cli/index.md"]
    for name, text in pages.items():
        assert not re.search(r"(?m)^\* `.*\.\.\.$", text), f"{name}: a line is cut short"
        assert "anystory" in text
