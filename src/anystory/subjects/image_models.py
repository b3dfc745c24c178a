"""Models of pictures that transformers loads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LoadedModel", "load_model", "model_type"]


class LoadedModel(NamedTuple):
    """A model ready to run."""

    processor: Any
    """None where none was asked for."""
    net: Any
    device: str
    """Where it lies: a GPU if there is one."""


def load_model(
    what: str,
    model: str | Path,
    processor_class: str | None,
    net_class: str,
    otherwise: str,
    *,
    processor: str | Path | None = None,
    **options: Any,
) -> LoadedModel:
    """Load a model and its processor. Weights must be safetensors; code that comes with a model is never run.

    Args:
        what, otherwise: The model's task, and how to do without it, for messages.
        model: Hub id or folder.
        processor_class, net_class: Names of classes of transformers; None for no processor.
        processor: Hub id or folder of the processor, if it is not the model's.
        options: Further arguments of the net's `from_pretrained`.

    Raises:
        ValueError: it cannot be loaded, or its files lack some of its weights.
    """
    try:
        import torch
        import transformers

        found = None
        with _errors_only():
            if processor_class is not None:
                kind = getattr(transformers, processor_class)
                found = kind.from_pretrained(processor or model, trust_remote_code=False)
            net, facts = getattr(transformers, net_class).from_pretrained(
                model, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
            )
        if missing := sorted(facts["missing_keys"]):  # transformers fills them with random numbers
            raise ValueError(f"its files lack {len(missing)} weights, {missing[0]} among them")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return LoadedModel(found, net.eval().to(device), device)
    except Exception as error:  # a hub and a model's files fail in many ways
        raise ValueError(_refusal(what, model, error, otherwise)) from error


def model_type(what: str, model: str | Path, otherwise: str) -> str:
    """What kind of model lies in a folder or under a hub id, as transformers calls it: "vit", "clip" …

    Raises:
        ValueError: there is none.
    """
    try:
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(model, trust_remote_code=False).model_type)
    except Exception as error:  # see above
        raise ValueError(_refusal(what, model, error, otherwise)) from error


@contextmanager
def _errors_only() -> Iterator[None]:
    """Hold back transformers' bars, and its report of weights that are left over when a part of a model is loaded."""
    from transformers.utils import logging as messages

    logger, bars = logging.getLogger("transformers"), messages.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    messages.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            messages.enable_progress_bar()


def _refusal(what: str, model: str | Path, error: Exception, otherwise: str) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"{what} model {str(model)!r} cannot be loaded ({type(error).__name__}: {reason}). Give the id or folder of "
        f"one with safetensors weights, or {otherwise}"
    )
