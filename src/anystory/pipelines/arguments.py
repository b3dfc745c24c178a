"""The arguments of a call: diffusers' and ours in one signature, given by position or name, with a model's defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from anystory.subjects.arrays import plain_number

__all__ = [
    "SubjectCall",
    "bind_arguments",
    "check_defaults",
    "count_prompts",
    "count_steps",
    "own_values",
    "per_picture",
    "with_arguments_of",
]

T = TypeVar("T")
Theirs = ParamSpec("Theirs")
Ours = ParamSpec("Ours")

# What diffusers' pipelines still read from their `**kwargs`; they ignore everything else in there.
_DEPRECATED = {"callback", "callback_steps"}


class SubjectCall(Protocol[Theirs, Ours]):
    """A pipeline's call as type checkers and editors see it: diffusers' arguments, and ours beside them."""

    @overload
    def __call__(self, *args: Theirs.args, **kwargs: Theirs.kwargs) -> Any: ...
    @overload
    def __call__(self, *args: Ours.args, **kwargs: Ours.kwargs) -> Any: ...


def with_arguments_of(
    theirs: Callable[Concatenate[Any, Theirs], Any], ours: Callable[Concatenate[Any, Ours], Any]
) -> Callable[[Callable[..., Any]], SubjectCall[Theirs, Ours]]:
    """Make a method show the arguments of two calls (`inspect.signature`, `help`, editors) and the second one's docs.

    Args:
        theirs: A diffusers pipeline's call. All its arguments are shown.
        ours: A call that takes `*args, **kwargs` for `theirs`. Only its keyword arguments are shown.
    """
    signature = inspect.signature(theirs)
    own = [one for one in inspect.signature(ours).parameters.values() if one.kind is one.KEYWORD_ONLY]
    *before, last = signature.parameters.values()
    rest = [last] if last.kind is last.VAR_KEYWORD else []
    shown = signature.replace(parameters=[*before, *([] if rest else [last]), *own, *rest], return_annotation=Any)

    def decorate(call: Callable[..., Any]) -> Any:
        call.__signature__ = shown  # type: ignore[attr-defined]
        call.__doc__ = ours.__doc__
        return call

    return decorate


def bind_arguments(
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], defaults: Mapping[str, Any], who: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name the arguments of a call, and fill in a model's own defaults where nothing or None is given.

    Args:
        call: A diffusers pipeline's bound call.
        args, kwargs: For it. NumPy's and torch's numbers become Python's.
        defaults: The model's own values; those that `call` does not take are skipped.
        who: The pipeline's class, for messages.

    Returns:
        What to call it with; and the same together with `call`'s own defaults, to read from.

    Raises:
        TypeError: an argument that `call` does not take.
    """
    parameters = inspect.signature(call).parameters
    given = inspect.signature(call).bind_partial(*args, **kwargs).arguments
    arguments = {name: plain_number(value) for name, value in given.items()}
    extra = arguments.pop("kwargs", {})
    if unknown := sorted(extra.keys() - _DEPRECATED):
        raise TypeError(f"{who} takes no argument {', '.join(map(repr, unknown))}")
    arguments |= extra
    for name, value in defaults.items():
        if name in parameters and arguments.get(name) is None:
            arguments[name] = value
    theirs = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    # None is the default here, whatever diffusers makes of it.
    arguments = {name: value for name, value in arguments.items() if value is not None or not theirs.get(name)}
    return arguments, theirs | arguments


def check_defaults(whose: str, defaults: Mapping[str, Any], known: Collection[str], who: str) -> None:
    """Raises ValueError if a model's own values name an argument that is not in `known`; `who` is the pipeline."""
    for name, value in defaults.items():
        if name not in known:
            raise ValueError(f"{whose} has {name!r}: {value!r}, no argument of {who}")


def own_values(pipeline: Any, subjects: bool) -> dict[str, Any]:
    """A model's own values for arguments that a call leaves out; with subjects its adapter's, where it has none.

    Args:
        pipeline: One with `adapter`, which may be None, and `default_call` in its configuration.
        subjects: Whether the call has any.
    """
    adapter = pipeline.adapter.default_call if subjects and pipeline.adapter is not None else {}
    return adapter | pipeline.config["default_call"]


def count_prompts(values: Mapping[str, Any]) -> int:
    """Number of prompts among a call's arguments, as diffusers counts them."""
    prompt, embeds = values.get("prompt"), values.get("prompt_embeds")
    if isinstance(prompt, list):
        return len(prompt)
    return 1 if embeds is None else len(embeds)


def count_steps(values: Mapping[str, Any]) -> int:
    """Number of sampling steps that a call of a flow-matching pipeline asks for."""
    sigmas = values.get("sigmas")
    return values["num_inference_steps"] if sigmas is None else len(sigmas)


def per_picture(rows: Sequence[T], values: Mapping[str, Any]) -> list[T]:
    """What each of B pictures gets of what is given for each prompt, or once for all; prompts outermost.

    Args:
        rows: One for each prompt, or a single one.
        values: The call's arguments.
    """
    repeats = values["num_images_per_prompt"] * (count_prompts(values) if len(rows) == 1 else 1)
    return [row for row in rows for _ in range(repeats)]
