"""What a step is, how a plan names one, and the parts that several steps share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import ValidationError

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.sources.base import Options
from anystory.data.records import why_invalid

__all__ = ["STEPS", "Step", "load_step", "parse_options", "without"]

STEPS = {
    "segment": "anystory.data.build.steps.segment:Segment",
    "filter": "anystory.data.build.steps.filter:Filter",
    "pair": "anystory.data.build.steps.pair:Pair",
    "compare": "anystory.data.build.steps.compare:Compare",
    "caption": "anystory.data.build.steps.caption:Caption",
}
"""Steps by name. A plan may also name one of your own as `package.module:Class`."""


@runtime_checkable
class Step(Protocol):
    """A step is made once per worker process from its options and called with candidate after candidate.

    It must depend on the candidate and the options alone, so that any worker may do it and nothing has to be redone:
    no clock, no global random numbers, no counters.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same input and options give another result: what was made by an older one is made again."""
    Options: ClassVar[type[Options]]
    options: Any

    def __init__(self, options: Any) -> None: ...

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        """The candidates that it becomes (itself changed, or several of it), or why it is left out."""
        ...


def load_step(name: str) -> type[Step]:
    """The class of a step.

    Raises:
        ValueError: no such step, or the class lacks what a step needs.
    """
    place = STEPS.get(name, name)
    module, _, attribute = place.partition(":")
    if not attribute:
        raise ValueError(f'no step is called {name!r}: use {", ".join(STEPS)}, or your own as "package.module:Class"')
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"step {name!r} cannot be imported ({error}). Is its package installed here?") from None
    except Exception as error:  # the module is somebody's own: whatever its code raises, SyntaxError first of all
        raise ValueError(f"step {name!r} cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(found, type):
        raise ValueError(f"step {name!r} is no class: see `anystory.data.build.steps.base.Step`")
    has = {part for base in found.__mro__ for part in vars(base)}  # `hasattr` finds the __call__ that makes instances
    lacking = [part for part in ("name", "version", "Options", "__call__") if part not in has]
    if lacking:
        raise ValueError(f"step {name!r} lacks {', '.join(lacking)}: see `anystory.data.build.steps.base.Step`")
    kind: Any = getattr(found, "Options")  # noqa: B009
    if not (isinstance(kind, type) and issubclass(kind, Options)):
        raise ValueError(f"step {name!r}: its Options must be a class of `anystory.data.build.sources.base.Options`")
    return found


def parse_options(kind: type[Options], values: Any, what: str) -> Any:
    """The options of a source or step, checked.

    Raises:
        ValueError: unknown names, wrong types, numbers out of range; says which and what there is.
    """
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{what}: expected options as `name: value`, got {values!r}")
    try:
        return kind.model_validate(values or {})
    except ValidationError as error:
        known = ", ".join(kind.model_fields) or "none"
        raise ValueError(f"{what}: {why_invalid(error)}. Its options are: {known}") from None
    except Exception as error:  # a validator of somebody's own
        raise ValueError(f"{what}: its options cannot be checked ({type(error).__name__}: {error})") from error


def without(candidate: Candidate, photos: Sequence[Photo], dropped: Sequence[Rejection]) -> list[Candidate] | Rejected:
    """The candidate with the `photos` that are left; rejected if none of them can be a target."""
    if any(photo.target for photo in photos):
        return [candidate.with_photos(tuple(photos), tuple(dropped))]
    first = dropped[0]
    more = f" (and {len(dropped) - 1} more photos are left out)" if len(dropped) > 1 else ""
    return Rejected(reason=first.reason, detail=first.detail + more, bad=first.bad, dropped=tuple(dropped))
