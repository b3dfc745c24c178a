"""Loading the transformers models that steps name."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["LoadedModel", "load_model"]


class LoadedModel(NamedTuple):
    """A model ready to run."""

    processor: Any
    net: Any
    device: str
    """Where it lies: a GPU if there is one."""


def load_model(what: str, model: str, processor_class: str, net_class: str, otherwise: str) -> LoadedModel:
    """Load a model and its processor. Weights must be safetensors; code that comes with a model is never run.

    Args:
        what: What the model is for, for messages.
        model: Hub id or folder.
        processor_class, net_class: Names of classes of transformers.
        otherwise: What to do without it, for messages.

    Raises:
        ValueError: it cannot be loaded.
    """
    try:
        import torch
        import transformers

        processor = getattr(transformers, processor_class).from_pretrained(model, trust_remote_code=False)
        net = getattr(transformers, net_class).from_pretrained(model, trust_remote_code=False, use_safetensors=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return LoadedModel(processor, net.eval().to(device), device)
    except Exception as error:  # a hub and a model's files each fail in ways of their own
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{what} model {model!r} cannot be loaded ({type(error).__name__}: {reason}). Give the id or folder of one "
            f"with safetensors weights, or {otherwise}"
        ) from error
