"""The house keeps its floor plan: no circle, arrows point down, short functions, one class per name, a true map."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import grimp
import networkx
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "anystory"

LONGEST, USUAL = 60, 25
"""Most lines of a function, and of nine functions in ten."""

BASE = {
    "extras",
    "files",
    "input_files",
    "page_layout",
    "precision",
    "process_pool",
    "ray_pool",
    "progress",
    "quiet",
    "startup",
    "version",
}
"""Small modules at the top of the package that everything may import. They import one another only."""

ARROWS = {
    "subjects": set(),
    "cast": {"subjects"},
    "models": set(),
    "storyworld": set(),
    "segment": set(),
    "pipelines": {"models", "segment", "subjects"},
    "engine": {"models", "pipelines", "segment", "subjects"},
    "story": {"cast", "engine", "evaluation", "pipelines", "storyworld", "subjects"},
    "data": {"storyworld", "subjects"},
    "training": {"data", "models", "pipelines", "storyworld", "subjects"},
    "evaluation": {"data", "engine", "models", "pipelines", "segment", "storyworld", "subjects", "training"},
    "serving": {"cast", "engine", "segment", "story", "subjects"},
    "studio": {"cast", "engine", "pipelines", "segment", "story", "storyworld", "subjects"},
    "cli": {
        "cast",
        "data",
        "engine",
        "evaluation",
        "models",
        "pipelines",
        "segment",
        "serving",
        "story",
        "storyworld",
        "studio",
        "subjects",
        "training",
    },
    "": {"cast", "models", "pipelines", "subjects"},  # `anystory` itself: the public names
    "__main__": {"cli"},
}
"""Package -> the packages that it may import, functions and TYPE_CHECKING included, beside itself and BASE."""

HEAVY = ("torch", "diffusers", "transformers")
FACES = ("cli", "serving", "studio")
WITHOUT_TORCH = ("cast", "data", "story", "storyworld", "subjects")
"""Packages whose modules import no heavy library at module level."""


@pytest.fixture(scope="module")
def imports() -> networkx.DiGraph:
    """Module -> module, with imports inside functions and under TYPE_CHECKING."""
    graph = grimp.build_graph("anystory", exclude_type_checking_imports=False, cache_dir=None)
    found = networkx.DiGraph()
    found.add_nodes_from(graph.modules)
    found.add_edges_from((a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a))
    return found


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file of the package, by its path inside it."""
    return {file.relative_to(PACKAGE): ast.parse(file.read_bytes()) for file in sorted(PACKAGE.rglob("*.py"))}


def package_of(module: str) -> str:
    return module.removeprefix("anystory").removeprefix(".").split(".")[0]


def test_no_import_circle(imports: networkx.DiGraph) -> None:
    found = {frozenset(part) for part in networkx.strongly_connected_components(imports) if len(part) > 1}
    assert not found


def test_arrows_point_down(imports: networkx.DiGraph) -> None:
    upwards = set()
    for module, other in imports.edges:
        package, used = package_of(module), package_of(other)
        allowed = BASE if package in BASE else ARROWS[package] | BASE
        if used not in allowed | {package}:
            upwards.add((module, other))
    assert not upwards


def test_the_arrows_themselves_make_no_circle() -> None:
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph({name: list(used) for name, used in ARROWS.items()}))


def heavy(nodes: Iterable[ast.AST]) -> bool:
    """Whether one of these statements imports torch, diffusers or transformers."""
    names = []
    for node in nodes:
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] in HEAVY for name in names)


def test_cast_data_storyworld_and_subjects_start_without_torch() -> None:
    found = {file.as_posix() for file, tree in trees().items() if file.parts[0] in WITHOUT_TORCH and heavy(tree.body)}
    assert not {file for file in found if not file.startswith("storyworld/attribute_classifier/")}


def test_a_face_knows_no_torch() -> None:
    """Not in functions either: what needs it lies below."""
    found = {file.as_posix() for file, tree in trees().items() if file.parts[0] in FACES and heavy(ast.walk(tree))}
    assert not found


def test_functions_are_short() -> None:
    lengths = {}
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[file, node.name, node.lineno] = (node.end_lineno or 0) - node.lineno + 1
    assert not {(file.as_posix(), name) for (file, name, _), lines in lengths.items() if lines > LONGEST}
    assert sorted(lengths.values())[int(0.9 * len(lengths))] <= USUAL


def test_one_class_per_name() -> None:
    homes = defaultdict(set)
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(file.as_posix())
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def mapped() -> tuple[set[str], set[str]]:
    """The files (patterns) and folders that docs/architecture.md draws, as paths inside the package.

    The drawing is the first fenced block. A line names files or folders, with one space between them, and says what
    they are after two spaces or more; what is indented below a folder lies in it. Other lines continue a description.
    """
    (block,) = re.findall(r"```\n(src/anystory/\n.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    files, folders = set(), set()
    above: list[tuple[int, str]] = []
    for line in block.splitlines():
        depth = len(line) - len(line.lstrip())
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not names or not all(re.fullmatch(r"[\w*./-]+(\.\w+|/)", name) for name in names):
            continue
        while above and above[-1][0] >= depth:
            above.pop()
        parent = above[-1][1] if above else ""
        for name in names:
            path = parent + name
            (folders if name.endswith("/") else files).add(path.removeprefix("src/anystory/"))
        if names[-1].endswith("/"):
            above.append((depth, parent + names[-1]))
    return files, folders


def test_the_map_names_every_file() -> None:
    """A folder below which the map draws nothing stands for all that lies in it; elsewhere each file has its name."""
    files, folders = mapped()
    whole = {entry for entry in folders if not any(other.startswith(entry) for other in (files | folders) - {entry})}
    missing = [
        path
        for path in (file.as_posix() for file in trees())
        if not path.endswith("__init__.py")
        and not any(path.startswith(entry) for entry in whole)
        and not any(fnmatch(path, entry) for entry in files)
    ]
    assert not missing, "docs/architecture.md does not name these files"


def test_the_map_names_nothing_else() -> None:
    files, folders = mapped()
    there = [file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*")]
    outside = ("tests/", "benchmarks/", "scripts/", "docs/", "configs/", "integrations/")
    wanted = {entry for entry in files if not entry.startswith(outside)}
    gone = {entry for entry in wanted if not any(fnmatch(path, entry) for path in there)}
    gone |= {entry for entry in folders if not (PACKAGE / entry).is_dir() and not (ROOT / entry).is_dir()}
    assert not gone, "docs/architecture.md names files that are not there"
