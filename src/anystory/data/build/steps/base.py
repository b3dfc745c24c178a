"""What a step is, and how a plan names one."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import ValidationError

from anystory.data.build.candidates import Candidate, Rejected
from anystory.data.build.sources.base import BuildOptions
from anystory.input_files import why_invalid

__all__ = ["STEPS", "Step", "load_step", "parse_options"]

STEPS = {
    "segment": "anystory.data.build.steps.segment:Segment",
    "filter": "anystory.data.build.steps.filter:Filter",
    "pair": "anystory.data.build.steps.pair:Pair",
    "compare": "anystory.data.build.steps.compare:Compare",
    "caption": "anystory.data.build.steps.caption:Caption",
}
"""Steps by name. A plan may also name your own as `package.module:Class`."""


@runtime_checkable
class Step(Protocol):
    """A step is made once per worker process from its options and called with candidate after candidate.

    Its result must depend on the candidate and the options alone, as any worker may run it: no clock, no global random
    numbers, no counters.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same input and options give another result: a build then repeats its items."""
    Options: ClassVar[type[BuildOptions]]
    options: Any

    def __init__(self, options: Any) -> None: ...

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        """The candidates that it becomes (one or several), or why it is left out."""
        ...


def load_step(name: str) -> type[Step]:
    """The class of a step.

    Raises:
        ValueError: no such step, or the class lacks what a step needs.
    """
    place = STEPS.get(name, name)
    module, _, attribute = place.partition(":")
    if not attribute:
        raise ValueError(f'there is no step {name!r}: use {", ".join(STEPS)}, or your own as "package.module:Class"')
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"step {name!r} cannot be imported ({error}). Is its package installed here?") from None
    except Exception as error:  # a user's module may raise anything, such as SyntaxError
        raise ValueError(f"step {name!r} cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(found, type):
        raise ValueError(f"step {name!r} is not a class: see `anystory.data.build.steps.base.Step`")
    has = {part for base in found.__mro__ for part in vars(base)}  # `hasattr` finds the __call__ that makes instances
    lacking = [part for part in ("name", "version", "Options", "__call__") if part not in has]
    if lacking:
        raise ValueError(f"step {name!r} lacks {', '.join(lacking)}: see `anystory.data.build.steps.base.Step`")
    kind: Any = getattr(found, "Options")  # noqa: B009
    if not (isinstance(kind, type) and issubclass(kind, BuildOptions)):
        base = f"{BuildOptions.__module__}.{BuildOptions.__name__}"
        raise ValueError(f"step {name!r}: its Options must be a subclass of `{base}`")
    return found


def parse_options(kind: type[BuildOptions], values: Any, what: str) -> Any:
    """The options of a source or step, checked.

    Raises:
        ValueError: unknown names, wrong types, or numbers out of range.
    """
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{what}: expected options as `name: value`, got {values!r}")
    try:
        return kind.model_validate(values or {})
    except ValidationError as error:
        known = ", ".join(kind.model_fields) or "none"
        raise ValueError(f"{what}: {why_invalid(error)}. Its options are: {known}") from None
    except Exception as error:  # a user's own validator
        raise ValueError(f"{what}: its options cannot be checked ({type(error).__name__}: {error})") from error
