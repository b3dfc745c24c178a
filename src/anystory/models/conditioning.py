"""SubjectConditioning: everything one call carries to the attention processors.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, H × W mask size, h × w a layer's map
size, L = h · w its pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models.encoders import EncodedSubjects
from anystory.models.fast_paths import ALL, DIFFERENTIABLE, FastPaths
from anystory.models.owners import PixelGroup, group_pixels
from anystory.models.regions import Size, allowed_slots, resize
from anystory.models.router import RoutingMaps, gumbel_noise, one_hot, sigma

T = TypeVar("T")

# Where the resized probability of a slot is zero its logarithm is cut here, far below any that could win.
_SMALLEST_PROBABILITY = 1e-12


@dataclass(kw_only=True, eq=False)
class SubjectConditioning:
    """The subjects of one call, who gets them where and how strongly, and a record of what was decided.

    Pass it as `cross_attention_kwargs={"subject_conditioning": conditioning}` to a U-Net on which an adapter
    is installed. It may be used for all sampling steps of a call, not for two calls at a time.

    Raises:
        ValueError: an argument does not have the shape, range or companion described at its field.
    """

    encoded: EncodedSubjects
    """The subjects of B samples."""
    gate_masks: Tensor | None = None
    """(B, S, H, W) one-hot masks that replace the router's decision: ground truth (D13) or an oracle's."""
    regions: Tensor | None = None
    """(B, N, H, W) masks in [0, 1]: inside its region a pixel is the subject's, outside never."""
    region_given: Tensor | None = None
    """(B, N) bool: which subjects have a fixed region; needed with `regions`."""
    scales: Tensor | None = None
    """(B, N) η: multiplies a subject's CLIP term; None is 1, 0 removes the term exactly."""
    reference_scales: Tensor | None = None
    """(B, N) at least 0: e^γ of a subject's reference keys; None is 1, 0 removes the keys exactly."""
    use_router: bool = True
    """False: no routing at all, every present slot at every pixel, the background too. The paper's ablation."""
    gumbel_temperature: float | None = None
    """None: σ is the argmax (inference). Else σ is a hard Gumbel-softmax with gradient (training, D6)."""
    generator: torch.Generator | None = None
    """Source of the Gumbel noise."""
    guidance: bool = False
    """True: the U-Net's batch is [B unconditional; B conditional] (D8)."""
    unconditional: Literal["empty", "base"] = "empty"
    """What the unconditional half gets: `E_{N+1}` at every pixel (D8), or nothing but the base model."""
    record: Literal["loss", "pictures"] | None = None
    """Keep every layer's maps: "loss" with their graph, "pictures" detached, in float32 on the CPU."""
    fast: FastPaths = ALL
    """Which cheaper ways to the same result may be taken where no gradient is asked for."""

    maps: dict[str, RoutingMaps] = field(default_factory=dict, init=False, repr=False)
    """{cross-attention layer: maps} of the last U-Net call, in the order of execution."""

    _latent_size: Size | None = field(default=None, init=False, repr=False)
    _decided: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)
    _noise: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _texts: dict[str, tuple[Tensor, int, Any]] = field(default_factory=dict, init=False, repr=False)
    _owners: dict[tuple[str, Size], tuple[PixelGroup, ...]] = field(default_factory=dict, init=False, repr=False)
    _reads: list[list[bool]] = field(default_factory=list, init=False, repr=False)
    _gates: dict[Size, Tensor] = field(default_factory=dict, init=False, repr=False)
    _allowed: dict[Size, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        batch, subjects = self.encoded.batch_size, self.encoded.num_subjects
        if self.gate_masks is not None:
            self._check_gate_masks(self.gate_masks)
        if (self.regions is None) != (self.region_given is None):
            raise ValueError("regions and region_given must be given together")
        if self.regions is not None and self.region_given is not None:
            self._check_regions(self.regions, self.region_given)
        if not self.use_router and not (self.gate_masks is None and self.regions is None and self.record is None):
            raise ValueError("without the router there are no masks or regions to obey and no maps to record")
        if self.gumbel_temperature is not None and not self.gumbel_temperature > 0:
            raise ValueError(f"gumbel_temperature must be greater than 0, got {self.gumbel_temperature}")
        if self.unconditional not in ("empty", "base"):
            raise ValueError(f"unconditional must be 'empty' or 'base', got {self.unconditional!r}")
        if self.record not in (None, "loss", "pictures"):
            raise ValueError(f"record must be None, 'loss' or 'pictures', got {self.record!r}")
        scales, reference_scales = self.scales, self.reference_scales
        self.scales = self.reference_scales = torch.ones(batch, subjects, device=self.encoded.present.device)
        self._reads = [[True] * subjects for _ in range(batch)]
        self.set_step_scales(scales=scales, reference_scales=reference_scales)

    def set_step_scales(self, *, scales: Tensor | None = None, reference_scales: Tensor | None = None) -> None:
        """Changes the strengths from the next U-Net call on: their start and end in the schedule (D9).

        Args:
            scales: (B, N), or None to leave them.
            reference_scales: (B, N) at least 0, or None to leave them.

        Raises:
            ValueError: a shape or range is not as above.
        """
        device = self.encoded.present.device
        if scales is not None:
            self.scales = self._checked_scales("scales", scales).to(device)
        if reference_scales is not None:
            if (reference_scales < 0).any():
                raise ValueError(f"reference_scales must be at least 0, got {reference_scales.tolist()}")
            checked = self._checked_scales("reference_scales", reference_scales)
            self._reads = (checked > 0).tolist()
            self.reference_scales = checked.to(device)

    def begin(self, latent_size: Size) -> None:
        """Starts one U-Net call on latents of this height and width; forgets the maps of the last one."""
        self._latent_size = latent_size
        self.maps = {}
        self._decided.clear()
        self._noise.clear()
        self._owners.clear()

    # What the attention processors ask.

    def map_size(self, pixels: int) -> Size:
        """Height and width of a layer with so many pixels: the latent size, halved with rounding up."""
        if self._latent_size is None:
            raise RuntimeError("the latent size is unknown: run the U-Net inside `with adapter.installed_on(unet)`")
        height, width = self._latent_size
        while height * width > pixels:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != pixels:
            raise ValueError(f"a layer of {pixels} pixels is not {self._latent_size} halved a number of times")
        return height, width

    def check_batch(self, rows: int) -> None:
        """Raises ValueError where a U-Net batch of `rows` is not B samples (twice with guidance)."""
        expected = self.encoded.batch_size * (2 if self.guidance else 1)
        if rows != expected:
            raise ValueError(
                f"the U-Net runs on a batch of {rows}, but subject_conditioning needs {expected}: it is for "
                f"{self.encoded.batch_size} sample(s) {'with' if self.guidance else 'without'} guidance"
            )

    @property
    def needs_router(self) -> bool:
        """Whether maps must be computed: they decide, or someone wants to see them."""
        return self.use_router and (self.gate_masks is None or self.record is not None)

    def decide(self, layer: str, pixels: int, logits: tuple[Tensor, Tensor] | None) -> Tensor:
        """σ of a cross-attention layer, after masks and regions have overridden the router.

        Args:
            layer: name of the cross-attention.
            pixels: L.
            logits: coarse and refined (B, S, L) of the router; None only where `needs_router` is False.

        Returns:
            (B, S, L) one-hot float32, with gradient to the logits when a Gumbel temperature is set; without the
            router 1 for every slot that is present.
        """
        if not self.use_router:
            return self._everywhere(pixels)
        size = self.map_size(pixels)
        if self.gate_masks is not None:
            gate = self._oracle_gate(self.gate_masks, size)
        else:
            assert logits is not None
            ruled = self._apply_regions(logits[1].unflatten(-1, size), size)
            gate = self._sigma(layer, ruled)
            # Gradient checkpointing asks a second time: the first answer stays, or it would keep all that leads to it.
            self._decided.setdefault(layer, (ruled, gate))
        if self.record is not None and logits is not None:
            coarse, refined = (part.unflatten(-1, size).softmax(dim=1) for part in logits)
            self._record(layer, RoutingMaps(coarse=coarse, refined=refined, gate=gate))
        return gate.flatten(2)

    def gate_after(self, layer: str, pixels: int) -> Tensor:
        """σ of cross-attention `layer` for the self-attention that follows it, whatever that one's size (D7).

        Args:
            layer: name of the preceding cross-attention.
            pixels: L of the self-attention.

        Returns:
            (B, N, L) as `decide` returns it; the background's row, which has no reference, is left out.
        """
        if not self.use_router:
            return self._everywhere(pixels)[:, :-1]
        return self._gate_at(layer, self.map_size(pixels))[:, :-1].flatten(2)

    def owners(self, layer: str, pixels: int) -> tuple[PixelGroup, ...]:
        """The pixels of each slot, by what cross-attention `layer` has decided, in a layer of L pixels (D7).

        Raises:
            ValueError: without the router no pixel has one owner.
        """
        if not self.use_router:
            raise ValueError("without the router every slot is everywhere, and no pixel has one owner")
        size = self.map_size(pixels)
        # Two layers ask about most maps: the cross-attention that decided, and the self-attention after it.
        if (layer, size) not in self._owners:
            self._owners[layer, size] = group_pixels(self._gate_at(layer, size).flatten(2))
        return self._owners[layer, size]

    def reading_owners(self, layer: str, pixels: int) -> tuple[PixelGroup, ...]:
        """The groups of `owners` that read a reference: neither background nor of reference scale 0."""
        subjects = self.encoded.num_subjects
        groups = self.owners(layer, pixels)
        return tuple(group for group in groups if group.slot < subjects and self._reads[group.sample][group.slot])

    def reads_references(self, gate: Tensor) -> bool:
        """Whether any pixel of a gate (B, N, L) reads a reference; on a GPU this waits for the gate."""
        return bool(((gate > 0) & (self.reference_bias() > float("-inf"))[:, :, None]).any())

    @property
    def paths(self) -> FastPaths:
        """Which fast paths to take now: none where the plain way's gradient could be asked for."""
        return DIFFERENTIABLE if torch.is_grad_enabled() or self.gumbel_temperature is not None else self.fast

    @property
    def groups_pixels(self) -> bool:
        """Whether to group pixels by owner: they have one each, and the groups' sizes may depend on data."""
        return self.paths.grouped_pixels and self.use_router and not torch.compiler.is_compiling()

    def slot_scales(self) -> Tensor:
        """(B, S) η of every slot; the background's is 1."""
        assert self.scales is not None
        return F.pad(self.scales, (0, 1), value=1.0)

    def reference_bias(self) -> Tensor:
        """(B, N) γ = log of the reference scales, per copy of the keys; −∞ where they are 0."""
        assert self.reference_scales is not None
        copies = self.encoded.copies
        return self.reference_scales.log() if copies is None else (self.reference_scales / copies).log()

    def cached(self, key: str, build: Callable[[], T]) -> T:
        """`build()`, remembered for the next steps unless it may need a gradient or `fast.reuse` is off."""
        if torch.is_grad_enabled() or not self.fast.reuse:
            return build()
        if key not in self._kept:
            self._kept[key] = build()
        return self._kept[key]

    def cached_text(self, layer: str, text: Tensor, build: Callable[[], T]) -> T:
        """`build()` of a layer's prompt, remembered for as long as the very same tensor comes back unchanged.

        A callback may put another prompt in the place of the first, or write into it; then it is built anew. Not in a
        compiled U-Net, which may not ask which tensor it has, nor for inference tensors, whose changes are not counted.
        """
        compiled = torch.compiler.is_compiling()
        if torch.is_grad_enabled() or not self.fast.text_once or compiled or text.is_inference():
            return build()
        kept = self._texts.get(layer)
        if kept is None or kept[0] is not text or kept[1] != text._version:
            kept = self._texts[layer] = (text, text._version, build())
        return kept[2]

    # How it answers.

    def _everywhere(self, pixels: int) -> Tensor:
        return self.encoded.present.float()[:, :, None].expand(-1, -1, pixels)

    def _gate_at(self, layer: str, size: Size) -> Tensor:
        """σ of cross-attention `layer` at any size, (B, S, h, w)."""
        if self.gate_masks is not None:
            return self._oracle_gate(self.gate_masks, size)
        logits, gate = self._decided[layer]
        if logits.shape[-2:] == size:
            return gate
        logits = resize(logits.softmax(dim=1), size).clamp_min(_SMALLEST_PROBABILITY).log()
        logits = logits.masked_fill(~self.encoded.present[:, :, None, None], float("-inf"))
        # Antialiasing smears a region's edge over a neighbour: the regions rule once more at this size.
        return self._sigma(f"{layer} resized to {size}", self._apply_regions(logits, size))

    def _sigma(self, key: str, logits: Tensor) -> Tensor:
        if self.gumbel_temperature is None:
            return sigma(logits)
        if key not in self._noise:  # gradient checkpointing runs a layer twice: the noise must be the same
            self._noise[key] = gumbel_noise(logits.shape, self.generator, logits.device)
        return sigma(logits, self.gumbel_temperature, self._noise[key])

    def _oracle_gate(self, masks: Tensor, size: Size) -> Tensor:
        if size not in self._gates:
            self._gates[size] = one_hot(resize(masks.float(), size)).float().to(self.encoded.present.device)
        return self._gates[size]

    def _apply_regions(self, logits: Tensor, size: Size) -> Tensor:
        """−∞ for every slot that a fixed region keeps from a pixel. (B, S, h, w) -> (B, S, h, w)."""
        if self.regions is None or self.region_given is None:
            return logits
        if size not in self._allowed:
            self._allowed[size] = allowed_slots(self.regions, self.region_given, size).to(logits.device)
        return logits.masked_fill(~self._allowed[size], float("-inf"))

    def _record(self, layer: str, maps: RoutingMaps) -> None:
        if self.record == "pictures":
            maps = RoutingMaps(
                coarse=maps.coarse.detach().cpu(),
                refined=maps.refined.detach().cpu(),
                gate=maps.gate.detach().cpu(),
            )
        self.maps.setdefault(layer, maps)  # as in `decide`

    # What it refuses.

    def _checked_scales(self, name: str, scales: Tensor) -> Tensor:
        expected = (self.encoded.batch_size, self.encoded.num_subjects)
        if scales.shape != expected:
            raise ValueError(f"{name} must be (B, N) = {expected}, got {tuple(scales.shape)}")
        if not scales.isfinite().all():
            raise ValueError(f"{name} must be finite, got {scales.tolist()}")
        return scales.float()

    def _check_gate_masks(self, masks: Tensor) -> None:
        slots = tuple(self.encoded.present.shape)
        if masks.ndim != 4 or masks.shape[:2] != slots:
            raise ValueError(f"gate_masks must be (B, S, H, W) with (B, S) = {slots}, got {tuple(masks.shape)}")
        owned = (masks > 0) & self.encoded.present.to(masks.device)[:, :, None, None]
        if not (owned.sum(dim=1) == 1).all() or ((masks > 0) & ~owned).any():
            raise ValueError("gate_masks must give every pixel to exactly one slot that is present")

    def _check_regions(self, regions: Tensor, given: Tensor) -> None:
        batch, subjects = self.encoded.batch_size, self.encoded.num_subjects
        if regions.ndim != 4 or regions.shape[:2] != (batch, subjects):
            raise ValueError(f"regions must be (B, N, H, W) with (B, N) = {(batch, subjects)}, got {regions.shape}")
        if given.shape != (batch, subjects) or given.dtype != torch.bool:
            raise ValueError(f"region_given must be bool {(batch, subjects)}, got {given.dtype} {tuple(given.shape)}")
        if not regions.isfinite().all():
            raise ValueError("regions must not contain NaN or infinity")
        if (given & ~self.encoded.present[:, :-1].to(given.device)).any():
            raise ValueError("region_given names a subject that is not present")
        if (given & (regions.flatten(2).amax(dim=2).to(given.device) <= 0)).any():
            raise ValueError("regions: the region of a subject in region_given is empty")
