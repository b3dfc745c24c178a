"""FluxSubjectAdapter: all weights that AnyStory adds to FLUX.1, and how they take part in a transformer's call.

The terms of both streams stand beside the base's layers and never inside: the base may be quantised, compiled or have
LoRAs of its own.

This file does not lie in `flux/`: diffusers takes a component's class for its own where its folder is named like one of
diffusers' pipelines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config

from anystory.models.configs import check_default_call
from anystory.models.flux.attention import FluxLayer, SubjectAttnProcessor
from anystory.models.flux.embedder import ReferenceEmbedder
from anystory.models.flux.low_rank import LowRank, LowRankTerms, Shape
from anystory.models.flux.model_card import flux_model_card
from anystory.models.flux.state import FluxRoutingState
from anystory.models.flux.streams import StreamBlock
from anystory.models.saved.saving import UNKNOWN_ORIGIN, save_adapter

APPEARANCE_GRID = 9
ROUTING_GRID = 3


class FluxSubjectAdapter(ModelMixin, ConfigMixin):
    """Embedders, low-rank terms of both streams, and those of the routing maps.

    Args:
        reference_shapes: Of the terms of the references' stream, which goes through the blocks as a picture does:
            {layer: (in, out, rank, whether it has a bias)}.
        routing_shapes: Of those of the routing tokens' stream, which goes through the blocks as text does.
        map_shapes: Of those of the routing maps, `<block>.query` and `<block>.key`.
        redux_dim: Width of SigLIP's states.
        text_dim: Width of the text encoder's states.
        embedder_rank: Of the embedders' low-rank terms.
        reference_size: Side of a reference, pixels.
        default_call: {argument of a pipeline's call: number} for pictures with this adapter's subjects, where neither
            the caller nor the model says anything.
        segmentation: How a pipeline's `segment` fuses the routing maps, fitted to them (`Fusion.to_dict`).
    """

    @register_to_config
    def __init__(
        self,
        reference_shapes: Mapping[str, Shape],
        routing_shapes: Mapping[str, Shape],
        map_shapes: Mapping[str, Shape],
        redux_dim: int = 1152,
        text_dim: int = 4096,
        embedder_rank: int = 128,
        reference_size: int = 512,
        default_call: dict[str, int | float] | None = None,
        segmentation: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_default_call(default_call)
        self.appearance = ReferenceEmbedder(redux_dim, text_dim, APPEARANCE_GRID, embedder_rank)
        self.routing = ReferenceEmbedder(redux_dim, text_dim, ROUTING_GRID, embedder_rank)
        self.reference_terms = LowRankTerms(reference_shapes)
        self.routing_terms = LowRankTerms(routing_shapes)
        self.map_terms = LowRankTerms(map_shapes)

    @property
    def reference_size(self) -> int:
        """Side of a reference, pixels."""
        return self.config["reference_size"]

    @property
    def default_call(self) -> dict[str, int | float]:
        """The adapter's own values for arguments of a pipeline's call; empty where it has none."""
        return dict(self.config.get("default_call") or {})

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        max_shard_size: int | str = "2GB",
        origin: str = UNKNOWN_ORIGIN,
        safe_serialization: bool = True,
        **kwargs: Any,
    ) -> None:
        """Write safetensors (sharded), `config.json`, `SHA256SUMS.txt` and, where there is none yet, a README.md.

        A new folder appears whole or not at all.

        Args:
            save_directory: The folder.
            max_shard_size: As in diffusers.
            origin: A paragraph for the README.md on where the weights come from.
            safe_serialization: Only True is allowed.
            **kwargs: `variant`, as in diffusers.

        Raises:
            ValueError: an option that would write a pickle, or `save_directory` is a file.
        """
        if not safe_serialization:
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        write = partial(super().save_pretrained, max_shard_size=max_shard_size, **kwargs)
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
        card = flux_model_card(parameters=parameters, reference_size=self.reference_size, origin=origin)
        save_adapter(write, save_directory, card=card, variant=kwargs.get("variant"))

    @contextmanager
    def installed_on(self, transformer: Any, state: FluxRoutingState) -> Iterator[None]:
        """Inside, `transformer` draws with the subjects of `state`; its own processors come back afterwards.

        Raises:
            ValueError: a block has no routing map in this adapter: it is for a transformer of another size.
        """
        processors = {
            f"{name}.attn.processor": SubjectAttnProcessor(layer) for name, layer in self._layers(transformer)
        }
        before = transformer.attn_processors

        def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args, state.begin(kwargs)

        hook = transformer.register_forward_pre_hook(begin, with_kwargs=True)
        try:
            transformer.set_attn_processor(processors)
            yield
        finally:
            hook.remove()
            transformer.set_attn_processor(before)

    def check_fits(self, transformer: Any) -> None:
        """Refuse a transformer of another size.

        Raises:
            ValueError: a layer of a term is not there, or has other widths; or a block has no routing map.
        """
        for terms in (self.reference_terms, self.routing_terms):
            for name in terms.names():
                term = terms.get(name)
                assert term is not None
                try:
                    layer = transformer.get_submodule(name)
                except AttributeError:
                    raise ValueError(f"the adapter is for another transformer: this one has no {name}") from None
                found, expected = f"{layer.in_features} to {layer.out_features}", term.widths
                if found != expected:
                    raise ValueError(f"the adapter is for another transformer: {name} is {found} wide, not {expected}")
        for _ in self._layers(transformer):
            pass

    def _layers(self, transformer: Any) -> Iterator[tuple[str, FluxLayer]]:
        blocks = [(f"transformer_blocks.{i}", block) for i, block in enumerate(transformer.transformer_blocks)]
        blocks += [
            (f"single_transformer_blocks.{i}", block) for i, block in enumerate(transformer.single_transformer_blocks)
        ]
        for number, (name, block) in enumerate(blocks):
            layer = FluxLayer(
                name=name,
                first=number == 0,
                last=number == len(blocks) - 1,
                reference=StreamBlock(block, name, self.reference_terms, "picture"),
                routing=StreamBlock(block, name, self.routing_terms, "text"),
                map_query=self._map_term(f"{name}.query"),
                map_key=self._map_term(f"{name}.key"),
            )
            yield name, layer

    def _map_term(self, name: str) -> LowRank:
        term = self.map_terms.get(name)
        if term is None:
            raise ValueError(f"the adapter has no {name} of a routing map: it is for a transformer of another size")
        return term
