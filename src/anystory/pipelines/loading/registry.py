"""Register our pipelines with diffusers: `DiffusionPipeline` finds them by name, `AutoPipelineFor…` by task.

diffusers looks up the class that a folder names among its own attributes, and has a table for each task. We add ours
once, when they are imported; nothing of diffusers is replaced.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import diffusers

__all__ = ["register"]

_TABLES = "diffusers.pipelines.auto_pipeline"
"""Importing it imports half of diffusers: so we fill its tables only when somebody else imports it."""

Tasks = Mapping[str, Mapping[str, Any]]


def register(classes: Iterable[Any], tasks: Tasks) -> None:
    """Register pipelines.

    Args:
        classes: Those that a `model_index.json` can name.
        tasks: {a table's name: {a family of pipelines: its class for the task}}.
    """
    for kind in classes:
        setattr(diffusers, kind.__name__, kind)
    if _TABLES in sys.modules:
        _fill(sys.modules[_TABLES], tasks)
    else:
        sys.meta_path.insert(0, _WhenImported(tasks))


def _fill(tables: ModuleType, tasks: Tasks) -> None:
    for table, families in tasks.items():
        getattr(tables, table).update(families)


class _WhenImported(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the tables' module as usual, then fills them."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.loader: Any = None

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Only for that module, and only once."""
        if fullname != _TABLES or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the file's own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the file's own loader does; then adds our entries."""
        self.loader.exec_module(module)
        _fill(module, self.tasks)
