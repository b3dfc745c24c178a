"""What guards a call: one at a time on a pipeline, and an error with a reason for a picture of NaN or infinity."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["FiniteImageProcessor", "finite_pictures", "in_use", "one_call_at_a_time"]

Given = ParamSpec("Given")
Result = TypeVar("Result")

_MARK = "_anystory_call"

_LARGEST_LATENT = 1e6
"""Those of pictures lie within a few hundred, whatever the autoencoder."""


def one_call_at_a_time(
    method: Callable[Concatenate[Any, Given], Result],
) -> Callable[Concatenate[Any, Given], Result]:
    """Make a pipeline's method refuse to run while another such method uses the pipeline or one of its parts.

    A call sets a pipeline's guidance, its scheduler's steps, its network's attention processors and, in float16, its
    autoencoder's type. Pipelines made by `from_pipe` share these parts, so each of `parts_in_use` is marked.

    Raises:
        RuntimeError: see `in_use`.
    """

    @functools.wraps(method)
    def alone(self: Any, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with in_use(self.parts_in_use, type(self).__name__):
            return method(self, *args, **kwargs)

    return alone


@contextmanager
def in_use(parts: Iterable[Any], who: str) -> Iterator[None]:
    """Mark objects while the block runs.

    Args:
        parts: what the block changes; None among them is skipped.
        who: the pipeline's class, for the message.

    Raises:
        RuntimeError: another call is using one of them, in another thread or in a callback of this one.
    """
    own, marked = object(), []
    try:
        for part in parts:
            if part is None:
                continue
            # One step of the interpreter: of two threads one finds the other's mark.
            if vars(part).setdefault(_MARK, own) is not own:
                raise RuntimeError(
                    f"{who}: its {type(part).__name__} is in use by another call of this pipeline, or of one that "
                    "shares it. A pipeline draws one call at a time: give each thread its own pipeline "
                    "(from_pretrained), or make the calls one after another, for instance under a threading.Lock"
                )
            marked.append(part)
        yield
    finally:
        for part in marked:
            vars(part).pop(_MARK, None)


class FiniteImageProcessor(VaeImageProcessor):
    """diffusers' own, but NaN and infinity are an error, not black."""

    @classmethod
    def of(cls, processor: VaeImageProcessor) -> Self:
        """One with the settings of another."""
        known = inspect.signature(cls).parameters
        return cls(**{name: value for name, value in processor.config.items() if name in known})

    def postprocess(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers.

        Raises:
            FloatingPointError: a value is NaN or infinite.
        """
        _check_finite(image)
        return super().postprocess(image, *args, **kwargs)


def finite_pictures(pipe: Any, call: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Draw, and refuse pictures that are not made of numbers.

    Args:
        pipe: The pipeline; its `image_processor` is a `FiniteImageProcessor`.
        call: Its call, or that of its parent.
        arguments: For `call`.

    Returns:
        The `images` of the call's output.

    Raises:
        FloatingPointError: NaN or infinity, and the likely reason.
    """
    decoder = getattr(pipe.vae, "decoder", None)
    hook = decoder.register_forward_pre_hook(_check_latents) if isinstance(decoder, nn.Module) else None
    try:
        images = call(**arguments).images
        if isinstance(images, Tensor):
            _check_finite(images)  # latents: no image processor has seen them
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}: {_reason(pipe.components, pipe.guidance_scale)}") from None
    finally:
        if hook is not None:
            hook.remove()
    return images


def _check_latents(decoder: nn.Module, args: tuple[Any, ...]) -> None:
    """Check before decoding: the decoder's normalisations turn numbers of any size into a picture, a grey square."""
    if torch.compiler.is_compiling():
        return  # compiled code must not depend on data; the picture is checked in any case
    latents = args[0]
    _check_finite(latents)
    if (largest := float(latents.abs().max())) > _LARGEST_LATENT:
        raise FloatingPointError(f"the picture failed: its latents are as large as {largest:.1g}, far too large")


def _check_finite(images: Tensor) -> None:
    """Raises FloatingPointError if pictures or latents (B, …) hold NaN or infinity."""
    bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        which = "the picture is" if len(images) == 1 else f"pictures {', '.join(str(i + 1) for i in bad)} are"
        raise FloatingPointError(f"{which} not made of numbers (NaN or infinity)")


def _reason(components: Mapping[str, Any], guidance: float) -> str:
    """The likely reason: weights that are NaN, half precision, or the guidance."""
    models = {name: part for name, part in components.items() if isinstance(part, nn.Module)}
    if damaged := [name for name, part in models.items() if not _is_finite(part)]:
        return f"the weights of {', '.join(damaged)} hold such values: `anystory models verify` names the file"
    if any(parameter.dtype == torch.float16 for part in models.values() for parameter in part.parameters()):
        return f"guidance {guidance:g}, in float16, which overflows easily: try bfloat16 or float32"
    return f"guidance {guidance:g}; try a lower one, other scales of subjects and LoRAs, or another scheduler"


def _is_finite(model: nn.Module) -> bool:
    """Whether all weights are finite; those that are offloaded to "meta" are not checked."""
    tensors = (*model.parameters(), *model.buffers())
    # 8-bit types have no isfinite.
    return all(
        bool(tensor.float().isfinite().all()) for tensor in tensors if tensor.is_floating_point() and not tensor.is_meta
    )
