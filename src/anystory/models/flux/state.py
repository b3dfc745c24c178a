"""FluxRoutingState: what one call of the pipeline decides and keeps while it draws.

Shapes: B samples, N subjects, R references, S tokens of the picture, T of a reference, D width, H heads of width e.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anystory.models.flux.embedder import reference_ids
from anystory.models.flux.inputs import FluxInputs
from anystory.models.flux.low_rank import LowRank, LowRankTerms
from anystory.models.flux.owners import Groups, Ownership
from anystory.models.flux.reading import KeyLayout, KeyPart
from anystory.models.flux.reference_keys import KeysValues, ReferenceEntry, ReferenceKeys
from anystory.models.flux.streams import Rotary


@dataclass(frozen=True, kw_only=True)
class Acting:
    """What acts at a step."""

    appearance: bool = False
    references: bool = False

    def __bool__(self) -> bool:
        return self.appearance or self.references


@dataclass(kw_only=True, eq=False)
class FluxRoutingState:
    """One call: set `acting` before each step, read `owners` after it.

    The first step that reads the references computes their keys and values in all layers. They depend on the pooled
    prompt and the guidance, not on picture, time step or the prompt's tokens: see `ReferenceKeys`.
    """

    inputs: FluxInputs
    transformer: Any
    reference_terms: LowRankTerms
    routing_terms: LowRankTerms
    acting: Acting = field(default_factory=Acting)
    twice: bool = False
    """Whether each step calls the transformer a second time for a negative prompt, which gets no subjects."""
    keys: ReferenceKeys = field(default_factory=ReferenceKeys)
    """Of the references; those of an earlier call spare what it has computed."""
    owners: dict[str, Tensor] = field(default_factory=dict)
    """{layer: (B, S) index of the subject in its sample, or NOBODY} of the last step that was routed."""
    logits: dict[str, Tensor] | None = None
    """{layer: (B, N, S)} of the last step that was routed, where somebody wants to see them; None keeps none."""

    reference_stream: Tensor | None = field(default=None, init=False)
    """(R', T, D) those that are computed, on their way through the blocks; None where none is."""
    routing_stream: Tensor | None = field(default=None, init=False)
    """(B, N · 9, D), likewise."""
    reference_time: Tensor | None = field(default=None, init=False)
    routing_time: Tensor | None = field(default=None, init=False)
    reference_rotary: Rotary | None = field(default=None, init=False)
    routing_mask: Tensor | None = field(default=None, init=False)
    """(B, N · 9) which routing tokens there are; None where all are."""
    text_length: int = field(default=0, init=False)
    """Tokens of the prompt; those of appearances follow."""
    text_tokens: int = field(default=0, init=False)
    """L: both."""
    present: Acting = field(default_factory=Acting, init=False)
    """What acts in this call of the transformer."""
    ownership: tuple[Ownership, ...] = field(default=(), init=False)
    """Of each sample, where pixels have owners at all."""
    groups: tuple[Groups | None, ...] = field(default=(), init=False)
    """Of the samples whose owners no logits decide."""
    _layouts: dict[int, KeyLayout] = field(default_factory=dict, init=False)
    _entries: list[ReferenceEntry] = field(default_factory=list, init=False)
    _computed: list[tuple[ReferenceEntry, Tensor]] = field(default_factory=list, init=False)
    """What the references' stream is for, and which of its tokens are kept."""
    _calls: int = field(default=0, init=False)
    _given: Mapping[str, Any] = field(default_factory=dict, init=False)

    def begin(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Start one call of the transformer: its arguments, with appearance tokens beside the prompt where they act."""
        self._calls += 1
        self.present = self.acting if not self.twice or self._calls % 2 else Acting()
        text = arguments["encoder_hidden_states"]
        self.text_length = self.text_tokens = text.shape[1]
        self.owners, self.logits = {}, None if self.logits is None else {}
        self.reference_stream = self.routing_stream = None
        self._given = arguments
        if not self.present.appearance:
            return arguments
        tokens = self.inputs.appearance_tokens(len(text)).to(text)
        self.text_tokens += tokens.shape[1]
        ids = arguments["txt_ids"]
        return arguments | {
            "encoder_hidden_states": torch.cat([text, tokens], dim=1),
            "txt_ids": torch.cat([ids, ids.new_zeros(tokens.shape[1], ids.shape[-1])]),
        }

    def enter_first_block(self, samples: int, pixels: int, dtype: torch.dtype, device: torch.device) -> None:
        """Embed the streams that run in this step. The first block does it, when offloading has brought the weights."""
        inputs, self._layouts = self.inputs, {}
        if self.present.references:
            self._enter_references(dtype)
        if inputs.routes:
            regions = [[placed.region for placed in sample] for sample in inputs.samples]
            self.ownership = tuple(Ownership.of(sample, pixels, device) for sample in regions)
            self.groups = tuple(None if own.free is not None else Groups.of(own.fixed) for own in self.ownership)
        if inputs.needs_router:
            tokens = inputs.routing_tokens(samples).to(dtype)
            self.routing_stream = self._embedded("context_embedder", tokens, self.routing_terms)
            self.routing_time = self._time(None, list(range(samples)), dtype)
            self.routing_mask = None
            if any(len(sample) < inputs.most_subjects for sample in inputs.samples):
                each = tokens.shape[1] // inputs.most_subjects
                self.routing_mask = inputs.present(device).repeat_interleave(each, dim=1)

    def _enter_references(self, dtype: torch.dtype) -> None:
        """Find what is there of the references, and embed the others."""
        blocks = len(self.transformer.transformer_blocks) + len(self.transformer.single_transformer_blocks)
        if not self._entries or any(len(entry.layers) < blocks for entry in self._entries):  # at first, or broken off
            self._entries = self.keys.claim([self._entry(row) for row in range(len(self.inputs.references))], blocks)
        new = [row for row, entry in enumerate(self._entries) if len(entry.layers) < blocks]
        if not new:
            return
        self._computed = []
        for row in new:
            entry, mask = self._entries[row], self.inputs.references[row].mask
            entry.layers.clear()
            self._computed.append((entry, (mask if entry.masked else torch.ones_like(mask)).nonzero()[:, 0]))
        latents = torch.stack([self.inputs.references[row].latents for row in new]).to(dtype)
        self.reference_stream = self._embedded("x_embedder", latents, self.reference_terms)
        self.reference_time = self._time(0.0, [self.inputs.prompts[row] for row in new], dtype)
        side = round(latents.shape[1] ** 0.5)
        self.reference_rotary = self.transformer.pos_embed(reference_ids(side, latents.device))

    def _entry(self, row: int) -> ReferenceEntry:
        sample, guidance = self.inputs.prompts[row], self._given.get("guidance")
        return ReferenceEntry(
            reference=self.inputs.references[row],
            pooled=self._given["pooled_projections"][sample].clone(),
            guidance=None if guidance is None else guidance[sample].clone(),
            masked=self.inputs.use_masks,
        )

    def keep(self, layer: str, key: Tensor, value: Tensor) -> None:
        """Keep the keys and values of a layer, each (R', T, H, e), of the references' stream."""
        for i, (entry, kept) in enumerate(self._computed):
            self.keys.keep(entry, layer, key[i, kept], value[i, kept])

    def decide(self, layer: str, logits: Tensor | None) -> None:
        """Who owns the pixels in a layer, by its logits (B, N, S), which may be None where nobody competes."""
        rows = [own.owners(None if logits is None else logits[i]) for i, own in enumerate(self.ownership)]
        self.owners[layer] = torch.stack(rows)
        if self.logits is not None and logits is not None:
            self.logits[layer] = logits

    def references(self, layer: str, sample: int) -> list[KeysValues]:
        """Keys and values of the references of a sample's subjects; none where they do not act."""
        if not self.present.references:
            return []
        return [self._entries[placed.reference].layers[layer] for placed in self.inputs.samples[sample]]

    def layout(self, sample: int, pixels: int, like: Tensor) -> KeyLayout:
        """Of a sample's keys. The references of some layer must be known."""
        if sample not in self._layouts:
            parts = self._parts(sample, pixels)
            self._layouts[sample] = KeyLayout(parts=parts, device=like.device, dtype=like.dtype)
        return self._layouts[sample]

    def _parts(self, sample: int, pixels: int) -> list[KeyPart]:
        inputs, placed = self.inputs, self.inputs.samples[sample]
        parts = [KeyPart(length=self.text_length)]
        each = (self.text_tokens - self.text_length) // inputs.most_subjects
        for n in range(inputs.most_subjects if each else 0):  # samples with fewer subjects are filled up
            bias = _log(placed[n].appearance_scale) if n < len(placed) else -math.inf
            parts.append(KeyPart(length=each, subject=n, bias=bias))
        parts.append(KeyPart(length=pixels))
        for n, one in enumerate(placed if self.present.references else ()):
            key, _ = next(iter(self._entries[one.reference].layers.values()))
            parts.append(KeyPart(length=len(key), subject=n, bias=inputs.reference_shift + _log(one.reference_scale)))
        return parts

    def _embedded(self, name: str, tokens: Tensor, terms: LowRankTerms) -> Tensor:
        layer, term = self.transformer.get_submodule(name), terms.get(name)
        return layer(tokens) + (term(tokens) if isinstance(term, LowRank) else 0)

    def _time(self, fixed: float | None, rows: list[int], dtype: torch.dtype) -> Tensor:
        """The embedding of time (the samples' own, or a fixed one), guidance and pooled prompt for these samples."""
        time = self._given["timestep"].to(dtype)[rows] * 1000
        if fixed is not None:
            time = torch.full_like(time, fixed * 1000)
        pooled, guidance = self._given["pooled_projections"][rows], self._given.get("guidance")
        if guidance is None:
            return self.transformer.time_text_embed(time, pooled)
        return self.transformer.time_text_embed(time, guidance.to(dtype)[rows] * 1000, pooled)


def _log(scale: float) -> float:
    return math.log(scale) if scale else -math.inf
