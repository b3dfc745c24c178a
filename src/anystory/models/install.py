"""Putting an adapter's attention processors into a U-Net for a while, and telling them of each U-Net call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from anystory.models.attention import IMAGE_PROMPT_PROCESSORS, RoutedCrossAttnProcessor, RoutedSelfAttnProcessor
from anystory.models.conditioning import SubjectConditioning
from anystory.models.fast.form import FastForm
from anystory.models.router import Size
from anystory.models.routing_state import RoutingState

__all__ = ["CONDITIONING", "begin_routing", "installed"]

CONDITIONING = "subject_conditioning"
"""Where among a U-Net's `cross_attention_kwargs` the `SubjectConditioning` lies."""

Processor = RoutedCrossAttnProcessor | RoutedSelfAttnProcessor


@contextmanager
def installed(processors: Mapping[str, Processor], unet: UNet2DConditionModel) -> Iterator[None]:
    """While open, `unet` has these processors, {attention layer: processor}; at the end its own are back."""
    attentions = {name: cast(Attention, unet.get_submodule(name)) for name in processors}
    before = {name: attention.processor for name, attention in attentions.items()}
    for name, processor in processors.items():
        if isinstance(processor, RoutedCrossAttnProcessor) and isinstance(before[name], IMAGE_PROMPT_PROCESSORS):
            processor.image_prompts = before[name]
    hook = unet.register_forward_pre_hook(partial(_begin_call, tuple(processors.values())), with_kwargs=True)
    try:
        for name, attention in attentions.items():
            attention.set_processor(cast(Any, processors[name]))
        yield
    finally:
        hook.remove()
        for name, attention in attentions.items():
            attention.set_processor(cast(Any, before[name]))


def begin_routing(conditioning: SubjectConditioning, latent_size: Size) -> RoutingState:
    """The state of a U-Net call that begins on latents of this height and width, in the form that it takes."""
    return RoutingState(conditioning, latent_size, FastForm() if conditioning.takes_fast_form else None)


@torch.compiler.disable  # a compiled U-Net then finds its caches filled, and is one graph for all steps
def _begin_call(
    processors: Iterable[Processor], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Before each U-Net call: its processors get a `RoutingState` where the caller gave a `SubjectConditioning`."""
    given = dict(kwargs.get("cross_attention_kwargs") or {})
    conditioning = given.pop(CONDITIONING, None)
    if not isinstance(conditioning, SubjectConditioning):
        return None
    sample: Tensor = args[0] if args else kwargs["sample"]
    routing = begin_routing(conditioning, (sample.shape[-2], sample.shape[-1]))
    for processor in processors:
        processor.begin(routing)
    return args, {**kwargs, "cross_attention_kwargs": {**given, "routing": routing}}
