"""Operations and memory of a FLUX.2 klein step with N subjects, counted without computing any: on the meta device.

Operations are matrix products and attention, 2 per multiply-add; memory is that of all tensors which a step makes, as
an allocator would see them on a GPU with fused attention. The stock pipeline reads the same references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor, nn

from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.flux.flops import measure
from anystory.evaluation.bench.flux.networks import TOKEN
from anystory.models.klein.attention import installed_on
from anystory.models.klein.inputs import KleinInputs, KleinReference, PlacedSubject
from anystory.models.klein.reading import Isolation
from anystory.models.klein.state import KleinState, photo_ids

Method: TypeAlias = Literal["stock", "isolated", "regions", "strict"]
METHODS: tuple[Method, ...] = ("stock", "isolated", "regions", "strict")

_ISOLATION: dict[Method, Isolation] = {"stock": "off", "isolated": "on", "regions": "on", "strict": "strict"}


@dataclass(frozen=True, kw_only=True)
class KleinSizes:
    """Everything that the cost of a step depends on."""

    name: str
    heads: int
    head_dim: int
    doubles: int
    singles: int
    """Blocks of either kind."""
    text_width: int
    """Of the text encoder's states: three layers of it, one beside the other."""
    text_tokens: int = 512
    channels: int = 128
    """Of a packed latent."""

    def transformer(self, device: torch.device) -> Flux2Transformer2DModel:
        """With random weights in bf16, or none on the meta device."""
        with device:
            built = Flux2Transformer2DModel(
                in_channels=self.channels,
                num_layers=self.doubles,
                num_single_layers=self.singles,
                attention_head_dim=self.head_dim,
                num_attention_heads=self.heads,
                joint_attention_dim=self.text_width,
                axes_dims_rope=(self.head_dim // 4,) * 4,
                guidance_embeds=False,
            )
            nn.Module.to(built, dtype=torch.bfloat16)  # ModelMixin's own `to` warns at every change of type
            return built.requires_grad_(False).eval()


KLEIN = KleinSizes(name="FLUX.2-klein-4B", heads=24, head_dim=128, doubles=5, singles=20, text_width=7680)
KLEIN_SMALL = KleinSizes(
    name="FLUX.2 klein, width 128", heads=2, head_dim=64, doubles=5, singles=20, text_width=192, channels=16
)
KLEIN_MODELS = {"klein": KLEIN, "klein-small": KLEIN_SMALL}
"""By the names that the command line uses."""


@dataclass(frozen=True, kw_only=True)
class KleinStep:
    """One sampling step."""

    method: Method
    subjects: int
    reference: int
    """Side of a reference in pixels."""
    flops: int
    over_alone: float
    """Share added to a step without subjects."""
    over_stock: float
    """Share added to the stock pipeline's step with the same references; negative where it is less."""
    memory: int
    """Bytes at the peak, over those of a step without subjects."""


@dataclass(frozen=True, kw_only=True)
class KleinFlopReport:
    """Everything that `anystory bench flops --model klein` prints."""

    model: str
    side: int
    torch: str
    alone: int
    """FLOPs of a step without subjects."""
    rows: list[KleinStep]
    bars: list[Bar]


def count_klein_flops(
    *,
    sizes: KleinSizes = KLEIN,
    subjects: Iterable[int] = range(1, 5),
    references: Sequence[int] = (512, 1024),
    side: int = 1024,
    progress: Callable[[str], None] = lambda _: None,
) -> KleinFlopReport:
    """Count a step for every N: the stock pipeline, isolation, regions of equal width side by side, strict isolation.

    Args:
        sizes: Of the model.
        subjects: Every N ≥ 1 to count; 0 among them is the step without subjects, which is counted in any case.
        references: Sides of references in pixels, multiples of 16.
        side: Of the picture, likewise.
        progress: Called with the name of what is counted next.

    Raises:
        ValueError: a number outside its range.
    """
    wanted = sorted(set(subjects) - {0})
    if any(number < 0 for number in wanted):
        raise ValueError(f"`subjects` must be numbers of at least 0, got {wanted}")
    if any(one < TOKEN or one % TOKEN for one in (side, *references)):
        raise ValueError(f"`side` and `references` must be multiples of {TOKEN}, got {side} and {list(references)}")
    transformer = sizes.transformer(torch.device("meta"))
    progress("a step without subjects")
    alone, peak = measure(step_call(transformer, sizes, side, "stock", 0, TOKEN))
    rows: list[KleinStep] = []
    for reference, number in product(references, wanted):
        stock = 0
        for method in METHODS:
            progress(f"N = {number}, references of {reference} pixels, {method}")
            flops, most = measure(step_call(transformer, sizes, side, method, number, reference))
            stock = stock or flops
            rows.append(
                KleinStep(
                    method=method,
                    subjects=number,
                    reference=reference,
                    flops=flops,
                    over_alone=flops / alone - 1,
                    over_stock=flops / stock - 1,
                    memory=most - peak,
                )
            )
    bars = [
        Bar(name=f"N = {row.subjects}, {row.reference} pixels, {row.method}: over stock", value=row.over_stock, limit=0)
        for row in rows
        if row.method != "stock"
    ]
    return KleinFlopReport(model=sizes.name, side=side, torch=torch.__version__, alone=alone, rows=rows, bars=bars)


def step_call(
    transformer: Flux2Transformer2DModel, sizes: KleinSizes, side: int, method: Method, subjects: int, reference: int
) -> Callable[[], Any]:
    """One call of the transformer with the photos of N subjects, for a square picture."""
    device, dtype = transformer.device, torch.bfloat16
    grid, own = (side // TOKEN, side // TOKEN), (reference // TOKEN, reference // TOKEN)
    pixels, tokens = grid[0] * grid[1], own[0] * own[1]
    photo = KleinReference(latents=torch.empty(tokens, sizes.channels, device=device, dtype=dtype), grid=own)
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(1, pixels, sizes.channels, device=device, dtype=dtype),
        "encoder_hidden_states": torch.empty(1, sizes.text_tokens, sizes.text_width, device=device, dtype=dtype),
        "timestep": torch.ones(1, device=device, dtype=dtype),
        "img_ids": photo_ids(0, grid)[None].to(device),
        "txt_ids": torch.zeros(1, sizes.text_tokens, 4, device=device),
        "return_dict": False,
    }
    if not subjects:
        return lambda: transformer(**arguments)
    given = KleinInputs(
        references=(photo,) * subjects,
        samples=(
            tuple(
                PlacedSubject(
                    photos=(n,), region=None if method in ("stock", "isolated") else _strip(n, subjects, grid)
                )
                for n in range(subjects)
            ),
        ),
        isolation=_ISOLATION[method],
    )
    state = KleinState(inputs=given, pixels=pixels)

    def step() -> Any:
        with installed_on(transformer, state):
            return transformer(**arguments)

    return step


def _strip(number: int, count: int, grid: tuple[int, int]) -> Tensor:
    """(S,) bool: one of so many parts of a picture, from left to right."""
    columns = torch.arange(grid[1])[None].expand(grid) * count // grid[1]
    return (columns == number).flatten()
