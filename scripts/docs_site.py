"""A hook of MkDocs (see `mkdocs.yml`): pages from outside `docs/`, and the reference of the command line.

README, changelog and model cards stay where they are in the repository, with links that work there; the site shows the
same text with links to its own pages. The reference is made from the command line by typer's own writer.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "integrations/comfyui/README.md": "comfyui.md",
    "scripts/gpu/README.md": "gpu.md",
    "src/anystory/assets/mini/README.md": "cards/mini.md",
    "src/anystory/assets/judge/README.md": "cards/judge.md",
}
"""Files of the repository that are pages of the site, and their names there."""

_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)([^)\s]*\))")


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' event: add the pages that are not in `docs/`."""
    from mkdocs.structure.files import File

    texts = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    for page, text in (texts | cli_pages()).items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs' event: a page's text before it becomes HTML."""
    return site_links(markdown, page.file.src_uri)


def site_links(text: str, page: str) -> str:
    """The text of the site's page `page`, with links between files of the repository as links between pages.

    A link to a file that is no page leads nowhere afterwards, which MkDocs reports.
    """
    folder = posixpath.dirname({ours: theirs for theirs, ours in PAGES.items()}.get(page, f"docs/{page}"))

    def turned(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", link[2]):
            return link[0]
        file = posixpath.normpath(posixpath.join(folder, link[2]))
        target = PAGES.get(file, file.removeprefix("docs/"))
        return link[1] + posixpath.relpath(target, posixpath.dirname(page) or ".") + link[3]

    return _LINK.sub(turned, text)


def cli_pages() -> dict[str, str]:
    """The reference of the command line: a page for each verb, and one that lists them."""
    import typer
    from typer.cli import get_docs_for_click

    from anystory.cli import VERBS, app, load_verb

    pages, rows = {}, []
    for name, verb in VERBS.items():
        command: Any = load_verb(name)
        context = command.make_context(name, [], resilient_parsing=True)
        text = get_docs_for_click(obj=command, ctx=context, name=name, call_prefix="anystory")
        pages[f"cli/{name}.md"] = _with_whole_help(text, getattr(command, "commands", {}))
        rows.append(f"| [`anystory {name}`]({name}.md) | {verb.help} |")
    program: Any = typer.main.get_command(app)
    context = program.make_context("anystory", [], resilient_parsing=True)
    records = [option.get_help_record(context) for option in program.get_params(context)]
    options = [f"| `{record[0]}` | {record[1]} |" for record in records if record]
    parts = [
        "# Command line\n",
        "`anystory VERB --help` prints what these pages say.\n",
        *("| verb | what it does |", "|---|---|", *rows, ""),
        *("| option before the verb | what it does |", "|---|---|", *options),
    ]
    return pages | {"cli/index.md": "\n".join(parts)}


def _with_whole_help(text: str, commands: dict[str, Any]) -> str:
    """typer cuts the lines of a list of commands at 45 characters: give each its whole first sentence."""
    for name, command in commands.items():
        whole = command.get_short_help_str(limit=1000)
        text = re.sub(rf"(?m)^\* `{re.escape(name)}`: .*\.\.\.$", lambda _: f"* `{name}`: {whole}", text)  # noqa: B023
    return text
